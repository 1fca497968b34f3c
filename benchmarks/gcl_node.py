"""Speed and memory of node contrast, its probe and its encoders against obvious formulations: README.md records them.

One thread, float32, random data of the sizes of real graphs, no download. Alternatives take turns (A B A B) in one
process; medians of processor time, which a busy machine distorts less than wall time. Peak memory is measured in a
process of its own.

    python benchmarks/gcl_node.py              # all; about 4 minutes on an idle core
    python benchmarks/gcl_node.py loss probe   # some of: loss, memory, probe, encoders, arxiv
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from interleave import medians, run_parts
from torch import Tensor, nn

from methods.gcl.losses import discrimination_loss, node_losses, sampled_losses
from methods.gcl.nodes.augment import drop
from methods.gcl.nodes.bgrl import BGRL, bootstrap_loss
from methods.gcl.nodes.dgi import DGI
from methods.gcl.nodes.encoders import GCNEncoder, Projector, View
from retable.evaluate.probes import chosen_accuracy, probe
from retable.nn.sparse import SparseMatrix

# Cora's
NODES, LINKS, FEATURES, WORDS, CLASSES, WIDTH = 2708, 5278, 1433, 18, 7, 128
# Amazon-Computers' and ogbn-arxiv's
LARGE, ARXIV_NODES, ARXIV_LINKS, ARXIV_FEATURES, ARXIV_SAMPLE = 13_752, 169_343, 1_166_243, 128, 5000
TAU = 0.5


def random_edges(nodes: int, links: int) -> Tensor:
    """Both directions of random links (2, 2 * links)."""
    pairs = torch.randint(nodes, (2, links), generator=torch.Generator().manual_seed(0))
    return torch.cat([pairs, pairs.flip(0)], dim=1)


def random_words() -> Tensor:
    """Dense (N, F) with as many words a node as Cora."""
    x = torch.zeros(NODES, FEATURES)
    return x.scatter_(1, torch.randint(FEATURES, (NODES, WORDS), generator=torch.Generator().manual_seed(1)), 1.0)


# The alternatives -----------------------------------------------------------------------------------------------------


def dense_loss(h1: Tensor, h2: Tensor, tau: float) -> Tensor:
    """GRACE's loss as one would first write it: four matrices of all pairs."""
    u, v = F.normalize(h1), F.normalize(h2)

    def one_way(a: Tensor, b: Tensor) -> Tensor:
        inside, across = (a @ a.t() / tau).exp(), (a @ b.t() / tau).exp()
        return -(across.diag() / (inside.sum(1) + across.sum(1) - inside.diag())).log()

    return ((one_way(u, v) + one_way(v, u)) / 2).mean()


def adam_probes(x: Tensor, y: Tensor, train: Tensor, val: Tensor, test: Tensor) -> float:
    """5,000 Adam steps a split, validated every 20 steps; mean test accuracy in percent."""
    accuracies = []
    for k in range(len(train)):
        layer = nn.Linear(x.shape[1], int(y.max()) + 1)
        nn.init.xavier_uniform_(layer.weight)
        optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)
        x_train, y_train, best, at_best = x[train[k]], y[train[k]], -1.0, 0.0
        for step in range(1, 5001):
            optimiser.zero_grad()
            F.cross_entropy(layer(x_train), y_train).backward()
            optimiser.step()
            if step % 20 == 0:
                with torch.no_grad():
                    right = layer(x).argmax(1) == y
                if (score := right[val[k]].float().mean().item()) > best:
                    best, at_best = score, right[test[k]].float().mean().item()
        accuracies.append(100 * at_best)
    return statistics.mean(accuracies)


