"""A graph for LAGNN: features, adjacency, parts, and the pairs that the generator learns from."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retable.cards import DataError
from retable.data.edges import distinct_edges
from retable.evaluate.answers import beside
from retable.nn.scipy_csr import csr_tensor
from retable.nn.sparse import SparseMatrix, combine, row_normalise, sym_normalise
from retable.train.context import Context


class Task:
    """Features x (n, F) in [0, 1], row-normalised ones, A = D^-1/2 (A + I) D^-1/2, labels (n,), nodes of each part."""

    def __init__(self, context: Context) -> None:
        graph, split = context.data()
        nodes, device = len(graph.y), context.device
        x = torch.from_numpy(graph.x.toarray())
        if x.min() < 0:
            raise DataError(f"{graph.name}: features from {x.min():g} on; the generator needs them in 0 to 1")
        x = x / x.max().clamp(min=1)  # PubMed's reach 1.26
        edges = torch.from_numpy(distinct_edges(graph.edge_index, nodes, loops=False, undirected=True))
        self.edges = edges.to(device)
        self.x = x.to(device)
        # Most features of a document are absent: a product with the sparse matrix costs a fraction.
        self._x = graph.x
        self.sparse = self.rows(torch.arange(nodes, device=device))
        self.normalised = self.sparse.csr.to_dense()
        self.adjacency = SparseMatrix(sym_normalise(combine(edges, nodes))).to(device)
        self.y, self.classes = torch.from_numpy(graph.y).to(device), int(graph.y.max()) + 1
        self.nodes = {part: torch.from_numpy(np.flatnonzero(mask)).to(device) for part, mask in vars(split).items()}

    def rows(self, nodes: Tensor) -> SparseMatrix:
        """The row-normalised features (k, F) of some nodes (k,)."""
        return SparseMatrix(row_normalise(csr_tensor(self._x[nodes.cpu().numpy()]))).to(nodes.device)

    def nll(self, log_p: Tensor, part: str) -> Tensor:
        """Mean negative log-likelihood of log P (n, classes) on a part's nodes."""
        return F.nll_loss(log_p[self.nodes[part]], self.y[self.nodes[part]])

    def metrics(self, log_p: Tensor) -> dict[str, float]:
        """Accuracies in percent of log P (n, classes) on validation and test nodes, and what is recorded beside."""
        answers = log_p.argmax(1)
        right = (answers == self.y).double()
        found = {f"{part}_accuracy": 100 * right[self.nodes[part]].mean().item() for part in ("val", "test")}
        return found | beside("test_accuracy", answers[self.nodes["test"]])
