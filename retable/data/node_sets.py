"""Several graphs whose nodes have features and several labels each, divided by graph: numpy only."""

import hashlib
from dataclasses import dataclass

import numpy as np

from retable.data.containers import NodeSplit, canonical_bytes, content_sha256, count
from retable.data.edges import distinct_edges


@dataclass(frozen=True, eq=False)
class NodeSet:
    """G graphs with N nodes in all, for inductive node classification.

    `x` is float32 (N, F), `y` int64 (N, T) of 0 and 1. `edge_index` is int64 (2, E), source above target, in places of
    all nodes, as upstream lists it. `node_graph` is int64 (N,), ascending. A split's masks are over graphs.
    """

    name: str
    x: np.ndarray
    edge_index: np.ndarray
    node_graph: np.ndarray
    y: np.ndarray
    splits: dict[str, NodeSplit]


@count.register
def _(graphs: NodeSet) -> dict[str, int]:
    links = distinct_edges(np.sort(graphs.edge_index, axis=0), len(graphs.y), loops=False)
    return {
        "graphs": int(graphs.node_graph.max()) + 1,
        "nodes": len(graphs.y),
        "links": links.shape[1],
        "features": graphs.x.shape[1],
        "targets": graphs.y.shape[1],
    }


@content_sha256.register
def _(graphs: NodeSet) -> str:
    digest = hashlib.sha256()
    for name, dtype in (("x", "<f4"), ("edge_index", "<i8"), ("node_graph", "<i8"), ("y", "<i8")):
        for part in canonical_bytes(name, getattr(graphs, name), dtype):
            digest.update(part)
    return digest.hexdigest()
