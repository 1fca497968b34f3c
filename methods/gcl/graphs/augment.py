"""GraphCL's augmentations (You et al., 2020, https://arxiv.org/abs/2010.13902), for a whole batch at once.

Random choices within each graph are ranks of random keys: no loop over graphs. Keys come from torch's global
stream. Each function takes ``where`` (G,), the graphs to change; the others stay as they are.
"""

from dataclasses import replace

import torch
from torch import Tensor

from retable.nn.graph_batch import GraphBatch

MASK_MEAN, MASK_STD = 0.5, 0.5


def ranks(keys: Tensor, group: Tensor, groups: int) -> Tensor:
    """Rank of each key (M,) among the keys of its group in ascending order, from 0: int64 (M,)."""
    order = torch.argsort(keys, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.bincount(group, minlength=groups)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=keys.device)
    return rank - (counts.cumsum(0) - counts)[group]


def choose_nodes(batch: GraphBatch, ratio: float, where: Tensor) -> Tensor:
    """int(ratio n) of the n nodes of each graph, drawn without replacement: mask (N,)."""
    keys = torch.rand(len(batch.x), device=batch.x.device)
    number = share(batch.sizes, ratio) * where
    return ranks(keys, batch.node_graph, batch.graphs) < number[batch.node_graph]


def share(counts: Tensor, ratio: float) -> Tensor:
    """int(ratio n) for each n, in float64 as Python computes it."""
    return (counts.double() * ratio).long()


def drop_nodes(batch: GraphBatch, ratio: float, where: Tensor) -> Tensor:
    """Edges that survive the loss of int(ratio n) nodes: mask (E,)."""
    return edges_without(batch, choose_nodes(batch, ratio, where))


def edges_without(batch: GraphBatch, dropped: Tensor) -> Tensor:
    """Edges of which neither end is `dropped` (N,): mask (E,)."""
    source, target = batch.edge_index
    return ~(dropped[source] | dropped[target])


def drop_edges(batch: GraphBatch, ratio: float, where: Tensor) -> Tensor:
    """All but int(ratio e) of the e directed edges of each graph, self-loops among them: mask (E,).

    The two directions of a link are drawn apart and no edge is added, as in the authors' code.
    """
    kept = batch.edge_counts - share(batch.edge_counts, ratio) * where
    keys = torch.rand(len(batch.edge_graph), device=batch.x.device)
    return ranks(keys, batch.edge_graph, batch.graphs) < kept[batch.edge_graph]


def subgraph(batch: GraphBatch, target: float, where: Tensor) -> Tensor:
    """Edges within a random node and int(target n) of its neighbours, or all if it has fewer: mask (E,).

    GraphCL describes a random walk; its code, which the paper uses, never leaves the first node's neighbours.
    """
    nodes = len(batch.x)
    source, other = batch.edge_index
    first = ranks(torch.rand(nodes, device=batch.x.device), batch.node_graph, batch.graphs) == 0
    reached = torch.zeros(nodes, dtype=torch.bool, device=batch.x.device)
    reached[other[first[source]]] = True
    # Nodes out of reach rank behind all neighbours.
    keys = torch.rand(nodes, device=batch.x.device) + 2.0 * ~(reached & ~first)
    chosen = ranks(keys, batch.node_graph, batch.graphs) < share(batch.sizes, target)[batch.node_graph]
    kept = first | (chosen & reached) | ~where[batch.node_graph]
    return edges_without(batch, ~kept)


def mask_attributes(batch: GraphBatch, ratio: float, where: Tensor) -> GraphBatch:
    """The features of int(ratio n) nodes of each graph replaced by draws of N(0.5, 0.5^2)."""
    masked = choose_nodes(batch, ratio, where)
    noise = MASK_MEAN + MASK_STD * torch.randn_like(batch.x)
    return replace(batch, x=torch.where(masked[:, None], noise, batch.x))


def add_noise(batch: GraphBatch, variance: float) -> GraphBatch:
    """Gaussian noise of that variance on all features."""
    return replace(batch, x=batch.x + variance**0.5 * torch.randn_like(batch.x))


def shared_uniform_noise(batch: GraphBatch, variance: float) -> GraphBatch:
    """What the authors' code does for noise: sqrt(variance) times U(0, 1); both of its views are this one."""
    return replace(batch, x=batch.x + variance**0.5 * torch.rand_like(batch.x))


def cut(batch: GraphBatch, kept_edges: Tensor) -> GraphBatch:
    """The view that the mask (E,) leaves: nodes without an edge disappear, then self-loops.

    A node that keeps only its self-loop stays. A graph may lose all of its nodes.
    """
    edges = batch.edge_index[:, kept_edges]
    alive = kept_nodes(batch, kept_edges)
    new_index = alive.cumsum(0) - 1
    edges = new_index[edges[:, edges[0] != edges[1]]]
    return GraphBatch(batch.x[alive], edges, batch.node_graph[alive], batch.graphs)


def kept_nodes(batch: GraphBatch, kept_edges: Tensor) -> Tensor:
    """Nodes at an end of a kept edge, self-loops included: mask (N,)."""
    alive = torch.zeros(len(batch.x), dtype=torch.bool, device=batch.x.device)
    alive[batch.edge_index[:, kept_edges].reshape(-1)] = True
    return alive
