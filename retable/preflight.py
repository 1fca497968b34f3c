"""What a run would cost before it starts: seeds, hours, memory, downloads, licences."""

import statistics
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from retable.config import Workspace
from retable.plan import Cell
from retable.records import RunRecord, load_records
from retable.verify import cell_states


@dataclass
class Estimate:
    """Of one recipe on one data set: seeds to run, seconds of those with a history, seeds without one, memory."""

    seeds: int = 0
    seconds: float = 0.0
    unknown: int = 0
    peak_bytes: int = 0


def estimate(workspace: Workspace) -> str:
    """A text table: one line a recipe and data set, then one a data set.

    The time of a seed is the median of measured seeds of the same cell, else of the same variant and axes on any
    data set and scale of the recipe. Where there is neither, the card's own words are quoted.
    """
    history = _history(load_records(workspace.results))
    rows: dict[tuple[str, str, str], Estimate] = defaultdict(Estimate)
    for cell, states in cell_states(workspace):
        row = rows[cell.paper, cell.recipe, cell.dataset]
        missing = sum(state != "ok" for state in states)
        known = history.get(cell.identity) or history.get(_kind(cell), [])
        row.seeds += missing
        if known:
            row.seconds += missing * statistics.median(record.cost.wall_s for record in known)
            row.peak_bytes = max(row.peak_bytes, *(record.cost.peak_memory_bytes for record in known))
        else:
            row.unknown += missing
    scale = workspace.config.scale
    lines = [f"scale {scale}: what would run (hours of one job after the other; divide by the jobs side by side)"]
    for (paper, recipe, dataset), row in rows.items():
        text = f"  {paper}/{recipe} on {dataset}: {row.seeds} seeds to run"
        if row.seconds:
            text += f", {row.seconds / 3600:.2f} h and {row.peak_bytes / 2**30:.1f} GiB at the peak by history"
        if row.unknown:
            cost = workspace.papers[paper].recipe(recipe).scales[scale].cost
            text += f", {row.unknown} of them without history (card: {cost})"
        lines.append(text)
    for name in dict.fromkeys(dataset for _, _, dataset in rows):
        card = workspace.datasets[name]
        place = (
            f"to be provided at datasets/raw/{card.local}" if card.local else f"{card.bytes / 1e6:.1f} MB to download"
        )
        place = "derived on this machine" if card.embedded else place
        lines.append(f"  data {name}: {place}; licence: {card.licence}")
    return "\n".join(lines)


def _history(records: list[RunRecord]) -> dict[Hashable, list[RunRecord]]:
    history: dict[Hashable, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.state == "ok":
            history[record.identity].append(record)
            history[_kind(record)].append(record)
    return history


def _kind(subject: Cell | RunRecord) -> Hashable:
    return subject.paper, subject.recipe, subject.variant, tuple(sorted(subject.axes.items()))
