import csv
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from retable.cards import CardError, PaperCard, load_claims, load_dataset, load_datasets, load_paper, load_papers

ROOT = Path(__file__).resolve().parents[2]


def broken(path: Path, tmp_path: Path, change) -> Path:
    """A copy of a card with `change` applied to its data, under the same file and folder name."""
    data = yaml.safe_load(path.read_text())
    change(data)
    copy = tmp_path / path.parent.name / path.name
    copy.parent.mkdir()
    copy.write_text(yaml.safe_dump(data))
    return copy


def test_all_cards_of_the_tree_load() -> None:
    assert "cora" in load_datasets(ROOT)
    assert "contranorm" in load_papers(ROOT)


@pytest.mark.parametrize("paper", sorted(load_papers(ROOT)))
def test_claims_load_and_belong_to_a_table_of_the_card(paper: str) -> None:
    card = load_papers(ROOT)[paper]
    claims = load_claims(ROOT / "methods" / paper / "claims.csv")
    assert {claim.table for claim in claims} <= set(card.tables)
    assert len({claim.id for claim in claims}) == len(claims)


def test_a_file_without_a_hash_is_refused(tmp_path: Path) -> None:
    path = broken(ROOT / "datasets/cora.yaml", tmp_path, lambda data: data["files"][0].pop("sha256"))
    with pytest.raises(CardError, match=r"files\.0\.sha256: Field required"):
        load_dataset(path)


def test_a_path_out_of_the_data_folder_is_refused(tmp_path: Path) -> None:
    path = broken(ROOT / "datasets/cora.yaml", tmp_path, lambda data: data["files"][0].update(path="../../etc/x"))
    with pytest.raises(CardError, match="must be relative"):
        load_dataset(path)


def test_an_unknown_key_is_named_with_the_allowed_ones(tmp_path: Path) -> None:
    path = broken(ROOT / "methods/contranorm/card.yaml", tmp_path, lambda data: data["recipes"][0].update(hypr={}))
    with pytest.raises(CardError, match=r"unknown key 'recipes\.0\.hypr'.*hyper.*protocol") as caught:
        load_paper(path)
    assert "\n" not in str(caught.value)


def test_candidates_chosen_on_test_metrics_are_refused(tmp_path: Path) -> None:
    def peek(data: dict) -> None:
        data["recipes"][0]["variants"]["contranorm"]["select"]["metric"] = "last_test_accuracy"

    path = broken(ROOT / "methods/contranorm/card.yaml", tmp_path, peek)
    with pytest.raises(CardError, match="chosen on validation"):
        load_paper(path)


def test_the_direction_of_a_choice_is_stated(tmp_path: Path) -> None:
    def forget(data: dict) -> None:
        del data["recipes"][0]["variants"]["contranorm"]["select"]["mode"]

    path = broken(ROOT / "methods/contranorm/card.yaml", tmp_path, forget)
    with pytest.raises(CardError, match=r"variants\.contranorm\.select\.mode: Field required"):
        load_paper(path)


def test_a_card_that_is_no_yaml_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(CardError, match="not YAML") as caught:
        load_dataset(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


def test_the_same_claim_twice_is_refused(tmp_path: Path) -> None:
    lines = (ROOT / "methods/contranorm/claims.csv").read_text().splitlines()
    (tmp_path / "claims.csv").write_text("\n".join([*lines[:3], f"again-{lines[2]}"]))
    with pytest.raises(CardError, match=r"claims\.csv:4: same claim as row 3"):
        load_claims(tmp_path / "claims.csv")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "'' is no id; give the claim its own"),
        ("depth 2", "'depth 2' is no id; give the claim its own, of letters, digits"),
        ("readme-glue-bert-contranorm", "the id 'readme-glue-bert-contranorm' is row 3's; choose another"),
    ],
)
def test_a_claim_needs_an_id_of_its_own(tmp_path: Path, name: str, words: str) -> None:
    lines = (ROOT / "methods/contranorm/claims.csv").read_text().splitlines()
    (tmp_path / "claims.csv").write_text("\n".join([*lines[:3], ",".join([name, lines[3].partition(",")[2]])]))
    with pytest.raises(CardError, match=rf"claims\.csv:4: {words}"):
        load_claims(tmp_path / "claims.csv")


def test_claims_without_the_column_of_ids_are_refused(tmp_path: Path) -> None:
    lines = (ROOT / "methods/contranorm/claims.csv").read_text().splitlines()[:2]
    (tmp_path / "claims.csv").write_text("\n".join(line.partition(",")[2] for line in lines))
    with pytest.raises(CardError, match=r"claims\.csv:1: no column 'id'"):
        load_claims(tmp_path / "claims.csv")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"claims": "depth {dataset}"}, "`claims: depth {dataset}` is no pattern of ids"),
        ({"claims": "depth-{dataset"}, "`claims: depth-{dataset` is no pattern of ids"),
        ({"claims": "depth-{dataset}-{dept}"}, "`claims: depth-{dataset}-{dept}`: unknown part 'dept'; .*'depth'"),
        ({"names": {"nome": "gcn"}}, "`names` has 'nome', which no part of it can be"),
    ],
)
def test_a_pattern_that_no_cell_fills_gets_one_line(tmp_path: Path, change: dict, words: str) -> None:
    path = broken(
        ROOT / "methods/contranorm/card.yaml", tmp_path, lambda card: card["recipes"][0]["answers"][0].update(change)
    )
    with pytest.raises(CardError, match=rf"contranorm/card\.yaml: recipes\.0.*{words}") as error:
        load_paper(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ([{"at": [0.0, 0.5, 0.5]}], "do not ascend"),
        ([{}, {}], "names the series 'rank' twice"),
        ([{"scale": "log"}], "unknown key 'recipes.0.curves.0.scale'"),
    ],
)
def test_a_curve_that_cannot_be_drawn_gets_one_line(tmp_path, curves, words):
    curve = {"series": "rank", "x": "layer", "y": "rank", "caption": ""}
    asked = [curve | change for change in curves]
    path = broken(
        ROOT / "methods" / "contranorm" / "card.yaml", tmp_path, lambda card: card["recipes"][0].update(curves=asked)
    )
    with pytest.raises(CardError, match=words) as error:
        load_paper(path)
    assert "\n" not in str(error.value)


