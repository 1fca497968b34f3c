"""A cell's runs as columns give the runs back."""

import json

from retable.report.compact import columns, expand


def test_columns_give_the_records_back_and_say_once_what_all_share(world):
    cell = world.cell("plain", depth=2)
    records = world.measure(cell, [80.0, 81.5], series={"loss": [2.0, 1.0]})
    records += world.measure(cell, [1.0], first_seed=2, state="failed", error="no memory", metrics={})
    table = json.loads(json.dumps(columns(records)))
    assert expand(table) == [record.model_dump(mode="json") for record in records]
    assert table["common"]["settings"] == cell.settings
    assert table["each"]["seed"] == [0, 1, 2]
    assert table["each"]["metrics"]["accuracy"] == [80.0, 81.5, None]


def test_whole_numbers_and_truths_are_told_apart(world):
    first, second = world.measure(world.cell("plain", depth=2), [80.0, 81.0])
    first = first.model_copy(update={"settings": {"x": 1}})
    second = second.model_copy(update={"settings": {"x": True}})
    found = expand(columns([first, second]))
    assert [repr(record["settings"]["x"]) for record in found] == ["1", "True"]


def test_a_hundred_seeds_take_a_fraction_of_their_records(world):
    records = world.measure(world.cell("plain", depth=2), [80.0 + seed / 7 for seed in range(100)])
    whole = sum(len(record.model_dump_json()) for record in records)
    assert len(json.dumps(columns(records))) < whole / 8
