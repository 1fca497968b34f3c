"""Orthonormal frames: eigenspaces whose eigenvalue is multiple, without a graph around them."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.graph_sets import Folds, GraphSet

Vector = list[float]


def random_frames(card: DatasetCard, raw: Path) -> GraphSet:
    """`frames` random subspaces of `columns` dimensions in `nodes` ones, as orthonormal columns.

    A frame is a graph without links whose node attributes (nodes, columns) are its rows: the eigenvectors of one
    multiple eigenvalue of a weighted graph on these nodes. Subspaces are uniform: directions drawn from a ball and made
    orthonormal one after the other. Only sums rounded once, products and roots are used, so that the float32 values are
    the same on every machine. Classes number the frames. Split `whole`: one fold.
    """
    frames, nodes, columns = (int(card.options[name]) for name in ("frames", "nodes", "columns"))
    if not 0 < columns <= nodes:
        raise ValueError(f"`columns` is from 1 to `nodes`, got {columns} of {nodes}")
    draws = random.Random(card.name).random
    parts = [np.array(_orthonormal(draws, nodes, columns)).T for _ in range(frames)]
    attributes = np.concatenate(parts).astype(np.float32)
    y = np.arange(frames, dtype=np.int64)
    none = np.zeros((2, 0), dtype=np.int64)
    whole = {"whole": Folds(np.zeros(frames, dtype=np.int64))}
    return GraphSet(card.name, none, np.repeat(y, nodes), y, None, attributes, whole)


def _orthonormal(draw: Callable[[], float], nodes: int, columns: int) -> list[Vector]:
    found: list[Vector] = []
    while len(found) < columns:
        vector = [2 * draw() - 1 for _ in range(nodes)]
        if not 0 < math.fsum(a * a for a in vector) <= 1:
            continue  # outside the ball: directions from a cube are not uniform
        for _ in range(2):  # once leaves an error of the order of the rounding over the vector's rest
            for other in found:
                along = math.fsum(a * b for a, b in zip(vector, other, strict=True))
                vector = [a - along * b for a, b in zip(vector, other, strict=True)]
        length = math.sqrt(math.fsum(a * a for a in vector))
        found.append([a / length for a in vector])
    return found
