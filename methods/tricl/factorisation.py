"""The paper's theorem on a matrix: two factors are found up to a rotation, three factors up to signs.

`A` (n, n) is symmetric, the normalised augmentation graph of a population. The spectral loss factors it as `F F^T`,
the three-factor loss as `F S F^T` under `F^T F = I`. All functions take a batch of runs: F (..., n, k), S (..., k).
"""

import torch
from torch import Tensor


def two_factor(a: Tensor, f: Tensor) -> Tensor:
    """`||A - F F^T||_F^2` (...): minimal at `U sqrt(Lambda) R` for every rotation R."""
    return (a - f @ f.mT).square().sum((-2, -1))


def three_factor(a: Tensor, f: Tensor, s: Tensor) -> Tensor:
    """`||A - F S F^T||_F^2` (...)."""
    return (a - (f * s[..., None, :]) @ f.mT).square().sum((-2, -1))


def decorrelation(f: Tensor) -> Tensor:
    """`||F^T F - I||_F^2` (...)."""
    identity = torch.eye(f.shape[-1], dtype=f.dtype, device=f.device)
    return (f.mT @ f - identity).square().sum((-2, -1))


def best_factors(a: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The optimum of `three_factor + decorrelation` for A (n, n): eigenvectors (n, k), eigenvalues (k,), the loss.

    The k largest eigenvalues must be positive: S can be nothing else. `ValueError` otherwise, or if A is not
    symmetric.
    """
    if not torch.allclose(a, a.mT, rtol=0, atol=1e-10 * float(a.abs().max())):
        raise ValueError("the matrix to factor is not symmetric")
    values, vectors = torch.linalg.eigh(a)
    values, vectors = values.flip(0), vectors.flip(1)
    if float(values[k - 1]) <= 0:
        raise ValueError(
            f"eigenvalue {k} of the matrix is {float(values[k - 1]):g}; importance is positive, take fewer"
        )
    return vectors[:, :k], values[:k], values[k:].square().sum()
