"""Data that is derived on the machine from what the dependencies ship: no download."""

from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import NodeGraph, NodeSplit, canonical_csr
from retable.data.graph_sets import GraphSet
from retable.data.readers.splits import mask, named_order, stratified_folds

TRAIN_PER_CLASS = 20
VALIDATION_NODES = 500


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits: ink 0 to 16 of 8 x 8 pixels (1797, 64), float64, and the digits (1797,)."""
    from sklearn.datasets import load_digits  # on use: it takes a third of the time that a job needs to start

    return load_digits(return_X_y=True)


def digits_knn(card: DatasetCard, raw: Path) -> NodeGraph:
    """The 1,797 handwritten digits of scikit-learn as nodes, joined to the `k` most similar ones by cosine.

    The construction is the one that graph-structure learning starts from (LDS, Franceschi et al., ICML 2019,
    https://arxiv.org/abs/1903.11960; IDGL, Chen et al., NeurIPS 2020, https://arxiv.org/abs/2006.13009).
    Features are the 64 pixels scaled to [0, 1]. Edges hold every link once in each direction, sorted, without
    self-loops. Split `default`: 20 nodes of each class, 500 for validation, the rest for test.
    """
    pixels, y = digits()
    nearest = cosine_neighbours(pixels, int(card.options["k"]))
    nodes = len(y)
    source = np.repeat(np.arange(nodes), nearest.shape[1])
    target = nearest.ravel()
    codes = np.unique(np.concatenate([source * nodes + target, target * nodes + source]))
    edges = np.stack(np.divmod(codes, nodes)).astype(np.int64)

    y = y.astype(np.int64)
    order = named_order(card.name, "default", nodes)
    train = np.concatenate([order[y[order] == label][:TRAIN_PER_CLASS] for label in np.unique(y)])
    others = order[~np.isin(order, train)]
    parts = (train, others[:VALIDATION_NODES], others[VALIDATION_NODES:])
    split = NodeSplit(*(mask(part, nodes) for part in parts))
    return NodeGraph(card.name, canonical_csr(pixels / 16), edges, y, {"default": split})


def digits_grid(card: DatasetCard, raw: Path) -> GraphSet:
    """`graphs` of scikit-learn's 8 x 8 digits: a node for each pixel with ink, joined to its four neighbours.

    The node attribute is the ink, in [0, 1]. Digits are the first in the order of the names of data set and
    subset. Edges hold every link once in each direction, sorted. Split `folds-10`: stratified.
    """
    images, y = digits()
    chosen = np.sort(named_order(card.name, "subset", len(y))[: int(card.options["graphs"])])
    images, y = images[chosen].reshape(-1, 8, 8), y[chosen].astype(np.int64)
    ink = images > 0
    place = np.cumsum(ink).reshape(ink.shape) - 1
    below, right = ink[:, 1:] & ink[:, :-1], ink[:, :, 1:] & ink[:, :, :-1]
    source = np.concatenate([place[:, :-1][below], place[:, :, :-1][right]])
    target = np.concatenate([place[:, 1:][below], place[:, :, 1:][right]])
    edges = np.concatenate([np.stack([source, target]), np.stack([target, source])], axis=1)
    edges = edges[:, np.lexsort(edges[::-1])]
    node_graph = np.repeat(np.arange(len(y)), ink.sum(axis=(1, 2)))
    attributes = (images[ink] / 16).astype(np.float32)[:, None]
    folds = {"folds-10": stratified_folds(card.name, "folds-10", y, 10)}
    return GraphSet(card.name, edges.astype(np.int64), node_graph, y, None, attributes, folds)


def cosine_neighbours(x: np.ndarray, k: int) -> np.ndarray:
    """The `k` most similar other rows of each row (N, F) by cosine, ties by index: int64 (N, k).

    For small non-negative integers the result is exact and so equal on every machine: products and their sums
    are integers below 2^53, and rows are ranked by `(x_i . x_j)^2 / |x_j|^2`, one correctly rounded division
    that is monotone in the cosine.
    """
    products = x @ x.T
    score = products**2 / np.diag(products)
    np.fill_diagonal(score, -1.0)
    return np.argsort(-score, axis=1, kind="stable")[:, :k].astype(np.int64)
