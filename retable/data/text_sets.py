"""Running text and generated sequences, as bytes: numpy only."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retable.data.containers import DataError, canonical_bytes, content_sha256, count, split_sha256


@dataclass(frozen=True, eq=False)
class TextSplit:
    """Which bytes are trained on, chosen on and reported on: three stretches (first, one past the last)."""

    train: tuple[int, int]
    val: tuple[int, int]
    test: tuple[int, int]

    @property
    def sizes(self) -> tuple[int, int, int]:
        train, val, test = (stop - start for start, stop in (self.train, self.val, self.test))
        return train, val, test


class Alphabet:
    """A byte-level tokenizer: an id for each byte value that a text uses, in the order of the values."""

    def __init__(self, text: np.ndarray) -> None:
        self.bytes = np.unique(text)
        self._id = np.full(256, -1, dtype=np.int64)
        self._id[self.bytes] = np.arange(len(self.bytes))

    def __len__(self) -> int:
        return len(self.bytes)

    def encode(self, text: bytes | np.ndarray) -> np.ndarray:
        """Ids int64 (N,). Raises DataError for a byte that the alphabet lacks."""
        raw = np.frombuffer(text, np.uint8) if isinstance(text, bytes) else text
        ids = self._id[raw]
        if (ids < 0).any():
            stranger = bytes(raw[ids < 0][:1])
            raise DataError(
                f"the byte {stranger!r} is not among the {len(self)} of the alphabet; encode known text only"
            )
        return ids

    def decode(self, ids: np.ndarray) -> bytes:
        """The bytes of ids (N,)."""
        return self.bytes[ids].tobytes()


@dataclass(frozen=True, eq=False)
class TextSet:
    """Text as uint8 (N,).

    `length` is the number of bytes of a sequence if the text is sequences of equal length end to end, 0 if it runs on.
    `answers` are the byte values whose prediction a task judges apart; empty if all count.
    """

    name: str
    text: np.ndarray
    length: int
    answers: bytes
    splits: dict[str, TextSplit]

    @cached_property
    def alphabet(self) -> Alphabet:
        return Alphabet(self.text)


@count.register
def _(data: TextSet) -> dict[str, int]:
    sequences = {"sequences": len(data.text) // data.length} if data.length else {}
    return {"bytes": len(data.text), "alphabet": len(data.alphabet), **sequences}


@content_sha256.register
def _(data: TextSet) -> str:
    digest = hashlib.sha256(f"length {data.length}\nanswers {data.answers.hex()}\n".encode())
    for part in canonical_bytes("text", data.text, "|u1"):
        digest.update(part)
    return digest.hexdigest()


@split_sha256.register
def _(split: TextSplit) -> str:
    digest = hashlib.sha256()
    for part in canonical_bytes("stretches", np.array([split.train, split.val, split.test]), "<i8"):
        digest.update(part)
    return digest.hexdigest()
