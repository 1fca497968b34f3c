"""What a run would cost before it starts: seeds, hours, memory, downloads, licences."""

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

from retable.cards import DataFile, DatasetCard, Recipe
from retable.config import Workspace
from retable.currency import RecordStore
from retable.plan import Cell
from retable.records import RunRecord

# Operations a second that a GPU is taken to do: about 40 % of an H100's bfloat16 peak without sparsity, which large
# networks reach. Small ones do not: for them the hours are the least that it can take.
GPU_RATE = 300e12
# A control trains nothing; most read a data set and evaluate once.
CONTROL_SECONDS = 1.0

Device = Literal["cpu", "cuda"]
# A machine's other users slow a run down but take no processor time of it; of a GPU the time that it is held is known.
HOURS: dict[Device, str] = {"cpu": "processor-hours", "cuda": "GPU-hours"}
MEMORY: dict[Device, str] = {"cpu": "of memory", "cuda": "of GPU memory"}


@dataclass
class Estimate:
    """What the seeds to run of some cells need.

    `timed` of the `seeds` have a history: they take `seconds` together, of a processor or a GPU, and each run has at
    most `peak_bytes` of memory. `told` of the others take `card_seconds` of a processor by their card, and `counted` of
    them have `operations` together, as their card counts them.
    """

    seeds: int = 0
    timed: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    told: int = 0
    card_seconds: float = 0.0
    counted: int = 0
    operations: float = 0.0

    def add(self, other: "Estimate") -> None:
        """Take in the seeds of other cells; the peak becomes the larger one, since it is of one run."""
        self.seeds += other.seeds
        self.timed += other.timed
        self.seconds += other.seconds
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.told += other.told
        self.card_seconds += other.card_seconds
        self.counted += other.counted
        self.operations += other.operations

    @property
    def hours(self) -> float:
        """Hours of the seeds with a history."""
        return self.seconds / 3600

    @property
    def card_hours(self) -> float:
        """Hours of the seeds whose time their card tells."""
        return self.card_seconds / 3600

    @property
    def gpu_hours(self) -> float:
        """Hours of the counted operations on a GPU."""
        return self.operations / GPU_RATE / 3600


class History:
    """The runs that ended well on one device, current or not, run here or published."""

    def __init__(self, records: Iterable[RunRecord], device: Device) -> None:
        self.device = device
        self._runs: dict[Hashable, list[RunRecord]] = defaultdict(list)
        for record in records:
            if record.state == "ok" and record.environment.get("device", "").startswith(device):
                for key in _keys(record):
                    self._runs[key].append(record)

    def of(self, cell: Cell) -> list[RunRecord]:
        """Runs of the same cell; else of its variant at its axes, else at any, of the same scale and data set: by its
        protocol, else by an earlier version, which may have cost less.
        """
        return next((self._runs[key] for key in _keys(cell) if key in self._runs), [])

    def seconds(self, cell: Cell) -> float:
        """Median seconds of a seed, of a processor or a GPU. Raises StatisticsError for a cell without runs."""
        costs = [record.cost for record in self.of(cell)]
        return statistics.median(cost.cpu_s if self.device == "cpu" else cost.gpu_s for cost in costs)


def _keys(subject: Cell | RunRecord) -> tuple[Hashable, ...]:
    """What runs of a like cell have in common, the most alike first."""
    kind = (subject.paper, subject.recipe, subject.scale, subject.dataset, subject.variant)
    axes = tuple(sorted(subject.axes.items()))
    return subject.identity, (kind, subject.protocol, axes), (kind, subject.protocol), (kind, axes), kind


def device_of(workspace: Workspace) -> Device:
    """The device that an estimate is for: a GPU only where the settings ask for one, whatever this machine has."""
    return "cuda" if workspace.config.device == "cuda" else "cpu"


def check_reachable(workspace: Workspace) -> None:
    """What would stop a run after hours is found before it: a mirror that is not there, a key that is not set.

    Raises CardError or DataError. The mirror matters only where files are missing.
    """
    wanted = [workspace.datasets[name] for name in dict.fromkeys(cell.dataset for cell in workspace.cells)]
    if workspace.mirror and not all(_is_here(workspace, file) for card in wanted for file in card.files):
        from retable.data.fetch import check_mirror

        check_mirror(workspace.mirror)
    if workspace.config.wandb.mode == "online":
        from retable.wandb_sink import check_key

        check_key(workspace.config.wandb)


