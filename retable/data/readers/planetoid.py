"""Cora, CiteSeer and PubMed in the files of Yang et al., ICML 2016 (https://arxiv.org/abs/1603.08861)."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from retable.cards import DatasetCard
from retable.data.containers import DataError, NodeGraph, NodeSplit, canonical_csr
from retable.data.readers.splits import geom_gcn_splits, mask
from retable.data.unpickle import restricted_loads

VALIDATION_NODES = 500


def planetoid(card: DatasetCard, raw: Path) -> NodeGraph:
    """Read the eight `ind.<name>.*` files.

    Edges are the entries of the adjacency lists in file order: every link in both directions, some more than
    once, some as self-loops (10,858 entries on Cora for 5,278 links).

    Nodes are the `allx` rows, then the test nodes: the rows of `tx` belong at the positions that `test.index`
    lists. CiteSeer's list leaves out 15 isolated nodes; they get zero features and class 0, as in every
    published loader.

    Splits: `public` (the train rows `x`, the next 500 nodes, the listed test nodes), `public-rest` (tests
    every node that `public` neither trains nor validates on), and `geom-0` to `geom-9` where the card has
    geom-gcn's files.
    """
    files = {file.path.rsplit(".", 1)[-1]: file.path for file in card.files if "/ind." in file.path}
    if missing := {"x", "y", "tx", "ty", "allx", "ally", "graph", "index"} - set(files):
        raise DataError(f"{card.name}: the card lacks the Planetoid files {sorted(missing)}")

    def read(part: str) -> Any:
        return restricted_loads((raw / files[part]).read_bytes(), files[part])

    allx, tx, ally, ty = (read(part) for part in ("allx", "tx", "ally", "ty"))
    test = np.array((raw / files["index"]).read_text().split(), dtype=np.int64)
    known, nodes = allx.shape[0], int(test.max()) + 1
    if test.min() != known or len(test) != tx.shape[0]:
        raise DataError(f"{card.name}: the test index does not continue the {known} rows of allx")

    # Row i of tx is node test[i]: a permutation matrix that also leaves room for the isolated nodes.
    placed = scipy.sparse.csr_matrix(
        (np.ones(len(test), np.float32), (test - known, np.arange(len(test)))),
        shape=(nodes - known, len(test)),
    )
    x = canonical_csr(scipy.sparse.vstack([allx, placed @ tx]))
    y = np.zeros(nodes, dtype=np.int64)
    y[:known] = ally.argmax(axis=1)
    y[test] = ty.argmax(axis=1)

    labelled = len(read("y"))
    train = mask(np.arange(labelled), nodes)
    val = mask(np.arange(labelled, labelled + VALIDATION_NODES), nodes)
    splits = {
        "public": NodeSplit(train, val, mask(test, nodes)),
        "public-rest": NodeSplit(train, val, ~(train | val)),
        **geom_gcn_splits(card, raw, nodes),
    }
    return NodeGraph(card.name, x, _adjacency_lists(read("graph"), nodes, files["graph"]), y, splits)


def _adjacency_lists(lists: dict[int, list[int]], nodes: int, source: str) -> np.ndarray:
    """Edges (2, E) of a mapping node -> neighbours, in its order."""
    degrees = [len(neighbours) for neighbours in lists.values()]
    sources = np.repeat(np.fromiter(lists, np.int64, len(lists)), degrees)
    targets = np.fromiter(chain.from_iterable(lists.values()), np.int64, sum(degrees))
    edges = np.stack([sources, targets])
    if edges.min() < 0 or edges.max() >= nodes:
        raise DataError(f"{source}: an edge names node {edges.max()}, the data set has {nodes}")
    return edges
