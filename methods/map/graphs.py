"""The graphs of a set and their spectra."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from retable.data.edges import distinct_edges
from retable.data.graph_sets import GraphSet
from retable.data.molecules import MoleculeSet

from .canonize import Precision
from .encoding import Encoding, Spectrum, encode, normalised_adjacency, spectrum


def adjacencies(data: GraphSet | MoleculeSet, chosen: np.ndarray) -> Iterator[Tensor]:
    """The dense symmetric adjacency (n, n), float64, of each of the chosen graphs."""
    edges = distinct_edges(data.edge_index, len(data.node_graph), loops=False)
    first = np.searchsorted(data.node_graph, np.arange(len(data.y) + 1))
    owner = data.node_graph[edges[0]]
    order = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], np.arange(len(data.y) + 1))
    for graph in chosen:
        own = edges[:, order[ends[graph] : ends[graph + 1]]] - first[graph]
        nodes = first[graph + 1] - first[graph]
        adjacency = torch.zeros(nodes, nodes, dtype=torch.float64)
        adjacency[own[0], own[1]] = 1.0
        yield torch.maximum(adjacency, adjacency.T)


def spectrum_of(adjacency: Tensor) -> Spectrum:
    """The pairs that the experiments use: of the normalised adjacency, without the trivial one."""
    return spectrum(normalised_adjacency(adjacency))


def encoding_of(pairs: Spectrum, k: int, name: str) -> Encoding:
    """The encoding by name: "raw", "sign", or "map"; others take raw columns."""
    return encode(pairs, k, Precision(), sign=name in ("sign", "map"), basis=name == "map")
