"""Speed of a GraphCL epoch with batched augmentation against a Python loop over graphs: what README.md records.

One thread, float32. The graphs are PROTEINS from $RETABLE_MIRROR if that is set, else random ones of the same number
and size; the model and its settings are the authors' for PROTEINS. "Published" follows the authors' code step by step
on torch-geometric: both views built graph by graph in each epoch, then collated, then GINConv. "Loop" is a tidy loop
over graphs in front of our model with its kept first views. They take turns (A B A B) in one process; medians of
processor time, which a busy machine distorts less than wall time.

    python benchmarks/gcl_graph.py       # half a minute on an idle core
"""

import copy
import os
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from interleave import medians
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINConv, global_add_pool

from methods.gcl.graphs.augment import cut, drop_nodes
from methods.gcl.graphs.graphcl import GraphCL
from methods.gcl.losses import graphcl_loss
from methods.gcl.settings import GraphSettings
from retable.cards import load_dataset
from retable.data.fetch import fetch
from retable.data.graph_sets import node_features, simple_edges
from retable.data.load import load
from retable.nn.graph_batch import GraphBatch, batches, with_self_loops

ROOT = Path(__file__).resolve().parents[1]
# PROTEINS
GRAPHS, NODES, LINKS, LABELS = 1113, 39, 73, 3
TAU, RATIO, BATCH = 0.4, 0.1, 128
SETTINGS = GraphSettings(
    method="graphcl",
    loss="contrast",
    encoder="gin",
    trained=True,
    augmentation="drop-nodes",
    ratio=RATIO,
    noise_variance=0.0,
    official_quirks=False,
    hidden=32,
    layers=4,
    tau=TAU,
    lr=0.001,
    epochs=1,
    batch_size=BATCH,
)
ROUNDS = 5


def proteins(mirror: str) -> GraphBatch:
    """The real data set."""
    card = load_dataset(ROOT / "datasets" / "proteins.yaml")
    with tempfile.TemporaryDirectory() as raw:
        fetch(card, Path(raw), mirror)
        graphs, _ = load(card, None, Path(raw))
    x = torch.from_numpy(node_features(graphs, attributes=False))
    edges, node_graph = (torch.from_numpy(part) for part in (simple_edges(graphs), graphs.node_graph))
    return GraphBatch(x, edges, node_graph, len(graphs.y))


def like_proteins() -> GraphBatch:
    """Random graphs of PROTEINS' number and mean size."""
    generator = np.random.default_rng(0)
    edges = []
    for graph in range(GRAPHS):
        ends = generator.integers(NODES, size=(2, LINKS)) + graph * NODES
        ends = ends[:, ends[0] != ends[1]]
        edges.append(np.unique(np.concatenate([ends, ends[::-1]], axis=1), axis=1))
    nodes = GRAPHS * NODES
    x = torch.from_numpy(np.eye(LABELS, dtype=np.float32)[generator.integers(LABELS, size=nodes)])
    node_graph = torch.arange(nodes) // NODES
    return GraphBatch(x, torch.from_numpy(np.concatenate(edges, axis=1)), node_graph, GRAPHS)


# The alternatives -----------------------------------------------------------------------------------------------------


def batched_view(batch: GraphBatch) -> GraphBatch:
    """Ours: one set of masks for the whole batch."""
    return cut(batch, drop_nodes(batch, RATIO, torch.ones(batch.graphs, dtype=torch.bool)))


