"""Which neighbours two nodes share, and which only one of them has, for many pairs at once; no n x n array.

Time and memory grow with the pairs' numbers of neighbours.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Members(NamedTuple):
    """Nodes in sets that belong to pairs: `node` (M,) is in the set of pair number `pair` (M,), ascending."""

    pair: Tensor
    node: Tensor


class Overlap(NamedTuple):
    """Of pairs (i, j): N(i) and N(j), N(i) without N(j), N(j) without N(i)."""

    common: Members
    left: Members
    right: Members


class Neighbours:
    """The neighbours of each of `nodes` nodes of an undirected graph, whose edges (2, E) list both directions.

    Duplicates count once. ValueError for nodes outside 0 .. nodes - 1.
    """

    def __init__(self, edge_index: Tensor, nodes: int) -> None:
        if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < nodes:
            raise ValueError(f"edges name nodes outside 0 .. {nodes - 1}")
        self._keep(torch.unique(edge_index[0] * nodes + edge_index[1]), nodes)

    def _keep(self, keys: Tensor, nodes: int) -> None:
        """Take source * nodes + target of each edge, sorted and without duplicates."""
        self.nodes, self._keys, self._columns = nodes, keys, keys % nodes
        self.degree = torch.bincount(keys // nodes, minlength=nodes)
        self._first = self.degree.cumsum(0) - self.degree

    @property
    def edge_index(self) -> Tensor:
        """Each edge once in each direction, int64 (2, E), by source, then target."""
        return torch.stack([self._keys // self.nodes, self._columns])

    def without(self, pairs: Tensor) -> "Neighbours":
        """The graph without the edges between pairs (2, P), in both directions."""
        gone = torch.cat([pairs[0] * self.nodes + pairs[1], pairs[1] * self.nodes + pairs[0]])
        return self._with(self._keys[~torch.isin(self._keys, gone)])

    def thinned(self, rate: float) -> "Neighbours":
        """The graph with each directed edge left out with probability `rate` (torch's global generator)."""
        keep = torch.rand(len(self._keys), device=self._keys.device) >= rate
        return self._with(self._keys[keep])

    def common(self, pairs: Tensor) -> Members:
        """The common neighbours of pairs (2, P), looked up from the node of each pair that has fewer."""
        fewer = self.degree[pairs[0]] <= self.degree[pairs[1]]
        owner, other = torch.where(fewer, pairs, pairs.flip(0))
        return _pick(*self._members(owner, other))

    def overlap(self, pairs: Tensor) -> Overlap:
        """Of pairs (2, P); the neighbours of i are all common in a pair (i, i)."""
        of_left, in_right = self._members(pairs[0], pairs[1])
        of_right, in_left = self._members(pairs[1], pairs[0])
        return Overlap(_pick(of_left, in_right), _pick(of_left, ~in_right), _pick(of_right, ~in_left))

    def _members(self, owner: Tensor, other: Tensor) -> tuple[Members, Tensor]:
        """The neighbours of each `owner` (P,), and whether each is one of its `other` as well."""
        counts = self.degree[owner]
        pair = torch.repeat_interleave(torch.arange(len(owner), device=owner.device), counts)
        offset = torch.arange(len(pair), device=owner.device) - (counts.cumsum(0) - counts)[pair]
        node = self._columns[self._first[owner][pair] + offset]
        wanted = other[pair] * self.nodes + node
        place = torch.searchsorted(self._keys, wanted).clamp(max=max(len(self._keys) - 1, 0))
        return Members(pair, node), self._keys[place] == wanted if len(node) else wanted.bool()

    def _with(self, keys: Tensor) -> "Neighbours":
        graph = object.__new__(Neighbours)
        graph._keep(keys, self.nodes)
        return graph


def _pick(members: Members, chosen: Tensor) -> Members:
    return Members(members.pair[chosen], members.node[chosen])
