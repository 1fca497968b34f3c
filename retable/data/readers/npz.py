"""Data sets that are one npz archive. Arrays of Python objects in them are pickles: never loaded."""

from pathlib import Path

import numpy as np
import scipy.sparse

from retable.cards import DatasetCard
from retable.data.containers import NodeGraph, NodeSplit, canonical_csr
from retable.data.readers.splits import random_split

RANDOM_SPLITS = 5


def gnn_benchmark(card: DatasetCard, raw: Path) -> NodeGraph:
    """Amazon and Coauthor graphs of Shchur et al., 2018 (https://arxiv.org/abs/1811.05868).

    Edges are the entries of the adjacency matrix, row by row. Amazon's are directed, Coauthor's hold both
    directions. Features are as stored: Coauthor's are counts, which torch-geometric's loader replaces by 1.
    Upstream has no split; `random-0` to `random-4` are 10/10/80 % drawn from their names.
    """
    with np.load(raw / card.files[0].path, allow_pickle=False) as arrays:
        x = _csr(arrays, "attr")
        adjacency = _csr(arrays, "adj").tocoo()
        y = arrays["labels"].astype(np.int64)
    edges = np.stack([adjacency.row, adjacency.col]).astype(np.int64)
    names = [f"random-{number}" for number in range(RANDOM_SPLITS)]
    splits = {name: random_split(card.name, name, len(y)) for name in names}
    return NodeGraph(card.name, canonical_csr(x), edges, y, splits)


def heterophilous(card: DatasetCard, raw: Path) -> NodeGraph:
    """Graphs of Platonov et al., ICLR 2023 (https://arxiv.org/abs/2302.11640).

    Edges list every link once, in one direction. Splits: the archive's ten, `fold-0` to `fold-9`.
    """
    with np.load(raw / card.files[0].path, allow_pickle=False) as arrays:
        x = canonical_csr(arrays["node_features"])
        y = arrays["node_labels"].astype(np.int64)
        edges = np.ascontiguousarray(arrays["edges"].T, dtype=np.int64)
        masks = [arrays[f"{part}_masks"].astype(bool) for part in ("train", "val", "test")]
    splits = {f"fold-{number}": NodeSplit(*folds) for number, folds in enumerate(zip(*masks, strict=True))}
    return NodeGraph(card.name, x, edges, y, splits)


def _csr(arrays: np.lib.npyio.NpzFile, part: str) -> scipy.sparse.csr_matrix:
    data, indices, indptr, shape = (arrays[f"{part}_{key}"] for key in ("data", "indices", "indptr", "shape"))
    matrix = scipy.sparse.csr_matrix((data, indices, indptr), shape=tuple(shape))
    matrix.check_format(full_check=True)
    return matrix
