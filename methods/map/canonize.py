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
        """The number of each value's group of equal ones, int64 (n,), in ascending order of the values (n,)."""
        if self.exact:
            return torch.unique(values.round(decimals=14), return_inverse=True)[1]
        ordered, order = values.sort()
        number = (ordered.diff() > self.gap).long().cumsum(0)
        return torch.zeros_like(order).scatter_(0, order, torch.cat([number.new_zeros(1), number])[: len(values)])

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


def canonize_sign(vector: Tensor, precision: Precision) -> tuple[Tensor, bool]:
    """The unit vector (n,) with its canonical sign, and whether it has one (algorithm 1)."""
    groups = precision.groups(vector.abs() * vector.norm())
    along = group_sums(vector[:, None], groups)[:, 0]
    decisive = (~precision.is_zero(along * vector.norm())).nonzero()
    if not len(decisive):
        return vector, False
    return vector * along[decisive[0, 0]].sign(), True


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

    Columns of one eigenvalue are a block: simple ones get `canonize_sign`, multiple ones `canonize_basis`.
    """
    out, done = vectors.clone(), torch.zeros(len(eigenvalues), dtype=torch.bool)
    sizes = torch.bincount(precision.groups(eigenvalues)).tolist() if len(eigenvalues) else []
    start = 0
    for size in sizes:
        columns = slice(start, start + size)
        if size == 1 and sign:
            out[:, start], done[start] = canonize_sign(vectors[:, start], precision)
        elif size > 1 and basis:
            out[:, columns], done[columns] = canonize_basis(vectors[:, columns], precision)
        start += size
    return out, done
