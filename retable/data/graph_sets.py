"""Sets of graphs with a class each, and the folds that they are judged by: numpy only."""

import hashlib
from dataclasses import dataclass

import numpy as np

from retable.data.containers import canonical_bytes, content_sha256, count, split_sha256
from retable.data.edges import distinct_edges


@dataclass(frozen=True, eq=False)
class Folds:
    """Cross-validation by a number for each graph: int64 (G,), 0 to k - 1."""

    number: np.ndarray

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(np.bincount(self.number).tolist())


@dataclass(frozen=True, eq=False)
class GraphSet:
    """G graphs with N nodes in all.

    `edge_index` is int64 (2, E), source above target, as upstream lists it, in places of all nodes.
    `node_graph` is int64 (N,), ascending: the graph of each node. `y` int64 (G,) counts classes from 0 in the
    order of upstream's labels. `node_labels` int64 (N,) counts from 0, upstream's smallest;
    `node_attributes` is float32 (N, A). A set may lack either or both.
    """

    name: str
    edge_index: np.ndarray
    node_graph: np.ndarray
    y: np.ndarray
    node_labels: np.ndarray | None
    node_attributes: np.ndarray | None
    splits: dict[str, Folds]


def node_features(graphs: GraphSet, *, attributes: bool) -> np.ndarray | None:
    """Attributes, if asked for, beside one-hot node labels: float32 (N, F); None if the set has neither."""
    parts = []
    if attributes and graphs.node_attributes is not None:
        parts.append(graphs.node_attributes)
    if graphs.node_labels is not None:
        kinds = np.arange(graphs.node_labels.max() + 1)
        parts.append((graphs.node_labels[:, None] == kinds).astype(np.float32))
    return np.concatenate(parts, axis=1) if parts else None


def simple_edges(graphs: GraphSet) -> np.ndarray:
    """Each directed edge once, without self-loops, as torch-geometric's loader has them: int64 (2, E)."""
    return distinct_edges(graphs.edge_index, len(graphs.node_graph), loops=False)


@count.register
def _(graphs: GraphSet) -> dict[str, int]:
    links = distinct_edges(np.sort(graphs.edge_index, axis=0), len(graphs.node_graph), loops=False)
    labels, attributes = graphs.node_labels, graphs.node_attributes
    return {
        "graphs": len(graphs.y),
        "nodes": len(graphs.node_graph),
        "links": links.shape[1],
        "node_labels": 0 if labels is None else len(np.unique(labels)),
        "node_attributes": 0 if attributes is None else attributes.shape[1],
        "classes": len(np.unique(graphs.y)),
    }


@content_sha256.register
def _(graphs: GraphSet) -> str:
    arrays = [("edge_index", graphs.edge_index, "<i8"), ("node_graph", graphs.node_graph, "<i8")]
    arrays += [("y", graphs.y, "<i8")]
    if graphs.node_labels is not None:
        arrays.append(("node_labels", graphs.node_labels, "<i8"))
    if graphs.node_attributes is not None:
        arrays.append(("node_attributes", graphs.node_attributes, "<f4"))
    digest = hashlib.sha256()
    for name, array, dtype in arrays:
        for part in canonical_bytes(name, array, dtype):
            digest.update(part)
    return digest.hexdigest()


@split_sha256.register
def _(folds: Folds) -> str:
    digest = hashlib.sha256()
    for part in canonical_bytes("folds", folds.number, "<i8"):
        digest.update(part)
    return digest.hexdigest()
