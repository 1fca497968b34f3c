import numpy as np
import pytest

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.readers.glue import glue

ZEROS = "0" * 64
RTE = "index\tsentence1\tsentence2\tlabel\n"


def card(task: str) -> DatasetCard:
    files = [
        {"path": f"{task}/{part}.tsv", "bytes": 1, "sha256": ZEROS, "url": "https://example.org"}
        for part in ("dev", "train")
    ]
    return DatasetCard.model_validate(
        {
            "name": "made-up",
            "title": "x",
            "task": "x",
            "homepage": "x",
            "licence": "x",
            "citation": "x",
            "reader": "glue",
            "options": {"task": task},
            "files": files,
            "counts": {},
            "content_sha256": ZEROS,
            "splits": {},
        }
    )


def write(folder, task: str, train: str, dev: str):
    (folder / task).mkdir()
    (folder / task / "train.tsv").write_text(train, encoding="utf-8")
    (folder / task / "dev.tsv").write_text(dev, encoding="utf-8")
    return folder


def test_pairs_keep_quotes_and_odd_line_ends_inside_sentences(tmp_path):
    train = RTE + '0\tSay "a\u2028b.\tc\tentailment\n1\td\te"\tnot_entailment\n'
    rows = glue(card("RTE"), write(tmp_path, "RTE", train, RTE + "0\tf\tg\tentailment\n"))
    assert rows.columns == {"sentence1": ('Say "a\u2028b.', "d", "f"), "sentence2": ("c", 'e"', "g")}
    assert rows.labels.tolist() == [0, 1, 0]
    assert rows.classes == ("entailment", "not_entailment")
    assert rows.splits["official"].train.tolist() == [0, 1]
    assert rows.splits["official"].test.tolist() == [2]


def test_cola_has_no_header_line(tmp_path):
    rows = glue(card("CoLA"), write(tmp_path, "CoLA", "gj04\t1\t\tFine.\ncj99\t0\t*\tNot.\n", "a\t1\t\tToo.\n"))
    assert rows.columns == {"sentence1": ("Fine.", "Not.", "Too.")}
    assert rows.labels.tolist() == [1, 0, 1]


def test_scores_have_no_classes(tmp_path):
    header = "index\tsentence1\tsentence2\tscore\n"
    rows = glue(card("STS-B"), write(tmp_path, "STS-B", header + "0\ta\tb\t3.800\n", header + "0\tc\td\t0\n"))
    assert rows.labels.tolist() == [3.8, 0.0]
    assert rows.classes == ()


def test_rows_to_choose_on_come_from_the_training_part(tmp_path):
    train = RTE + "".join(f"{i}\ta{i}\tb\tentailment\n" for i in range(3000))
    rows = glue(card("RTE"), write(tmp_path, "RTE", train, RTE + "0\tf\tg\tentailment\n"))
    assert {name: split.sizes for name, split in rows.splits.items()} == {
        "official": (3000, 0, 1),
        "held-out": (2700, 300, 1),
        "subset-2000": (2000, 400, 1),
    }
    for name in ("held-out", "subset-2000"):
        split = rows.splits[name]
        assert max(split.train.max(), split.val.max()) < 3000
        assert not np.intersect1d(split.train, split.val).size


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (RTE + "0\ta\tb\n", "train.tsv: line 2 has 3 fields, line 1 has 4"),
        (RTE + "0\ta\tb\tmaybe\n", "train.tsv: line 2 has the label 'maybe'"),
        ("index\tsentence1\tlabel\n", "train.tsv: line 1 has the columns"),
    ],
)
def test_a_broken_file_is_named_with_its_line(train, says, tmp_path):
    folder = write(tmp_path, "RTE", train, RTE + "0\tf\tg\tentailment\n")
    with pytest.raises(DataError, match=says):
        glue(card("RTE"), folder)


def test_an_unknown_task_is_named(tmp_path):
    with pytest.raises(DataError, match="unknown GLUE task 'MRPC'"):
        glue(card("MRPC"), tmp_path)
