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


def named_card(task: str, *files: str) -> DatasetCard:
    known = card("RTE").model_dump(exclude_none=True)
    known["files"] = [known["files"][0] | {"path": f"{task}/{file}"} for file in files]
    return DatasetCard.model_validate(known | {"options": {"task": task}})


def test_mrpc_is_parted_by_the_list_of_development_pairs(tmp_path):
    (tmp_path / "MRPC").mkdir()
    rows = [
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t10\t11\tA "b.\tC.',
        "0\t12\t13\tD.\tE.",
        "1\t14\t15\tF.\tG.",
    ]
    (tmp_path / "MRPC" / "msr_paraphrase_train.txt").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n").encode())
    listed = tmp_path / "MRPC" / "mrpc_dev_ids.tsv"
    listed.write_text("12\t13\n")
    found = glue(named_card("MRPC", "mrpc_dev_ids.tsv", "msr_paraphrase_train.txt"), tmp_path)
    assert found.columns == {"sentence1": ('A "b.', "F.", "D."), "sentence2": ("C.", "G.", "E.")}
    assert found.labels.tolist() == [1, 1, 0]
    assert found.classes == ("not_equivalent", "equivalent")
    assert found.splits["official"].test.tolist() == [2]
    listed.write_text("12\t13\n12\t99\n")
    with pytest.raises(DataError, match=r"lists 2 pairs, of which MRPC/msr_paraphrase_train\.txt holds 1"):
        glue(named_card("MRPC", "mrpc_dev_ids.tsv", "msr_paraphrase_train.txt"), tmp_path)


def test_mnli_has_two_development_files_with_columns_of_their_own(tmp_path):
    (tmp_path / "MNLI").mkdir()
    train = "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n0\tx\ta\tb\tneutral\tneutral\n"
    dev = "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n0\tc\td\tneutral\tneutral\tcontradiction\n"
    for name, text in (("train", train), ("dev_matched", dev), ("dev_mismatched", dev.replace("\tc\t", "\te\t"))):
        (tmp_path / "MNLI" / f"{name}.tsv").write_text(text)
    for part, name, sentence in (("m", "matched", "c"), ("mm", "mismatched", "e")):
        known = named_card("MNLI", "train.tsv", f"dev_{name}.tsv").model_copy(
            update={"options": {"task": f"MNLI-{part}"}}
        )
        rows = glue(known, tmp_path)
        assert rows.columns == {"sentence1": ("a", sentence), "sentence2": ("b", "d")}
        assert rows.labels.tolist() == [1, 2]
        assert rows.classes == ("entailment", "neutral", "contradiction")


def test_questions_are_sentences_and_broken_rows_of_qqp_are_left_out(tmp_path):
    qqp = (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\ta?\tb?\t1\n1\t3\t4\tbroken\n2\t5\t6\tc?\td?\t0\n"
    )
    rows = glue(card("QQP"), write(tmp_path, "QQP", qqp, qqp))
    assert rows.columns == {"sentence1": ("a?", "c?") * 2, "sentence2": ("b?", "d?") * 2}
    assert rows.labels.tolist() == [1, 0, 1, 0]
    qnli = "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tnot_entailment\n"
    rows = glue(card("QNLI"), write(tmp_path, "QNLI", qnli, qnli))
    assert rows.columns == {"sentence1": ("Who?",) * 2, "sentence2": ("He.",) * 2}
    assert rows.labels.tolist() == [1, 1]


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
    with pytest.raises(DataError, match="unknown GLUE task 'SNLI'"):
        glue(card("SNLI"), tmp_path)
