"""Speed and memory of the ContraNorm layer against the obvious dense formulation: what README.md records.

One thread, float32, random graphs with as many links per node as Cora, no download. Alternatives take turns (A B A B)
in one process; medians of processor time, which a busy machine distorts less than wall time.

    python benchmarks/contranorm.py              # all; about 5 minutes on an idle core
    python benchmarks/contranorm.py layer epoch  # some of: layer, memory, epoch, seeds
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from interleave import medians, run_parts
from torch import Tensor, nn

from methods.contranorm.baselines import make_norm
from methods.contranorm.models import DeepGCN
from methods.contranorm.norm import ContraNorm
from retable.nn.mask import NeighbourMask
from retable.nn.sparse import (
    SparseMatrix,
    combine,
    csr_from_entries,
    edge_set,
    l1_normalise,
    row_normalise,
)

# Cora's
NODES, FEATURES, CLASSES, HIDDEN = 2708, 1433, 7, 32
LINKS_PER_NODE, WORDS_PER_NODE = 1.95, 18
SIZES = [(n, d) for n in (NODES, 3327, 8000, 20000) for d in (32, 64)]
LARGEST_DENSE = 8000  # more would need several arrays of 1.6 GB


def random_graph(n: int) -> Tensor:
    """Combined adjacency (CSR) of a random graph with Cora's density: 2n links and the self loops."""
    links = torch.randint(n, (2, int(LINKS_PER_NODE * n)), generator=torch.Generator().manual_seed(0))
    return combine(links, n)


# The alternatives ----------------------------------------------------------------------------------------


class DenseContraNorm(nn.Module):
    """The formula as one would first write it; the boolean mask is made once, which favours it."""

    def __init__(self, scale: float, blocked: Tensor) -> None:
        super().__init__()
        self.scale, self.blocked = scale, blocked

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        u = F.normalize(x, dim=1)
        weights = (u @ u.T).masked_fill(self.blocked, -torch.inf).softmax(1)
        return (1 + self.scale) * x - self.scale * weights @ x


class AttentionContraNorm(nn.Module):
    """Scaled dot-product attention over all pairs and one zero key, then the masked pairs' terms subtracted.

    The zero key's value row marks an extra column, which so becomes 1 / (Z + 1): from it follows Z, the sum of
    the exponentials. No n x n array, as in our kernel, but every pair is visited twice.
    """

    def __init__(self, scale: float, mask: NeighbourMask) -> None:
        super().__init__()
        self.scale, self.rows, self.cols = scale, mask.rows, mask.cols

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        n, d = x.shape
        u = F.normalize(x, dim=1)
        keys, values = F.pad(u, (0, 1, 0, 1)), F.pad(x, (0, 1, 0, 1))
        values = values.index_put((torch.tensor(n), torch.tensor(d)), torch.tensor(1.0))
        q, k, v = (t[None, None] for t in (F.pad(u, (0, 1)), keys, values))
        averaged = F.scaled_dot_product_attention(q, k, v, scale=1.0)[0, 0]
        total = 1 / averaged[:, d:]  # Z + 1
        e = (u[self.rows] * u[self.cols]).sum(1, keepdim=True).exp()
        masked = x.new_zeros(n, d + 1).index_add(0, self.rows, e * F.pad(x[self.cols], (0, 1), value=1.0))
        mean = (averaged[:, :d] * total - masked[:, :d]) / (total - 1 - masked[:, d:])
        return (1 + self.scale) * x - self.scale * mean


# Measuring -----------------------------------------------------------------------------------------------


def forward_backward(layer: nn.Module, mask: NeighbourMask, n: int, d: int) -> Callable[[], None]:
    """One pass through `layer` and back, on fixed random features (n, d)."""
    x, grad_out = torch.randn(n, d, requires_grad=True), torch.randn(n, d)
    return lambda: layer(x, mask).backward(grad_out)


def layer() -> None:
    """Print the table of one layer's times."""
    print("\nOne layer, forward and backward, ms")
    print("| n | d | dense | attention | ours | dense / ours | attention / ours |\n|---|---|---|---|---|---|---|")
    for n, d in SIZES:
        mask = NeighbourMask(edge_set(random_graph(n)), n)
        layers: dict[str, nn.Module] = {"attention": AttentionContraNorm(1.0, mask), "ours": ContraNorm(1.0)}
        if n <= LARGEST_DENSE:
            layers = {"dense": DenseContraNorm(1.0, mask.dense()), **layers}
        x = torch.randn(n, d)
        for f in layers.values():
            torch.testing.assert_close(f(x, mask), layers["ours"](x, mask), rtol=1e-4, atol=1e-4)
        rounds = max(3, 60_000 // n)
        t = medians({name: forward_backward(f, mask, n, d) for name, f in layers.items()}, rounds)
        dense = [f"{t['dense']:.0f}", f"{t['dense'] / t['ours']:.1f}"] if "dense" in t else ["", ""]
        print(
            f"| {n} | {d} | {dense[0]} | {t['attention']:.0f} | {t['ours']:.1f} | {dense[1]} "
            f"| {t['attention'] / t['ours']:.1f} |",
            flush=True,
        )


def memory(n: int = 20000, d: int = 64) -> None:
    """Print the peak memory of one layer."""
    peak = subprocess.run(
        [sys.executable, __file__, "peak", str(n), str(d)], check=True, capture_output=True, text=True
    ).stdout
    print(f"\nPeak memory of one layer, forward and backward, n = {n}, d = {d}: {float(peak):.0f} MB")


def peak(n: int, d: int) -> None:
    """In its own process: resident MB at the highest point, minus those with the inputs in place (Linux)."""
    mask = NeighbourMask(edge_set(random_graph(n)), n)
    forward_backward(ContraNorm(1.0), NeighbourMask(edge_set(random_graph(100)), 100), 100, d)()  # libraries
    run = forward_backward(ContraNorm(1.0), mask, n, d)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = highest_resident()
    run()
    print(highest_resident() - before)


def highest_resident() -> float:
    """Peak resident MB of this process; getrusage's includes the parent's at the start."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def citation_graph() -> tuple[SparseMatrix, SparseMatrix, NeighbourMask]:
    """Features, propagation matrix and mask of a random graph of Cora's size."""
    n, words = NODES, WORDS_PER_NODE
    graph, generator = random_graph(n), torch.Generator().manual_seed(1)
    rows = torch.arange(n).repeat_interleave(words)
    cols = torch.randint(FEATURES, (n * words,), generator=generator)
    features = csr_from_entries(rows, cols, torch.ones(n * words), (n, FEATURES))
    propagation = SparseMatrix(row_normalise(graph))
    return SparseMatrix(l1_normalise(features)), propagation, NeighbourMask(edge_set(graph), n)


def training_epoch(model: nn.Module, features: SparseMatrix, *graph: object) -> Callable[[], None]:
    """One optimiser step of `model` on 140 labelled nodes."""
    optimiser = torch.optim.Adam(model.parameters(), 0.005, weight_decay=5e-4)
    labels = torch.arange(140) % CLASSES

    def epoch() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(features, *graph)[:140], labels).backward()
        optimiser.step()

    return epoch


