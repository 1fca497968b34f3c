"""Maximal axis projection (MAP): one representative of each eigenspace, whatever basis the solver returned.

An eigenvector is defined up to its sign, a basis of a d-dimensional eigenspace up to a rotation. MAP projects
indicators of groups of nodes, which move with the nodes, onto the eigenspace, and takes these projections as
directions. A group B holds the nodes whose axes have equally long projections |P e_i|, P = U U^T; its summary vector is
x_B = 1_B + 10 * 1, where 1 is the vector of ones (paper, sections 3.2 and 3.3; the factor 10 is the authors' code's).

    sign, u (n,):    u * sign(u . x_B)     for the first B, from the shortest projection on, with u . x_B != 0
    basis, U (n, d): U Q                   with Q R = U^T [x_1 ... x_d] of the d longest projections, R's diagonal > 0

What cannot be canonized stays as it is. All is done in float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ONES = 10.0


@dataclass(frozen=True)
class Precision:
    """When two computed numbers count as equal: after rounding to decimals as in the authors' code, or within a gap.

    Rounding splits equal numbers that lie on both sides of a rounding boundary; gaps do not.
    """

    exact: bool = False
    gap: float = 1e-8

    def groups(self, values: Tensor) -> Tensor:
        """The number of each value's group of equal ones, ascending, int64 (n, ...); each column (n,) by itself."""
        ordered, order = (values.round(decimals=14) if self.exact else values).sort(0)
        number = (ordered.diff(dim=0) > (0.0 if self.exact else self.gap)).long().cumsum(0)
        first = torch.zeros_like(order[:1])
        return torch.zeros_like(order).scatter_(0, order, torch.cat([first, number]))

    def is_zero(self, values: Tensor) -> Tensor:
        """Whether each value counts as zero."""
        return values.round(decimals=12) == 0 if self.exact else values.abs() <= self.gap


def projection_lengths(block: Tensor) -> Tensor:
    """|P e_i| of each axis (n,), P = U U^T, of orthonormal columns U (n, d)."""
    return (block @ block.T).norm(dim=0)


def group_sums(block: Tensor, groups: Tensor) -> Tensor:
    """U^T x_B of each group (groups, d): the sums of U's rows over B, and ten times those over all rows."""
    sums = block.new_zeros(int(groups.max()) + 1, block.shape[1]).index_add_(0, groups, block)
    return sums + ONES * block.sum(0)


def canonize_signs(vectors: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Unit vectors (n, r), each with its canonical sign, and which have one, bool (r,) (algorithm 1)."""
    norms = vectors.norm(dim=0)
    groups = precision.groups(vectors.abs() * norms)
    along = torch.zeros_like(vectors).scatter_add_(0, groups, vectors) + ONES * vectors.sum(0)
    exists = torch.arange(len(vectors))[:, None] <= groups.amax(0)
    decisive = exists & ~precision.is_zero(along * norms)
    first = decisive.int().argmax(0, keepdim=True)
    done = decisive.any(0)
    return vectors * torch.where(done, along.gather(0, first)[0].sign(), 1.0), done


def canonize_basis(block: Tensor, precision: Precision) -> tuple[Tensor, bool]:
    """The orthonormal columns (n, d) in canonical directions, and whether they have them (algorithm 2).

    They have none with fewer than d different lengths (assumption 1), or where the projection of a summary vector is
    spanned by those before it (assumption 2; never met exactly in floating point, so only gaps notice it).
    """
    dim = block.shape[1]
    groups = precision.groups(projection_lengths(block))
    along = group_sums(block, groups)
    if len(along) < dim:
        return block, False
    q, r = torch.linalg.qr(along[-dim:].flip(0).T)
    diagonal = r.diagonal()
    if (diagonal == 0).any() or (not precision.exact and precision.is_zero(diagonal).any()):
        return block, False
    return block @ (q * diagonal.sign()), True


def canonize(
    vectors: Tensor, eigenvalues: Tensor, precision: Precision, *, sign: bool = True, basis: bool = True
) -> tuple[Tensor, Tensor]:
    """Eigenvectors (n, r) of ascending eigenvalues (r,) canonized, and which columns are, bool (r,).

    Columns of one eigenvalue are a block: simple ones get `canonize_signs`, multiple ones `canonize_basis`.
    """
    out, done = vectors.clone(), torch.zeros(len(eigenvalues), dtype=torch.bool)
    if not len(eigenvalues):
        return out, done
    block = precision.groups(eigenvalues)
    sizes = torch.bincount(block)
    simple = sizes[block] == 1
    if sign:
        out[:, simple], done[simple] = canonize_signs(vectors[:, simple], precision)
    for number in (sizes > 1).nonzero()[:, 0].tolist() if basis else ():
        columns = block == number
        out[:, columns], done[columns] = canonize_basis(vectors[:, columns], precision)
    return out, done
