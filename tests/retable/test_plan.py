import dataclasses
import time
from pathlib import Path

import pytest

from retable.cards import CardError, load_datasets, load_papers
from retable.plan import plan

ROOT = Path(__file__).resolve().parents[2]
DATASETS, PAPERS = load_datasets(ROOT), load_papers(ROOT)


def test_identity_is_stable_across_processes_and_releases() -> None:
    cells = plan(PAPERS, DATASETS, "demo", ["contranorm"])
    cell = dataclasses.replace(cells[0], settings={"lr": 0.005, "depth": 2}, axes={"depth": 2}, scale="demo")
    assert (cell.paper, cell.variant, cell.dataset) == ("contranorm", "none", "digits-knn")
    assert cell.identity == "d396f4fea7bb"


def test_identity_changes_with_every_field_but_the_seeds() -> None:
    cell = plan(PAPERS, DATASETS, "demo", ["contranorm"])[0]
    assert dataclasses.replace(cell, seeds=(7,)).identity == cell.identity
    for change in (
        {"settings": cell.settings | {"lr": 1.0}},
        {"scale": "full"},
        {"split": "x"},
        {"protocol": "y v2"},
    ):
        assert dataclasses.replace(cell, **change).identity != cell.identity


def test_identities_are_unique_and_slugs_are_folder_names() -> None:
    for scale in ("demo", "reduced", "full"):
        cells = plan(PAPERS, DATASETS, scale)
        assert len({cell.identity for cell in cells}) == len(cells)
        assert all(cell.slug.replace("_", "").replace("-", "").replace(".", "").isalnum() for cell in cells)


def test_more_seeds_than_a_protocol_has_are_not_planned() -> None:
    cells = plan(PAPERS, DATASETS, "full", ["gind"], seeds=25)
    assert {(cell.recipe, len(cell.seeds)) for cell in cells} == {("nodes", 10), ("graphs", 25)}


def test_tuned_variants_get_a_cell_for_each_candidate() -> None:
    cells = plan(PAPERS, DATASETS, "full", ["contranorm"], ["cora"], ["node-depth"])
    tuned = [cell for cell in cells if cell.variant == "contranorm" and cell.axes["depth"] == 16]
    assert [cell.axes["norm_scale"] for cell in tuned] == [0.2, 0.5, 0.8, 1.0]
    assert all(cell.settings["norm_scale"] == cell.axes["norm_scale"] for cell in tuned)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"scale": "ful"}, "unknown scale 'ful'; did you mean 'full'?"),
        ({"only_papers": ["contranrom"]}, "unknown paper 'contranrom'; did you mean 'contranorm'?"),
        ({"only_datasets": ["korea"]}, "unknown data set 'korea'"),
        ({"only_recipes": ["x"]}, "unknown recipe 'x'"),
        ({"only_papers": ["tricl"], "only_recipes": ["node"]}, "unknown recipe 'node'; valid: agreement, ident"),
        ({"only_datasets": ["cora"]}, "nothing to run at scale demo"),
    ],
)
def test_a_selection_that_cannot_be_gets_one_line_with_the_choices(selection: dict, message: str) -> None:
    with pytest.raises(CardError) as caught:
        plan(PAPERS, DATASETS, **({"scale": "demo"} | selection))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_own_data_sets_run_once_they_have_a_card() -> None:
    before = plan(PAPERS, DATASETS, "full", ["contranorm"])
    with pytest.raises(CardError, match=r"'glue-mrpc' has no card yet: `retable data adopt glue-mrpc"):
        plan(PAPERS, DATASETS, "full", only_datasets=["glue-mrpc"])
    made = DATASETS | {"glue-mrpc": DATASETS["glue-rte"].model_copy(update={"name": "glue-mrpc"})}
    after = plan(PAPERS, made, "full", ["contranorm"])
    assert {cell.recipe for cell in after if cell.dataset == "glue-mrpc"} == {"glue", "glue-albert"}
    assert [cell for cell in after if cell.dataset != "glue-mrpc"] == before


def test_thousands_of_cells_are_planned_fast() -> None:
    recipe = PAPERS["contranorm"].recipe("node-depth")
    full = recipe.scales["full"].model_copy(update={"axes": {"depth": list(range(1, 60))}})
    paper = PAPERS["contranorm"].model_copy(update={"recipes": [recipe.model_copy(update={"scales": {"full": full}})]})
    started = time.perf_counter()
    cells = plan({"contranorm": paper}, DATASETS, "full")
    identities = {cell.identity for cell in cells}
    assert len(identities) == len(cells) > 2000
    assert time.perf_counter() - started < 10, "about 0.1 s on an idle core; ten is a hang, not a slow machine"
