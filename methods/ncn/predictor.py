"""NCN and NCNC: the states of the common neighbours of two nodes are pooled to score a link between them.

For a pair (i, j) with node states x (n, d), x~ = x + xlin(x) and MLPs f, g, h (paper, sections 4 and 5):

    GAE   h(g(x_i * x_j))
    NCN   h(beta f(sum of x~_u, u in N(i) and N(j)) + g(x_i * x_j))
    NCNC  as NCN, with u in N(i) alone added with weight P(j, u), and u in N(j) alone with P(i, u)

P(a, u) is the probability that a link between a and u is missing: alpha pt p / (pt p + 1 - p) of
p = sigmoid(scale (l - offset)), where l is the logit of the same predictor one depth lower (NCN at depth 0), without a
gradient. As the authors code it, that inner pass takes x~ in place of x, so xlin is applied twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .overlap import Members, Neighbours


@dataclass(frozen=True)
class Completion:
    """How NCNC turns a logit into the weight of a neighbour that only one node of a pair has."""

    depth: int = 1
    alpha: float = 1.0
    scale: float = 5.0
    offset: float = 3.0
    pt: float = 0.5

    def weight(self, logits: Tensor) -> Tensor:
        """Of logits (M,): (M,), from 0 to alpha."""
        p = torch.sigmoid(self.scale * (logits - self.offset))
        return self.alpha * self.pt * p / (self.pt * p + 1 - p)


class Predictor(nn.Module):
    """Logits of links. `common` False is GAE, which sees no neighbours; `completion` makes NCN an NCNC.

    `tail`: the MLPs of pooled states and products end with an activation; else with a linear layer. `two_layers`: a
    hidden layer more before the logit. `edge_dropout` is the share of edges that each look at the neighbours misses in
    training.
    """

    def __init__(
        self,
        dim: int,
        *,
        common: bool = True,
        completion: Completion | None = None,
        xlin: bool = True,
        tail: bool = True,
        layer_norm: bool = True,
        two_layers: bool = False,
        beta: float = 1.0,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.LayerNorm(dim) if layer_norm else nn.Identity()

        def active() -> list[nn.Module]:
            return [nn.Dropout(dropout), nn.ReLU()]

        def last() -> nn.Module:
            return nn.Identity() if tail else nn.Linear(dim, dim)

        def linear() -> nn.Module:
            return nn.Linear(dim, dim)

        hidden = [linear(), norm(), *active()] if two_layers else [nn.Identity()] * 4
        self.beta = nn.Parameter(torch.tensor([beta]))
        self.xlin = nn.Sequential(linear(), *active(), linear(), norm(), *active()) if xlin else None
        self.xcnlin = nn.Sequential(linear(), *active(), linear(), norm(), *active(), last())
        self.xijlin = nn.Sequential(linear(), norm(), *active(), last())
        self.lin = nn.Sequential(linear(), norm(), *active(), *hidden, nn.Linear(dim, 1))
        self.common, self.completion, self.edge_dropout = common, completion, edge_dropout

    def forward(self, x: Tensor, graph: Neighbours, pairs: Tensor, depth: int | None = None) -> Tensor:
        """Logits (P,) of pairs (2, P) from node states (n, d)."""
        product = self.xijlin(x[pairs[0]] * x[pairs[1]])
        if not self.common:
            return self.lin(product)[:, 0]
        if depth is None:
            depth = self.completion.depth if self.completion else 0
        states = x if self.xlin is None else x + self.xlin(x)
        seen = graph.thinned(self.edge_dropout) if self.training and self.edge_dropout else graph
        if not self.completion or not depth:
            pooled = _pool(states, seen.common(pairs), pairs.shape[1])
        else:
            overlap = seen.overlap(pairs)
            pooled = _pool(states, overlap.common, pairs.shape[1])
            for alone, other in ((overlap.left, pairs[1]), (overlap.right, pairs[0])):
                with torch.no_grad():
                    candidates = torch.stack([other[alone.pair], alone.node])
                    weight = self.completion.weight(self(states, graph, candidates, depth - 1))
                pooled = pooled + _pool(states, alone, pairs.shape[1], weight)
        return self.lin(self.beta * self.xcnlin(pooled) + product)[:, 0]


def _pool(states: Tensor, members: Members, pairs: int, weight: Tensor | None = None) -> Tensor:
    """Sum of the members' states (n, d) for each pair (P, d), each times its weight (M,)."""
    rows = states[members.node] if weight is None else weight[:, None] * states[members.node]
    return states.new_zeros(pairs, states.shape[1]).index_add_(0, members.pair, rows)


def link_loss(logits: Callable[[Tensor], Tensor], positive: Tensor, negative: Tensor) -> Tensor:
    """mean -log sigmoid(l) over linked pairs (2, P) plus mean -log sigmoid(-l) over others (2, Q)."""
    return -F.logsigmoid(logits(positive)).mean() - F.logsigmoid(-logits(negative)).mean()
