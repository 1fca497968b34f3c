"""From finished runs to reference results: what may be published, and the looks that this takes."""

from collections import Counter
from collections.abc import Sequence

from retable.cards import CardError
from retable.checkout import require_clean, running_tree
from retable.currency import RecordStore
from retable.looks import seeds_held
from retable.plan import Cell
from retable.records import publish


def publish_finished(store: RecordStore, cells: Sequence[Cell]) -> list[str]:
    """Publish the runs of some cells that speak for the tree and ran from a commit; what was done, a line each.

    Raises CardError where the tree has uncommitted changes, and where the seeds would be a third look at a cell or a
    second one that was not fixed before; then nothing is written.
    """
    if any(cell.is_exploration for cell in cells):
        raise CardError("explorations are not the paper's: nothing of them is published; take `--set` out")
    require_clean(running_tree(), "publish")
    wanted = {cell.identity for cell in cells}
    good, left = [], Counter[str]()
    for record in store.own.records:
        if record.identity not in wanted:
            continue
        if store.currency.reason(record):
            left["stale"] += 1
        elif record.clean is not True:
            left["measured with uncommitted changes" if record.commit else "measured outside of a git repository"] += 1
        elif record.paper in store.workspace.outside.folders and not record.environment.get("paper", "").endswith(
            "clean"
        ):
            left["measured from a folder that is not as a commit has it"] += 1
        else:
            good.append(record)
    held = seeds_held([*store.published.records, *good])
    looks = store.looks.after([(cell, held[cell.identity]) for cell in cells if held[cell.identity]])
    results = store.workspace.results
    lines = [str(path.relative_to(results.parent)) for path in publish(good, results)]
    if looks != store.looks:
        looks.write(results)
    said = f"{len(good)} records published" + "".join(f", {number} left out as {why}" for why, number in left.items())
    return [*lines, said]
