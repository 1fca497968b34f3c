"""A graph as tensors for training without labels, and the masks with which its representations are probed."""

import numpy as np
import torch
from torch import Tensor

from retable.cards import CardError, Scalar, unknown
from retable.data.containers import DataError, NodeGraph, distinct_edges
from retable.nn.sparse import SparseMatrix, csr_from_entries, row_normalise
from retable.train.context import Context

from .encoders import View

SPLITS = 5
# Sparse products gain from this share of stored entries down.
SPARSE_BELOW = 0.25
Masks = dict[str, tuple[Tensor, Tensor]]


class Task:
    """One graph with tensors for training and probing: the whole ``view``, labels ``y`` (N,) and probe masks.

    Edges are made undirected, each once, without self loops. ``train`` bool (S, N), and for each protocol the
    validation and test masks (S, N).
    """

    def __init__(self, graph: NodeGraph, settings: dict[str, Scalar], context: Context) -> None:
        device, nodes = context.device, len(graph.y)
        edges = torch.from_numpy(distinct_edges(graph.edge_index, nodes, loops=False, undirected=True))
        self.view = View.of(_features(graph, bool(settings["row_normalise"]), device), edges.to(device))
        self.y = torch.from_numpy(graph.y).to(device)
        self.train, self.protocols = _masks(graph, str(settings["splits"]), context)

    @property
    def features(self) -> int:
        return self.view.x.shape[1]


def _features(graph: NodeGraph, normalised: bool, device: torch.device) -> Tensor | SparseMatrix:
    x = graph.x
    if x.shape[1] == 0:
        raise DataError(f"{graph.name}: no node features; give each node a one-hot degree or a constant first")
    entries = x.tocoo()
    rows, cols = (torch.from_numpy(place.astype(np.int64)) for place in (entries.row, entries.col))
    csr = csr_from_entries(rows, cols, torch.from_numpy(entries.data), x.shape)
    csr = row_normalise(csr) if normalised else csr
    dense = x.nnz > SPARSE_BELOW * x.shape[0] * x.shape[1]
    return csr.to_dense().to(device) if dense else SparseMatrix(csr).to(device)


def _masks(graph: NodeGraph, kind: str, context: Context) -> tuple[Tensor, Masks]:
    """Training masks (S, N) and, by protocol, validation and test masks.

    "random": five orders drawn from the seed; the first tenth is trained on, in both protocols. "fixed": the data
    set's own splits.
    """
    nodes = len(graph.y)
    if kind == "fixed":
        parts = [(split.train, split.val, split.test) for split in graph.splits.values()]
        train, val, test = (torch.from_numpy(np.stack(part)).to(context.device) for part in zip(*parts, strict=True))
        return train, {"fixed": (val, test)}
    if kind != "random":
        raise CardError(unknown("splits", kind, ["random", "fixed"]))
    if nodes < 10:
        raise DataError(f"{graph.name}: {nodes} nodes cannot be split 10/10/80; at least 10 are needed")
    rank = np.stack([np.random.default_rng(context.derive("split", k)).permutation(nodes) for k in range(SPLITS)])
    share = torch.from_numpy(rank).to(context.device)  # a node's place in each order
    tenth, most = int(0.1 * nodes), int(0.1 * nodes) + int(0.8 * nodes)
    train = share < tenth
    return train, {
        "10_80_10": (~train & (share < most), share >= most),
        "10_10_80": (~train & (share < 2 * tenth), share >= 2 * tenth),
    }
