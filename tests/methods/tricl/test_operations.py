"""The counts in the card are those of the code."""

from pathlib import Path

import pytest

from methods.tricl.operations import of_seed
from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.preflight import operations

ROOT = Path(__file__).resolve().parents[3]
WORKSPACE = Workspace(ROOT, Config())


def full_cells() -> list[Cell]:
    """One cell for each count that the card has, of recipes on images."""
    recipes = [r for r in WORKSPACE.papers["tricl"].recipes if r.name != "identifiability"]
    cells = [cell for recipe in recipes for cell in recipe_cells("tricl", recipe, WORKSPACE.datasets, "full")]
    return list({(cell.recipe, operations(WORKSPACE, cell)): cell for cell in cells}.values())


@pytest.mark.parametrize("cell", full_cells(), ids=lambda cell: f"{cell.recipe}-{cell.variant}")
def test_the_card_says_what_a_seed_has_to_compute(cell: Cell) -> None:
    assert operations(WORKSPACE, cell) == pytest.approx(of_seed(cell), rel=0.01)
