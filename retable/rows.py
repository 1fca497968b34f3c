"""Records become rows: a variant at one point of a recipe's grid, its candidates judged, its state named."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal

from retable.cards import SCALES, PaperCard, Recipe, Scalar, Scale, Selection
from retable.currency import Currency
from retable.looks import Looks, in_common
from retable.plan import Cell
from retable.records import RunRecord
from retable.significance import MOST_SEEDS, average

# The logarithm of the mean Gaussian potential of unit rows is at most 0, and within this of 0 where all rows are one
# direction, or zero. Positive values are another measure of the same name, such as U-MAE's mean squared cosine.
ONE_DIRECTION = 1e-6
Degenerate = Literal["constant answer", "collapsed"]
Condition = Literal["", "constant answer", "collapsed", "mixture", "not known"]


@dataclass(frozen=True)
class DeviceHours:
    """Hours of processor cores, and of GPUs; `guessed` if runs of other variants tell."""

    processor: float = 0.0
    gpu: float = 0.0
    guessed: bool = False

    def __add__(self, other: "DeviceHours") -> "DeviceHours":
        return DeviceHours(self.processor + other.processor, self.gpu + other.gpu, self.guessed or other.guessed)

    def times(self, number: float) -> "DeviceHours":
        return DeviceHours(number * self.processor, number * self.gpu, self.guessed)

    @property
    def total(self) -> float:
        return self.processor + self.gpu

    def __str__(self) -> str:
        """`3 processor-hours and 0.5 GPU-hours`."""
        kinds = ((self.gpu, "GPU"), (self.processor, "processor"))
        told = [f"{x:.2g} {kind}-hours" if x < 100 else f"{x:,.0f} {kind}-hours" for x, kind in kinds if x]
        return (" and ".join(told) or "no time") + (" if it takes what other rows took" if self.guessed else "")


@dataclass(frozen=True)
class Row:
    """A variant at one point of a recipe's grid at one scale.

    `cells` are the candidates of a tuned variant (one cell otherwise), `chosen` the one that is shown for the row,
    `records` its finished runs by seed; those of a tuned row are of the candidate that the other seeds choose, which
    need not be `chosen`. `state` is `measured` or the reason why there is no result; an untuned row that is
    `incomplete` shows its records, which are judged nowhere. `looks` are the numbers of seeds of its complete looks,
    `alive` the runs by seed of the cells that did not diverge.
    """

    recipe: Recipe
    scale: Scale
    dataset: str
    variant: str
    axes: dict[str, Scalar]
    cells: tuple[Cell, ...]
    state: str
    note: str = ""
    chosen: Cell | None = None
    records: tuple[RunRecord, ...] = ()
    looks: tuple[int, ...] = ()
    alive: tuple[tuple[Cell, dict[int, RunRecord]], ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        return self.recipe.variants[self.variant].label

    @property
    def cell(self) -> Cell:
        """The cell to show for the row: the chosen candidate, or the first of those still open."""
        return self.chosen or self.cells[0]

    @property
    def rank(self) -> int:
        """Larger scales rank higher."""
        return SCALES.index(self.scale)

    @cached_property
    def _known(self) -> dict[tuple[str, str], Any]:
        """What was asked before: pages ask for the same values many times over."""
        return {}

    def values(self, metric: str) -> Mapping[int, float]:
        """The metric by seed; empty if the row has no result or its records lack the metric."""
        key = ("values", metric)
        if key not in self._known:
            found = {record.seed: record.metrics[metric] for record in self.records if metric in record.metrics}
            self._known[key] = found
        return self._known[key]

    def seeds_that(self, kind: Degenerate, metric: str) -> dict[int, bool]:
        """By seed, whether one class has all predictions (a constant answer), or all representations are of one
        direction or zero (collapsed). Seeds whose records do not say are left out.
        """
        found = {}
        name = "largest_class_share" if kind == "constant answer" else "uniformity"
        names = [each for each in _names(metric, name) if each in self._recorded]
        if kind == "constant answer" and metric == self.recipe.metric:
            names.append("test_largest_class_share")
        for record in self.records if names else ():
            value = next((record.metrics[each] for each in names if each in record.metrics), None)
            if value is None:
                continue
            if kind == "constant answer":
                found[record.seed] = value >= 100.0
            elif value <= ONE_DIRECTION:
                found[record.seed] = value > -ONE_DIRECTION
        return found

    @cached_property
    def wall_s(self) -> float:
        """Mean wall time of a run, in seconds; only of a row with runs."""
        return sum(record.cost.wall_s for record in self.records) / len(self.records)

    @cached_property
    def _recorded(self) -> frozenset[str]:
        """All metrics that some record has."""
        return frozenset().union(*(record.metrics for record in self.records))

    def degenerate(self, metric: str) -> dict[int, Literal["", "constant answer", "collapsed"]]:
        """What is known by seed: a constant answer, a collapsed representation, or neither."""
        kinds: tuple[Degenerate, ...] = ("collapsed", "constant answer")
        told = [(kind, self.seeds_that(kind, metric)) for kind in kinds]
        found: dict[int, Literal["", "constant answer", "collapsed"]] = {seed: "" for _, by in told for seed in by}
        for kind, by in told:
            found |= {seed: kind for seed, is_so in by.items() if is_so}
        return found

    def condition(self, metric: str) -> Condition:
        """`constant answer` or `collapsed` for all seeds, `mixture` if some are, else empty.

        `not known` is a trained row whose records do not tell and of whose seeds most, three at least, have exactly
        the same accuracy.
        """
        key = ("condition", metric)
        if key not in self._known:
            self._known[key] = self._condition(metric)
        return self._known[key]

    def _condition(self, metric: str) -> Condition:
        values, known = self.values(metric), self.degenerate(metric)
        bad = [kind for kind in known.values() if kind]
        if bad and len(bad) < len(values):
            return "mixture"
        if bad:
            return "constant answer" if "constant answer" in bad else "collapsed"
        if known or "accuracy" not in metric or self.recipe.variants[self.variant].control:
            return ""
        equal = max(Counter(round(value, 9) for value in values.values()).values(), default=0)
        return "not known" if equal > 2 and 2 * equal > len(values) else ""

    def parts(self, metric: str) -> list[tuple[str, list[float]]]:
        """The values of a mixture apart: those of each kind of degenerate seed, and the others first."""
        kinds, values = self.degenerate(metric), self.values(metric)
        names = sorted({kinds.get(seed, "") for seed in values})
        return [(name, [x for seed, x in values.items() if kinds.get(seed, "") == name]) for name in names]

    def resolution(self, metric: str) -> float | None:
        """The least step of the metric, one test item, where the records count the items; else None."""
        counts = [_of(record, metric, "test_items") for record in self.records]
        known = [count for count in counts if count]
        whole = {"%": 100.0, "fraction": 1.0}.get(self.recipe.unit) if "accuracy" in metric else None
        return whole / min(known) if whole and len(known) == len(counts) and known else None

    def unconverged(self, metric: str) -> int:
        """How many fits behind the metric ended before they had converged, over all seeds that count them."""
        name = companion(metric, "unconverged")
        return int(sum(record.metrics.get(name, 0.0) for record in self.records))

    @cached_property
    def _environments(self) -> dict[int, dict[str, str]]:
        return {record.seed: record.environment for record in self.records}

    def device(self, seed: int) -> str:
        """Kind of device and instruction set of a seed's run; the whole device where none is recorded."""
        environment = self._environments[seed]
        device, named = environment.get("device", "not recorded"), environment.get("instruction_set")
        return f"{device.partition(':')[0]}, {named}" if named else device

    @property
    def devices(self) -> list[str]:
        """The kinds of device that its runs had, sorted."""
        return sorted({self.device(record.seed) for record in self.records})

    def at(self, seeds: int) -> "Row":
        """The row as the first `seeds` of its seeds alone give it; itself where these are all."""
        return self if seeds == self.looks[-1] else _choose_runs(self, (seeds,))

    def part(self, name: str) -> Scalar | None:
        """What a part of a claim's id is: `dataset`, `variant`, or a setting if all candidates share it."""
        if name in ("dataset", "variant"):
            return self.dataset if name == "dataset" else self.variant
        found = {str(cell.settings.get(name)): cell.settings.get(name) for cell in self.cells}
        return next(iter(found.values())) if len(found) == 1 else None


