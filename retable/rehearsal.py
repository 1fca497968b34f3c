"""Rehearsals: cells run on the processor with every phase cut to a few epochs, to see that they run and what they cost.

No record is kept. `benchmarks/rehearsal.csv` holds what each took; it prices cells that no record prices.
"""

import csv
import io
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from retable.cards import CardError, Model, Scalar, read_table
from retable.checkout import running_tree
from retable.config import Workspace
from retable.equivalence import cut, phases, stretch
from retable.plan import Cell
from retable.preflight import operations
from retable.prove import Tree
from retable.records import write_atomically

REHEARSAL = "benchmarks/rehearsal.csv"
# Operations a second of one core of a processor, about half of what products of float32 matrices reach with AVX-512.
CPU_RATE = 5e10
# What takes longer though it is cut is left out: the tests take single steps of it.
LONGEST_SECONDS = 600.0
SHORT_SECONDS = 1.0
GOOD = ("ok", "diverged")


class Rehearsed(Model):
    """What a cell took: `seconds` of the processor cut short, and `whole_seconds` at its length by that."""

    cell: str
    name: str
    state: str
    seconds: float | None = None
    whole_seconds: float | None = None


def load_rehearsal(root: Path) -> dict[str, Rehearsed]:
    """The table of rehearsals, by cell; empty where there is none. Raises CardError for another file."""
    try:
        table = read_table(root / REHEARSAL, ["cell", "name", "state"])
        lines = [{key: text for key, text in line.items() if text} for _, line in table]
        return {line["cell"]: Rehearsed.model_validate(line) for line in lines}
    except FileNotFoundError:
        return {}
    except CardError as error:
        raise CardError(f"{error}; restore it from git, or delete it") from None
    except (KeyError, ValueError):
        raise CardError(f"{root / REHEARSAL}: no table of rehearsals; restore it from git, or delete it") from None


def rehearse(workspace: Workspace, cells: Sequence[Cell], steps: int, limit: float, say: Callable[[str], None]) -> int:
    """Run cells on the processor, every phase cut to `steps` epochs, until `limit` seconds are over.

    A second run for each phase, longer in this phase, tells what its epoch takes. Cells that ran well before are left
    out. Returns how many failed. Raises CardError for less than one step.
    """
    if steps < 1:
        raise CardError(f"--steps {steps}: needs at least 1")
    found, end, ran = load_rehearsal(workspace.root), time.monotonic() + limit, []
    left = [cell for cell in cells if cell.identity not in found or found[cell.identity].state not in GOOD]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="retable-rehearsal-")))
        log = workspace.root / "logs" / "rehearsal.log"
        log.parent.mkdir(exist_ok=True)
        tree = Tree(workspace.root, running_tree().commit or "", log)
        stack.callback(tree.close)
        for cell in left:
            if (
                operations(workspace, cell) / CPU_RATE / stretch(cell.settings, cut(cell.settings, steps))
                > LONGEST_SECONDS
            ):
                say(f"{_name(cell)}: too long for a processor even when it is cut")
            elif time.monotonic() < end:
                ran.append(_rehearse_cell(workspace, tree, cell, steps, scratch / "run"))
                found[cell.identity] = ran[-1]
                _write(workspace.root, found)
                say(_said(ran[-1]))
    failed = sum(1 for each in ran if each.state not in GOOD)
    say(f"{len(ran) - failed} of {len(ran)} cells ran, {len(cells) - len(left)} had before; what they print: {log}")
    return failed


def _rehearse_cell(workspace: Workspace, tree: Tree, cell: Cell, steps: int, scratch: Path) -> Rehearsed:
    from retable.data.fetch import fetch

    fetch(workspace.datasets[cell.dataset], workspace.raw, workspace.mirror, progress=False)

    def run(settings: dict[str, Scalar]) -> tuple[str, float]:
        answer = tree.ask(
            "run",
            scale=cell.scale,
            identity=cell.identity,
            seed=0,
            settings=settings,
            raw=str(workspace.raw),
            folder=str(scratch),
        )
        return answer.get("error") or answer["state"].partition(":")[0], answer.get("cpu_s", 0.0)

    short = cut(cell.settings, steps)
    state, seconds = run(short)
    if state not in GOOD:
        return Rehearsed(cell=cell.identity, name=_name(cell), state=state)
    whole = seconds
    for phase, times in phases(cell.settings, short).items():
        # What takes a moment is told better by a longer second run.
        epochs = max(steps + 1, round(min(times, 2.0 if seconds > SHORT_SECONDS else 10.0) * steps))
        longer = run({**short, phase: epochs})[1]
        whole += max(longer - seconds, 0.0) * (times - 1) * steps / (epochs - steps)
    return Rehearsed(
        cell=cell.identity, name=_name(cell), state=state, seconds=round(seconds, 2), whole_seconds=round(whole, 1)
    )


def _said(each: Rehearsed) -> str:
    if each.seconds is None or each.whole_seconds is None:
        return f"{each.name}: {each.state}"
    return f"{each.name}: {each.state}, {each.seconds:.1f} s; a seed about {each.whole_seconds:.0f} s"


def _write(root: Path, found: dict[str, Rehearsed]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Rehearsed.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(each.model_dump() for each in sorted(found.values(), key=lambda each: each.name))
    write_atomically(root / REHEARSAL, text.getvalue().encode())


def _name(cell: Cell) -> str:
    return f"{cell.paper}/{cell.recipe} {cell.scale} {cell.dataset} {cell.slug}"
