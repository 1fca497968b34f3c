"""The hearts of MAP, NCN, LAGNN and GIND beside the obvious forms: what README.md records.

One thread, no download; the alternatives take turns and give the same numbers.

    python benchmarks/graph_papers.py            # all
    python benchmarks/graph_papers.py ncn gind   # some of: map, ncn, lagnn, gind
"""

import subprocess
import sys
from pathlib import Path

import scipy.sparse
import torch
import torch.nn.functional as F
from interleave import medians, run_parts
from torch import Tensor

from methods.gind.implicit import Diffusion, ImplicitLayer, node_scale, regularised, regulariser
from methods.lagnn.generator import CVAE, Sampler, normalise_rows
from methods.map.canonize import Precision, canonize_basis, canonize_signs
from methods.ncn.overlap import Neighbours
from retable.nn.dropped_product import dropped_product

ROUNDS = 7


def line(what: str, alternatives: dict, rounds: int = ROUNDS) -> None:
    """A row of the table."""
    times = medians(alternatives, rounds)
    print(f"| {what} | {times['obvious']:.1f} ms | {times['ours']:.1f} ms | {times['obvious'] / times['ours']:.2f} |")


def edges_of(nodes: int, links: int) -> Tensor:
    """A random undirected graph (2, 2 links)."""
    half = torch.randint(nodes, (2, links), generator=torch.Generator().manual_seed(0))
    return torch.cat([half, half.flip(0)], 1)


def axes_sign(vector: Tensor) -> Tensor:
    """The sign by a loop over groups of axes and the projections as written."""
    projector = torch.outer(vector, vector)
    lengths = projector.norm(dim=0).round(decimals=14)
    for length in lengths.unique():
        x = (lengths == length).double() + 10.0
        moved = projector @ x
        if moved.norm().round(decimals=12) != 0:
            return moved / moved.norm()
    return vector


def axes_basis(block: Tensor) -> Tensor:
    """The basis by a loop over axes, each with the projector onto what is left of the space."""
    projector = block @ block.T
    lengths = projector.norm(dim=0).round(decimals=14)
    found: list[Tensor] = []
    for length in lengths.unique().flip(0)[: block.shape[1]]:
        x = (lengths == length).double() + 10.0
        rest = projector - sum((torch.outer(u, u) for u in found), torch.zeros_like(projector))
        found.append(rest @ x / (rest @ x).norm())
    return torch.stack(found, 1)


def canonization() -> None:
    """All vectors of a graph with n nodes in sign, and one basis of ten."""
    for nodes in (20, 100, 400):
        vectors = torch.linalg.qr(torch.randn(nodes, nodes, generator=torch.Generator().manual_seed(0)).double())[0]
        _canonization(vectors, Precision())


def _canonization(vectors: Tensor, precision: Precision) -> None:
    def loop() -> Tensor:
        return torch.stack([axes_sign(vector) for vector in vectors.T], 1)

    def ours() -> Tensor:
        return canonize_signs(vectors, precision)[0]

    torch.testing.assert_close(ours(), loop())
    line(f"MAP, signs of all eigenvectors, n = {len(vectors)}", {"obvious": loop, "ours": ours}, 3)
    block = vectors[:, :10]
    torch.testing.assert_close(canonize_basis(block, precision)[0], axes_basis(block))
    bases = {"obvious": lambda: axes_basis(block), "ours": lambda: canonize_basis(block, precision)}
    line(f"MAP, a basis of ten, n = {len(vectors)}", bases)


PAIRS, NODES, LINKS = 1_000_000, 100_000, 500_000


def common_neighbours() -> None:
    """A million pairs on a graph of 10^5 nodes; the obvious form multiplies scipy's sparse rows."""
    edges = edges_of(NODES, LINKS)
    pairs = torch.randint(NODES, (2, PAIRS), generator=torch.Generator().manual_seed(1))
    graph = Neighbours(edges, NODES)
    keys = graph.edge_index.numpy()
    matrix = scipy.sparse.csr_array(([1.0] * keys.shape[1], (keys[0], keys[1])), shape=(NODES, NODES))
    i, j = pairs.numpy()
    common = graph.common(pairs)
    assert len(common.node) == int(matrix[i].multiply(matrix[j]).sum())
    loops = {"obvious": lambda: matrix[i].multiply(matrix[j]).tocoo(), "ours": lambda: graph.common(pairs)}
    line("NCN, common neighbours of 10^6 pairs, n = 10^5", loops, 3)
    done = subprocess.run([sys.executable, __file__, "memory"], capture_output=True, text=True, check=True)
    print(f"NCN's overlap takes {done.stdout.split()[-1]} MB; an n x n array of bits would take 1,250.")