def hours_to(rows: Iterable[Row], seeds: int) -> DeviceHours | None:
    """Hours that the rows take to have so many seeds, of the device that ran most of a cell's; None where a cell has no
    runs to tell.
    """
    needed = {cell.identity: (runs, seeds - row.looks[-1]) for row in rows for cell, runs in row.alive}
    if not all(runs for runs, _ in needed.values()):
        return None
    each = (device_hours(runs.values()).times(max(more, 0)) for runs, more in needed.values())
    return sum(each, DeviceHours())


def device_hours(records: Collection[RunRecord]) -> DeviceHours:
    """What one run takes by some runs: the mean of those on the kind of device that most were on."""
    kinds = {gpu: [r.device_seconds / 3600 for r in records if bool(r.cost.gpu_s) == gpu] for gpu in (False, True)}
    if len(kinds[True]) > len(kinds[False]):
        return DeviceHours(gpu=average(kinds[True]))
    return DeviceHours(average(kinds[False]))


def together(each: Sequence[DeviceHours | None]) -> DeviceHours | None:
    """The hours of all; None where those of one are not known."""
    known = [hours for hours in each if hours is not None]
    return sum(known, DeviceHours()) if len(known) == len(each) else None


def most_seeds(rows: Iterable[Row]) -> int:
    """Seeds that a second look of these rows may have: beyond a fixed set of splits they would only repeat it."""
    return min([MOST_SEEDS, *(row.recipe.protocol.most_seeds or MOST_SEEDS for row in rows)])


