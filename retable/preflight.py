"""What a run would cost before it starts: cells, hours, downloads, licences."""

import statistics
from collections import defaultdict

from retable.config import Workspace
from retable.records import load_records
from retable.verify import cell_states


def estimate(workspace: Workspace) -> str:
    """A text table, one line a recipe and data set. Hours are from measured runs where there are any.

    The time of a seed is the median of measured seeds of the same cell, else of the same variant and axes on any data
    set or scale of the recipe; cells without either are counted and the card's own words are quoted.
    """
    history: dict[tuple, list[float]] = defaultdict(list)
    for record in load_records(workspace.results):
        if record.state == "ok":
            history[record.identity,].append(record.cost.wall_s)
            history[record.paper, record.recipe, record.variant, tuple(sorted(record.axes.items()))].append(
                record.cost.wall_s
            )
    lines: dict[tuple[str, str, str], dict] = defaultdict(lambda: {"seeds": 0, "seconds": 0.0, "unknown": 0})
    for cell, states in cell_states(workspace):
        line = lines[cell.paper, cell.recipe, cell.dataset]
        missing = sum(state != "ok" for state in states)
        known = history.get((cell.identity,)) or history.get(
            (cell.paper, cell.recipe, cell.variant, tuple(sorted(cell.axes.items())))
        )
        line["seeds"] += missing
        if known:
            line["seconds"] += missing * statistics.median(known)
        else:
            line["unknown"] += missing
    scale = workspace.config.scale
    out = [f"scale {scale}: what would run, on one core"]
    for (paper, recipe, dataset), line in lines.items():
        text = f"  {paper}/{recipe} on {dataset}: {line['seeds']} seeds to run, {line['seconds'] / 3600:.2f} h by history"
        if line["unknown"]:
            cost = workspace.papers[paper].recipe(recipe).scales[scale].cost
            text += f", and {line['unknown']} without history (card: {cost})"
        out.append(text)
    cards = [workspace.datasets[name] for name in dict.fromkeys(dataset for _, _, dataset in lines)]
    for card in cards:
        place = "embedded" if card.embedded else f"{card.bytes / 2**20:.1f} MiB to download at most"
        out.append(f"  data {card.name}: {place}; licence: {card.licence}")
    return "\n".join(out)
