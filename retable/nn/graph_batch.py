"""Many graphs as one, as PyG's Batch, vectorised: collated once and without a loop over graphs."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from retable.nn.sparse import SparseMatrix, csr_from_entries


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """G graphs with N nodes and E directed edges in all.

    x: (N, F). edge_index: (2, E), source over target, rows of x. node_graph: (N,), the graph of each node,
    ascending. A graph may have no edges, and no nodes in an augmented view.
    """

    x: Tensor
    edge_index: Tensor
    node_graph: Tensor
    graphs: int

    @cached_property
    def neighbourhood(self) -> SparseMatrix:
        """(N, N): identity plus the number of edges into the row's node from the column's node."""
        source, target = self.edge_index
        nodes = torch.arange(len(self.x), device=self.x.device)
        rows, columns = torch.cat([target, nodes]), torch.cat([source, nodes])
        ones = torch.ones(len(rows), dtype=self.x.dtype, device=self.x.device)
        return SparseMatrix(csr_from_entries(rows, columns, ones, (len(nodes), len(nodes))))

    @cached_property
    def membership(self) -> SparseMatrix:
        """(G, N) with 1 where the node is the graph's: ``membership @ h`` sums h (N, d) over each graph."""
        nodes = torch.arange(len(self.x), device=self.x.device)
        ones = torch.ones(len(nodes), dtype=self.x.dtype, device=self.x.device)
        return SparseMatrix(csr_from_entries(self.node_graph, nodes, ones, (self.graphs, len(nodes))))

    @cached_property
    def sizes(self) -> Tensor:
        """Nodes of each graph: (G,)."""
        return torch.bincount(self.node_graph, minlength=self.graphs)

    @cached_property
    def edge_graph(self) -> Tensor:
        """The graph of each edge: (E,)."""
        return self.node_graph[self.edge_index[0]]

    @cached_property
    def edge_counts(self) -> Tensor:
        """Directed edges of each graph: (G,)."""
        return torch.bincount(self.edge_graph, minlength=self.graphs)

    @cached_property
    def edges_by_graph(self) -> Tensor:
        """Indices of the edges, graph by graph: (E,)."""
        return torch.argsort(self.edge_graph, stable=True)

    @cached_property
    def starts(self) -> Tensor:
        """The row of x of each graph's first node: (G,)."""
        return self.sizes.cumsum(0) - self.sizes

    def to(self, device: torch.device) -> "GraphBatch":
        """Copy on another device."""
        x, edges, graph = (part.to(device) for part in (self.x, self.edge_index, self.node_graph))
        return replace(self, x=x, edge_index=edges, node_graph=graph)


def with_self_loops(batch: GraphBatch) -> GraphBatch:
    """Each graph with a self-loop on every node but the last that has an edge and those after it.

    The authors' data access does this (nodes 0 to max(edge_index) - 1), so their encoder counts a node twice,
    except for the last one. A graph without edges gets none.
    """
    source, target = batch.edge_index
    last = torch.full((batch.graphs,), -1, dtype=torch.long, device=source.device)
    last.scatter_reduce_(0, batch.edge_graph, torch.maximum(source, target), "amax")
    nodes = torch.arange(len(batch.x), device=source.device)
    looped = nodes[nodes < last[batch.node_graph]]
    edges = torch.cat([batch.edge_index, looped.expand(2, -1)], dim=1)
    return replace(batch, edge_index=edges)


def wl_classes(batch: GraphBatch, layers: int) -> tuple[Tensor, Tensor]:
    """Classes of nodes that get identical embeddings from `layers` layers of message passing, whatever the weights.

    Colour refinement: a node's class is that of its features first, then, once a layer, its own class with those of
    its neighbours (Weisfeiler and Leman, 1968). Returns one node of each class (C,) and the class of each node (N,).
    Classes are hashed to sums of 63-bit random numbers: two of C collide with a probability of C^2 / 2^63.
    """
    device, nodes = batch.x.device, len(batch.x)
    source, target = batch.edge_index
    numbers = torch.Generator().manual_seed(0)
    kind = torch.unique(batch.x, dim=0, return_inverse=True)[1]
    for _ in range(layers):
        own, sent = torch.randint(2**63 - 1, (2, nodes), generator=numbers).to(device)
        mark = own[kind].index_add(0, target, sent[kind][source])
        kind = torch.unique(mark, return_inverse=True)[1]
    indices = torch.arange(nodes, device=device)
    first = kind.new_full((int(kind.max()) + 1,), nodes).scatter_reduce(0, kind, indices, "amin")
    return first, kind


def select_graphs(batch: GraphBatch, chosen: Tensor) -> GraphBatch:
    """The graphs `chosen` (B,) in that order as a batch of their own."""
    node_indices, node_graph = _segments(batch.starts, batch.sizes, chosen)
    counts = batch.edge_counts
    edge_indices, edge_graph = _segments(counts.cumsum(0) - counts, counts, chosen)
    shift = batch.sizes[chosen].cumsum(0) - batch.sizes[chosen] - batch.starts[chosen]
    edges = batch.edge_index[:, batch.edges_by_graph[edge_indices]] + shift[edge_graph]
    return GraphBatch(batch.x[node_indices], edges, node_graph, len(chosen))


def batches(batch: GraphBatch, order: Tensor, size: int) -> Iterator[GraphBatch]:
    """Cut a set of graphs into batches of `size` graphs, in the given order (G,).

    A last batch of one graph, which would have no negatives, joins the one before it. Raises ValueError for a
    set of one graph.
    """
    if len(order) < 2:
        raise ValueError(f"contrasting graphs needs two of them, this set has {len(order)}")
    ends = list(range(size, len(order), size)) if size > 1 else list(range(2, len(order), 2))
    if ends and len(order) - ends[-1] == 1:
        ends.pop()
    for start, end in itertools.pairwise([0, *ends, len(order)]):
        yield select_graphs(batch, order[start:end])


def _segments(starts: Tensor, sizes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the chosen segments' members, one after the other, and the number of the segment of each."""
    lengths = sizes[chosen]
    owner = torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), lengths)
    first = lengths.cumsum(0) - lengths
    offset = torch.arange(len(owner), device=chosen.device) - first[owner]
    return starts[chosen][owner] + offset, owner
