"""All methods of all papers on one data set: ranked within one scale and protocol, differences with their intervals."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retable.probed import Probe
from retable.report.part import Result
from retable.report.words import anchor, number, signed
from retable.significance import average, gap_of_order, interval, interval_of_mean, printed_digit

# More rows than these have no table of all differences: it would be a megabyte that nobody reads.
PAIRS = 60


@dataclass(frozen=True)
class Block:
    """Rows of one scale, protocol, split and metric, the best first.

    `ranked` is the block with the most methods of its scale; the others stand apart, with `apart` saying why.
    """

    rows: tuple[Result, ...]
    ranked: bool
    apart: str = ""
    common: bool = False
    """Whether it holds the values of the probe that all papers share."""

    @property
    def first(self) -> Result:
        return self.rows[0]

    @property
    def name(self) -> str:
        """Its place in the page."""
        return anchor(f"{self.first.scale} {self.first.protocol} {self.first.split} {self.first.metric}")

    @property
    def one_recipe(self) -> bool:
        """Whether all rows are of one paper's recipe."""
        return len({(row.paper, row.title) for row in self.rows}) == 1

    def place(self, row: Result) -> int:
        """The row's rank: one more than the number of better rows, controls among them."""
        mean = row.mean if row.mean is not None else 0.0
        return 1 + sum(1 for other in self.rows if other.mean is not None and _better(other, mean))


def _better(row: Result, than: float) -> bool:
    assert row.mean is not None
    return row.mean > than if row.higher_is_better else row.mean < than


def blocks(rows: Sequence[Result], probes: Iterable[Probe] = ()) -> dict[str, list[Block]]:
    """The measured rows of one data set by scale: the ranked block, those of the common probe, what stands apart."""
    found: dict[str, dict[tuple, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.mean is not None:
            found[row.scale][row.protocol, row.split, row.metric, row.unit].append(row)
    ordered = {}
    for scale in ("full", "reduced", "demo"):
        groups = sorted(found[scale].values(), key=lambda group: -len(group)) if scale in found else []
        sorted_groups = [tuple(sorted(group, key=_rank_key)) for group in groups]
        ordered[scale] = [
            Block(group, not index, apart(group[0], sorted_groups[0][0]) if index else "")
            for index, group in enumerate(sorted_groups)
        ]
    for block in reversed(common(rows, probes)):
        ordered[block.first.scale].insert(1, block)
    return {scale: each for scale, each in ordered.items() if each}


def common(rows: Iterable[Result], probes: Iterable[Probe]) -> list[Block]:
    """For each scale and split the rows that the common probe scored, by that; a line is of the run with its value."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    by_cell = {row.cell: row for row in rows}
    for line in probes:
        row = by_cell.get(line.cell)
        if row is not None and row.seeds.get(line.seed) == line.value:
            found[line.cell][line.seed] = line.accuracy
    scored: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for cell, values in found.items():
        row = by_cell[cell]
        low, high = interval_of_mean(list(values.values())) or (None, None)
        change = {
            "seeds": values,
            "mean": average(values.values()),
            "low": low,
            "high": high,
            "metric": "common probe accuracy",
            "unit": "%",
            "higher_is_better": True,
            "protocol": "common probe",
            "command": f"retable probe --scale {row.scale} --datasets {row.dataset}",
        }
        scored[row.scale, row.split].append(row.model_copy(update=change))
    return [Block(tuple(sorted(scored[place], key=_rank_key)), True, common=True) for place in sorted(scored)]


def _rank_key(row: Result) -> tuple:
    assert row.mean is not None
    return -row.mean if row.higher_is_better else row.mean, row.paper, row.method, row.setting


def apart(row: Result, ranked: Result) -> str:
    """In one sentence why a row's block is not ranked with another."""
    differing = []
    if row.protocol != ranked.protocol:
        differing.append(f"the protocol is “{row.protocol}”, not “{ranked.protocol}”")
    if row.split != ranked.split:
        differing.append(f"the split is “{row.split}”, not “{ranked.split}”")
    if (row.metric, row.unit) != (ranked.metric, ranked.unit):
        differing.append(f"the metric is {_metric(row)}, not {_metric(ranked)}")
    return f"Not ranked with the above: {', '.join(differing)}."


def _metric(row: Result) -> str:
    name = row.metric.replace("_", " ")
    return f"{name} ({row.unit})" if row.unit else name


def differ(first: Result, second: Result) -> tuple[float, float, float, str] | None:
    """First minus second with its 95 % interval and the test behind it; None where there is no spread to tell.

    Equal seeds are pairs where rows of one recipe share what a seed decides and ran on the same kinds of device.
    """
    paired = (
        (first.paper, first.recipe) == (second.paper, second.recipe)
        and first.shared
        and first.seeds.keys() == second.seeds.keys()
        and first.devices == second.devices
    )
    step = printed_digit(round(first.mean or 0.0, 2), first.unit)
    gap = gap_of_order(first.seeds, second.seeds, step, paired)
    if gap is None:
        return None
    low, high = interval(gap)
    return gap.difference, low, high, "paired" if paired else "Welch"


def pairs(block: Block) -> Markup:
    """The table of all differences, row minus column, the upper half; empty where there are too many rows."""
    rows = block.rows
    if not 1 < len(rows) <= PAIRS:
        return Markup("")
    heads = Markup("").join(
        Markup('<th scope="col" data-of="{}" title="{}">{}</th>').format(row.cell, _name(row), rank)
        for rank, row in enumerate(rows[1:], start=2)
    )
    body = Markup("").join(
        Markup('<tr data-of="{}"><th scope="row">{} <small>{}</small></th>{}</tr>').format(
            row.cell,
            rank,
            _name(row),
            Markup("").join(_pair(row, rows, rank, column) for column in range(1, len(rows))),
        )
        for rank, row in enumerate(rows[:-1], start=1)
    )
    return Markup(
        '<table class="pairs"><caption><span>Row minus column, with the 95 % interval, not adjusted for the number of '
        "pairs. Bold: the interval leaves out 0. * paired by seed, otherwise Welch.</span></caption>"
        '<thead><tr><th scope="col">method</th>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(heads, body)


def _pair(row: Result, rows: Sequence[Result], rank: int, column: int) -> Markup:
    other = rows[column]
    if column < rank:
        return Markup('<td data-of="{}"></td>').format(other.cell)
    found = differ(row, other)
    if found is None:
        return Markup('<td data-of="{}">–</td>').format(other.cell)
    difference, low, high, test = found
    shows = low > 0 or high < 0
    text = Markup("<b>{}</b>" if shows else "{}").format(signed(difference, row.unit))
    return Markup('<td data-of="{}">{}{} <small>[{}, {}]</small></td>').format(
        other.cell, text, "*" if test == "paired" else "", number(low, row.unit), number(high, row.unit)
    )


def _name(row: Result) -> str:
    return ", ".join(filter(None, [row.method, row.setting]))