def epoch(depth: int = 16) -> None:
    """Print the time of a training epoch, all else equal."""
    features, propagation, mask = citation_graph()
    sizes = FEATURES, HIDDEN, CLASSES, depth
    ours = DeepGCN(*sizes, norm=partial(make_norm, "CN"), layer_norm="shared")
    dense = DeepGCN(*sizes, layer_norm="shared")
    dense.norms = nn.ModuleList(DenseContraNorm(1.0, mask.dense()) for _ in dense.norms)
    alternatives = {
        "ours": training_epoch(ours, features, propagation, mask),
        "dense": training_epoch(dense, features, propagation, mask),
    }
    t = medians(alternatives, 5)
    print("\n| training epoch | dense | ours | dense / ours |\n|---|---|---|---|")
    print(
        f"| deep GCN, depth {depth} | {t['dense']:.0f} ms | {t['ours']:.0f} ms | {t['dense'] / t['ours']:.1f} |",
        flush=True,
    )


class BatchedGCN(nn.Module):
    """`seeds` deep GCNs with ContraNorm side by side: weights (seeds, in, out), one call for all."""

    def __init__(self, seeds: int, depth: int) -> None:
        super().__init__()
        dims = [FEATURES] + [HIDDEN] * (depth - 1) + [CLASSES]
        self.seeds = seeds
        self.weights = nn.ParameterList(torch.randn(seeds, a, b) / b**0.5 for a, b in pairwise(dims))

    def forward(self, features: SparseMatrix, propagation: SparseMatrix, float_mask: Tensor) -> Tensor:
        """Mean logits (n, classes) over the seeds: enough to send a gradient back through each."""
        n, (first, *others) = features.shape[0], self.weights
        h = propagation @ (features.dropout(0.6) @ first.transpose(0, 1).flatten(1))  # (n, seeds * hidden)
        for weight in others:
            h = self._normalise(h.view(n, self.seeds, -1).transpose(0, 1), float_mask)  # (seeds, n, hidden)
            h = propagation @ (F.dropout(h, 0.6) @ weight).transpose(0, 1).reshape(n, -1)
        return h.view(n, self.seeds, -1).mean(1)

    @staticmethod
    def _normalise(h: Tensor, float_mask: Tensor) -> Tensor:
        u = F.normalize(h, dim=-1)
        mean = F.scaled_dot_product_attention(u[:, None], u[:, None], h[:, None], attn_mask=float_mask, scale=1.0)
        return F.relu(F.layer_norm(2 * h - mean[:, 0], h.shape[-1:]))


def seeds(count: int = 5, depth: int = 4) -> None:
    """Print what training several seeds side by side gains over one after the other."""
    features, propagation, mask = citation_graph()
    float_mask = torch.zeros(mask.n, mask.n).masked_fill(mask.dense(), -torch.inf)
    one = training_epoch(BatchedGCN(1, depth), features, propagation, float_mask)
    model = DeepGCN(FEATURES, HIDDEN, CLASSES, depth, norm=partial(make_norm, "CN"), layer_norm="shared", dropout=0.6)
    ours = training_epoch(model, features, propagation, mask)
    alternatives = {
        "together": training_epoch(BatchedGCN(count, depth), features, propagation, float_mask),
        "in turn": lambda: [one() for _ in range(count)],
        "ours in turn": lambda: [ours() for _ in range(count)],
    }
    t = medians(alternatives, 5)
    print(
        f"\n{count} seeds, depth {depth}, an epoch of each: by attention together {t['together']:.0f} ms, "
        f"in turn {t['in turn']:.0f} ms, gain {t['in turn'] / t['together']:.2f}; "
        f"by our layer in turn {t['ours in turn']:.0f} ms"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if sys.argv[1:2] == ["peak"]:
        peak(int(sys.argv[2]), int(sys.argv[3]))
    else:
        run_parts({"layer": layer, "memory": memory, "epoch": epoch, "seeds": seeds}, head="")
