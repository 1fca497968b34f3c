"""Results that go to somebody else and come from somebody else: a folder that is sent, checked and kept apart.

`retable publish --to FOLDER` makes one, `retable check FOLDER` says whether it can be believed, `retable import FOLDER`
keeps it below `results/others/<sender>/`. What others measured is on a page of its own beside ours, in no verdict.
"""

import datetime
import getpass
import hashlib
import platform
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from retable import __version__
from retable.cards import CardError, Model, Sha256, refuse_filled
from retable.checkout import running_tree
from retable.config import Workspace
from retable.currency import RecordStore
from retable.plan import Cell
from retable.preflight import History
from retable.records import RunRecord, load_published, publish, to_json, write_atomically

MANIFEST = "submission.json"
OTHERS = "others"
# So much faster than ours is no faster machine.
IMPLAUSIBLY_FAST = 50.0
CLOCK_SECONDS = 5.0

README = """# Results sent by {sender}

FILL IN: who you are, how to reach you, and what these results are for.

{count} records of {cells} cells, measured with retable {version}, {commit}. They are in `published/`, one a line, and
`submission.json` has the hash of each file. Whoever gets this folder says

    retable check FOLDER      # hashes, identities, data, plausible costs
    retable import FOLDER     # keeps it in results/others/, beside his own results

FILL IN: the machine, what else ran on it, and what differs from the cards, if anything does.
"""


class Submission(Model):
    """Where a folder of results is from, and the hash of each of its files."""

    schema_version: Literal[1] = 1
    sender: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    made: str
    retable: str
    commit: str | None
    clean: bool | None
    system: str
    files: dict[str, Sha256]


def send(store: RecordStore, cells: Sequence[Cell], folder: Path, sender: str | None) -> list[str]:
    """Write the current records of these cells that were measured here into a new folder; what was done, a line each.

    Raises CardError for a folder that holds something, and where there is nothing to send.
    """
    refuse_filled(folder)
    if any(cell.is_exploration for cell in cells):
        raise CardError("explorations are not the paper's: nothing of them is sent; take `--set` out")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", sender or getpass.getuser()).strip("-.") or "somebody"
    wanted = {cell.identity for cell in cells}
    mine = [record for record in store.own.records if record.identity in wanted]
    good = [record for record in mine if store.currency.reason(record) is None]
    if not good:
        raise CardError("nothing to send: no current record of these cells was measured here")
    paths = publish(good, folder)
    tree = running_tree()
    submission = Submission(
        sender=name,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        retable=__version__,
        commit=tree.commit,
        clean=tree.clean,
        system=f"{platform.system()} {platform.machine()}",
        files={str(path.relative_to(folder)): _sha256(path) for path in paths},
    )
    write_atomically(folder / MANIFEST, to_json(submission.model_dump()))
    commit = f"commit {tree.commit}" if tree.commit else "in no git repository"
    number = len({record.identity for record in good})
    text = README.format(sender=name, count=len(good), cells=number, version=__version__, commit=commit)
    (folder / "README.md").write_text(text, encoding="utf-8")
    stale = f", {len(mine) - len(good)} stale ones left out" if len(mine) > len(good) else ""
    return [
        *map(str, paths),
        f"{len(good)} records of {name} are in {folder}{stale}; fill in its README.md and send it",
    ]


def verify(store: RecordStore, folder: Path) -> tuple[Submission, list[RunRecord], list[str]]:
    """A folder that was sent, its records and what is wrong with them, a line each. Raises CardError for a folder that
    is none, or was altered or damaged.
    """
    try:
        submission = Submission.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CardError(f"{folder}: no {MANIFEST} in it; `retable publish RECIPE --to FOLDER` makes one") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise CardError(f"{folder / MANIFEST}: {place}: {problem['msg']}; ask the sender for a new one") from None
    there = {str(path.relative_to(folder)) for path in (folder / "published").glob("*/*") if path.is_file()}
    for name in sorted(there | set(submission.files)):
        path = folder / name
        if name not in submission.files or Path(name).is_absolute() or ".." in Path(name).parts:
            raise CardError(f"{path}: is not in {MANIFEST}; ask the sender for a new one")
        if name not in there or _sha256(path) != submission.files[name]:
            raise CardError(f"{path}: is not what {MANIFEST} says; ask the sender for it again")
    loaded = load_published(folder)
    if loaded.troubles:
        raise CardError(str(loaded.troubles[0]))
    if not loaded.records:
        raise CardError(f"{folder}: no record in it")
    return submission, loaded.records, list(_doubts(store, loaded.records))


