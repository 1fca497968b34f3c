"""Cards of text data sets: as text, and, with a mirror, on the real files."""

from pathlib import Path

import numpy as np
import pytest

from retable.cards import load_datasets
from retable.data.containers import content_sha256, count
from retable.data.fetch import fetch
from retable.data.load import compare, parse
from retable.data.sentence_sets import SentenceSet

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARDS = {name: card for name, card in load_datasets(ROOT).items() if card.reader in ("glue", "json_lines")}
# Published numbers of training and test (GLUE: development) rows.
KNOWN = {
    "glue-cola": (8551, 1043),
    "glue-rte": (2490, 277),
    "glue-sst-2": (67349, 872),
    "glue-sts-b": (5749, 1500),
    "glue-wnli": (635, 71),
    "gsm8k": (7473, 1319),
    "humaneval": (0, 164),
}


@pytest.fixture(scope="module")
def real(mirror: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SentenceSet]:
    raw = tmp_path_factory.mktemp("raw")
    read = {}
    for name, card in CARDS.items():
        fetch(card, raw, mirror=str(mirror))
        read[name] = parse(card, raw)
    return read


@pytest.mark.mirror
def test_real_files_give_what_card_and_literature_say(real):
    assert set(real) == set(KNOWN)
    for name, rows in real.items():
        assert compare(CARDS[name], rows, list(CARDS[name].splits)) == []
        assert count(rows) == CARDS[name].counts
        assert rows.splits["official"].sizes == (KNOWN[name][0], 0, KNOWN[name][1])


@pytest.mark.mirror
def test_parts_of_a_split_never_share_a_row_and_report_on_the_same_rows(real):
    for rows in real.values():
        for name, split in rows.splits.items():
            places = np.concatenate([split.train, split.val, split.test])
            assert len(np.unique(places)) == len(places)
            assert places.max() < len(rows)
            if rows.labels is not None:
                assert np.array_equal(split.test, rows.splits["official"].test), name


@pytest.mark.mirror
def test_labels_mean_what_the_tasks_say(real):
    assert real["glue-cola"].labels.mean() == pytest.approx(0.70, abs=0.01)  # most sentences are acceptable
    scores = real["glue-sts-b"].labels
    assert (scores.min(), scores.max()) == (0.0, 5.0)
    rte = real["glue-rte"]
    assert rte.columns["sentence2"][0] == "Weapons of Mass Destruction Found in Iraq."
    assert rte.classes[int(rte.labels[0])] == "not_entailment"
    assert real["gsm8k"].columns["answer"][-1].rsplit("\n", 1)[1].startswith("#### ")


def a_set(**changes) -> SentenceSet:
    fields = {
        "name": "x",
        "columns": {"sentence1": ("ab", "c")},
        "labels": np.array([0.0, 1.0]),
        "classes": ("no", "yes"),
        "splits": {},
    }
    return SentenceSet(**(fields | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": {"sentence1": ("a", "bc")}},
        {"columns": {"sentence2": ("ab", "c")}},
        {"labels": np.array([0.0, 0.0])},
        {"labels": None},
        {"classes": ("yes", "no")},
    ],
)
def test_whatever_is_read_decides_the_hash(changes):
    assert content_sha256(a_set(**changes)) != content_sha256(a_set())


def test_the_hash_does_not_depend_on_the_labels_memory_layout():
    assert content_sha256(a_set(labels=np.array([0.0, 1.0], dtype=">f8"))) == content_sha256(a_set())
