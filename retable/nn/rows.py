"""Rows of unit length: cosines are their products."""

import torch.nn.functional as F
from torch import Tensor


def normalize_rows(x: Tensor) -> Tensor:
    """Rows divided by ``max(||row||_2, 1e-12)``: ``x`` (..., d), same shape out; zero rows stay zero."""
    return F.normalize(x, dim=-1, eps=1e-12)
