"""ContraNorm for tokens: the layer that replaces each LayerNorm of a vision transformer.

Apart from `norm.py` since the row form of a batch is fused attention of the unit rows: no B x N x N array is stored.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.rows import normalize_rows

from .norm import weighted_mean


class TokenContraNorm(nn.Module):
    """The authors' layer for (B, N, D): ContraNorm without a mask, then LayerNorm; with scale 0 LayerNorm alone.

    m = softmax_rows(u u^T / temp) x with u the unit rows of x; ``dual`` adds the column softmax, ``pre_norm`` makes the
    update act on u itself. The output before LayerNorm is x - s m, or (1 + s) x - s m with ``identity``. ``learnable``
    ("linear" or "exp") gives each channel its own scale g, p or exp(p), initialised to s: x - g m, or g (x - m)
    with ``identity``, where the authors' code has no ``1 +``. timm passes ``device`` and ``dtype``.
    ``ValueError`` for a scale below 0, a temperature that is not above 0 and an unknown kind of learnable scale.
    """

    def __init__(
        self,
        dim: int,
        scale: float = 0.0,
        temp: float = 1.0,
        *,
        dual: bool = False,
        pre_norm: bool = False,
        identity: bool = False,
        learnable: str | None = None,
        eps: float = 1e-6,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if scale < 0 or temp <= 0:
            raise ValueError(f"TokenContraNorm needs scale >= 0 and temp > 0, got scale {scale} and temp {temp}")
        if learnable not in (None, "linear", "exp"):
            raise ValueError(f"unknown learnable scale {learnable!r}: choose one of None, 'linear', 'exp'")
        self.scale, self.temp = scale, temp
        self.dual, self.pre_norm, self.identity, self.learnable = dual, pre_norm, identity, learnable
        if learnable and scale > 0:
            start = torch.full((dim,), float(scale), device=device, dtype=dtype)
            self.channel_scale = nn.Parameter(start if learnable == "linear" else start.log())
        self.layernorm = nn.LayerNorm(dim, eps=eps, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, N, D); same shape out."""
        return self.layernorm(self.update(x) if self.scale > 0 else x)

    def update(self, x: Tensor) -> Tensor:
        """The input of LayerNorm: ``x`` (B, N, D), same shape out."""
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()  # normalize_rows() divides by no less than 1e-12, which underflows in half precision
        if self.pre_norm:
            x = normalize_rows(x)
        m = weighted_mean(x, self.temp, dual=True) if self.dual else row_mean(x, self.temp)
        if self.learnable:
            g = self.channel_scale if self.learnable == "linear" else self.channel_scale.exp()
            return g * (x - m) if self.identity else x - g * m
        return (1 + self.scale) * x - self.scale * m if self.identity else x - self.scale * m


def row_mean(x: Tensor, temp: float = 1.0) -> Tensor:
    """softmax_rows(u u^T / temp) x of ``x`` (B, N, D) with u its unit rows: same shape, by a fused attention kernel."""
    u = normalize_rows(x)[:, None]
    return F.scaled_dot_product_attention(u, u, x[:, None], scale=1 / temp)[:, 0]
