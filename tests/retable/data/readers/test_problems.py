import gzip
import json

import pytest

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.readers.problems import json_lines

ZEROS = "0" * 64


def card(*paths: str) -> DatasetCard:
    files = [{"path": path, "bytes": 1, "sha256": ZEROS, "url": "https://example.org"} for path in paths]
    fields = dict.fromkeys(("title", "task", "homepage", "licence", "citation"), "x")
    return DatasetCard.model_validate(
        {
            **fields,
            "name": "made-up",
            "reader": "json_lines",
            "options": {"columns": "question answer"},
            "files": files,
            "counts": {},
            "content_sha256": ZEROS,
            "splits": {},
        }
    )


def lines(start: int, number: int) -> str:
    return "".join(json.dumps({"question": f"q{i}", "answer": f"a{i}"}) + "\n" for i in range(start, start + number))


def test_training_problems_come_first_and_a_packed_file_is_unpacked(tmp_path):
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(lines(3, 2).encode()))
    (tmp_path / "train.jsonl").write_text(lines(0, 3))
    rows = json_lines(card("test.jsonl.gz", "train.jsonl"), tmp_path)
    assert rows.columns["question"] == ("q0", "q1", "q2", "q3", "q4")
    assert rows.columns["answer"][-1] == "a4"
    assert rows.splits["official"].sizes == (3, 0, 2)
    assert list(rows.splits) == ["official"]


def test_a_subset_is_drawn_inside_the_two_parts(tmp_path):
    (tmp_path / "train.jsonl").write_text(lines(0, 300))
    (tmp_path / "test.jsonl").write_text(lines(300, 70))
    split = json_lines(card("train.jsonl", "test.jsonl"), tmp_path).splits["subset-256"]
    assert split.sizes == (256, 32, 64)
    assert max(split.train.max(), split.val.max()) < 300 <= split.test.min()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"question": "a", "answer": "b"}\n{"question"\n', "test.jsonl: line 2 is not JSON"),
        (b'{"question": "a"}\n', "test.jsonl: line 1 lacks texts named question, answer"),
        (b"\xff\xfe\n", "test.jsonl: not UTF-8 text"),
    ],
)
def test_a_broken_file_is_named_with_its_line(content, says, tmp_path):
    (tmp_path / "test.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=says):
        json_lines(card("test.jsonl"), tmp_path)
