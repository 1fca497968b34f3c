"""Link prediction: how links are split, how pairs without one are drawn, and how a score ranks both.

The protocol of the citation graphs (Kipf and Welling, 2016): a random part of the undirected links is hidden, the model
sees the others, and hidden links are ranked against as many pairs that no link joins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from retable.cards import DataError
from retable.evaluate.ogb import link_evaluator


@dataclass(frozen=True)
class LinkSplit:
    """Undirected links, int64 (2, .) with the smaller node first, and pairs without a link; no pair is in two parts."""

    nodes: int
    train: Tensor
    val: Tensor
    test: Tensor
    val_negatives: Tensor
    test_negatives: Tensor

    @property
    def visible(self) -> Tensor:
        """The training links in both directions (2, 2 E): all that a model may see, at test time too."""
        return torch.cat([self.train, self.train.flip(0)], 1)

    def check(self, edge_index: Tensor) -> None:
        """Raises DataError if a graph (2, E) that a model is given holds a link that it is to predict."""
        hidden = torch.cat([_keys(self.val, self.nodes), _keys(self.test, self.nodes)])
        leaked = int(torch.isin(_keys(edge_index, self.nodes), hidden).sum())
        if leaked:
            raise DataError(f"the input graph holds {leaked} of the links to predict; give it `LinkSplit.visible`")


def split_links(edge_index: Tensor, nodes: int, seed: int, *, val: float = 0.1, test: float = 0.2) -> LinkSplit:
    """Hide shares of the links of an undirected graph (2, E), listed once or twice; self-loops are dropped.

    `seed` alone decides the split. Raises DataError where a part would be empty, or where the graph has not as many
    pairs without a link as are to be drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    links = torch.unique(_keys(edge_index[:, edge_index[0] != edge_index[1]].cpu(), nodes))
    hidden = int(val * len(links)), int(test * len(links))
    if not all(hidden) or sum(hidden) >= len(links):
        raise DataError(f"{len(links)} links cannot be split into {val:.0%} for validation and {test:.0%} for test")
    shuffled = links[torch.randperm(len(links), generator=generator)]
    on_val, on_test, train = shuffled.split([*hidden, len(links) - sum(hidden)])
    drawn = _unlinked(links, nodes, sum(hidden), generator)
    parts = (train, on_val, on_test, *drawn.split(list(hidden)))
    return LinkSplit(nodes, *(torch.stack([part // nodes, part % nodes]) for part in parts))


def unlinked_pairs(edge_index: Tensor, nodes: int, number: int) -> Tensor:
    """Different pairs (2, number) without an edge in the graph (2, E), by torch's global generator of the processor."""
    drawn = _unlinked(torch.unique(_keys(edge_index.cpu(), nodes)), nodes, number, torch.default_generator)
    return torch.stack([drawn // nodes, drawn % nodes]).to(edge_index.device)


def ranking(positive: Tensor, negative: Tensor, ks: tuple[int, ...] = (20, 50, 100)) -> dict[str, float]:
    """Hits@K in percent by OGB's evaluator, and the mean reciprocal rank, of scores (P,) among negatives (Q,).

    Hits@K: the share of links that score above the K-th highest negative; ties miss. A reciprocal rank is taken among
    all negatives, its rank the mean of the best and the worst that ties allow, as OGB's evaluator takes it. A link
    whose score is NaN is last, a negative whose score is NaN first.
    """
    positive, negative = positive.detach().cpu().double(), negative.detach().cpu().double()
    positive = positive.where(~positive.isnan(), -torch.inf)
    negative = negative.where(~negative.isnan(), torch.inf)
    evaluator = link_evaluator()
    found = {}
    for k in ks:
        evaluator.K = k
        scores = evaluator.eval({"y_pred_pos": positive, "y_pred_neg": negative})
        found[f"hits_{k}"] = 100 * float(scores[f"hits@{k}"])
    ordered = negative.sort().values
    above = len(negative) - torch.searchsorted(ordered, positive, right=True)
    not_below = len(negative) - torch.searchsorted(ordered, positive, right=False)
    rank = 0.5 * (above + not_below).double() + 1
    return found | {"mrr": 100 * rank.reciprocal().mean().item()}


def _keys(pairs: Tensor, nodes: int) -> Tensor:
    """One number for each undirected pair (2, P)."""
    return pairs.amin(0) * nodes + pairs.amax(0)


def _unlinked(links: Tensor, nodes: int, number: int, generator: torch.Generator) -> Tensor:
    """Keys of `number` different pairs of different nodes that are not among the keys `links`, in random order."""
    if number > nodes * (nodes - 1) // 2 - len(links):
        raise DataError(f"a graph of {nodes} nodes and {len(links)} links has no {number} pairs without one")
    found = links.new_empty(0)
    while len(found) < number:
        pairs = torch.randint(nodes, (2, 2 * (number - len(found)) + 16), generator=generator)
        keys = _keys(pairs[:, pairs[0] != pairs[1]], nodes)
        fresh = torch.cat([found, keys[~torch.isin(keys, links)]])
        values, first = torch.unique(fresh, return_inverse=True)
        order = torch.full((len(values),), len(fresh)).scatter_reduce(0, first, torch.arange(len(fresh)), "amin")
        found = fresh[order.sort().values]
    return found[:number]
