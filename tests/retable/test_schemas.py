import json

import pytest
from jsonschema import Draft202012Validator

from retable.cards import load_datasets, load_papers
from retable.schemas import schemas, write_schemas


def test_the_schemas_in_the_tree_are_current(root):
    kept = {path.name: path.read_bytes() for path in (root / "workflows" / "schemas").glob("*.json")}
    assert kept == schemas(), "run `make schemas`"


@pytest.mark.parametrize("name", sorted(schemas()))
def test_every_schema_is_a_schema_and_refuses_unknown_keys(name):
    schema = json.loads(schemas()[name])
    Draft202012Validator.check_schema(schema)
    assert not Draft202012Validator(schema).is_valid({"surely_not_a_key": 1})


@pytest.mark.parametrize(
    ("name", "load"), [("dataset-card", load_datasets), ("paper-card", load_papers)], ids=["data", "papers"]
)
def test_every_card_fits_its_schema(root, name, load):
    validator = Draft202012Validator(json.loads(schemas()[f"{name}.schema.json"]))
    cards = load(root)
    assert cards
    for card in cards.values():
        validator.validate(card.model_dump(mode="json", exclude_none=True))


def test_schemas_without_a_model_are_removed(tmp_path):
    (tmp_path / "old.schema.json").write_text("{}")
    write_schemas(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(schemas())
