"""Splits that are drawn here, and split files that several collections share."""

import hashlib
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError, NodeSplit
from retable.data.graph_sets import Folds


def mask(indices: np.ndarray, nodes: int) -> np.ndarray:
    """Boolean (nodes,) that is true at `indices`."""
    result = np.zeros(nodes, dtype=bool)
    result[indices] = True
    return result


def named_order(dataset: str, split: str, nodes: int) -> np.ndarray:
    """A random order of the nodes that depends on nothing but the two names.

    numpy may change how its generators shuffle, but not the raw words of PCG64: the order is that of the
    words.
    """
    seed = int.from_bytes(hashlib.sha256(f"retable/{dataset}/{split}".encode()).digest(), "big")
    return np.argsort(np.random.PCG64(seed).random_raw(nodes), kind="stable")


def random_split(dataset: str, split: str, nodes: int, train: float = 0.1, val: float = 0.1) -> NodeSplit:
    """The named order cut at the given shares, rounded down; the rest is tested on."""
    order = named_order(dataset, split, nodes)
    first, second = int(train * nodes), int(train * nodes) + int(val * nodes)
    return NodeSplit(*(mask(part, nodes) for part in (order[:first], order[first:second], order[second:])))


def stratified_folds(dataset: str, split: str, y: np.ndarray, folds: int) -> Folds:
    """Folds that hold equally many of each class (y, (G,)), up to one: dealt out in the named order.

    The deal goes on from class to class, so that sizes differ by one at most.
    """
    order = named_order(dataset, split, len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    number = np.empty(len(y), dtype=np.int64)
    number[by_class] = np.arange(len(y)) % folds
    return Folds(number)


def geom_gcn_splits(card: DatasetCard, raw: Path, nodes: int) -> dict[str, NodeSplit]:
    """`geom-0` to `geom-9` from those of the card's files that are geom-gcn's split masks.

    The ten files share the name `<name>_split_0.6_0.2_<i>.npz`; the shares in the name are not those in the
    file for every data set (Chameleon and Squirrel: 48/32/20 %).
    """
    splits = {}
    for file in card.files:
        _head, found, number = file.path.removesuffix(".npz").rpartition("_split_0.6_0.2_")
        if not found:
            continue
        with np.load(raw / file.path, allow_pickle=False) as arrays:
            masks = [arrays[f"{part}_mask"].astype(bool) for part in ("train", "val", "test")]
        if any(part.shape != (nodes,) for part in masks):
            raise DataError(f"{file.path}: masks of {masks[0].shape} for {nodes} nodes; the card mixes data sets")
        splits[f"geom-{number}"] = NodeSplit(*masks)
    return splits