class DenseDGI(DGI):
    """DGI with a dense adjacency and two products with the features, one of them shuffled."""

    def forward(self, x: Tensor, propagate: Tensor, shuffle: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.convolution
        real, fake = (layer.activation(propagate @ (rows @ layer.weight) + layer.bias) for rows in (x, x[shuffle]))
        c = real.mean(0).sigmoid()
        return self.discriminator(real, c), self.discriminator(fake, c)


def masked(x: Tensor, p: float) -> Tensor:
    """A copy of dense features with columns zeroed, as augmentations are usually written."""
    return x * (torch.rand(x.shape[1]) >= p)


# Measuring ------------------------------------------------------------------------------------------------------------


def report(what: str, times: Mapping[str, float]) -> None:
    """Print a row: the obvious form's time, ours, and their ratio."""
    first, ours = times.values()
    print(f"| {what} | {first:.0f} ms | {ours:.1f} ms | {first / ours:.1f} |", flush=True)


def loss_step(function: Callable[[Tensor, Tensor, float], Tensor], n: int) -> Callable[[], None]:
    """Forward and backward on fixed random vectors."""
    h1, h2 = (torch.randn(n, WIDTH, requires_grad=True) for _ in range(2))
    return lambda: function(h1, h2, TAU).backward()


def our_loss(h1: Tensor, h2: Tensor, tau: float) -> Tensor:
    """What `dense_loss` computes, by the project."""
    return node_losses(h1, h2, tau).mean()


def loss() -> None:
    """GRACE's loss, forward and backward, with two views and with one (no augmentation)."""
    h1, h2 = torch.randn(2, NODES, WIDTH)
    torch.testing.assert_close(our_loss(h1, h2, TAU), dense_loss(h1, h2, TAU), rtol=1e-5, atol=1e-5)
    times = medians({"dense": loss_step(dense_loss, NODES), "ours": loss_step(our_loss, NODES)}, 15)
    report(f"GRACE loss, forward and backward, N = {NODES}, d = {WIDTH}", times)
    same = h1.requires_grad_()
    times = medians(
        {
            "dense": lambda: dense_loss(same, same, TAU).backward(),
            "ours": lambda: our_loss(same, same, TAU).backward(),
        },
        7,
    )
    report("the same with equal views", times)


def memory() -> None:
    """Peak memory of one loss at Amazon-Computers' size, beyond the process's own, each in a process of its own."""
    dense, ours = (megabytes(name) for name in ("dense_loss", "our_loss"))
    print(f"| peak memory of the GRACE loss, N = {LARGE} | {dense:.0f} MB | {ours:.0f} MB | {dense / ours:.0f} |")


def megabytes(function: str) -> float:
    """Growth of the peak resident size while `function`'s loss goes forward and backward."""
    code = f"import gcl_node as g; g.torch.set_num_threads(1); g.grow(g.loss_step(g.{function}, g.LARGE))"
    return float(subprocess.check_output([sys.executable, "-c", code], cwd=Path(__file__).parent, text=True))


def grow(step: Callable[[], object]) -> None:
    """Print by how many MB the peak resident size grows in `step`."""
    small = loss_step(our_loss, 100)
    small()
    before = peak_megabytes()
    step()
    print(peak_megabytes() - before)


def peak_megabytes() -> float:
    """Peak resident size of this process (Linux); getrusage would count the parent's before the start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def probing() -> None:
    """The linear probe of five splits against one Adam run a split, on noisy clusters."""
    torch.manual_seed(0)
    y = torch.randint(CLASSES, (NODES,))
    x = torch.randn(CLASSES, WIDTH)[y] * 0.35 + torch.randn(NODES, WIDTH)
    place = torch.stack([torch.randperm(NODES) for _ in range(5)])
    tenth = NODES // 10
    train, val, test = place < tenth, (place >= tenth) & (place < 9 * tenth), place >= 9 * tenth
    accuracy = {}

    def adam() -> None:
        accuracy["adam"] = adam_probes(x, y, train, val, test)

    def ours() -> None:
        accuracy["ours"] = chosen_accuracy(probe(x, y, train).right, val, test)[0].mean().item()

    ours()
    times = {}
    for name, function in (("adam", adam), ("ours", ours)):
        start = time.process_time()
        function()
        times[name] = (time.process_time() - start) * 1e3
    report("linear probe, five splits (Adam: 5,000 steps each; ours: six penalties)", times)
    print(f"| its accuracy | {accuracy['adam']:.2f} % | {accuracy['ours']:.2f} % | |")


def encoders() -> None:
    """Training steps of DGI (width 512) and BGRL (256, 128) on features of Cora's sparsity."""
    torch.manual_seed(0)
    x, edges, shuffle = random_words(), random_edges(NODES, LINKS), torch.randperm(NODES)
    sparse = View.of(SparseMatrix(x.to_sparse_csr()), edges)
    adjacency = sparse.propagate.csr.to_dense()
    plain, ours = DenseDGI(FEATURES, 512), DGI(FEATURES, 512)
    ours.load_state_dict(plain.state_dict())
    scores = plain(x, adjacency, shuffle), ours(sparse.x, sparse.propagate, shuffle)
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)
    times = medians(
        {
            "dense": lambda: discrimination_loss(*plain(x, adjacency, shuffle)).backward(),
            "ours": lambda: discrimination_loss(*ours(sparse.x, sparse.propagate, shuffle)).backward(),
        },
        5,
    )
    report("DGI step", times)
    bgrl = BGRL(FEATURES, (256, 128), 512)

    def dense_step() -> None:
        views = [View(masked(x, 0.2), edges, drop(sparse, 0.2, 0.0).propagate) for _ in range(2)]
        bootstrap_loss(*bgrl(*views)).backward()

    def our_step() -> None:
        bootstrap_loss(*bgrl(drop(sparse, 0.2, 0.2), drop(sparse, 0.2, 0.2))).backward()

    report("BGRL step", medians({"dense": dense_step, "ours": our_step}, 5))


def arxiv() -> None:
    """One GRACE step at ogbn-arxiv's size, the loss among 5,000 nodes, in a process of its own."""
    code = "import gcl_node as g; g.torch.set_num_threads(1); g.arxiv_step()"
    gigabytes, seconds = subprocess.check_output(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, text=True
    ).split()
    what = f"GRACE step, {ARXIV_NODES} nodes, {ARXIV_LINKS} links, loss among {ARXIV_SAMPLE} nodes"
    print(f"| {what} | | {float(gigabytes):.1f} GB in all, {float(seconds):.0f} s | |")


def arxiv_step() -> None:
    """Two views, width 256, Adam; prints the peak resident size in GB and the processor seconds."""
    torch.manual_seed(0)
    view = View.of(torch.randn(ARXIV_NODES, ARXIV_FEATURES), random_edges(ARXIV_NODES, ARXIV_LINKS))
    model = nn.ModuleDict({"encoder": GCNEncoder(ARXIV_FEATURES, 256), "projector": Projector(256, 256)})
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.process_time()
    h1, h2 = (model["projector"](model["encoder"](drop(view, 0.2, 0.2))) for _ in range(2))
    nodes = torch.randperm(ARXIV_NODES)[:ARXIV_SAMPLE]
    sampled_losses(h1, h2, TAU, "contrast", (nodes, nodes)).mean().backward()
    optimiser.step()
    print(peak_megabytes() / 1024, time.process_time() - start)


PARTS = {"loss": loss, "memory": memory, "probe": probing, "encoders": encoders, "arxiv": arxiv}

if __name__ == "__main__":
    run_parts(PARTS)
