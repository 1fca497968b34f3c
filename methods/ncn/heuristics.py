"""Scores of pairs that need no training: what is known of their neighbours (Liben-Nowell and Kleinberg, 2003)."""

from collections.abc import Callable

import torch
from torch import Tensor

from .overlap import Neighbours


def _over_common(graph: Neighbours, pairs: Tensor, weight: Tensor) -> Tensor:
    """Sum of the weights (n,) of the common neighbours of each pair: (P,)."""
    common = graph.common(pairs)
    return weight.new_zeros(pairs.shape[1]).index_add_(0, common.pair, weight[common.node])


def common_neighbours(graph: Neighbours, pairs: Tensor) -> Tensor:
    """How many neighbours each pair (2, P) shares: (P,)."""
    return _over_common(graph, pairs, torch.ones(graph.nodes, dtype=torch.float64, device=pairs.device))


def adamic_adar(graph: Neighbours, pairs: Tensor) -> Tensor:
    """Sum of 1 / log(degree) over common neighbours, all of which have two neighbours at least: (P,)."""
    return _over_common(graph, pairs, 1 / graph.degree.clamp(min=2).double().log())


def resource_allocation(graph: Neighbours, pairs: Tensor) -> Tensor:
    """Sum of 1 / degree over common neighbours: (P,)."""
    return _over_common(graph, pairs, 1 / graph.degree.clamp(min=1).double())


def degree_product(graph: Neighbours, pairs: Tensor) -> Tensor:
    """Product of the degrees (preferential attachment): (P,)."""
    return graph.degree[pairs].double().prod(0)


HEURISTICS: dict[str, Callable[[Neighbours, Tensor], Tensor]] = {
    "common-neighbours": common_neighbours,
    "adamic-adar": adamic_adar,
    "resource-allocation": resource_allocation,
    "degree-product": degree_product,
}
