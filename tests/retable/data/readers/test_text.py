"""Generated facts obey their own rules; files are read byte by byte."""

from pathlib import Path

import numpy as np
import pytest

from retable.cards import DatasetCard, load_dataset
from retable.data.containers import DataError
from retable.data.readers.text import ANSWERS, COUNTER, DIGITS, RELATIONS, RESULTS, SUBJECTS, facts, plain_text, sums

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARD = load_dataset(ROOT / "datasets" / "facts-64.yaml")


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    data = facts(CARD, Path())
    return data.text.reshape(-1, data.length)


def places(rows: np.ndarray, kind: bytes) -> np.ndarray:
    return np.isin(rows, np.frombuffer(kind, np.uint8))


def test_the_four_kinds_of_symbols_are_disjoint_and_printable():
    kinds = COUNTER + SUBJECTS + RELATIONS + ANSWERS
    assert len(set(kinds)) == len(kinds) == 16 + 3 * 20
    assert all(33 <= byte < 127 for byte in kinds)


def test_every_fact_is_subject_relation_answer(rows):
    subject, relation, answer = (places(rows, kind) for kind in (SUBJECTS, RELATIONS, ANSWERS))
    assert np.array_equal(subject[:, :-2], relation[:, 1:-1])
    assert np.array_equal(subject[:, :-2], answer[:, 2:])
    assert not subject[:, -2:].any()
    assert 0.08 < answer.mean() < 0.11


def test_the_same_question_always_has_the_same_answer(rows):
    table: dict[tuple, set] = {}
    for row, place in zip(*np.nonzero(places(rows, ANSWERS)), strict=True):
        table.setdefault((rows[row, place - 2], rows[row, place - 1]), set()).add(rows[row, place])
    assert len(table) == 64
    assert all(len(answers) == 1 for answers in table.values())


def test_the_background_counts_from_a_random_start(rows):
    value = np.full(256, -1)
    value[np.frombuffer(COUNTER, np.uint8)] = np.arange(16)
    start = (value[rows] - np.arange(rows.shape[1])) % 16
    for row, counting in zip(start[:200], places(rows, COUNTER)[:200], strict=True):
        assert len(set(row[counting])) == 1
    assert len(np.unique(start[:200, 0])) == 16


def test_every_sum_is_right():
    card = load_dataset(ROOT / "datasets" / "sums-5.yaml")
    data = sums(card, Path())
    plain = data.text.tobytes().translate(bytes.maketrans(RESULTS, DIGITS)).decode()
    additions = plain.split()
    assert len(additions) == 5 * 4864
    assert all(eval(addition.replace("=", "==").replace("==0", "==")) for addition in additions)  # "05" is no number
    assert len(set(additions)) == 100
    assert data.answers == RESULTS
    assert data.length == 35


def text_card(*sizes: int, folder: Path) -> DatasetCard:
    files = []
    for number, size in enumerate(sizes):
        (folder / f"{number}.txt").write_bytes(bytes(range(size)))
        files.append({"path": f"{number}.txt", "bytes": size, "sha256": "0" * 64, "url": "https://example.org"})
    return CARD.model_validate(CARD.model_dump() | {"files": files, "reader": "plain_text"})


def test_one_file_is_cut_in_its_order_and_two_are_validation_and_test_part(tmp_path):
    one = plain_text(text_card(100, folder=tmp_path), tmp_path)
    assert one.splits["last-tenth"].sizes == (85, 5, 10)
    two = plain_text(text_card(20, 30, folder=tmp_path), tmp_path)
    assert two.splits["validation-part"].sizes == (18, 2, 30)
    assert two.text[20:].tolist() == list(range(30))
    with pytest.raises(DataError, match="3 files; a text is one file"):
        plain_text(text_card(1, 1, 1, folder=tmp_path), tmp_path)
