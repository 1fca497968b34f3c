"""The operations that cards state are those that torch counts, by `operations/<paper>.py`."""

import importlib.util
from pathlib import Path

import pytest

from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.preflight import operations

WORKSPACE = Workspace(Path(__file__).resolve().parents[2], Config())


def counted_cells() -> list[Cell]:
    """One cell for each count at full scale, 0 included, of the recipes whose card holds counts."""
    cells: dict[tuple, Cell] = {}
    for paper, card in WORKSPACE.papers.items():
        for recipe in card.recipes:
            if "full" in recipe.scales and recipe.scales["full"].operations:
                for cell in recipe_cells(paper, recipe, WORKSPACE.datasets, "full"):
                    cells.setdefault((paper, recipe.name, operations(WORKSPACE, cell)), cell)
    return list(cells.values())


def of_seed(cell: Cell) -> float:
    path = Path(__file__).with_name("operations") / f"{cell.paper}.py"
    spec = importlib.util.spec_from_file_location(f"operations_{cell.paper}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.of_seed(cell)


def is_quick(cell: Cell) -> bool:
    return (cell.dataset == "cifar10" and cell.paper != "umae") or cell.axes == {"depth": 12}


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=f"{cell.paper}-{cell.slug}", marks=() if is_quick(cell) else pytest.mark.slow)
        for cell in counted_cells()
    ],
)
def test_the_card_states_what_is_counted(cell: Cell) -> None:
    counted = of_seed(cell)
    assert operations(WORKSPACE, cell) == pytest.approx(counted, rel=0.01), f"the card should say {counted:.3g}"


def test_the_image_recipes_are_counted() -> None:
    recipes = {(cell.paper, cell.recipe) for cell in counted_cells()}
    assert {("umae", "pretrain"), ("umae", "imagenet-probe"), ("contranorm", "vision")} <= recipes
    # Of these papers every recipe that trains on images.
    for paper in ("dynacl", "tricl"):
        full = {recipe.name for recipe in WORKSPACE.papers[paper].recipes if "full" in recipe.scales}
        assert {(paper, name) for name in full - {"identifiability"}} <= recipes
