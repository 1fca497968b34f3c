"""A graph as tensors, the masks with which its representations are probed, and the probe."""

from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retable.data.containers import DataError, NodeGraph, distinct_edges
from retable.evaluate import contrast
from retable.evaluate.answers import beside
from retable.evaluate.probes import chosen_accuracy, chosen_answers, probe
from retable.nn.scipy_csr import csr_tensor
from retable.nn.sparse import SparseMatrix, row_normalise
from retable.train.context import Context

from ..geometry import geometry
from ..settings import NodeSettings
from ..task import Task
from .encoders import View

SPLITS = 5
# Sparse products gain from this share of stored entries down.
SPARSE_BELOW = 0.25
Masks = dict[str, tuple[Tensor, Tensor]]


class NodeTask(Task):
    """One graph with tensors for training and probing: the whole ``view``, labels ``y`` (N,) and probe masks.

    Edges are made undirected, each once, without self loops. ``train`` bool (S, N), and for each protocol the
    validation and test masks (S, N).
    """

    def __init__(self, graph: NodeGraph, settings: NodeSettings, context: Context) -> None:
        device, nodes = context.device, len(graph.y)
        edges = torch.from_numpy(distinct_edges(graph.edge_index, nodes, loops=False, undirected=True))
        self.view = View.of(_features(graph, settings.row_normalise, device), edges.to(device))
        self.y = torch.from_numpy(graph.y).to(device)
        if settings.splits == "fixed":
            self.train, self.protocols = _fixed_masks(graph, device)
        else:
            self.train, self.protocols = _random_masks(graph, context)

    @classmethod
    def load(cls, settings: NodeSettings, context: Context) -> Self:
        return cls(context.data()[0], settings, context)

    @property
    def features(self) -> int:
        return self.view.x.shape[1]

    def raw_features(self) -> Tensor:
        """The nodes' features, dense: (N, F)."""
        x = self.view.x
        return x if isinstance(x, Tensor) else x.csr.to_dense()

    def scores(self, z: Tensor) -> dict[str, float]:
        """For each protocol: mean test and validation accuracy of a linear probe on z (N, d), the std over splits."""
        if "fixed" in self.protocols:
            z = F.normalize(z, dim=1)
        probed = probe(z, self.y, self.train)
        metrics = {}
        for name, (val, test) in self.protocols.items():
            on_test, on_val = chosen_accuracy(probed.right, val, test)
            metrics[f"test_accuracy_{name}"] = on_test.mean().item()
            metrics[f"val_accuracy_{name}"] = on_val.mean().item()
            metrics[f"split_deviation_{name}"] = on_test.std().item() if len(on_test) > 1 else 0.0
            metrics |= chosen_answers(f"test_accuracy_{name}", probed, val, test)
        return metrics

    def majority_scores(self) -> dict[str, float]:
        """Test accuracies of the most frequent class of the training nodes."""
        answers = torch.stack([torch.bincount(self.y[mask]).argmax() for mask in self.train])
        right = (self.y == answers[:, None]).double()
        shares = {name: 100 * (right * test).sum(1) / test.sum(1) for name, (_, test) in self.protocols.items()}
        metrics = {f"test_accuracy_{name}": share.mean().item() for name, share in shares.items()}
        for name, (_, test) in self.protocols.items():
            constant = [answer.expand(int(mask.sum())) for answer, mask in zip(answers, test, strict=True)]
            metrics |= beside(f"test_accuracy_{name}", *constant)
        return metrics

    def geometry(self, z: Tensor) -> dict[str, float]:
        """Measures of z (N, d), over edges too."""
        return geometry(
            z,
            self.y,
            neighbour_cosine=contrast.neighbour_cosine(z, self.view.edges),
            dirichlet_energy=contrast.dirichlet_energy(z, self.view.edges),
        )


def _features(graph: NodeGraph, normalised: bool, device: torch.device) -> Tensor | SparseMatrix:
    x = graph.x
    if x.shape[1] == 0:
        raise DataError(f"{graph.name}: no node features; give each node a one-hot degree or a constant first")
    csr = row_normalise(csr_tensor(x)) if normalised else csr_tensor(x)
    dense = x.nnz > SPARSE_BELOW * x.shape[0] * x.shape[1]
    return csr.to_dense().to(device) if dense else SparseMatrix(csr).to(device)


def _fixed_masks(graph: NodeGraph, device: torch.device) -> tuple[Tensor, Masks]:
    """Training masks (S, N) and, by protocol, validation and test masks: the data set's own splits."""
    parts = [(split.train, split.val, split.test) for split in graph.splits.values()]
    train, val, test = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*parts, strict=True))
    return train, {"fixed": (val, test)}


def _random_masks(graph: NodeGraph, context: Context) -> tuple[Tensor, Masks]:
    """As `_fixed_masks`, from five orders that the seed decides; the first tenth is trained on in both protocols."""
    nodes = len(graph.y)
    if nodes < 10:
        raise DataError(f"{graph.name}: {nodes} nodes cannot be split 10/10/80; at least 10 are needed")
    orders = [np.random.default_rng(context.derive("split", k)).permutation(nodes) for k in range(SPLITS)]
    rank = torch.from_numpy(np.stack(orders)).to(context.device)
    tenth, most = int(0.1 * nodes), int(0.1 * nodes) + int(0.8 * nodes)
    train = rank < tenth
    return train, {
        "10_80_10": (~train & (rank < most), rank >= most),
        "10_10_80": (~train & (rank < 2 * tenth), rank >= 2 * tenth),
    }
