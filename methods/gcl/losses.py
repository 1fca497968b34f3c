"""Node contrast with its halves taken out: contrast, no positives, no negatives (Guo et al., NeurIPS 2023, 2311.02687).

Two views of a graph give each node two vectors, u_i and v_i, of unit length. The contrastive loss of a node pulls its
pair together and pushes it from every other node; the paper asks what is left when one half goes:

    contrast      log D_i - u_i . v_i / tau
    no positives  log D_i
    no negatives          - u_i . v_i / tau          D_i = sum_{j != i} e^{u_i . u_j / tau} + sum_j e^{u_i . v_j / tau}

The positive pair is one of the 2N - 1 candidates in D_i, as in GRACE. With both views stacked, w = [u; v], the D of
both directions are the row sums of one symmetric kernel without its diagonal, so each pair of vectors is met once.
Shapes: ``h1``, ``h2`` (N, d), not yet of unit length.
"""

import torch
from torch import Tensor

from retable.nn.kernels import kernel_row_sums
from retable.nn.rows import unit

# e^(1/tau) times the number of candidates, and its inverse, stay inside float32's range: cosines need no max-shift.
SMALLEST_TAU = 0.02
LOSSES = ("contrast", "no-positives", "no-negatives", "neighbours")


def node_losses(
    h1: Tensor,
    h2: Tensor,
    tau: float,
    loss: str = "contrast",
    edges: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Loss of each node (N,), the mean of its two directions; GRACE minimises the mean of it, GCA's code the sum."""
    first, second = directed_losses(h1, h2, tau, loss, edges)
    return (first + second) / 2


def directed_losses(
    h1: Tensor,
    h2: Tensor,
    tau: float,
    loss: str = "contrast",
    edges: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses (N,) with the anchors in view 1 and in view 2; ``h2 is h1`` (no augmentation) costs a quarter.

    ``loss``: one of ``LOSSES``. "neighbours" takes the anchor's neighbours, itself included, as positives:
    ``log D_i - log (1/N) sum_{j in N(i)} e^{u_i . v_j / tau}``, for which ``edges`` are the two views' own edge lists
    (2, E), anchor above neighbour. ``ValueError`` for an unknown loss, for tau below ``SMALLEST_TAU`` and where the
    views differ in shape.
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: choose one of {', '.join(LOSSES)}")
    if tau < SMALLEST_TAU:
        raise ValueError(f"tau must be at least {SMALLEST_TAU}, got {tau}: the exponentials would overflow")
    if h1.shape != h2.shape or h1.dim() != 2 or len(h1) == 0:
        raise ValueError(
            f"two views of the same nodes have the same shape (N, d), got {tuple(h1.shape)}, {tuple(h2.shape)}"
        )
    u = unit(h1)
    v = u if h2 is h1 else unit(h2)
    pull = (u * v).sum(1) / tau
    if loss == "no-negatives":
        return -pull, -pull
    first, second = (total.log() for total in candidate_sums(u, v, tau))
    if loss == "no-positives":
        return first, second
    if loss == "contrast":
        return first - pull, second - pull
    if edges is None:
        raise ValueError("the loss 'neighbours' needs the edge lists of both views")
    return first - neighbour_pull(u, v, edges[0], tau), second - neighbour_pull(v, u, edges[1], tau)


def sampled_losses(h1: Tensor, h2: Tensor, tau: float, loss: str, nodes: tuple[Tensor, Tensor]) -> Tensor:
    """``node_losses`` among n sampled nodes (n,), for graphs whose pairs are too many (the paper's ogbn-arxiv form).

    ``nodes``: the sampled nodes, int64 (n,), of the direction 1 -> 2 and of 2 -> 1.
    """
    there, back = nodes
    first, second = directed_losses(h1[there], h2[there], tau, loss)
    if back is not there:
        second = directed_losses(h1[back], h2[back], tau, loss)[1]
    return (first + second) / 2


def candidate_sums(u: Tensor, v: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """D of each node (N,), anchors in view 1 and in view 2, from unit rows (N, d)."""
    if u is v:
        total = 2 * kernel_row_sums(u / tau**0.5) + (u.square().sum(1) / tau).exp()
        return total, total
    total = kernel_row_sums(torch.cat([u, v]) / tau**0.5)
    return total[: len(u)], total[len(u) :]


def neighbour_pull(u: Tensor, v: Tensor, edges: Tensor, tau: float) -> Tensor:
    """``log (1/N) sum_{j in N(i) and i} e^{u_i . v_j / tau}`` (N,); each distinct edge (2, E) counts once."""
    n = len(u)
    loops = torch.arange(n, device=u.device)
    keys = torch.unique(torch.cat([edges[0] * n + edges[1], loops * (n + 1)]))
    anchor, neighbour = keys // n, keys % n
    kernel = ((u[anchor] * v[neighbour]).sum(1) / tau).exp()
    return (u.new_zeros(n).index_add(0, anchor, kernel) / n).log()
