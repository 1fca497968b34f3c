"""Our graph layers beside torch-geometric's with the same weights: what README.md records.

One thread, float32, a random graph of Cora's size, no download; the alternatives take turns.

    python benchmarks/layers.py                          # all; a minute on an idle core
    python benchmarks/layers.py convolution attention    # some of: convolution, attention
"""

from collections.abc import Callable

import torch
from interleave import medians, run_parts
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv

from retable.nn.graph_layers import GraphAttention, GraphConvolution
from retable.nn.sparse import SparseMatrix, combine, row_indices, sym_normalise

NODES, FEATURES, HIDDEN, LINKS = 2708, 1433, 64, 5278
ROUNDS = 15


def graph() -> tuple[SparseMatrix, Tensor]:
    """The propagation matrix, and its entries as torch-geometric takes them, self-loops included."""
    links = torch.randint(NODES, (2, LINKS), generator=torch.Generator().manual_seed(0))
    links = links[:, links[0] != links[1]]
    propagation = SparseMatrix(sym_normalise(combine(torch.cat([links, links.flip(0)], 1).unique(dim=1), NODES)))
    csr = propagation.csr
    return propagation, torch.stack([csr.col_indices(), row_indices(csr)])


def step(layer: nn.Module, x: Tensor, *rest: object) -> Callable[[], None]:
    """Forward and backward."""

    def run() -> None:
        layer.zero_grad()
        layer(x, *rest).square().sum().backward()

    return run


def table(name: str, ours: nn.Module, theirs: nn.Module, cached: nn.Module | None = None) -> None:
    """A line: torch-geometric's layer, ours, and the ratio."""
    x = torch.randn(NODES, FEATURES, generator=torch.Generator().manual_seed(1))
    propagation, edges = graph()
    alternatives = {"theirs": step(theirs, x, edges), "ours": step(ours, x, propagation)}
    if cached is not None:
        alternatives["cached"] = step(cached, x, edges)
    times = medians(alternatives, ROUNDS)
    fastest = min(value for key, value in times.items() if key != "ours")
    shown = "" if cached is None else f"{times['cached']:.1f} ms"
    print(f"| {name} | {times['theirs']:.1f} ms | {shown} | {times['ours']:.1f} ms | {fastest / times['ours']:.2f} |")


def convolution() -> None:
    """Normalised propagation of a linear map; torch-geometric may keep the normalisation."""
    theirs = GCNConv(FEATURES, HIDDEN, add_self_loops=False)
    cached = GCNConv(FEATURES, HIDDEN, add_self_loops=False, cached=True)
    table("graph convolution", GraphConvolution(FEATURES, HIDDEN), theirs, cached)


def attention() -> None:
    """Eight heads, in evaluation mode: no dropout."""
    ours = GraphAttention(FEATURES, HIDDEN, heads=8).eval()
    theirs = GATConv(FEATURES, HIDDEN // 8, heads=8, add_self_loops=False, bias=False).eval()
    table("graph attention, 8 heads", ours, theirs)


if __name__ == "__main__":
    head = "| layer, forward and backward | PyG | PyG, cached | ours | PyG / ours |"
    run_parts({"convolution": convolution, "attention": attention}, head)