def possible(seeds: int | None, rows: Iterable[Row]) -> int | None:
    """The seeds of a second look; None where the rows' protocols have no so many."""
    return None if seeds is None or seeds > most_seeds(rows) else seeds


def group_rows(
    paper: PaperCard,
    cells: Iterable[Cell],
    by_cell: Mapping[str, list[RunRecord]],
    currency: Currency,
    looks: Looks,
) -> list[Row]:
    """Rows of a paper's planned cells, in the plan's order; `by_cell` holds records by cell identity."""
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in cells:
        tuned = paper.recipe(cell.recipe).variants[cell.variant].axes
        fixed = tuple((key, value) for key, value in cell.axes.items() if key not in tuned)
        groups[cell.recipe, cell.scale, cell.dataset, cell.variant, fixed].append(cell)
    return [
        _row(paper.recipe(recipe), dict(fixed), group, by_cell, currency, looks)
        for (recipe, _, _, _, fixed), group in groups.items()
    ]


def _row(recipe: Recipe, axes: dict, cells: list[Cell], by_cell: Mapping, currency: Currency, looks: Looks) -> Row:
    first = cells[0]
    row = Row(recipe, first.scale, first.dataset, first.variant, axes, tuple(cells), "not run")
    found = [cell_state(cell, by_cell.get(cell.identity, []), currency, looks) for cell in cells]
    states = [state for state, _, _ in found]
    for state in ("failed", "stale"):
        if state in states:
            return replace(row, state=state, note=found[states.index(state)][1])
    if set(states) == {"diverged"}:
        return replace(row, state="diverged", note=found[0][1])
    if len(cells) == 1 and states == ["incomplete"]:
        _, note, records = found[0]
        return replace(row, state="incomplete", note=note, records=tuple(records))
    if open_cells := states.count("not run") + states.count("incomplete"):
        if states.count("not run") == len(cells):
            return row
        return replace(row, state="incomplete", note=f"{len(cells) - open_cells} of {len(cells)} candidates")
    alive = tuple(
        (cell, {record.seed: record for record in records})
        for cell, (state, _, records) in zip(cells, found, strict=True)
        if state == "ok"
    )
    complete = [tuple(n for n in looks.of(cell) if runs.keys() >= set(range(n))) for cell, runs in alive]
    begun = min(len(runs) for _, runs in alive)
    row = _choose_runs(replace(row, alive=alive), in_common(complete))
    planned = in_common([looks.of(cell) for cell, _ in alive])
    if row.state == "measured" and len(planned) > len(row.looks):
        left = f"look two has {begun} of {planned[-1]} seeds, until then look one counts"
        row = replace(row, note="; ".join(filter(None, [row.note, left])))
    return row


