"""The whole model: an encoder, the iterated implicit layers, a residual connection and a head."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_layers import Features, dropped
from retable.nn.sparse import SparseMatrix

from .implicit import Diffusion, ImplicitLayer, NormName, RegulariserName, regularised

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "elu": F.elu}
Activation = Literal["relu", "elu"]


class Iterations(NamedTuple):
    """Damped steps in all, and how many of them, the last, pass on gradients (phantom gradient)."""

    total: int
    with_gradient: int


class GIND(nn.Module):
    """Logits of nodes, or with `pooled` of graphs, whose node states are summed.

    The "equilibrium" is the state after a fixed number of damped steps from 0, as in the authors' code: the steps are
    no contraction in general. With no iterations it is an MLP, the control.
    """

    def __init__(
        self,
        features: int,
        channels: int,
        classes: int,
        *,
        layers: int,
        alpha: float,
        iterations: Iterations,
        norm: NormName = "LayerNorm",
        double: bool = False,
        rescale: bool = True,
        residual: bool = True,
        regulariser: RegulariserName = "none",
        rate: float = 0.0,
        head_layers: int = 1,
        activation: Activation = "elu",
        drop_input: bool = True,
        dropout: float = 0.0,
        implicit_dropout: float = 0.0,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= iterations.with_gradient <= iterations.total:
            raise ValueError(f"{iterations.with_gradient} steps with gradients of {iterations.total}")
        self.encoder = nn.Linear(features, channels)
        self.layers = nn.ModuleList(
            ImplicitLayer(channels, alpha, norm, double=double, rescale=rescale) for _ in range(layers)
        )
        self.head = nn.ModuleList(nn.Linear(channels, channels) for _ in range(head_layers - 1))
        self.out = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_normal_(self.out.weight)
        self.iterations, self.rescale, self.residual, self.pooled = iterations, rescale, residual, pooled
        self.regulariser, self.rate = regulariser, rate
        self.activation = ACTIVATIONS[activation]
        self.drop_input, self.dropout, self.implicit_dropout = drop_input, dropout, implicit_dropout

    def forward(self, x: Features, graph: Diffusion) -> Tensor:
        """Logits (n, classes) of features (n, F), or (graphs, classes)."""
        h = self.encode(x)
        states = self.states(h, graph)
        return self.classify(graph_sums(states, graph) if self.pooled else states)

    def encode(self, x: Features) -> Tensor:
        """h (n, C)."""
        x = dropped(x, self.dropout, self.training and self.drop_input)
        if isinstance(x, SparseMatrix):
            return x @ self.encoder.weight.T + self.encoder.bias
        return self.encoder(x)

    def states(self, h: Tensor, graph: Diffusion) -> Tensor:
        """Node states (n, C) of encoded input h: the iterated z beside h."""
        if not self.iterations.total:
            return h
        z = self.iterate(h, graph)
        if not self.residual:
            return z
        return graph.s * z + h if self.rescale else z + h

    def iterate(self, h: Tensor, graph: Diffusion, changes: list[float] | None = None) -> Tensor:
        """z (n, C) after all steps; `changes` gets |z_t - z_(t-1)| / |z_t| of each step, largest at 0 for no change."""
        steps = [layer(h, graph, self._mask(h)) for layer in self.layers]
        z = torch.zeros_like(h)
        for number in range(self.iterations.total):
            before = z
            inside = number >= self.iterations.total - self.iterations.with_gradient
            with torch.set_grad_enabled(torch.is_grad_enabled() and inside):
                z = regularised(self.regulariser, z, graph, self.rate)
                for step in steps:
                    z = step(z)
            if changes is not None:
                changes.append(((z - before).norm() / (z.norm() + 1e-12)).item())
        return z

    def classify(self, states: Tensor) -> Tensor:
        """Logits (., classes) of states (., C)."""
        for layer in self.head:
            states = self.activation(layer(states))
        return self.out(F.dropout(states, self.dropout, self.training))

    def _mask(self, h: Tensor) -> Tensor | None:
        """One mask for all iterations (variational dropout)."""
        if not self.training or not self.implicit_dropout:
            return None
        return F.dropout(torch.ones_like(h), self.implicit_dropout)


def graph_sums(states: Tensor, graph: Diffusion) -> Tensor:
    """States (n, C) summed over the nodes of each graph: (graphs, C). ValueError for a graph without memberships."""
    if graph.node_graph is None:
        raise ValueError("pooling needs the graph of each node")
    return states.new_zeros(graph.graphs, states.shape[1]).index_add_(0, graph.node_graph, states)
