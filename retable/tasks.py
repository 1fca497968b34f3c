"""A list of cells and seeds to measure, which `retable campaign` writes and `retable run --list` reads."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from retable.cards import CardError, Model, Scale
from retable.config import Workspace
from retable.plan import Cell, plan
from retable.records import to_json, write_atomically


class Task(Model):
    """Seeds of a cell to measure."""

    scale: Scale
    cell: str
    seeds: list[int] = Field(min_length=1)


LIST = TypeAdapter(list[Task])


def write_list(path: Path, tasks: Sequence[Task]) -> None:
    """Write a list. Raises OSError."""
    write_atomically(path, to_json([task.model_dump() for task in tasks]))


def read_list(workspace: Workspace, path: Path) -> list[Cell]:
    """The cells of a list in its order, of any scales, each with the seeds to measure. Raises CardError for any other
    file, and for cells that no card plans.
    """
    try:
        tasks = LIST.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise CardError(f"--list {path}: no list of cells that `retable campaign` wrote") from None
    scales = dict.fromkeys(task.scale for task in tasks)
    planned = {cell.identity: cell for scale in scales for cell in plan(workspace.papers, workspace.datasets, scale)}
    if lost := [task.cell for task in tasks if task.cell not in planned]:
        raise CardError(f"--list {path}: no card of this commit plans the cell {lost[0]}; give the command again")
    return [replace(planned[task.cell], seeds=tuple(task.seeds)) for task in tasks]