def estimate(workspace: Workspace) -> str:
    """A text table of what `run` would measure: a line a recipe and data set, a line a data set, the totals.

    The time of a seed is the median of runs on the same device, scale and data set (see `History.of`), else what its
    counted operations take on a GPU, if the card holds them. For seeds without a history the card's own words are
    quoted. Raises CardError for a selection that leaves nothing.
    """
    rows, total, device = _needs(workspace)
    cards = [workspace.datasets[name] for name in dict.fromkeys(dataset for _, _, dataset in rows)]
    lines = [_title(workspace, device)]
    lines += [_row_line(workspace, *key, row, device) for key, row in rows.items()]
    lines += [_data_line(workspace, card) for card in cards]
    return "\n".join([*lines, *_total_lines(workspace, total, cards, device)])


def estimated(workspace: Workspace) -> dict:
    """The same as plain data: seconds are None where nothing tells them."""
    rows, total, device = _needs(workspace)

    def numbers(row: Estimate) -> dict:
        told = row.seconds + row.card_seconds + (row.operations / GPU_RATE if device == "cuda" else 0.0)
        untimed = row.seeds - row.timed - row.told - (row.counted if device == "cuda" else 0)
        return {"seeds": row.seeds, "seconds": told, "seeds_without_a_time": untimed, "peak_bytes": row.peak_bytes}

    recipes = [
        {"paper": paper, "recipe": recipe, "dataset": dataset, **numbers(row)}
        for (paper, recipe, dataset), row in rows.items()
    ]
    data = [
        {
            "name": card.name,
            "bytes": card.bytes,
            "bytes_to_download": sum(file.bytes for file in card.files if not _is_here(workspace, file)),
            "licence": card.licence,
        }
        for card in (workspace.datasets[name] for name in dict.fromkeys(dataset for _, _, dataset in rows))
    ]
    return {
        "scale": workspace.config.scale,
        "device": device,
        "total": numbers(total),
        "recipes": recipes,
        "data": data,
    }


def _needs(workspace: Workspace) -> tuple[dict[tuple[str, str, str], Estimate], Estimate, Device]:
    """What the seeds to run need, by paper, recipe and data set, and in all."""
    store, device = RecordStore.open(workspace), device_of(workspace)
    history = History([*store.published.records, *store.own.records], device)
    rows: dict[tuple[str, str, str], Estimate] = defaultdict(Estimate)
    total = Estimate()
    for cell in workspace.cells:
        needs = _of_seeds(workspace, cell, len(store.unfinished(cell)), history)
        rows[cell.paper, cell.recipe, cell.dataset].add(needs)
        total.add(needs)
    return rows, total, device


def _of_seeds(workspace: Workspace, cell: Cell, seeds: int, history: History) -> Estimate:
    """What a number of seeds of a cell need."""
    if known := history.of(cell):
        # Nothing to run needs no memory.
        peak = max(record.cost.peak_memory_bytes for record in known) if seeds else 0
        return Estimate(seeds, timed=seeds, seconds=seeds * history.seconds(cell), peak_bytes=peak)
    needs, count = Estimate(seeds), operations(workspace, cell)
    if count:
        needs.counted, needs.operations = seeds, seeds * count
    if history.device == "cpu" and (cost := card_seconds(workspace, cell)):
        needs.told, needs.card_seconds = seeds, seeds * cost
    return needs


def seconds_of_seed(workspace: Workspace, cell: Cell, history: History) -> float | None:
    """What a seed of a cell is taken to need: by history, by counted operations on a GPU, by the card; else None."""
    if history.of(cell):
        return history.seconds(cell)
    if history.device == "cuda" and (count := operations(workspace, cell)):
        return count / GPU_RATE
    return card_seconds(workspace, cell)


