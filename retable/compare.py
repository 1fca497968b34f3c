"""`retable compare`: two cells, two commits' records or two machines, side by side, and what differs between them."""

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retable.cards import CardError
from retable.config import Workspace
from retable.currency import RecordStore
from retable.records import RunRecord, load_own, load_published
from retable.significance import gap_of_order, interval

FORM = (
    "name a side by CELL, CELL@WHERE or @WHERE: a cell by the beginning of its identity (`retable plan`), WHERE as "
    "`here`, `published`, a folder with results, or the beginning of a commit"
)


@dataclass(frozen=True)
class Side:
    """Records by cell and seed, as `text` names them."""

    text: str
    cells: Mapping[str, Mapping[int, RunRecord]]


def read_side(workspace: Workspace, store: RecordStore, text: str) -> Side:
    """The records that a side names. Raises CardError where there are none."""
    prefix, at, where = text.partition("@")
    if not re.fullmatch(r"[0-9a-f]{0,12}", prefix) or not (prefix or where):
        raise CardError(f"{text!r}: {FORM}")
    explored = store.explorations.records
    if not at:
        records = [*store.published.records, *store.own.records, *explored]
    elif where == "here":
        records = [*store.own.records, *explored]
    elif where == "published":
        records = store.published.records
    elif Path(where).is_dir():
        records = _of_folder(Path(where))
    elif re.fullmatch(r"[0-9a-f]{4,40}", where):
        every = [*store.published.records, *store.own.records, *explored]
        records = [record for record in every if (record.commit or "").startswith(where)]
    else:
        raise CardError(f"{text!r}: no folder {where!r}, and no commit; {FORM}")
    cells: dict[str, dict[int, RunRecord]] = defaultdict(dict)
    for record in records:
        if record.identity.startswith(prefix) and record.state == "ok":
            cells[record.identity][record.seed] = record
    if not cells:
        raise CardError(f"{text!r}: no finished record; {FORM}")
    if prefix and len(cells) > 1:
        raise CardError(f"{text!r}: {len(cells)} cells begin so; give more of the identity")
    return Side(text, cells)


def _of_folder(folder: Path) -> list[RunRecord]:
    """Records of a checkout, of its `results/`, or of a folder that `retable publish --to` made."""
    results = folder / "results" if (folder / "results").is_dir() else folder
    found = [*load_published(results).records, *load_own(results).records]
    return [*found, *load_own(results / "explorations").records]


def compare(workspace: Workspace, first: str, second: str) -> Iterator[str]:
    """What two sides have measured, in lines. Without cells, each cell that both have."""
    store = RecordStore.open(workspace)
    a, b = (read_side(workspace, store, text) for text in (first, second))
    if len(a.cells) == len(b.cells) == 1:
        pairs = [(next(iter(a.cells)), next(iter(b.cells)))]
    else:
        pairs = [(identity, identity) for identity in a.cells if identity in b.cells]
        if not pairs:
            raise CardError(f"{first} and {second} have no cell in common")
    for one, other in pairs:
        yield from _pair(workspace, a.cells[one], b.cells[other])


def _pair(workspace: Workspace, a: Mapping[int, RunRecord], b: Mapping[int, RunRecord]) -> Iterator[str]:
    first, second = next(iter(a.values())), next(iter(b.values()))
    yield f"A  {first.cell.name}  ({first.scale})"
    yield f"B  {second.cell.name}  ({second.scale})"
    for metric in _metrics(workspace, first, second):
        yield f"   {metric}: {_difference(a, b, metric)}"
    costs = [statistics.median(record.device_seconds for record in side.values()) for side in (a, b)]
    yield f"   seconds a seed: A {costs[0]:.3g}, B {costs[1]:.3g}" + (
        f" ({costs[1] / costs[0]:.2f}x)" if costs[0] else ""
    )
    same = True
    for what, before, now in _differing(list(a.values()), list(b.values())):
        same = False
        yield f"   differs in {what}: A {before}, B {now}"
    if same:
        yield "   settings, code, data and versions are the same"


def _metrics(workspace: Workspace, first: RunRecord, second: RunRecord) -> list[str]:
    """The recipe's metric, else all that both have."""
    common = [name for name in first.metrics if name in second.metrics]
    if first.paper in workspace.papers:
        recipes = [recipe for recipe in workspace.papers[first.paper].recipes if recipe.name == first.recipe]
        if recipes and recipes[0].metric in common:
            return [recipes[0].metric]
    return common


def _difference(a: Mapping[int, RunRecord], b: Mapping[int, RunRecord], metric: str) -> str:
    """Both means, and B minus A with its interval of 95 %, paired where both have the same cell and seeds."""
    values = [
        {seed: record.metrics[metric] for seed, record in side.items() if metric in record.metrics} for side in (a, b)
    ]
    told = ", ".join(
        f"{name} {statistics.mean(side.values()):.4g}"
        + (f" ± {statistics.stdev(side.values()):.2g}" if len(side) > 1 else "")
        + f" (n = {len(side)})"
        for name, side in zip("AB", values, strict=True)
    )
    if values[0] == values[1]:
        return f"{told}; equal to the last bit"
    alike = next(iter(a.values())).identity == next(iter(b.values())).identity and values[0].keys() == values[1].keys()
    gap = gap_of_order(values[1], values[0], 0.0, alike)
    if gap is None:
        difference = statistics.mean(values[1].values()) - statistics.mean(values[0].values())
        return f"{told}; B - A = {difference:+.4g}, too few seeds for an interval"
    low, high = interval(gap)
    ends = f"{low:+.4g} to {high:+.4g}"
    return f"{told}; B - A = {gap.difference:+.4g}, 95 % interval {ends}" + (", paired by seeds" if alike else "")


def _differing(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> Iterator[tuple[str, str, str]]:
    """What is not the same on both sides: what it is, and what it is on each."""
    first, second = a[0], b[0]
    for name in ("paper", "recipe", "dataset", "split", "variant", "scale", "protocol"):
        if getattr(first, name) != getattr(second, name):
            yield name, getattr(first, name), getattr(second, name)
    for key in sorted({*first.settings, *second.settings}):
        one, other = first.settings.get(key, "none"), second.settings.get(key, "none")
        if one != other:
            yield f"setting {key}", str(one), str(other)
    parts = {"code": "source_sha256", "data": "data_sha256", "the split's content": "split_sha256", "commit": "commit"}
    for what, name in parts.items():
        sides = [sorted({str(getattr(record, name) or "none")[:12] for record in side}) for side in (a, b)]
        if sides[0] != sides[1]:
            yield what, " and ".join(sides[0]), " and ".join(sides[1])
    for key in sorted({key for record in (*a, *b) for key in record.environment}):
        sides = [sorted({record.environment.get(key, "none") for record in side}) for side in (a, b)]
        if sides[0] != sides[1]:
            yield key, " and ".join(sides[0]), " and ".join(sides[1])
