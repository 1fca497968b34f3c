"""Texts as bytes: the alphabet, the hashes, the cards; with a mirror, the real files."""

from pathlib import Path

import numpy as np
import pytest

from retable.cards import load_dataset
from retable.data.containers import DataError, content_sha256, count, split_sha256
from retable.data.fetch import fetch
from retable.data.load import compare, parse
from retable.data.text_sets import Alphabet, TextSet, TextSplit

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARDS = {
    name: load_dataset(ROOT / "datasets" / f"{name}.yaml")
    for name in ("facts-64", "facts-400", "sums-5", "tiny-shakespeare", "wikitext-2")
}
# Bytes and distinct bytes.
KNOWN = {"tiny-shakespeare": (1_115_394, 65), "wikitext-2": (1_121_681 + 1_256_449, 135)}


def small(text: bytes = b"banana", **changes) -> TextSet:
    fields = {"length": 0, "answers": b"", "splits": {"all": TextSplit((0, 4), (4, 5), (5, 6))}}
    return TextSet("small", np.frombuffer(text, np.uint8), **(fields | changes))


def test_an_alphabet_has_an_id_for_each_byte_that_occurs():
    alphabet = small().alphabet
    assert len(alphabet) == 3
    assert alphabet.encode(b"nab").tolist() == [2, 0, 1]
    assert alphabet.decode(alphabet.encode(b"banana")) == b"banana"
    assert len(Alphabet(np.arange(256, dtype=np.uint8))) == 256
    with pytest.raises(DataError, match=r"the byte b'x' is not among the 3"):
        alphabet.encode(b"bax")


def test_hashes_cover_what_decides_a_number():
    texts = [small(), small(b"bananb"), small(length=3), small(answers=b"n")]
    assert len({content_sha256(text) for text in texts}) == 4
    splits = [TextSplit((0, 4), (4, 5), (5, 6)), TextSplit((0, 3), (3, 5), (5, 6))]
    assert split_sha256(splits[0]) != split_sha256(splits[1])
    assert splits[1].sizes == (3, 2, 1)


def test_counts_name_sequences_where_there_are_any():
    assert count(small()) == {"bytes": 6, "alphabet": 3}
    assert count(small(length=3)) == {"bytes": 6, "alphabet": 3, "sequences": 2}


@pytest.mark.parametrize("name", ["facts-64", "facts-400", "sums-5"])
def test_generated_facts_are_what_their_cards_pin(name, tmp_path):
    data = parse(CARDS[name], tmp_path)
    assert compare(CARDS[name], data, list(CARDS[name].splits)) == []
    assert count(data) == CARDS[name].counts


@pytest.mark.mirror
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_real_texts_are_what_cards_and_literature_say(name, mirror, tmp_path):
    fetch(CARDS[name], tmp_path, mirror=str(mirror))
    data = parse(CARDS[name], tmp_path)
    assert compare(CARDS[name], data, list(CARDS[name].splits)) == []
    assert (len(data.text), len(data.alphabet)) == KNOWN[name]
    (split,) = data.splits.values()
    assert sum(split.sizes) == len(data.text)
    assert (split.train[1], split.val[1]) == (split.val[0], split.test[0])