def memory() -> None:
    """Peak memory of the overlap alone, MB."""
    graph = Neighbours(edges_of(NODES, LINKS), NODES)
    pairs = torch.randint(NODES, (2, PAIRS), generator=torch.Generator().manual_seed(1))
    before = _peak()
    graph.common(pairs)
    print(_peak() - before)


def _peak() -> int:
    """Of this process, MB; what getrusage says is inherited from the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def generator() -> None:
    """A draw for all nodes of a graph of Cora's size, and the first layer's product with its gradient."""
    model, x = CVAE(1433).eval(), (torch.rand(2708, 1433) < 0.0127).float()
    sampler = Sampler(model, x)

    @torch.no_grad()
    def obvious() -> Tensor:
        return normalise_rows(model.decode(torch.randn(len(x), model.latent), x))

    line("LAGNN, a draw of the generator, Cora's size", {"obvious": obvious, "ours": sampler.draw})
    drawn, weight = sampler.draw(), torch.randn(1433, 8, requires_grad=True)
    products = {
        "obvious": lambda: F.dropout(drawn, 0.5) @ weight,
        "ours": lambda: dropped_product(drawn, weight, 0.5, training=True),
    }
    steps = {name: lambda of=of: of().sum().backward() for name, of in products.items()}
    line("LAGNN, dropout and product of a draw, with the gradient", steps)


class Gathered(Diffusion):
    """Differences of all edges and their gathering by indices."""

    def __init__(self, edge_index: Tensor, s: Tensor) -> None:
        super().__init__(edge_index, s)
        self.copies, self.links = 1, edge_index

    def differences(self, y: Tensor) -> Tensor:
        source, target = self.edge_index
        scaled = self.s * y
        return scaled[source] - scaled[target]

    def gather(self, e: Tensor) -> Tensor:
        source, target = self.edge_index
        out = e.new_zeros(len(self.s), e.shape[1])
        return out.index_add(0, source, self.s[source] * e).index_add(0, target, -self.s[target] * e)


def diffusion() -> None:
    """A step with its gradient, an epoch of 32 steps of which four have one, and the step on the Laplacian regulariser
    by autograd and as one product; Cora's size.
    """
    edges = edges_of(2708, 5278)
    scale = node_scale(edges, 2708, self_loops=True)
    layer = ImplicitLayer(128, 0.145, "LayerNorm", double=False, rescale=True)
    z, x = torch.randn(2708, 128), torch.randn(2708, 128, requires_grad=True)

    def step(graph: Diffusion) -> None:
        layer(x, graph)(z).square().sum().backward()

    def epoch(graph: Diffusion) -> None:
        state, step = torch.zeros(2708, 128), layer(x, graph)
        for number in range(32):
            with torch.set_grad_enabled(number >= 28):
                state = step(state)
        state.square().sum().backward()

    ours, obvious = Diffusion(edges, scale), Gathered(edges, scale)
    torch.testing.assert_close(layer(x, ours)(z), layer(x, obvious)(z), atol=1e-4, rtol=1e-4)
    line("GIND, a step, forward and backward", {"obvious": lambda: step(obvious), "ours": lambda: step(ours)})
    line("GIND, an epoch of 32 steps", {"obvious": lambda: epoch(obvious), "ours": lambda: epoch(ours)}, 3)

    def by_autograd() -> Tensor:
        point = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(regulariser("Lap", point, obvious), point)
        return z - 0.02 * slope

    torch.testing.assert_close(regularised("Lap", z, ours, 0.02), by_autograd(), atol=1e-6, rtol=1e-5)
    line(
        "GIND, a step on the regulariser",
        {"obvious": by_autograd, "ours": lambda: regularised("Lap", z, ours, 0.02)},
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        memory()
    else:
        run_parts({"map": canonization, "ncn": common_neighbours, "lagnn": generator, "gind": diffusion})