def _doubts(store: RecordStore, records: Sequence[RunRecord]) -> Iterator[str]:
    """What makes records unbelievable, or speaks of something else than the cards here."""
    history = History([*store.published.records, *store.own.records], "cpu")
    same: dict[str, dict[tuple, int]] = defaultdict(dict)
    for record in records:
        place = f"{record.cell.name} seed {record.seed}"
        if record.cell.is_exploration:
            yield f"{place}: an exploration, which is nobody's result"
            continue
        try:
            recipe = store.workspace.papers[record.paper].recipe(record.recipe)
        except (KeyError, CardError):
            yield f"{place}: no card here has the recipe {record.paper}/{record.recipe}; name its folder: --papers-from"
            continue
        reason = store.currency.reason(record)
        if reason and "data" in reason:
            yield f"{place}: {reason}"
        for name, value in record.metrics.items():
            if name == recipe.metric and recipe.unit == "%" and not -1e-9 <= value <= 100 + 1e-9:
                yield f"{place}: {name} is {value:g} %"
        took = (_time(record.ended) - _time(record.started)).total_seconds()
        if took < -CLOCK_SECONDS or record.cost.wall_s < 0 or record.cost.cpu_s < 0:
            yield f"{place}: it ended before it began"
        elif not record.cost.resumed and record.cost.wall_s > took + CLOCK_SECONDS:
            yield f"{place}: took {record.cost.wall_s:.0f} s, and {took:.0f} s passed between its start and its end"
        usual = history.seconds(record.cell) if history.of(record.cell) else 0.0
        if (
            record.state == "ok"
            and usual > 1.0
            and not record.cost.gpu_s
            and record.cost.cpu_s * IMPLAUSIBLY_FAST < usual
        ):
            yield f"{place}: {record.cost.cpu_s:.2g} processor-seconds, where such runs took {usual:.3g}"
        variant = recipe.variants.get(record.variant)
        if record.state == "ok" and variant and not variant.control and len(record.metrics) > 1:
            key = (*sorted(record.metrics.items()), record.cost.cpu_s)
            if key in same[record.identity]:
                yield f"{place}: the numbers and the cost of seed {same[record.identity][key]} again"
            same[record.identity][key] = record.seed


def take_in(workspace: Workspace, folder: Path) -> list[str]:
    """Keep a folder that was sent below `results/others/<sender>/`. Raises CardError, and then keeps nothing, for one
    that is damaged or that cannot be believed.
    """
    store = RecordStore.open(workspace)
    submission, records, doubts = verify(store, folder)
    if doubts:
        more = f" (and {len(doubts) - 1} more: `retable check {folder}`)" if len(doubts) > 1 else ""
        raise CardError(f"not imported: {doubts[0]}{more}")
    place = workspace.results / OTHERS / submission.sender
    shutil.rmtree(place, ignore_errors=True)
    for name in (*submission.files, MANIFEST):
        write_atomically(place / name, (folder / name).read_bytes())
    stale = sum(store.currency.reason(record) is not None for record in records)
    said = f"{len(records)} records of {submission.sender} are in {place.relative_to(workspace.root)}"
    return [said + (f"; {stale} of them ran other code than is here, and are shown as stale" if stale else "")]


def of_others(results: Path) -> dict[str, list[RunRecord]]:
    """The records that were imported, by sender."""
    folders = sorted(path.parent for path in (results / OTHERS).glob(f"*/{MANIFEST}"))
    return {folder.name: load_published(folder).records for folder in folders}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
