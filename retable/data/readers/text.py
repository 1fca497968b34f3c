"""Texts: files as they are, and sequences of facts and of sums that are generated on the machine."""

import hashlib
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.text_sets import TextSet, TextSplit

# The four kinds of symbols of generated facts, all printable and disjoint.
COUNTER = b"0123456789abcdef"
SUBJECTS = b"ABCDEFGHIJKLMNOPQRST"
RELATIONS = b"ghijklmnopqrstuvwxyz"
ANSWERS = bytes(range(ord("!"), ord("0"))) + b":;<=>"
# A result's digits have symbols of their own, so that what must be computed can be judged apart.
DIGITS, RESULTS = b"0123456789", b"abcdefghij"


def plain_text(card: DatasetCard, raw: Path) -> TextSet:
    """The card's files end to end, byte by byte.

    One file: split `last-tenth` trains on the first 85 %, chooses on the next 5 % and reports on the last tenth. Two
    files, validation and test part of a corpus whose training part is elsewhere: split `validation-part` trains on the
    first nine tenths of the first file, chooses on its last tenth, and reports on the second file.
    """
    parts = [np.frombuffer((raw / file.path).read_bytes(), np.uint8) for file in card.files]
    text = np.concatenate(parts)
    first = len(parts[0])
    if len(parts) == 1:
        stops = (int(0.85 * first), int(0.9 * first), first)
        name = "last-tenth"
    elif len(parts) == 2:
        stops = (int(0.9 * first), first, len(text))
        name = "validation-part"
    else:
        raise DataError(f"{card.name}: {len(parts)} files; a text is one file, or a validation and a test part")
    split = TextSplit((0, stops[0]), (stops[0], stops[1]), (stops[1], stops[2]))
    return TextSet(card.name, text, 0, b"", {name: split})


def facts(card: DatasetCard, raw: Path) -> TextSet:
    """Sequences in which easy and hard symbols alternate: a counter, and facts `subject relation answer` among it.

    Each of `sequences` sequences has `length` symbols. The background counts modulo 16 from a random start. Where no
    fact is under way, one begins with a chance of 12 %: a random subject, a random relation (`terms` of each), and the
    answer that one table, the same everywhere, has for the two. So a tenth of the symbols must be known by heart from
    two symbols at once, a fifth cannot be known, and the rest is easy. Split `default`: the last 512 sequences are
    reported on, the 256 before chosen on.
    """
    sequences, length, terms = (int(card.options[key]) for key in ("sequences", "length", "terms"))
    draw = _Draws(card.name)
    table = draw.below(terms, terms * terms).reshape(terms, terms)
    symbols = [np.frombuffer(kind, np.uint8) for kind in (COUNTER, SUBJECTS, RELATIONS, ANSWERS)]
    counter = (draw.below(16, sequences)[:, None] + np.arange(length)) % 16
    text = symbols[0][counter]
    subject, relation = draw.below(terms, sequences * length), draw.below(terms, sequences * length)
    subject, relation = subject.reshape(sequences, length), relation.reshape(sequences, length)
    begins = (draw.below(100, sequences * length) < 12).reshape(sequences, length)
    free = np.zeros(sequences, dtype=np.int64)  # the first place where a sequence's next fact may begin
    for place in range(length - 2):
        here = np.flatnonzero(begins[:, place] & (free <= place))
        a, b = subject[here, place], relation[here, place]
        text[here, place] = symbols[1][a]
        text[here, place + 1] = symbols[2][b]
        text[here, place + 2] = symbols[3][table[a, b]]
        free[here] = place + 3
    return TextSet(card.name, text.ravel(), length, ANSWERS[:terms], {"default": _last_rows(sequences, length)})


def sums(card: DatasetCard, raw: Path) -> TextSet:
    """Sequences of additions of two digits: `7+5=bc ` stands for 7 + 5 = 12.

    Each of `sequences` sequences is `sums` of them. The result is always two symbols, tens and ones, which depend on
    both numbers; what the numbers are cannot be known, and the signs are easy. Split `default` as in `facts`.
    """
    sequences, terms = int(card.options["sequences"]), int(card.options["sums"])
    draw = _Draws(card.name)
    a, b = draw.below(10, sequences * terms), draw.below(10, sequences * terms)
    digits, results = (np.frombuffer(kind, np.uint8) for kind in (DIGITS, RESULTS))
    plus, equal, space = (np.full(len(a), ord(sign), np.uint8) for sign in "+= ")
    columns = [digits[a], plus, digits[b], equal, results[(a + b) // 10], results[(a + b) % 10], space]
    text = np.stack(columns, axis=1).reshape(sequences, -1)
    return TextSet(card.name, text.ravel(), text.shape[1], RESULTS, {"default": _last_rows(sequences, text.shape[1])})


def _last_rows(sequences: int, length: int) -> TextSplit:
    """The last 512 sequences to report on, the 256 before to choose on, the rest to train on."""
    stops = [(sequences - held) * length for held in (768, 512, 0)]
    return TextSplit((0, stops[0]), (stops[0], stops[1]), (stops[1], stops[2]))


class _Draws:
    """Random whole numbers that depend on a name alone: numpy keeps the raw words of PCG64, not its distributions."""

    def __init__(self, name: str) -> None:
        self._words = np.random.PCG64(int.from_bytes(hashlib.sha256(f"retable/{name}/facts".encode()).digest(), "big"))

    def below(self, limit: int, size: int) -> np.ndarray:
        return (self._words.random_raw(size) % np.uint64(limit)).astype(np.int64)
