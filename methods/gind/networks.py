"""GIND and its controls as the settings describe them, with the two learning rates of the authors' optimiser."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_layers import Features, GraphConvolution, dropped
from retable.nn.sparse import SparseMatrix, csr_from_entries, sym_normalise

from .implicit import Diffusion
from .model import GIND, Iterations, graph_sums
from .settings import GraphSettings, ModelSettings, NodeSettings


class GCN(nn.Module):
    """Two graph convolutions of the control, with the symmetric normalisation of A + I; pooled before the last one."""

    def __init__(self, features: int, channels: int, classes: int, *, dropout: float, pooled: bool) -> None:
        super().__init__()
        self.first, self.dropout, self.pooled = GraphConvolution(features, channels), dropout, pooled
        self.second = GraphConvolution(channels, channels if pooled else classes)
        self.out = nn.Linear(channels, classes) if pooled else nn.Identity()

    def forward(self, x: Features, graph: Diffusion) -> Tensor:
        """Logits (n, classes) of features (n, F), or (graphs, classes)."""
        matrix = self._propagation(graph)
        hidden = torch.relu(self.first(dropped(x, self.dropout, self.training), matrix))
        states = self.second(F.dropout(hidden, self.dropout, self.training), matrix)
        return self.out(graph_sums(torch.relu(states), graph)) if self.pooled else states

    @staticmethod
    def _propagation(graph: Diffusion) -> SparseMatrix:
        if graph.propagation is None:
            nodes = torch.arange(len(graph.s), device=graph.s.device)
            rows, cols = torch.cat([graph.edge_index, torch.stack([nodes, nodes])], 1)
            ones = torch.ones(len(rows), device=rows.device)
            graph.propagation = SparseMatrix(
                sym_normalise(csr_from_entries(rows, cols, ones, (len(nodes), len(nodes))))
            )
        return graph.propagation


def make_model(s: ModelSettings, features: int, classes: int) -> GIND | GCN:
    """The untrained network; its weights come from torch's global stream.

    "explicit" has GIND's parameters and applies its layers once, undamped; "mlp" does not apply them.
    """
    pooled = isinstance(s, GraphSettings)
    if s.method == "gcn":
        return GCN(features, s.channels, classes, dropout=s.dropout, pooled=pooled)
    iterations = {
        "gind": Iterations(s.steps, s.gradient_steps),
        "explicit": Iterations(1, 1),
        "mlp": Iterations(0, 0),
    }[s.method]
    regulariser = s.regulariser if isinstance(s, NodeSettings) and s.method == "gind" else "none"
    return GIND(
        features,
        s.channels,
        classes,
        layers=s.layers,
        alpha=1.0 if s.method == "explicit" else s.alpha,
        iterations=iterations,
        norm="InstanceNorm" if pooled else "LayerNorm",
        double=s.double,
        rescale=s.rescale,
        regulariser=regulariser,
        rate=s.regulariser_rate if isinstance(s, NodeSettings) else 0.0,
        head_layers=2 if pooled else 1,
        dropout=s.dropout,
        implicit_dropout=s.implicit_dropout,
        pooled=pooled,
    )


def make_optimiser(model: nn.Module, s: ModelSettings) -> torch.optim.Optimizer:
    """Adam with one learning rate for the implicit layers and one for encoder and head, kept as `peak_lr`."""
    implicit = list(model.layers.parameters()) if isinstance(model, GIND) and s.method != "mlp" else []
    known = {id(parameter) for parameter in implicit}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": others, "lr": s.lr, "peak_lr": s.lr, "weight_decay": s.weight_decay}]
    if implicit:
        rates = {"lr": s.implicit_lr, "peak_lr": s.implicit_lr, "weight_decay": s.implicit_weight_decay}
        groups.append({"params": implicit, **rates})
    return torch.optim.Adam(groups)