def card_seconds(workspace: Workspace, cell: Cell) -> float | None:
    """Processor-seconds of a seed by the card, of a control at most one; None where the card does not tell them."""
    recipe = workspace.papers[cell.paper].recipe(cell.recipe)
    seconds = recipe.scales[cell.scale].seconds
    return seconds and min(seconds, CONTROL_SECONDS if recipe.variants[cell.variant].control else math.inf)


def _title(workspace: Workspace, device: Device) -> str:
    asked = ", which `device: auto` is taken as" if workspace.config.device == "auto" else ""
    hint = {
        "cpu": "divide by the jobs side by side",
        "cuda": "as if one run came after the other; runs that shared a GPU count in full",
    }
    return f"scale {workspace.config.scale} on {device}{asked}: what would run ({HOURS[device]}: {hint[device]})"


def _row_line(workspace: Workspace, paper: str, recipe: str, dataset: str, row: Estimate, device: Device) -> str:
    text = f"  {paper}/{recipe} on {dataset}: {row.seeds} seeds to run"
    if row.timed:
        text += f", {row.hours:.2f} {HOURS[device]} for {row.timed} of them and {_gib(row, device)} by history"
    if row.told:
        text += f", {row.card_hours:.2f} {HOURS[device]} for {row.told} of them by the card"
    if unknown := row.seeds - row.timed - row.told:
        cost = workspace.papers[paper].recipe(recipe).scales[workspace.config.scale].cost
        text += f", {unknown} of them without history (card: {cost})"
    if row.counted:
        text += (
            f", {row.gpu_hours:.1f} GPU-hours for {row.counted} of these: {row.operations:.2g} counted operations "
            f"at {GPU_RATE / 1e12:.0f} TFLOP/s"
        )
    return text


def _data_line(workspace: Workspace, card: DatasetCard) -> str:
    if card.local:
        place = f"to be provided at datasets/raw/{card.local}"
    else:
        place = "derived on this machine" if card.embedded else _download(workspace, card.files)
    return f"  data {card.name}: {place}; licence: {card.licence}"


def _total_lines(workspace: Workspace, total: Estimate, cards: list[DatasetCard], device: Device) -> list[str]:
    """The sums. Counted operations are a time on a GPU only."""
    counted = total.counted if device == "cuda" else 0
    timed = total.timed + total.told + counted
    hours = total.hours + total.card_hours + (total.gpu_hours if counted else 0)
    time = f"{hours:.2f} {HOURS[device]} for {timed} of them"
    if counted:
        time += f" ({total.gpu_hours:.2f} of these hours for {counted} by counted operations)"
    return [
        f"total: {total.seeds} seeds to run",
        f"  time: {time}, {total.seeds - timed} without a time",
        f"  disk: {_download(workspace, [file for card in cards for file in card.files])}",
        f"  memory: {_gib(total, device) + ' of the largest run' if total.timed else 'unknown'}",
    ]


def _download(workspace: Workspace, files: list[DataFile]) -> str:
    """Megabytes of the files that are not below `datasets/raw`, or not whole, beside those of all."""
    missing = sum(file.bytes for file in files if not _is_here(workspace, file))
    return f"{missing / 1e6:.1f} of {sum(file.bytes for file in files) / 1e6:.1f} MB to download"


def _is_here(workspace: Workspace, file: DataFile) -> bool:
    path = workspace.raw / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def _gib(needs: Estimate, device: Device) -> str:
    return f"{needs.peak_bytes / 2**30:.1f} GiB {MEMORY[device]} at the peak"


def operations(workspace: Workspace, cell: Cell) -> float:
    """Floating-point operations of a seed of the cell by its card; 0 if the card does not say."""
    return counted_operations(workspace.papers[cell.paper].recipe(cell.recipe), cell)


def counted_operations(recipe: Recipe, cell: Cell) -> float:
    """Floating-point operations of a seed of a recipe's cell; 0 if the card does not say."""
    for entry in recipe.scales[cell.scale].operations:
        fits = (entry.datasets is None or cell.dataset in entry.datasets) and (
            entry.variants is None or cell.variant in entry.variants
        )
        if fits and all(cell.settings.get(axis) in values for axis, values in entry.axes.items()):
            return entry.count
    return 0.0
