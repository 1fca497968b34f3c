"""SimMIM, the other masked image model that the uniformity loss is added to."""

import torch
from timm.models.beit import Beit
from torch import Tensor, nn

from .losses import patchify, simmim_loss
from .masking import masked_squares, square_masking
from .vit import LayerNorm, MaskedPass, Size, check_shape


class PixelHead(nn.Sequential):
    """SimMIM's decoder: a 1x1 convolution of (N, D, G, G), its channels (channel, row, column) shuffled into pixels."""

    def __init__(self, width: int, patch: int, channels: int = 3) -> None:
        super().__init__(nn.Conv2d(width, patch**2 * channels, 1), nn.PixelShuffle(patch))


class SimMIM(nn.Module):
    """SimMIM (Xie et al., 2022, arXiv 2111.09886): the encoder sees all tokens, masked ones as one learned token.

    The encoder is timm's BEiT with one relative position bias for all blocks, as in SimMIM's code. z is ours (the
    authors of U-MAE published no code for it): the mean of the final LayerNorm's patch tokens, since the cls token gets
    no gradient from the reconstruction. ``mean_patch`` features come from block ``probe_block`` (the 8th of 12 in
    SimMIM's evaluation). ``ValueError`` for a ratio outside [0, 1), or squares that do not fit.
    """

    undecayed = ("encoder.cls_token", "mask_token")
    """Parameters without weight decay, besides vectors: SimMIM's code leaves them out, MAE's does not."""
    norm_pixels = False

    def __init__(
        self,
        size: Size,
        classes: int,
        mask_ratio: float = 0.6,
        *,
        square: int = 32,
        probe_block: int = 8,
        drop_path: float = 0.1,
        image: int | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        side = image or size.image
        if side % square or square % size.patch:
            raise ValueError(
                f"SimMIM masks squares of {square} pixels: they must fill images of side {side} and consist of whole "
                f"patches of side {size.patch}"
            )
        if not 1 <= probe_block <= size.depth:
            raise ValueError(f"probe_block is one of the blocks 1 to {size.depth}, got {probe_block}")
        self.squares, self.tokens_per_square = (side // square) ** 2, square // size.patch
        self.side, self.patch, self.channels = side, size.patch, channels
        self.mask_ratio, self.probe_block = mask_ratio, probe_block
        masked_squares(mask_ratio, self.squares)
        self.encoder = Beit(
            img_size=side, patch_size=size.patch, in_chans=channels, num_classes=0, global_pool="token",
            embed_dim=size.width, depth=size.depth, num_heads=size.heads, mlp_ratio=size.mlp_ratio, init_values=0.1,
            drop_path_rate=drop_path, norm_layer=LayerNorm, use_abs_pos_emb=False, use_shared_rel_pos_bias=True,
        )  # fmt: skip
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = PixelHead(size.width, size.patch, channels)
        self.fc = nn.Linear(size.width, classes)

    def draw(self, n: int, device: torch.device) -> Tensor:
        """Random orders (N, R^2) of the squares of ``n`` images, from torch's global generator; masked first."""
        return torch.rand(n, self.squares, device=device).argsort(dim=1)

    def through_blocks(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (N, 1 + L, D) after block ``probe_block``, and after the final LayerNorm; ``mask`` (N, L)."""
        check_shape(images, self.channels, self.side)
        x = self.encoder.patch_embed(images)
        if mask is not None:
            x = torch.lerp(x, self.mask_token.to(x.dtype).expand_as(x), mask[..., None].to(x.dtype))
        x = torch.cat([self.encoder.cls_token.expand(len(x), -1, -1), x], 1)
        bias, inner = self.encoder.rel_pos_bias(), x
        for number, block in enumerate(self.encoder.blocks, start=1):
            x = block(x, shared_rel_pos_bias=bias)
            if number == self.probe_block:
                inner = x
        return inner, self.encoder.norm(x)

    def masked_feature(self, images: Tensor, order: Tensor) -> Tensor:
        """z (N, D) of masked images, without running the decoder."""
        mask = square_masking(order, self.mask_ratio, self.tokens_per_square).flatten(1)
        return self.through_blocks(images, mask)[1][:, 1:].mean(1)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Frozen features of whole images, each (N, D); see the class."""
        inner, last = self.through_blocks(images)
        return {"cls": last[:, 0], "mean_patch": inner[:, 1:].mean(1)}

    def forward(self, images: Tensor, order: Tensor) -> MaskedPass:
        """Reconstruct images (N, C, S, S) masked by an order of squares (N, R^2)."""
        mask = square_masking(order, self.mask_ratio, self.tokens_per_square)
        x = self.through_blocks(images, mask.flatten(1))[1]
        grid = self.side // self.patch
        pixels = self.decoder(x[:, 1:].transpose(1, 2).reshape(len(x), -1, grid, grid))
        counted = mask if self.mask_ratio else torch.ones_like(mask)
        loss = simmim_loss(pixels.to(images.dtype), images, counted)
        return MaskedPass(loss, x[:, 1:].mean(1), patchify(pixels, self.patch), mask.flatten(1))
