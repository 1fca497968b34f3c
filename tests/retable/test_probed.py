"""The file of what the common probe found."""

import pytest

from retable.cards import CardError
from retable.probed import PROBES, Probe, read_probes, write_probes


def line(cell: str, seed: int, accuracy: float) -> Probe:
    return Probe(cell=cell, seed=seed, dataset="cora", value=1.0, accuracy=accuracy, features=8)


def test_a_seed_has_one_line_the_last_one(tmp_path) -> None:
    (tmp_path / "results").mkdir()
    assert read_probes(tmp_path) == []
    write_probes(tmp_path, [line("b", 0, 50.0), line("a", 1, 60.0)])
    write_probes(tmp_path, [line("b", 0, 55.0), line("a", 0, 61.0)])
    assert [(p.cell, p.seed, p.accuracy) for p in read_probes(tmp_path)] == [
        ("a", 0, 61.0),
        ("a", 1, 60.0),
        ("b", 0, 55.0),
    ]
    once = (tmp_path / PROBES).read_bytes()
    write_probes(tmp_path, [])
    assert (tmp_path / PROBES).read_bytes() == once


@pytest.mark.parametrize("text", ["{", '{"cell": "a"}', '{"cell":"a","seed":0,"accuracy":NaN}', "[]"])
def test_a_damaged_line_is_named(tmp_path, text) -> None:
    (tmp_path / "results").mkdir()
    write_probes(tmp_path, [line("a", 0, 60.0)])
    with (tmp_path / PROBES).open("a") as file:
        file.write(text + "\n")
    with pytest.raises(CardError, match=r"probes.jsonl:2: no result of a probe \(.*\); delete the line") as caught:
        read_probes(tmp_path)
    assert "\n" not in str(caught.value)