def split(batch: GraphBatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Features and local edges of each graph."""
    graphs = []
    for graph in range(batch.graphs):
        nodes = (batch.node_graph == graph).nonzero().squeeze(1)
        graphs.append((batch.x[nodes], batch.edge_index[:, batch.edge_graph == graph] - int(nodes[0])))
    return graphs


class Published:
    """The authors' procedure: per graph self-loops, a copy and a dense matrix; then a search for what is left."""

    def __init__(self, batches: list[GraphBatch]) -> None:
        self.batches = [[Data(x=x, edge_index=e[:, e[0] != e[1]]) for x, e in split(batch)] for batch in batches]
        self.rng = np.random.default_rng(0)

    def views(self, graphs: list[Data]) -> tuple[Batch, Batch]:
        """Both views of a batch, collated."""
        pairs = [self.access(graph) for graph in graphs]
        first, second = (Batch.from_data_list(list(view)) for view in zip(*pairs, strict=True))
        source, target = second.edge_index.numpy()
        alive = [node for node in range(len(first.x)) if node in source or node in target]
        place = {node: number for number, node in enumerate(alive)}
        kept = [[place[a], place[b]] for a, b in zip(source, target, strict=True) if a != b]
        second.x, second.batch = second.x[alive], second.batch[alive]
        second.edge_index = torch.tensor(kept).T
        return first, second

    def access(self, graph: Data) -> tuple[Data, Data]:
        """A graph with self-loops, and a copy without the edges of int(ratio n) nodes."""
        loops = torch.tensor([[n, n] for n in range(int(graph.edge_index.max()))]).T
        first = Data(x=graph.x, edge_index=torch.cat([graph.edge_index, loops], dim=1))
        second, nodes = copy.deepcopy(first), len(first.x)
        dropped = self.rng.permutation(nodes)[: int(RATIO * nodes)]
        adjacency = torch.zeros(nodes, nodes)
        adjacency[second.edge_index[0], second.edge_index[1]] = 1
        adjacency[dropped, :] = 0
        adjacency[:, dropped] = 0
        second.edge_index = adjacency.nonzero().T
        return first, second


class PublishedModel(nn.Module):
    """GraphCL on torch-geometric's layers."""

    def __init__(self, features: int) -> None:
        super().__init__()
        ours = GraphCL(features, SETTINGS)
        self.convs = nn.ModuleList(GINConv(conv.nn) for conv in ours.encoder.convs)
        self.bns, self.proj_head = ours.encoder.bns, ours.proj_head

    def forward(self, batch: Batch, graphs: int) -> torch.Tensor:
        h, pooled = batch.x, []
        for conv, norm in zip(self.convs, self.bns, strict=True):
            h = norm(conv(h, batch.edge_index).relu())
            pooled.append(global_add_pool(h, batch.batch, graphs))
        return self.proj_head(torch.cat(pooled, dim=1))


class LoopedView:
    """The same graph by graph without the matrix and the search: sample, filter, renumber, collate."""

    def __init__(self, batch: GraphBatch) -> None:
        self.graphs = split(batch)

    def __call__(self) -> GraphBatch:
        xs, edges, owners, offset = [], [], [], 0
        for number, (x, pairs) in enumerate(self.graphs):
            dropped = torch.tensor(random.sample(range(len(x)), int(RATIO * len(x))), dtype=torch.long)
            keep = torch.ones(len(x), dtype=torch.bool)
            keep[dropped] = False
            pairs = pairs[:, keep[pairs[0]] & keep[pairs[1]]]
            alive = sorted(set(pairs.reshape(-1).tolist()))
            place = {node: number for number, node in enumerate(alive)}
            renumbered = [(place[a], place[b]) for a, b in pairs.T.tolist() if a != b]
            xs.append(x[alive])
            edges.append(torch.tensor(renumbered, dtype=torch.long).reshape(-1, 2).T + offset)
            owners.append(torch.full((len(alive),), number))
            offset += len(alive)
        return GraphBatch(torch.cat(xs), torch.cat(edges, dim=1), torch.cat(owners), len(self.graphs))


# Measuring ------------------------------------------------------------------------------------------------------------


def epoch(model: GraphCL, firsts: list[GraphBatch], views: list[Callable[[], GraphBatch]]) -> None:
    """One training epoch over collated first views and freshly made second ones."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for first, view in zip(firsts, views, strict=True):
        step(optimiser, model.contrast(first, view()))


def published_epoch(model: PublishedModel, data: Published) -> None:
    """One training epoch as the authors' code has it."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for graphs in data.batches:
        first, second = data.views(graphs)
        projections = model(first, len(graphs)), model(second, len(graphs))
        step(optimiser, graphcl_loss(*projections, TAU))


def step(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step of training."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def collate_all(whole: GraphBatch, order: torch.Tensor) -> list[GraphBatch]:
    """All first views of an epoch."""
    return list(batches(whole, order, BATCH))


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mirror = os.environ.get("RETABLE_MIRROR")
    whole = with_self_loops(proteins(mirror) if mirror else like_proteins())
    order = torch.randperm(whole.graphs)
    firsts = collate_all(whole, order)
    published, loop = Published(firsts), [LoopedView(first) for first in firsts]
    ours = [partial(batched_view, first) for first in firsts]
    model = GraphCL(whole.x.shape[1], SETTINGS)
    published_model = PublishedModel(whole.x.shape[1])

    views = {
        "published": lambda: [published.views(graphs) for graphs in published.batches],
        "loop": lambda: [view() for view in loop],
        "ours": lambda: [view() for view in ours],
    }
    epochs = {
        "published": partial(published_epoch, published_model, published),
        "loop": partial(epoch, model, firsts, loop),
        "ours": partial(epoch, model, firsts, ours),
    }
    source = "PROTEINS" if mirror else "random graphs"
    print(f"{source}: {whole.graphs} graphs, {len(whole.x)} nodes, torch {torch.__version__}")
    print("| what | published, s | loop, s | ours, s | published / ours | loop / ours |\n|---|---|---|---|---|---|")
    for title, alternatives in {"views of an epoch": views, "training epoch of GraphCL": epochs}.items():
        times = medians(alternatives, ROUNDS)
        cells = [f"{milliseconds / 1e3:.3f}" for milliseconds in times.values()]
        cells += [f"{times[name] / times['ours']:.1f}" for name in ("published", "loop")]
        print(f"| {title} | {' | '.join(cells)} |")
    times = medians({"collate": lambda: collate_all(whole, order)}, ROUNDS)
    print(f"collating an epoch's first views takes {times['collate']:.0f} ms, once: they are kept")


if __name__ == "__main__":
    main()
