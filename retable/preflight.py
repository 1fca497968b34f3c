"""What a run would cost before it starts: seeds, hours, memory, downloads, licences."""

import statistics
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from retable.config import Workspace
from retable.plan import Cell
from retable.records import RunRecord, load_records
from retable.verify import cell_states

# Operations a second that a GPU is taken to do: about 40 % of an H100's bfloat16 peak without sparsity, which large
# networks reach. Small ones do not: for them the hours are the least that it can take.
GPU_RATE = 300e12


@dataclass
class Estimate:
    """Of one recipe on one data set: seeds to run, seconds of those with a history, seeds without one, memory.

    `counted` of the seeds without a history have `operations` together, as their card counts them.
    """

    seeds: int = 0
    seconds: float = 0.0
    unknown: int = 0
    peak_bytes: int = 0
    counted: int = 0
    operations: float = 0.0


def estimate(workspace: Workspace) -> str:
    """A text table: one line a recipe and data set, then one a data set.

    The time of a seed is the median of measured seeds of the same cell, else what its counted operations take on a GPU,
    if the card holds them, else the median of the same variant and axes on any data set and scale of the recipe. Where
    no time was measured, the card's own words are quoted.
    """
    history = _history(load_records(workspace.results))
    rows: dict[tuple[str, str, str], Estimate] = defaultdict(Estimate)
    for cell, states in cell_states(workspace):
        row = rows[cell.paper, cell.recipe, cell.dataset]
        missing = sum(state != "ok" for state in states)
        count = operations(workspace, cell)
        # Where operations are counted, a run of another size says less than they do.
        known = history.get(cell.identity) or ([] if count else history.get(_kind(cell), []))
        row.seeds += missing
        if known:
            row.seconds += missing * statistics.median(record.cost.wall_s for record in known)
            row.peak_bytes = max(row.peak_bytes, *(record.cost.peak_memory_bytes for record in known))
        else:
            row.unknown += missing
            if missing and count:
                row.counted += missing
                row.operations += missing * count
    scale = workspace.config.scale
    lines = [f"scale {scale}: what would run (hours of one job after the other; divide by the jobs side by side)"]
    for (paper, recipe, dataset), row in rows.items():
        text = f"  {paper}/{recipe} on {dataset}: {row.seeds} seeds to run"
        if row.seconds:
            text += f", {row.seconds / 3600:.2f} h and {row.peak_bytes / 2**30:.1f} GiB at the peak by history"
        if row.unknown:
            cost = workspace.papers[paper].recipe(recipe).scales[scale].cost
            text += f", {row.unknown} of them without history (card: {cost})"
        if row.operations:
            hours = row.operations / GPU_RATE / 3600
            text += (
                f", {hours:.1f} GPU-hours for {row.counted} of these: {row.operations:.2g} counted operations "
                f"at {GPU_RATE / 1e12:.0f} TFLOP/s"
            )
        lines.append(text)
    for name in dict.fromkeys(dataset for _, _, dataset in rows):
        card = workspace.datasets[name]
        place = (
            f"to be provided at datasets/raw/{card.local}" if card.local else f"{card.bytes / 1e6:.1f} MB to download"
        )
        place = "derived on this machine" if card.embedded else place
        lines.append(f"  data {name}: {place}; licence: {card.licence}")
    return "\n".join(lines)


def operations(workspace: Workspace, cell: Cell) -> float:
    """Floating-point operations of a seed of the cell by its card; 0 if the card does not say."""
    at_scale = workspace.papers[cell.paper].recipe(cell.recipe).scales[cell.scale]
    for entry in at_scale.operations:
        fits = (entry.datasets is None or cell.dataset in entry.datasets) and (
            entry.variants is None or cell.variant in entry.variants
        )
        if fits and all(cell.settings.get(axis) in values for axis, values in entry.axes.items()):
            return entry.count
    return 0.0


def _history(records: list[RunRecord]) -> dict[Hashable, list[RunRecord]]:
    history: dict[Hashable, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.state == "ok":
            history[record.identity].append(record)
            history[_kind(record)].append(record)
    return history


def _kind(subject: Cell | RunRecord) -> Hashable:
    return subject.paper, subject.recipe, subject.variant, tuple(sorted(subject.axes.items()))
