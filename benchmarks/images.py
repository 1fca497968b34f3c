"""Speed of what the image papers compute often against obvious formulations: README.md records the ratios.

One thread, float32, random data, no download. Alternatives take turns (A B A B) in one process; medians of processor
time, which a busy machine distorts less than wall time. Losses go forward and backward. Values and gradients of both
forms are compared first.

    python benchmarks/images.py                     # all; about a minute on an idle core
    python benchmarks/images.py uniformity nt_xent  # some of: uniformity, nt_xent, spectral, retrieval, lars
"""

import math
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from interleave import interleave, run_parts
from torch import Tensor

from methods.tricl.baselines import scl, simclr
from methods.umae.losses import uniformity_loss
from retable.evaluate.neighbours import retrieval
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.optim import LARS

TEMPERATURE = 0.2


# The obvious forms ----------------------------------------------------------------------------------------------------


def pairwise_uniformity(z: Tensor) -> Tensor:
    """The mean squared cosine of all pairs, from all pairs."""
    unit = F.normalize(z)
    return (unit @ unit.T).square().mean()


def positives_and_negatives(z: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (N, N) of two stacked views, from the samples' numbers, the way contrastive libraries write it."""
    ids = torch.arange(len(z) // 2, device=z.device).repeat(2)[:, None]
    same = ids == ids.T
    positive = same.clone().fill_diagonal_(False)
    return positive, ~same


def masked_nt_xent(z: Tensor) -> Tensor:
    """NT-Xent of two stacked views with masks and exponentials."""
    unit = F.normalize(z)
    similar = torch.exp(torch.einsum("if,jf->ij", unit, unit) / TEMPERATURE)
    positive, negative = positives_and_negatives(z)
    pos = (similar * positive).sum(1)
    neg = (similar * negative).sum(1)
    return -(pos / (pos + neg)).log().mean()


def interleaved_nt_xent(z: Tensor) -> Tensor:
    """NT-Xent of interleaved views by cosine similarities of all pairs and exponentials."""
    similar = torch.exp(F.cosine_similarity(z[:, None], z[None], dim=2) / TEMPERATURE)
    rows = torch.arange(len(z), device=z.device)
    positive = similar[rows, rows ^ 1]
    return -(positive / (similar.sum(1) - similar.diagonal())).log().mean()


def published_nt_xent(z: Tensor) -> Tensor:
    """DYNACL's formula: products over norms, exponentials, and the pair of a row with itself taken off afterwards."""
    norms = z.norm(dim=1)
    similar = torch.exp(z @ z.T / (norms[:, None] * norms).clamp(min=1e-8) / TEMPERATURE)
    rows = torch.arange(len(z), device=z.device)
    positive = similar[rows, rows ^ 1]
    return -(positive / (similar.sum(0) - math.exp(1 / TEMPERATURE))).log().mean()


def masked_spectral(z: Tensor) -> Tensor:
    """The spectral loss as triCL's authors define it, by masks over all pairs."""
    unit = F.normalize(z)
    similar = torch.einsum("if,jf->ij", unit, unit) / TEMPERATURE
    positive, negative = positives_and_negatives(z)
    return -(similar * positive).sum(1).mean() + ((similar * negative) ** 2).mean(1).mean()


def sorted_precision(x: Tensor, labels: Tensor, neighbours: int = 10) -> float:
    """Precision among the nearest: each query sorts all distances."""
    total = 0.0
    for query in range(len(x)):
        order = ((x - x[query]) ** 2).sum(1).argsort().tolist()
        found = [k for k in order if k != query][:neighbours]
        total += sum(int(labels[k] == labels[query]) for k in found) / neighbours
    return total / len(x)


@torch.no_grad()
def looped_lars(params: list[Tensor], buffers: list[Tensor], lr: float, decay: float, trust: float) -> None:
    """solo-learn's LARS, one tensor after the other, with norms that are waited for."""
    for p, buffer in zip(params, buffers, strict=True):
        assert p.grad is not None
        d = p.grad
        if p.ndim != 1:
            p_norm, g_norm = torch.norm(p), torch.norm(p.grad)
            if p_norm != 0 and g_norm != 0:
                ratio = trust * p_norm / (g_norm + decay * p_norm + 1e-8)
                d = d.add(p, alpha=decay).mul(min(ratio / lr, torch.ones_like(ratio)))
        buffer.mul_(0.9).add_(d)
        p.add_(buffer, alpha=-lr)


# Measuring ------------------------------------------------------------------------------------------------------------


def report(what: str, obvious: Callable[[], object], ours: Callable[[], object], rounds: int) -> None:
    """Print a row: medians of both in turns after one to warm up, and the median ratio of neighbours."""
    times = interleave({"obvious": obvious, "ours": ours}, rounds).values()
    slow, fast = (statistics.median(kept) for kept in times)
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    print(f"| {what} | {slow:.3g} ms | {fast:.3g} ms | {ratio:.1f} |", flush=True)


def losses(
    what: str, obvious: Callable[[Tensor], Tensor], ours: Callable[[Tensor], Tensor], n: int, d: int, rounds: int
) -> None:
    """Compare two losses of (n, d) features, then print their row."""
    torch.manual_seed(0)
    z = torch.randn(n, d, requires_grad=True)
    values, gradients = [], []
    for function in (obvious, ours):
        z.grad = None
        value = function(z)
        value.backward()
        assert z.grad is not None
        values.append(value.detach())
        gradients.append(z.grad)
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
    report(f"{what}, N = {n}, D = {d}", lambda: obvious(z).backward(), lambda: ours(z).backward(), rounds)


def uniformity() -> None:
    """U-MAE's term: all pairs against the smaller Gram matrix."""
    for n, d, rounds in ((512, 192, 60), (1024, 768, 15), (4096, 192, 7), (4096, 384, 7)):
        losses("uniformity", pairwise_uniformity, uniformity_loss, n, d, rounds)


def contrast() -> None:
    """NT-Xent of stacked views (triCL) and of interleaved ones (DYNACL)."""
    for n, d, rounds in ((512, 256, 60), (2048, 256, 9)):
        losses("NT-Xent, stacked views", masked_nt_xent, lambda z: simclr(z, TEMPERATURE), n, d, rounds)
    for what, obvious, rounds in (("formula", published_nt_xent, 60), ("cosine_similarity", interleaved_nt_xent, 7)):
        losses(
            f"NT-Xent, interleaved, by {what}", obvious, lambda z: nt_xent_interleaved(z, TEMPERATURE), 512, 256, rounds
        )


def spectral() -> None:
    """The spectral loss: masks over all pairs against D x D matrices."""
    for n, d, rounds in ((512, 256, 60), (2048, 256, 9)):
        losses("spectral loss", masked_spectral, lambda z: scl(z, TEMPERATURE), n, d, rounds)


def nearest() -> None:
    """Precision at 10 of each image among 2,000, on all features and on growing numbers of the first ones."""
    torch.manual_seed(0)
    labels = torch.randint(10, (2000,))
    x = torch.randn(10, 256)[labels] * 0.2 + torch.randn(2000, 256)
    for what, dims, rounds in (("256 features", [256], 5), ("20, 40, .. 240 features", list(range(20, 241, 20)), 1)):

        def obvious(dims: list[int] = dims) -> list[float]:
            return [sorted_precision(x[:, :k], labels) for k in dims]

        def ours(dims: list[int] = dims) -> list[float]:
            return retrieval(x, labels, torch.arange(256), dims).precision.tolist()

        torch.testing.assert_close(obvious(), ours(), rtol=0, atol=1e-4)
        report(f"retrieval, N = 2000, {what}", obvious, ours, rounds)


def lars() -> None:
    """One LARS step for the shapes of ResNet-18's weights; on a GPU the loop also waits for each norm."""
    torch.manual_seed(0)
    shapes = [(64, 3, 3, 3)] + [(c, c, 3, 3) for c in (64, 128, 256, 512) for _ in range(4)] + [(512,)] * 40
    loose, own = ([torch.randn(shape).mul_(0.1).requires_grad_() for shape in shapes] for _ in range(2))
    for p, q in zip(loose, own, strict=True):
        q.data.copy_(p.data)
        p.grad = q.grad = torch.randn_like(p)
    buffers = [torch.zeros_like(p) for p in loose]
    optimiser = LARS(own, 0.4, form="solo-learn", weight_decay=1e-4, trust=0.02, clip=True)

    def loop() -> None:
        looped_lars(loose, buffers, 0.4, 1e-4, 0.02)

    for _ in range(2):
        loop()
        optimiser.step()
    for p, q in zip(loose, own, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    report("LARS step, 11 M weights", loop, optimiser.step, 15)


PARTS = {"uniformity": uniformity, "nt_xent": contrast, "spectral": spectral, "retrieval": nearest, "lars": lars}

if __name__ == "__main__":
    run_parts(PARTS)
