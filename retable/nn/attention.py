"""Causal self-attention, as language models use it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROPE_BASE = 10_000.0


class CausalAttention(nn.Module):
    """Causal self-attention without biases; rotary positions if `rope`."""

    def __init__(self, d: int, heads: int, rope: bool) -> None:
        super().__init__()
        if d % heads or (rope and d // heads % 2):
            raise ValueError(f"width {d} does not divide into {heads} heads" + (" of even width" if rope else ""))
        self.heads, self.rope = heads, rope
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        batch, tokens, d = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rope:
            q, k = rotate(q), rotate(k)
        mask = None
        if valid is not None:
            causal = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).tril()
            # Padding looks at itself, so that no row of the softmax is empty.
            own = torch.eye(tokens, dtype=torch.bool, device=x.device)
            mask = ((causal & valid[:, None, :]) | own)[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, d))


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (https://arxiv.org/abs/2104.09864): (..., T, width), halves as pairs."""
    tokens, half = x.shape[-2], x.shape[-1] // 2
    frequency = ROPE_BASE ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = torch.arange(tokens, device=x.device, dtype=x.dtype)[:, None] * frequency
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)
