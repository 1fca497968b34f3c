import copy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from retable.cards import CardError, PaperCard
from retable.records import RunRecord, load_cell, load_published, load_records, publish, published_path, write_record
from retable.renames import Renames, load_renames

TABLE = [
    {
        "paper": "toy",
        "recipe": "depth",
        "recipes": {"depth": "layers"},
        "variants": {"ours": "contranorm"},
        "keys": {"s": "strength", "lr": "rate"},
        "values": {"s": {0.0: "off", 0.5: "half", 1.0: "whole"}},
        "metrics": {"accuracy": "test_accuracy"},
    }
]


def table(results: Path, entries: object) -> Path:
    path = results / "renames.yaml"
    results.mkdir(exist_ok=True)
    path.write_text(entries if isinstance(entries, str) else yaml.safe_dump(entries))
    return path


def rewritten(card: PaperCard) -> PaperCard:
    """The card under the new names of TABLE."""
    data = copy.deepcopy(card.model_dump(mode="json"))
    (recipe,) = data["recipes"]
    recipe["name"], recipe["metric"] = "layers", "test_accuracy"
    data["statements"][0]["parts"] = ["layers/ours-over-plain"]
    recipe["answers"][0]["measured"] = "test_accuracy"
    recipe["orderings"][0]["better"] = "contranorm"
    recipe["hyper"] = {"rate": recipe["hyper"]["lr"]}
    recipe["variants"]["plain"]["settings"] = {"strength": "off"}
    ours = recipe["variants"].pop("ours")
    recipe["variants"]["contranorm"] = ours | {"axes": {"strength": ["half", "whole"]}}
    return PaperCard.model_validate(data)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    table(tmp_path / "results", TABLE)
    return tmp_path / "results"


@pytest.fixture
def older(world) -> RunRecord:
    """A record of the card before it was rewritten."""
    (record,) = world.measure(world.cell("ours", depth=2, s=0.5), [80.0], series={"accuracy": [1.0], "rank": [2.0]})
    world.paper = rewritten(world.paper)
    return record


def newer(world, accuracy: float, **change) -> RunRecord:
    """A record of the same row, measured under the new names."""
    cell = world.cell("contranorm", depth=2, strength="half")
    return world.measure(cell, [accuracy], metrics={"test_accuracy": accuracy, "val_accuracy": accuracy}, **change)[0]


# Cells and records ----------------------------------------------------------------------------------------------------


def test_a_rewritten_card_plans_the_same_cells(world, results: Path) -> None:
    before = {scale: world.cells(scale) for scale in ("full", "demo")}
    world.paper = rewritten(world.paper)
    renames = load_renames(results)
    for scale, cells in before.items():
        renamed = [renames.cell(cell) for cell in cells]
        assert {cell.identity for cell in renamed} == {cell.identity for cell in world.cells(scale)}
        assert {cell.identity for cell in renamed}.isdisjoint(cell.identity for cell in cells)


@pytest.mark.parametrize("change", [{"paper": "other"}, {"recipe": "width"}])
def test_cells_of_other_papers_and_recipes_keep_their_names(world, results: Path, change: dict) -> None:
    table(results, [TABLE[0] | change])
    cell = world.cell("ours", depth=2, s=0.5)
    assert load_renames(results).cell(cell) == cell


def test_a_value_of_another_type_is_another_value(world, results: Path) -> None:
    table(results, [{"paper": "toy", "values": {"depth": {2: "two"}, "s": {1: "one"}}}])
    renamed = load_renames(results).cell(world.cell("ours", depth=2, s=1.0))
    assert renamed.axes == {"depth": "two", "s": 1.0}
    assert renamed.settings == {"depth": "two", "s": 1.0, "lr": 0.1}


def test_entries_apply_in_their_order(world, results: Path) -> None:
    table(results, [{"paper": "toy", "variants": {"ours": "first"}}, {"paper": "toy", "variants": {"first": "second"}}])
    assert load_renames(results).cell(world.cell("ours", depth=2, s=0.5)).variant == "second"


def test_an_older_record_is_read_with_todays_names(world, results: Path, older: RunRecord) -> None:
    publish([older], results)
    (record,) = load_published(results).records
    today = world.cell("contranorm", depth=2, strength="half")
    assert (record.identity, record.cell) == (today.identity, today)
    assert record.metrics == {"test_accuracy": 80.0, "val_accuracy": 80.0}
    assert record.series == {"test_accuracy": [1.0], "rank": [2.0]}


def test_a_local_record_of_older_names_is_read_with_todays_names(world, results: Path, older: RunRecord) -> None:
    write_record(older.cell.folder(results) / "seed-0.json", older)
    today = world.cell("contranorm", depth=2, strength="half")
    (record,) = load_records(results).records
    assert record.identity == today.identity
    assert load_cell(results, today, load_renames(results)).records == [record]
    assert load_cell(results, world.cell("contranorm", depth=4, strength="half"), load_renames(results)).records == []


@pytest.mark.parametrize("variant", ["after", "zenith"], ids=["sorted before", "sorted after"])
def test_a_record_that_was_measured_again_takes_the_place_of_its_older_one(world, results: Path, variant: str) -> None:
    table(results, [{"paper": "toy", "variants": {"ours": variant}}])
    (older,) = world.measure(world.cell("ours", depth=2, s=0.5), [80.0])
    (new,) = world.measure(replace(older.cell, variant=variant), [90.0])
    for record in (older, new):
        write_record(record.cell.folder(results) / "seed-0.json", record)
    for loaded in (load_records(results), load_cell(results, new.cell, load_renames(results))):
        assert loaded.records == [new]
        assert loaded.troubles == []


