"""What every paper promises, asked of the demo's cells: the suite's by the tests, of yours by `retable check`."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from retable.config import Workspace
from retable.plan import Cell, recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, fixed_batch, make_context, paper_module, run_cell
from retable.train.context import StopRequest
from retable.train.determinism import make_deterministic

# Loops and what is attacked, cut to this: each promise is about what happens between steps, not about their number.
SHORT = {
    "epochs": 6,
    "supervised_epochs": 3,
    "probe_epochs": 3,
    "tune_epochs": 3,
    "aff_epochs": 3,
    "teacher_epochs": 4,
    "student_epochs": 3,
    "alf_iters": 2,
    "pgd_iters": 2,
    "attacked_images": 50,
    "aa_images": 10,
    "aa_iterations": 2,
    "runs": 2,
}
STOP_AFTER = 2


class Broken(Exception):
    """A promise that is not kept; the message says which and what was found."""


def demo_cells(workspace: Workspace, paper: str | None = None) -> list[Cell]:
    """One short cell for each recipe and variant of the demo: the cheapest of its grid."""
    chosen: dict[tuple, Cell] = {}
    for card in workspace.papers.values():
        for recipe in card.recipes if paper in (None, card.id) else ():
            for cell in recipe_cells(card.id, recipe, workspace.datasets, "demo"):
                chosen.setdefault((cell.paper, cell.recipe, cell.variant), cell)
    return [
        replace(
            cell, settings=cell.settings | {k: min(v, cell.settings[k]) for k, v in SHORT.items() if k in cell.settings}
        )
        for cell in chosen.values()
    ]


def is_control(workspace: Workspace, cell: Cell) -> bool:
    """Whether the variant is a control, or another that is measured without a model."""
    if workspace.papers[cell.paper].recipe(cell.recipe).variants[cell.variant].control:
        return True
    return cell.variant in paper_module(workspace, cell).EXPERIMENT.controls


def speakers(workspace: Workspace, cells: list[Cell]) -> list[Cell]:
    """One learning cell for each experiment and method: of the first recipe, whose last variant is the paper's form."""
    found: dict[tuple, Cell] = {}
    for cell in cells:
        key = (cell.paper, workspace.experiment(cell), cell.settings.get("method"))
        if not is_control(workspace, cell) and (key not in found or found[key].recipe == cell.recipe):
            found[key] = cell
    return list(found.values())


def step_lowers(model: nn.Module, loss: Callable[[], Tensor]) -> bool:
    """Whether a small step along the gradient lowers the loss of a fixed batch."""
    before = loss()
    before.backward()
    slopes = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    size = sum(float(slope.square().sum()) for _, slope in slopes)
    if size == 0:
        return False
    with torch.no_grad():
        for parameter, slope in slopes:
            parameter.sub_(slope, alpha=0.01 / size**0.5)
    return loss().item() < before.item()


def curve(folder: Path, seed: int) -> bytes:
    """What a seed logged; nothing for rows without training."""
    path = folder / f"seed-{seed}.curve.jsonl"
    return path.read_bytes() if path.exists() else b""


def meaning(path: Path) -> dict:
    """A record without what may differ between two runs of the same thing: times, memory, resumption."""
    return read_record(path).model_dump(exclude={"cost", "started", "ended"})


class StopsAfter(StopRequest):
    """A stop that comes by itself once it was asked about so often."""

    def __init__(self, times: int) -> None:
        self.left = times

    @property
    def signal(self) -> int | None:  # type: ignore[override]
        """None until then."""
        self.left -= 1
        return None if self.left >= 0 else signal.SIGTERM


def keep_promises(workspace_at: Callable[[str], Workspace], cell: Cell) -> Iterator[str]:
    """Ask a learning cell everything; yields what it keeps. Raises Broken at the first promise that it does not keep.

    `workspace_at` gives an empty workspace of a name.
    """
    place = f"{cell.paper}/{cell.recipe} {cell.variant}"
    once, again, stopped = (workspace_at(name) for name in ("once", "again", "stopped"))
    make_deterministic(torch.device("cpu"))
    context = make_context(once, cell, 0, torch.device("cpu"))
    if not step_lowers(*fixed_batch(paper_module(once, cell), cell, context)):
        raise Broken(f"{place}: a small step along the gradient of `fixed_batch` does not lower its loss")
    yield "a step along the gradient lowers the loss of a fixed batch"

    first = run_cell(once, replace(cell, seeds=(0, 1)))
    for record in first.records.values():
        if record.state != "ok":
            raise Broken(f"{place} seed {record.seed}: {record.state}: {record.error}")
    if not first.records[0].metrics:
        raise Broken(f"{place}: `measure` returns no metric")
    wanted = workspace_metric(once, cell)
    if wanted not in first.records[0].metrics:
        raise Broken(f"{place}: `measure` does not return {wanted!r}, the recipe's metric")
    second = run_cell(again, replace(cell, seeds=(0,)))
    if _outcome(first.folder) != _outcome(second.folder):
        raise Broken(
            f"{place}: seed 0 gives other bytes the second time; call context.seed_torch before what is random"
        )
    if curve(first.folder, 0) == curve(first.folder, 1):
        raise Broken(f"{place}: seeds 0 and 1 give the same curve; what is random must come after context.seed_torch")
    yield "the same seed gives the same bytes, another one does not"

    if evaluate_cell(once, cell, 0).metrics != first.records[0].metrics:
        raise Broken(f"{place}: `measure` needs more than the kept weights; `weights` must say what")
    yield "evaluation runs from the kept weights alone"

    with contextlib.suppress(SystemExit):
        run_cell(stopped, replace(cell, seeds=(0,)), StopsAfter(STOP_AFTER))
    third = run_cell(stopped, replace(cell, seeds=(0,)))
    if third.records[0].cost.resumed != 1:
        raise Broken(f"{place}: a stopped run did not go on; train in `context.epochs(n, model=..., optimiser=...)`")
    if _outcome(first.folder) != _outcome(third.folder):
        raise Broken(f"{place}: stopped and resumed it ends in other numbers; give all that changes to context.epochs")
    yield "stopped and resumed it ends in the same bytes"


def workspace_metric(workspace: Workspace, cell: Cell) -> str:
    """The metric that the cell's recipe names."""
    return workspace.papers[cell.paper].recipe(cell.recipe).metric


def _outcome(folder: Path) -> tuple[dict, bytes]:
    return meaning(folder / "seed-0.json"), curve(folder, 0)
