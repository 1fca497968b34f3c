"""The verdicts for programs: complete, and as their schema says."""

import json

from jsonschema import Draft202012Validator

from retable.report.document import document, paper_entry
from retable.schemas import schemas

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]


def test_the_document_has_every_verdict_and_fits_its_schema(world):
    world.claim("plain", 2, 80.1)
    world.claim("plain", 4, 80.1)
    world.claim("Other", 2, 60.0)
    world.measure(world.cell("plain", depth=2), VALUES)
    for seed, potential in enumerate([-2.0, 0.0]):
        metrics = {"accuracy": 80.0 - 50 * seed, "uniformity": potential}
        world.measure(world.cell("plain", depth=4), [0.0], first_seed=seed, metrics=metrics)
    assessment = world.assess("full", "demo")
    found = json.loads(document({"toy": paper_entry(assessment)}).model_dump_json())
    Draft202012Validator(json.loads(schemas()["verdicts.schema.json"])).validate(found)
    paper = found["papers"]["toy"]
    states = {
        (number["claim"], number["row"] and number["row"]["scale"]): number["state"] for number in paper["numbers"]
    }
    assert states["t1-cora-plain-2", "full"] == "reproduced"
    assert states["t1-cora-other-2", None] == "not covered"
    mixture = next(number for number in paper["numbers"] if number["state"] == "mixture")
    assert mixture["mean"] is None
    assert mixture["parts"] == [{"kind": "", "values": [80.0]}, {"kind": "collapsed", "values": [30.0]}]
    headlines = {(entry["id"], entry["scale"]): entry for entry in paper["headlines"]}
    assert headlines.keys() == {("ours-is-better", "full"), ("ours-is-better", "demo")}
    headline = headlines["ours-is-better", "full"]
    assert (headline["state"], headline["refuted_by"]) == ("not measured", "Plain is better at some depth.")
    assert [(part["axes"], part["finding"], part["state"]) for part in headline["parts"]] == [
        ({"depth": 2}, "open", "not run"),
        ({"depth": 4}, "open", "not run"),
    ]
    assert {statement["id"] for statement in paper["statements"]} == {"depth/ours-over-plain"}
    assert paper["by_reach"] == {"here": {"reproduced": 1, "mixture": 1, "not covered": 1}}
    assert paper["counts"] == {"reproduced": 1, "mixture": 1, "not covered": 1}
    assert (paper["tested"], paper["expected_false_reproduced"]) == (1, 0.05)
