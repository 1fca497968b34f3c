"""GCA's adaptive augmentation (Zhu et al., WWW 2021): edges and features of unimportant nodes are dropped more often.

Importance is a node's centrality: its degree, its "PageRank" or its entry in the adjacency's leading eigenvector.
"""

from typing import ClassVar

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from retable.nn.sparse import SparseMatrix, csr_from_entries, row_indices

from .augment import Probability
from .encoders import Features, View
from .grace import Grace

CENTRALITIES = ("degree", "pagerank", "eigenvector")
# The authors' code iterates PageRank this often for edges and for features.
PAGERANK_STEPS = {"edges": 200, "features": 10}
MOST = 0.7  # p_tau, the cut-off probability
_DENSE_EIGEN = 64


class GCA(Grace):
    """GRACE whose views drop edges and features by centrality."""

    trainer_quirks: ClassVar[bool] = True
    """Whether slips of the authors' GCA trainer apply that their ProGCL trainer does not have."""

    def drop_probabilities(self) -> list[tuple[Probability, Probability]]:
        return [self._by_centrality(self.task.view, *plain) for plain in super().drop_probabilities()]

    def _by_centrality(
        self, graph: View, edge_p: Probability, column_p: Probability
    ) -> tuple[Probability, Probability]:
        s, nodes = self.settings, graph.x.shape[0]
        of_edges = drop_probabilities(edge_weights(graph.edges, nodes, s.centrality), edge_p)
        present = indicator(graph.x)
        if s.official_quirks and bool((node_counts(present) == 0).any()):
            return of_edges, MOST
        if s.official_quirks and self.trainer_quirks and s.centrality == "eigenvector":
            return of_edges, column_p
        centrality = node_centrality(graph.edges, nodes, s.centrality)
        return of_edges, drop_probabilities(feature_weights(present, centrality), column_p)

    def reduce(self, per_node: Tensor) -> Tensor:
        # The authors' GCA trainer sums over nodes where it means to average.
        return per_node.sum() if self.settings.official_quirks and self.trainer_quirks else per_node.mean()


def edge_weights(edges: Tensor, nodes: int, scheme: str) -> Tensor:
    """How readily each edge (2, E) is dropped, (E,): from the log-centrality of its target."""
    centrality = node_centrality(edges, nodes, scheme, PAGERANK_STEPS["edges"])
    if scheme == "eigenvector":
        centrality = centrality + 1e-8
    return _spread(centrality[edges[1]].log())


def feature_weights(x: Features, centrality: Tensor) -> Tensor:
    """How readily each feature is dropped, (F,): from the log of the centrality of the nodes that have it.

    ``x`` (N, F): how much a node has of a feature, which for word counts is 1 or 0. Columns that no node has are left
    out of maximum and mean: the authors' code gets infinities there, and drops every column with probability 0.7.
    """
    total = x.t() @ centrality if isinstance(x, Tensor) else x.csr_t @ centrality
    return _spread(total.log())


def indicator(x: Features) -> Features:
    """1 where a node has a feature, else 0: (N, F) in the same layout."""
    if isinstance(x, Tensor):
        return (x != 0).to(x.dtype)
    csr = x.csr
    return SparseMatrix(csr_from_entries(row_indices(csr), csr.col_indices(), (csr.values() != 0).float(), x.shape))


def node_counts(present: Features) -> Tensor:
    """Number of nodes with each feature (F,), from :func:`indicator`."""
    return present.sum(0) if isinstance(present, Tensor) else present.csr_t @ torch.ones(present.shape[0])


def drop_probabilities(weights: Tensor, p: Probability) -> Tensor:
    """``min(0.7, p * w / mean(w))``, of the shape of ``weights``."""
    if weights.numel() == 0:
        return weights
    return (weights / weights.mean() * p).clamp(max=MOST)


def node_centrality(edges: Tensor, nodes: int, scheme: str, pagerank_steps: int = PAGERANK_STEPS["features"]) -> Tensor:
    """Centrality of each node (N,), float32, from directed edges (2, E) that hold both directions.

    ``ValueError`` for an unknown scheme.
    """
    if scheme not in CENTRALITIES:
        raise ValueError(f"unknown centrality {scheme!r}: choose one of {', '.join(CENTRALITIES)}")
    if scheme == "degree":
        both = torch.unique(torch.cat([edges, edges.flip(0)], dim=1), dim=1)
        return torch.bincount(both[1], minlength=nodes).float()
    return pagerank(edges, nodes, pagerank_steps) if scheme == "pagerank" else eigenvector(edges, nodes)


def pagerank(edges: Tensor, nodes: int, steps: int, damping: float = 0.85) -> Tensor:
    """``x <- (1 - d) x + d sum_{j -> i} x_j / outdegree_j`` from ones, (N,); it sums to N where no node is a sink.

    As in the authors' code: a lazy walk, without PageRank's uniform restart. With many steps it is, on each connected
    part of an undirected graph, proportional to the degree.
    """
    source, target = edges
    share = torch.bincount(source, minlength=nodes).clamp(min=1).float().reciprocal()
    x = torch.ones(nodes, device=edges.device)
    for _ in range(steps):
        x = (1 - damping) * x + damping * torch.zeros_like(x).index_add_(0, target, (x * share)[source])
    return x


def eigenvector(edges: Tensor, nodes: int) -> Tensor:
    """Leading eigenvector of the adjacency, of unit length, (N,) not negative; ones for a graph without edges."""
    if edges.shape[1] == 0:
        return torch.ones(nodes, device=edges.device)
    source, target = edges.cpu().numpy()
    weights = np.ones(len(source))
    adjacency = scipy.sparse.csr_matrix((weights, (target, source)), shape=(nodes, nodes))
    adjacency = ((adjacency + adjacency.T) > 0).astype(float)
    if nodes <= _DENSE_EIGEN:
        leading = np.linalg.eigh(adjacency.toarray())[1][:, -1]
    else:
        leading = scipy.sparse.linalg.eigsh(adjacency, k=1, which="LA", v0=np.ones(nodes))[1][:, 0]
    leading = (leading * np.sign(leading.sum())).clip(min=0)
    return torch.from_numpy(leading / np.linalg.norm(leading)).float().to(edges.device)


def _spread(score: Tensor) -> Tensor:
    """``(max - s) / (max - mean)`` over finite scores, 0 for the others, and all ones where scores do not differ."""
    finite = score.isfinite()
    if not finite.any():
        return torch.ones_like(score)
    most, mean = score[finite].max(), score[finite].mean()
    if most - mean < 1e-6:
        return torch.ones_like(score)
    return torch.where(finite, (most - score) / (most - mean), 0.0)