def _choose_runs(row: Row, looks: tuple[int, ...]) -> Row:
    """A row with the runs of the last of some complete looks: of a tuned row those of the candidate that is chosen."""
    select = row.recipe.variants[row.variant].select
    cells = [cell for cell, _ in row.alive]
    runs = [{seed: record for seed, record in by.items() if seed < looks[-1]} for _, by in row.alive]
    if select is None:
        return replace(row, state="measured", chosen=cells[0], records=tuple(runs[0].values()), looks=looks)
    judged = [{seed for seed, record in by.items() if select.metric in record.metrics} for by in runs]
    common = sorted(set.intersection(*judged))
    if not common:
        lack = f"the {len(row.cells)} candidates share no seed with a value of {select.metric}"
        return replace(row, state="incomplete", note=lack)
    values = [[by[seed].metrics[select.metric] for seed in common] for by in runs]
    by_seed = {seed: _choose(select, values, place) for place, seed in enumerate(common)}
    return replace(
        row,
        state="measured",
        note=_chosen_note(select, row.cells, cells, by_seed),
        chosen=cells[_choose(select, values)],
        records=tuple(runs[index][seed] for seed, index in by_seed.items()),
        looks=looks,
    )


def cell_state(
    cell: Cell, records: Iterable[RunRecord], currency: Currency, looks: Looks
) -> tuple[str, str, list[RunRecord]]:
    """State (`ok`, `incomplete`, `failed`, `diverged`, `stale`, `not run`), reason and usable runs of a cell.

    One bad seed is enough to have no result: the mean of the others would flatter. A seed beyond the looks is no part
    of the result, and without all seeds of look one there is none yet.
    """
    counts = looks.of(cell)
    records = [record for record in records if record.seed < counts[-1]]
    fresh, reasons = [], []
    for record in sorted(records, key=lambda record: record.seed):
        reason = currency.reason(record)
        if reason:
            reasons.append(f"seed {record.seed}: {reason}")
        else:
            fresh.append(record)
    for state in ("failed", "diverged"):
        bad = [record for record in fresh if record.state == state]
        if bad:
            cause = f": {bad[0].error}" if bad[0].error else ""
            return state, f"{len(bad)} of {len(fresh)} seeds {state}{cause}", []
    if not fresh:
        return ("stale", reasons[0], []) if reasons else ("not run", "", [])
    ready = sum(1 for record in fresh if record.seed < counts[0])
    if ready < counts[0]:
        return "incomplete", "; ".join([f"{ready} of {counts[0]} seeds of look one", *reasons[:1]]), fresh
    return "ok", "", fresh


def _choose(select: Selection, values: Sequence[Sequence[float]], without: int | None = None) -> int:
    """Index of the candidate with the best mean of its values by seed, the one at `without` left out."""
    if without is not None and len(values[0]) > 1:
        values = [[*column[:without], *column[without + 1 :]] for column in values]
    means = [average(column) for column in values]
    return means.index((max if select.mode == "max" else min)(means))


def _chosen_note(
    select: Selection, candidates: Sequence[Cell], alive: Sequence[Cell], by_seed: Mapping[int, int]
) -> str:
    """Which of the candidates that are `alive` the seeds have, and how they were chosen."""
    if len(candidates) == 1:
        return ""
    varied = [key for key in alive[0].axes if len({cell.axes[key] for cell in candidates}) > 1]
    counts = Counter(by_seed.values()).most_common()
    names = {index: ", ".join(f"{key}={alive[index].axes[key]}" for key in varied) for index, _ in counts}
    text = " and ".join(f"{names[i]} for {count}" if len(counts) > 1 else names[i] for i, count in counts)
    how = f"chosen for each seed among {len(candidates)} by {select.metric} of the remaining seeds"
    if len(by_seed) == 1:
        how = f"chosen among {len(candidates)} by {select.metric} of the only seed"
    lost = len(candidates) - len(alive)
    return f"{text}, {how}" + (f", {lost} diverged" if lost else "")


def companion(metric: str, name: str) -> str:
    """As `retable.evaluate.answers.companion`, which imports torch: pages do not wait for that."""
    found = metric.replace("accuracy", name) if "accuracy" in metric else f"{metric}_{name}"
    return found.replace("test_test_", "test_")


def _of(record: RunRecord, metric: str, name: str) -> float | None:
    """A metric `name` that belongs to `metric`: `last_test_largest_class_share` to `last_test_accuracy`; the name with
    the longest prefix of `metric` that is recorded, or the bare name.
    """
    return next((record.metrics[each] for each in _names(metric, name) if each in record.metrics), None)


@cache
def _names(metric: str, name: str) -> list[str]:
    parts = metric.split("_")
    return [companion(metric, name), *("_".join([*parts[:length], name]) for length in range(len(parts), -1, -1))]
