"""A compact causal transformer whose feed-forward layers are mixtures of experts."""

from typing import Any

import torch
from torch import Tensor, nn

from retable.nn.attention import CausalAttention

from .moe import MoE

POSITIONS = ("learned", "rope")


class Block(nn.Module):
    """Pre-norm: attention, then experts, each added to the stream."""

    def __init__(self, d: int, heads: int, rope: bool, moe: MoE) -> None:
        super().__init__()
        self.norm1, self.attention = nn.RMSNorm(d), CausalAttention(d, heads, rope)
        self.norm2, self.moe = nn.RMSNorm(d), moe

    def forward(self, x: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
        x = x + self.attention(self.norm1(x), valid)
        return x + self.moe(self.norm2(x), valid, causal)


class MoELM(nn.Module):
    """Language model over `symbols` ids, rows of up to `tokens` of them; `moe` are the options of `MoE`."""

    def __init__(
        self,
        symbols: int,
        tokens: int,
        *,
        d: int = 64,
        layers: int = 2,
        heads: int = 4,
        positions: str = "learned",
        **moe: Any,
    ) -> None:
        super().__init__()
        if positions not in POSITIONS:
            raise ValueError(f"positions is {positions!r}; choose from {', '.join(POSITIONS)}")
        self.token = nn.Embedding(symbols, d)
        nn.init.normal_(self.token.weight, std=0.5)
        self.position = nn.Parameter(0.1 * torch.randn(tokens, d)) if positions == "learned" else None
        rope = positions == "rope"
        self.blocks = nn.ModuleList([Block(d, heads, rope, MoE(d, **moe)) for _ in range(layers)])
        self.norm = nn.RMSNorm(d)
        self.head = nn.Linear(d, symbols, bias=False)

    def forward(self, ids: Tensor, valid: Tensor | None = None, causal: bool = False) -> Tensor:
        """Logits (B, T, symbols) of ids (B, T); `valid` bool (B, T) is false at padding.

        `causal` routes as decoding would; attention is causal always. Raises ValueError for a sequence without a
        valid token.
        """
        if valid is not None:
            if bool((empty := ~valid.any(1)).any()):
                raise ValueError(f"sequence {int(empty.nonzero()[0])} is all padding; drop it from the batch")
            valid = None if bool(valid.all()) else valid
        x = self.token(ids)
        if self.position is not None:
            x = x + self.position[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, valid, causal)
        return self.head(self.norm(x))

    def moe_layers(self) -> list[MoE]:
        """The layers with experts, in order."""
        return [layer for layer in self.modules() if isinstance(layer, MoE)]

    def set_router(self, router: str, K: int, lower: int, upper: int) -> None:
        """Route by another rule and budget from now on; weights stay."""
        for layer in self.moe_layers():
            layer.set_router(router, K, lower, upper)