@pytest.fixture
def small_card(world, tmp_path: Path) -> Path:
    """A card on disk whose recipe `depth` has the variant `plain` on Cora."""
    path = tmp_path / "toy" / "card.yaml"
    (path.parent / "tuned").mkdir(parents=True)
    path.write_text(yaml.safe_dump(world.paper.model_dump(exclude_none=True)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "table", "words"),
    [
        ("depth", "variants,dataset,epochs\nplain,cora\n", "depth.csv:2: 2 cells, but the head has 3"),
        ("depth", "variants,dataset,epochs\nplane,cora,3\n", "depth.csv:2: unknown variant 'plane'"),
        ("depth", "variants,dataset,epochs\nplain plain,cora,3\n", "plain has settings for cora already"),
        ("depth", "dataset,epochs\ncora,3\n", "depth.csv:1: no column 'variants'"),
        ("sums", "variants,dataset\n", "has no recipe 'sums'"),
    ],
)
def test_a_table_of_tuned_settings_that_fits_no_recipe_gets_one_line(small_card, name, table, words):
    (small_card.parent / "tuned" / f"{name}.csv").write_text(table)
    with pytest.raises(CardError, match=re.escape(words)):
        load_paper(small_card)


def test_tuned_settings_are_those_of_the_variants_they_name(small_card):
    (small_card.parent / "tuned" / "depth.csv").write_text("variants,dataset,epochs,lr\nplain,cora,5,\n")
    (recipe,) = load_paper(small_card).recipes
    assert recipe.variants["plain"].by_dataset == {"cora": {"epochs": 5}}


def test_more_seeds_than_the_protocol_has_are_refused(world):
    data = world.paper.model_dump()
    data["recipes"][0]["protocol"]["most_seeds"] = 4
    with pytest.raises(ValidationError, match="scale full asks for 5 seeds; its protocol has 4"):
        PaperCard.model_validate(data)


def test_a_claims_file_that_is_not_utf_8_names_the_row(tmp_path):
    path = tmp_path / "claims.csv"
    text = (ROOT / "methods/tricl/claims.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_bytes("".join(text[:3]).encode() + "Poincar\u00e9".encode("latin-1") + "".join(text[3:]).encode())
    with pytest.raises(CardError, match=r"claims.csv:4: not UTF-8; save the file as UTF-8$"):
        load_claims(path)


def no_statements(data):
    del data["statements"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_statements, "a card needs `statements`, one at least: what the paper's abstract says"),
        (lambda data: data["statements"].clear(), "a card needs `statements`, one at least"),
        (
            lambda data: data["statements"][0].pop("refuted_by"),
            "the statement 'deep-plain-networks-fail' lacks `refuted_by`; write what would refute it",
        ),
        (
            lambda data: data["statements"][0].update(parts=["node-depth/none-fall"]),
            "names an unknown part 'node-depth/none-fall'; did you mean 'node-depth/none-falls'?",
        ),
        (lambda data: data["statements"][0].update(parts=[]), "rests on nothing; give `parts` or `numbers`"),
        (lambda data: data["statements"][0]["parts"].append("node-depth/none-falls"), "twice; take one out"),
        (lambda data: data["statements"].append(data["statements"][0]), "is given twice; choose another"),
    ],
)
def test_a_statement_that_cannot_be_judged_is_refused_in_one_line(tmp_path: Path, change, words: str) -> None:
    path = broken(ROOT / "methods/contranorm/card.yaml", tmp_path, change)
    with pytest.raises(CardError) as caught:
        load_paper(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("reach", "", "write one of here, gpu, data, unspecified"),
        ("reach", "far", "write one of here, gpu, data, unspecified"),
        ("source", "", "has no `source`; write where the number was read"),
        ("mean", "many", "mean: Input should be a valid number"),
    ],
)
def test_a_claim_that_lacks_what_it_needs_is_refused_by_file_and_row(tmp_path: Path, column, value, words) -> None:
    with (ROOT / "methods/tricl/claims.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:3]
    rows[1][column] = value
    with (tmp_path / "claims.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(CardError) as caught:
        load_claims(tmp_path / "claims.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'claims.csv'}:3: ")
    assert words in str(caught.value)


def test_a_claims_file_without_the_column_reach_is_refused(tmp_path: Path) -> None:
    with (ROOT / "methods/tricl/claims.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[:2]
    place = rows[0].index("reach")
    with (tmp_path / "claims.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(row[:place] + row[place + 1 :] for row in rows)
    with pytest.raises(CardError, match=r"claims.csv:1: no column 'reach'"):
        load_claims(tmp_path / "claims.csv")