def test_a_published_file_of_older_names_is_merged_with_the_new_record_of_its_row(
    world, results: Path, older: RunRecord
) -> None:
    other = older.model_copy(update={"seed": 1})
    publish([older, other], results)
    publish([new := newer(world, 90.0)], results)
    loaded = load_published(results)
    assert loaded.troubles == []
    assert {r.seed: r.metrics["test_accuracy"] for r in loaded.records} == {0: 90.0, 1: 80.0}
    assert published_path(results, older).read_text().count("\n") == 1
    assert published_path(results, new).read_text().count("\n") == 1
    publish([newer(world, 91.0, first_seed=1)], results)
    assert not published_path(results, older).exists()
    assert {r.seed: r.metrics["test_accuracy"] for r in load_published(results).records} == {0: 90.0, 1: 91.0}


def test_two_cells_that_become_one_are_a_trouble(world, results: Path) -> None:
    half, whole = (world.measure(world.cell("ours", depth=2, s=s), [80.0])[0] for s in (0.5, 1.0))
    publish([half, whole], results)
    path = published_path(results, half)
    # The card had the value 1.0 already.
    table(results, [{"paper": "toy", "values": {"s": {0.5: 1.0}}}])
    loaded = load_published(results)
    assert [record.identity for record in loaded.records] == [whole.identity]
    (trouble,) = loaded.troubles
    assert str(trouble) == (
        f"{path}:2: results/renames.yaml makes its cell {whole.identity} and the cell {half.identity} of {path}:1 one; "
        "mend the entry that does"
    )


def test_two_settings_that_become_one_are_a_trouble(world, results: Path) -> None:
    publish(world.measure(world.cell("ours", depth=2, s=0.5), [80.0]), results)
    table(results, [{"paper": "toy", "keys": {"s": "depth"}}])
    loaded = load_published(results)
    assert loaded.records == []
    (trouble,) = loaded.troubles
    assert trouble.what == "results/renames.yaml gives two settings of toy the same name; mend its `keys`"


# Cards ----------------------------------------------------------------------------------------------------------------


def test_a_rewritten_card_is_accepted(world, results: Path) -> None:
    load_renames(results).check({"toy": rewritten(world.paper)})


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"recipes": {"depth": "layers"}}, "depth"),
        ({"variants": {"ours": "contranorm"}}, "ours"),
        ({"keys": {"lr": "rate"}}, "lr"),
        ({"keys": {"s": "strength"}}, "s"),
        ({"keys": {"depth": "layers"}}, "depth"),
        ({"values": {"lr": {0.1: 0.2}}}, "lr: 0.1"),
        ({"values": {"s": {0.5: "half"}}}, "s: 0.5"),
        ({"values": {"depth": {4: "four"}}}, "depth: 4"),
        ({"metrics": {"accuracy": "test_accuracy"}}, "accuracy"),
        ({"metrics": {"val_accuracy": "judged"}}, "val_accuracy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_that_was_given_up_is_not_used_again(world, results: Path, entry: dict, name: str) -> None:
    table(results, [{"paper": "other"}, {"paper": "toy"} | entry])
    with pytest.raises(CardError) as caught:
        load_renames(results).check({"toy": world.paper})
    assert str(caught.value) == (
        f"results/renames.yaml: entry 2 gives up the name {name!r}, but toy/depth uses it; choose another name in the "
        "card"
    )


# The file -------------------------------------------------------------------------------------------------------------


def test_without_a_table_nothing_is_renamed(tmp_path: Path) -> None:
    assert load_renames(tmp_path) == Renames()
    table(tmp_path, "# nothing yet\n")
    assert load_renames(tmp_path) == Renames()


@pytest.mark.parametrize(
    ("name", "old_and_new", "words"),
    [
        ("recipes", {"a": "c", "b": "c"}, "recipes: 'a' and 'b' both become 'c'"),
        ("variants", {"a": "c", "b": "c"}, "variants: 'a' and 'b' both become 'c'"),
        ("keys", {"a": "c", "b": "c"}, "keys: 'a' and 'b' both become 'c'"),
        ("metrics", {"a": "c", "b": "c"}, "metrics: 'a' and 'b' both become 'c'"),
        ("values", {"lr": {0.1: 0.3, 0.2: 0.3}}, "values.lr: 0.1 and 0.2 both become 0.3"),
    ],
)
def test_two_names_do_not_become_one(tmp_path: Path, name: str, old_and_new: dict, words: str) -> None:
    path = table(tmp_path, [{"paper": "other"}, {"paper": "toy", name: old_and_new}])
    with pytest.raises(CardError) as caught:
        load_renames(tmp_path)
    remedy = "so two cells become one; give each a name of its own"
    assert str(caught.value) == f"{path}: entry 2: {words}, {remedy}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- paper: [", "not YAML: "),
        ("paper: toy\n", "expected a list of entries, each with `paper` and what it renames"),
        ("- paper: toy\n  variant: {a: b}\n", "entry 1: variant: Extra inputs are not permitted"),
        ("- variants: {a: b}\n", "entry 1: paper: Field required"),
        ("- toy\n", "entry 1: "),
    ],
    ids=["not YAML", "not a list", "unknown key", "no paper", "not a mapping"],
)
def test_a_table_of_another_form_gets_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(CardError) as caught:
        load_renames(tmp_path)
    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_text_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "renames.yaml").write_bytes(b"\xff")
    with pytest.raises(CardError, match=r"renames\.yaml:1: not UTF-8"):
        load_renames(tmp_path)
