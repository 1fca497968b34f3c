"""Speed of an InfoGraph step that scores alike nodes once against one that scores all: what README.md records.

One thread, float32, 128 graphs of MUTAG, PTC_MR and IMDB-BINARY from $RETABLE_MIRROR, at the depth and width of the
authors' widest settings for each (on IMDB-BINARY a quarter of the width, whose heads would take gigabytes). Forward and
backward pass, without the optimiser. The two take turns (A B A B) in one process; medians of processor time, which a
busy machine distorts less than wall time. Loss and gradients of both agree, which is checked.

    RETABLE_MIRROR=... python benchmarks/gcl_infograph.py   # of all, or of those named; a minute on an idle core
"""

import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from interleave import medians, run_parts
from torch import Tensor

from methods.gcl.graphs.infograph import InfoGraph
from methods.gcl.losses import infograph_loss
from methods.gcl.settings import GraphSettings
from retable.cards import load_dataset
from retable.data.fetch import fetch
from retable.data.graph_sets import node_features, simple_edges
from retable.data.load import load
from retable.nn.graph_batch import GraphBatch, select_graphs, wl_classes

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"mutag": (512, 4), "ptc-mr": (512, 8), "imdb-binary": (128, 12)}
GRAPHS, ROUNDS = 128, 3


def first_batch(name: str, mirror: str) -> GraphBatch:
    """The first graphs of a real data set."""
    card = load_dataset(ROOT / "datasets" / f"{name}.yaml")
    with tempfile.TemporaryDirectory() as raw:
        fetch(card, Path(raw), mirror)
        graphs, _ = load(card, None, Path(raw))
    x = node_features(graphs, attributes=False)
    x = np.ones((len(graphs.node_graph), 1), dtype=np.float32) if x is None else x
    edges, node_graph = (torch.from_numpy(part) for part in (simple_edges(graphs), graphs.node_graph))
    whole = GraphBatch(torch.from_numpy(x), edges, node_graph, len(graphs.y))
    return select_graphs(whole, torch.arange(GRAPHS))


def settings(width: int, layers: int) -> GraphSettings:
    """Those of InfoGraph; only width and depth matter here."""
    return GraphSettings(
        method="infograph",
        loss="contrast",
        encoder="gin",
        trained=True,
        augmentation="drop-nodes",
        ratio=0.1,
        noise_variance=0.0,
        official_quirks=False,
        hidden=width,
        layers=layers,
        tau=0.5,
        lr=0.001,
        epochs=1,
        batch_size=128,
    )


def all_nodes(model: InfoGraph, batch: GraphBatch) -> Tensor:
    """The loss as it is written: the head over every node."""
    pooled, layers = model.encoder(batch)
    local = model.local_head(torch.cat(layers, dim=1))
    return infograph_loss(local, model.global_head(pooled), batch.node_graph, "contrast")


def gradients(model: InfoGraph, loss: Tensor) -> list[Tensor]:
    """Those of all parameters."""
    return list(torch.autograd.grad(loss, list(model.parameters())))


def check(batch: GraphBatch, layers: int) -> None:
    """Both ways give the same loss and gradients, in float64: deep sums leave float32 few digits."""
    batch = replace(batch, x=batch.x.double())
    model = InfoGraph(batch.x.shape[1], settings(16, layers)).double()
    once, every = model.loss(batch), all_nodes(model, batch)
    torch.testing.assert_close(once, every)
    expected = gradients(model, every)
    largest = max(float(part.abs().max()) for part in expected)
    for a, b in zip(gradients(model, once), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-10 * largest)


def compare(name: str, mirror: str) -> None:
    """One row: both ways of a step on one data set."""
    torch.manual_seed(0)
    batch, (width, layers) = first_batch(name, mirror), SIZES[name]
    check(batch, layers)
    model = InfoGraph(batch.x.shape[1], settings(width, layers))
    times = medians(
        {
            "every": lambda: gradients(model, all_nodes(model, batch)),
            "once": lambda: gradients(model, model.loss(batch)),
        },
        ROUNDS,
    )
    nodes, kinds = len(batch.x), len(wl_classes(batch, layers)[0])
    what = f"InfoGraph step, {name}, width {width}, {layers} layers, {kinds} of {nodes} nodes scored"
    every, once = times["every"] / 1e3, times["once"] / 1e3
    print(f"| {what} | {every:.2f} s | {once:.2f} s | {every / once:.1f} |")


if __name__ == "__main__":
    mirror = os.environ.get("RETABLE_MIRROR") or sys.exit("set RETABLE_MIRROR to a folder with the real data")
    parts = {name: partial(compare, name, mirror) for name in SIZES}
    run_parts(parts, "| what | every node | alike nodes once | ratio |")
