"""A vision transformer on timm's blocks, the sizes that it comes in, and what a masked forward pass gives."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .settings import SizeName


@dataclass(frozen=True)
class Size:
    """A network's dimensions; `image` is the side it is usually trained at."""

    image: int
    patch: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    mlp_ratio: float = 4.0


SIZES: dict[SizeName, Size] = {
    "vit-b-16": Size(224, 16, 768, 12, 12, 512, 8, 16),
    "vit-l-16": Size(224, 16, 1024, 24, 16, 512, 8, 16),
    "vit-h-14": Size(224, 14, 1280, 32, 16, 512, 8, 16),
    "vit-ti-2": Size(32, 2, 192, 12, 3, 192, 4, 3),
    "vit-ti-4": Size(32, 4, 192, 12, 3, 192, 4, 3),
    "vit-s-4": Size(32, 4, 384, 12, 6, 512, 8, 16),
    # Ours, for a CPU.
    "vit-96-4": Size(32, 4, 96, 4, 3, 64, 1, 4, mlp_ratio=2.0),
    "vit-64-4": Size(16, 4, 64, 2, 4, 32, 1, 4, mlp_ratio=2.0),
}


class LayerNorm(nn.LayerNorm):
    """With eps 1e-6, as in all of MAE's networks."""

    def __init__(self, width: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__(width, eps=1e-6, device=device, dtype=dtype)


def sincos_positions(width: int, grid: int, *, cls_row: bool = True, dtype: torch.dtype = torch.float32) -> Tensor:
    """Fixed positions ((1 +) grid^2, width) of a grid read row by row; the cls token's row is zeros.

    The first half of the channels encodes the column, the second the row; of each half the first quarter-width are
    sines, the next cosines, of ``position * 10000^(-4 i / width)``. ``ValueError`` if 4 does not divide ``width``.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width that 4 divides, got {width}")
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    columns, rows = axis.repeat(grid, 1), axis.repeat_interleave(grid, 0)
    table = torch.cat([columns, rows], 1)
    return torch.cat([table.new_zeros(int(cls_row), width), table]).to(dtype)


class Encoder(nn.Module):
    """A pre-norm vision transformer without dropout: patches, cls token, fixed positions, blocks.

    ``norm`` is the final LayerNorm; ``fc_norm`` the one after a mean over patches. ``ValueError`` if the patch side
    does not divide the image side.
    """

    def __init__(self, size: Size, image: int | None = None, channels: int = 3, drop_path: float = 0.0) -> None:
        super().__init__()
        side = image or size.image
        if side % size.patch:
            raise ValueError(f"images of side {side} cannot be cut into patches of side {size.patch}")
        self.side, self.patch, self.channels, self.width = side, size.patch, channels, size.width
        grid = side // size.patch
        self.patch_embed = PatchEmbed(side, size.patch, channels, size.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(sincos_positions(size.width, grid)[None], requires_grad=False)
        drops = [drop_path * block / max(size.depth - 1, 1) for block in range(size.depth)]
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, size.mlp_ratio, qkv_bias=True, drop_path=drop, norm_layer=LayerNorm)
            for drop in drops
        )
        self.norm: nn.Module = LayerNorm(size.width)
        self.fc_norm = LayerNorm(size.width)

    def tokens(self, images: Tensor) -> Tensor:
        """Embedded patches with their positions (N, L, D). ``ValueError`` for images of another size."""
        check_shape(images, self.channels, self.side)
        return self.patch_embed(images) + self.pos_embed[:, 1:]

    def through_blocks(self, tokens: Tensor) -> Tensor:
        """The cls token and ``tokens`` (N, k, D) through all blocks, before the final LayerNorm: (N, 1 + k, D)."""
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([cls, tokens], 1)
        for block in self.blocks:
            x = block(x)
        return x

    def pooled(self, images: Tensor) -> Tensor:
        """Mean of the patch tokens, then ``fc_norm`` (N, D): the feature of MAE's fine-tuning with global pooling."""
        return self.fc_norm(self.through_blocks(self.tokens(images))[:, 1:].mean(1))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Frozen features of whole images, each (N, D): ``cls`` and ``mean_patch``, after the final LayerNorm."""
        x = self.norm(self.through_blocks(self.tokens(images)))
        return {"cls": x[:, 0], "mean_patch": x[:, 1:].mean(1)}


class MaskedPass(NamedTuple):
    """Output of a masked forward pass.

    ``loss`` of the reconstruction, ``z`` (N, D) for the uniformity loss and the online monitor, ``prediction`` as
    patches (N, L, P) in the target's units, ``mask`` (N, L), 1 for masked.
    """

    loss: Tensor
    z: Tensor
    prediction: Tensor
    mask: Tensor


def check_shape(images: Tensor, channels: int, side: int) -> None:
    """``ValueError`` for images that are not (N, channels, side, side)."""
    if images.shape[1:] != (channels, side, side):
        raise ValueError(f"this network takes images (N, {channels}, {side}, {side}), got {tuple(images.shape)}")


def init_linear(module: nn.Module) -> None:
    """Xavier weights and zero biases, for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
