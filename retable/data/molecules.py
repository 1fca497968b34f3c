"""Sets of graphs whose nodes and edges carry categories, with targets and one fixed division: numpy only."""

import hashlib
from dataclasses import dataclass

import numpy as np

from retable.data.containers import NodeSplit, canonical_bytes, content_sha256, count


@dataclass(frozen=True, eq=False)
class MoleculeSet:
    """G graphs with N nodes and E directed edges in all.

    `edge_index` is int64 (2, E), source above target, in places of all nodes, an edge's two directions one after the
    other. `edge_features` int64 (E, B) and `node_features` int64 (N, A) are category numbers (bonds and atoms).
    `node_graph` is int64 (N,), ascending: the graph of each node. `y` is int64 (G,), a class each, or float32 (G, T),
    numbers or labels 0 and 1 with NaN where one is not known. A split's masks are over graphs.
    """

    name: str
    edge_index: np.ndarray
    edge_features: np.ndarray
    node_features: np.ndarray
    node_graph: np.ndarray
    y: np.ndarray
    splits: dict[str, NodeSplit]


@count.register
def _(graphs: MoleculeSet) -> dict[str, int]:
    return {
        "graphs": len(graphs.y),
        "nodes": len(graphs.node_graph),
        "links": graphs.edge_index.shape[1] // 2,
        "node_features": graphs.node_features.shape[1],
        "edge_features": graphs.edge_features.shape[1],
        **({"classes": len(np.unique(graphs.y))} if graphs.y.ndim == 1 else {"targets": graphs.y.shape[1]}),
    }


@content_sha256.register
def _(graphs: MoleculeSet) -> str:
    digest = hashlib.sha256()
    for name in ("edge_index", "edge_features", "node_features", "node_graph", "y"):
        array = getattr(graphs, name)
        for part in canonical_bytes(name, array, "<f4" if array.dtype.kind == "f" else "<i8"):
            digest.update(part)
    return digest.hexdigest()
