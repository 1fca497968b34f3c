"""Rows of text with a label each, and problems with a written answer: numpy only."""

import hashlib
from dataclasses import dataclass

import numpy as np

from retable.data.containers import canonical_bytes, content_sha256, count
from retable.data.image_sets import ImageSplit


class SentenceSplit(ImageSplit):
    """Places of the rows that are trained on, chosen on and reported on, of the same form as for images."""


@dataclass(frozen=True, eq=False)
class SentenceSet:
    """N rows of text.

    `columns` maps a name to N strings (`sentence1` and `sentence2`, `question` and `answer`). `labels` is float64 (N,):
    a class counted from 0 in the order of `classes`, or, where `classes` is empty, a score; None for problems, whose
    answer is one of the columns.
    """

    name: str
    columns: dict[str, tuple[str, ...]]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    splits: dict[str, SentenceSplit]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@count.register
def _(rows: SentenceSet) -> dict[str, int]:
    classes = {"classes": len(rows.classes)} if rows.classes else {}
    return {"rows": len(rows), "columns": len(rows.columns), **classes}


@content_sha256.register
def _(rows: SentenceSet) -> str:
    digest = hashlib.sha256()
    for name, texts in rows.columns.items():
        encoded = [text.encode() for text in texts]
        digest.update(f"column {name} {len(encoded)}\n".encode())
        # With the lengths no two tables have the same bytes.
        for part in canonical_bytes("lengths", np.array([len(text) for text in encoded]), "<i8"):
            digest.update(part)
        digest.update(b"".join(encoded))
    if rows.labels is not None:
        for part in canonical_bytes("labels", rows.labels, "<f8"):
            digest.update(part)
    digest.update("".join(f"class {name}\n" for name in rows.classes).encode())
    return digest.hexdigest()
