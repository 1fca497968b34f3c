"""The networks: a vision transformer on timm's blocks, MAE and SimMIM around it, and what is fine-tuned afterwards."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.beit import Beit
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from methods.umae.losses import patchify, reconstruction_loss, simmim_loss, standardised
from methods.umae.masking import hidden_squares, random_masking, square_masking, taken, visible_patches


class LayerNorm(nn.LayerNorm):
    """With eps 1e-6, as in all of MAE's networks."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(width, eps=1e-6, **options)


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


SIZES = {
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


def resized_positions(positions: Tensor, grid: int) -> Tensor:
    """Positions (1, 1 + g^2, D) for another grid, bicubic without antialiasing; the cls row stays."""
    return resample_abs_pos_embed(positions, [grid, grid], num_prefix_tokens=1, antialias=False)


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
        self.side, self.patch, self.channels = side, size.patch, channels
        grid = side // size.patch
        self.patch_embed = PatchEmbed(side, size.patch, channels, size.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(sincos_positions(size.width, grid)[None], requires_grad=False)
        rates = [drop_path * block / max(size.depth - 1, 1) for block in range(size.depth)]
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, size.mlp_ratio, qkv_bias=True, drop_path=rate, norm_layer=LayerNorm)
            for rate in rates
        )
        self.norm = LayerNorm(size.width)
        self.fc_norm = LayerNorm(size.width)

    def tokens(self, images: Tensor) -> Tensor:
        """Embedded patches with their positions (N, L, D). ``ValueError`` for images of another size."""
        wanted = (self.channels, self.side, self.side)
        if images.shape[1:] != wanted:
            raise ValueError(f"this network takes images (N, {', '.join(map(str, wanted))}), got {tuple(images.shape)}")
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
        """Frozen features of whole images, each (N, D): ``cls`` (normed once), ``mean_patch`` (of normed tokens)."""
        x = self.norm(self.through_blocks(self.tokens(images)))
        return {"cls": x[:, 0], "mean_patch": x[:, 1:].mean(1)}


class Pretraining(NamedTuple):
    """What a masked forward pass gives.

    ``loss`` of the reconstruction, ``z`` (N, D) for the uniformity term and the online monitor, ``prediction`` as
    patches (N, L, P) in the target's units, ``hidden`` (N, L).
    """

    loss: Tensor
    z: Tensor
    prediction: Tensor
    hidden: Tensor


class MAE(Encoder):
    """A masked autoencoder (He et al., 2022, arXiv 2111.06377) as U-MAE's code has it; names of weights are its too.

    ``global_pool=False``: z is the cls token after the final LayerNorm *twice*, a quirk of the authors' code; else the
    mean of the visible tokens, normed by ``fc_norm``. ``fc`` is the online monitor, which never reaches the encoder.
    With mask ratio 0 the loss is that of all patches (the authors' would be 0 / 0). ``ValueError`` if the ratio is not
    in [0, 1) or leaves no patch visible.
    """

    def __init__(
        self,
        size: Size,
        classes: int,
        mask_ratio: float = 0.75,
        *,
        image: int | None = None,
        channels: int = 3,
        norm_pixels: bool = True,
        global_pool: bool = False,
    ) -> None:
        super().__init__(size, image, channels)
        grid = self.side // size.patch
        self.length, self.mask_ratio = grid * grid, mask_ratio
        if not visible_patches(self.length, mask_ratio):
            raise ValueError(
                f"mask_ratio {mask_ratio} leaves none of {self.length} patches visible; take a smaller one"
            )
        self.norm_pixels, self.global_pool = norm_pixels, global_pool
        self.decoder_embed = nn.Linear(size.width, size.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_width))
        positions = sincos_positions(size.decoder_width, grid)[None]
        self.decoder_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(size.decoder_width, size.decoder_heads, size.mlp_ratio, qkv_bias=True, norm_layer=LayerNorm)
            for _ in range(size.decoder_depth)
        )
        self.decoder_norm = LayerNorm(size.decoder_width)
        self.decoder_pred = nn.Linear(size.decoder_width, size.patch**2 * channels)
        self.apply(_xavier)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(size.width, -1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        # After the pass above: in the authors' code this layer keeps PyTorch's own start.
        self.fc = nn.Linear(size.width, classes)

    def draw(self, number: int, device: torch.device) -> Tensor:
        """The random numbers of a masked pass, from torch's global stream: noise (N, L) in [0, 1)."""
        return torch.rand(number, self.length, device=device)

    def encode_visible(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latent (N, 1 + k, D) of the visible patches after the final LayerNorm, hidden (N, L), restore (N, L)."""
        masking = random_masking(noise, self.mask_ratio)
        visible = taken(self.tokens(images), masking.kept)
        return self.norm(self.through_blocks(visible)), masking.hidden, masking.restore

    def training_feature(self, latent: Tensor) -> Tensor:
        """z (N, D), see the class."""
        return self.fc_norm(latent[:, 1:].mean(1)) if self.global_pool else self.norm(latent)[:, 0]

    def masked_feature(self, images: Tensor, noise: Tensor) -> Tensor:
        """z (N, D) of masked images without the decoder's work."""
        return self.training_feature(self.encode_visible(images, noise)[0])

    def decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Predicted patches (N, L, P)."""
        x = self.decoder_embed(latent)
        missing = restore.shape[1] + 1 - x.shape[1]
        patches = torch.cat([x[:, 1:], self.mask_token.to(x.dtype).expand(len(x), missing, -1)], 1)
        x = torch.cat([x[:, :1], taken(patches, restore)], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def target(self, images: Tensor) -> Tensor:
        """What is to be predicted (N, L, P)."""
        patches = patchify(images, self.patch)
        return standardised(patches) if self.norm_pixels else patches

    def forward(self, images: Tensor, noise: Tensor) -> Pretraining:
        """The masked pass of images (N, C, S, S) with noise (N, L)."""
        latent, hidden, restore = self.encode_visible(images, noise)
        prediction = self.decode(latent, restore)
        counted = hidden if self.mask_ratio else torch.ones_like(hidden)
        loss = reconstruction_loss(prediction.to(images.dtype), self.target(images), counted)
        return Pretraining(loss, self.training_feature(latent), prediction, hidden)


class PixelHead(nn.Sequential):
    """SimMIM's decoder: a 1x1 convolution of (N, D, G, G), its channels (channel, row, column) shuffled into pixels."""

    def __init__(self, width: int, patch: int, channels: int = 3) -> None:
        super().__init__(nn.Conv2d(width, patch**2 * channels, 1), nn.PixelShuffle(patch))


class SimMIM(nn.Module):
    """SimMIM (Xie et al., 2022, arXiv 2111.09886): the encoder sees all tokens, hidden ones as a learned mask token.

    The encoder is timm's BEiT with one relative position bias for all blocks, as in SimMIM's code. z is ours (the
    authors of U-MAE published no code for it): the mean of the final LayerNorm's patch tokens, since the cls token gets
    no gradient from the reconstruction. ``mean_patch`` features come from block ``probe_block`` (SimMIM's authors take
    the 8th of 12). ``ValueError`` for a ratio outside [0, 1), or squares that do not fit.
    """

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
                f"SimMIM hides squares of {square} pixels: they must fill images of side {side} and consist of whole "
                f"patches of side {size.patch}"
            )
        if not 1 <= probe_block <= size.depth:
            raise ValueError(f"probe_block is one of the blocks 1 to {size.depth}, got {probe_block}")
        self.squares, self.tokens_per_square = (side // square) ** 2, square // size.patch
        self.side, self.patch, self.channels = side, size.patch, channels
        self.mask_ratio, self.probe_block = mask_ratio, probe_block
        hidden_squares(mask_ratio, self.squares)
        self.encoder = Beit(
            img_size=side, patch_size=size.patch, in_chans=channels, num_classes=0, global_pool="token",
            embed_dim=size.width, depth=size.depth, num_heads=size.heads, mlp_ratio=size.mlp_ratio, init_values=0.1,
            drop_path_rate=drop_path, norm_layer=LayerNorm, use_abs_pos_emb=False, use_shared_rel_pos_bias=True,
        )  # fmt: skip
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder = PixelHead(size.width, size.patch, channels)
        self.fc = nn.Linear(size.width, classes)

    def draw(self, number: int, device: torch.device) -> Tensor:
        """The random numbers of a masked pass, from torch's global stream: an order of the squares (N, R^2)."""
        return torch.rand(number, self.squares, device=device).argsort(dim=1)

    def through_blocks(self, images: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (N, 1 + L, D) after block ``probe_block``, and after the final LayerNorm; ``hidden`` (N, L)."""
        if images.shape[1:] != (self.channels, self.side, self.side):
            wanted = f"(N, {self.channels}, {self.side}, {self.side})"
            raise ValueError(f"this network takes images {wanted}, got {tuple(images.shape)}")
        x = self.encoder.patch_embed(images)
        if hidden is not None:
            x = torch.lerp(x, self.mask_token.to(x.dtype).expand_as(x), hidden[..., None].to(x.dtype))
        x = torch.cat([self.encoder.cls_token.expand(len(x), -1, -1), x], 1)
        bias, inner = self.encoder.rel_pos_bias(), x
        for number, block in enumerate(self.encoder.blocks, start=1):
            x = block(x, shared_rel_pos_bias=bias)
            inner = x if number == self.probe_block else inner
        return inner, self.encoder.norm(x)

    def masked_feature(self, images: Tensor, order: Tensor) -> Tensor:
        """z (N, D) of masked images without the decoder's work."""
        hidden = square_masking(order, self.mask_ratio, self.tokens_per_square).flatten(1)
        return self.through_blocks(images, hidden)[1][:, 1:].mean(1)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Frozen features of whole images, each (N, D); see the class."""
        inner, last = self.through_blocks(images)
        return {"cls": last[:, 0], "mean_patch": inner[:, 1:].mean(1)}

    def forward(self, images: Tensor, order: Tensor) -> Pretraining:
        """The masked pass of images (N, C, S, S) with an order of squares (N, R^2)."""
        hidden = square_masking(order, self.mask_ratio, self.tokens_per_square)
        x = self.through_blocks(images, hidden.flatten(1))[1]
        grid = self.side // self.patch
        pixels = self.decoder(x[:, 1:].transpose(1, 2).reshape(len(x), -1, grid, grid))
        counted = hidden if self.mask_ratio else torch.ones_like(hidden)
        loss = simmim_loss(pixels.to(images.dtype), images, counted)
        return Pretraining(loss, x[:, 1:].mean(1), patchify(pixels, self.patch), hidden.flatten(1))


class ProbeHead(nn.Sequential):
    """The linear probe's head: BatchNorm without affine part, then a linear layer of small weights (MAE, A.1)."""

    def __init__(self, width: int, classes: int) -> None:
        linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.BatchNorm1d(width, affine=False, eps=1e-6), linear)


class Classifier(Encoder):
    """The network that is fine-tuned: mean of patch tokens, ``fc_norm``, linear head; positions are trained too."""

    def __init__(
        self, size: Size, classes: int, *, image: int | None = None, channels: int = 3, drop_path: float = 0.0
    ) -> None:
        super().__init__(size, image, channels, drop_path)
        self.norm: nn.Module = nn.Identity()  # type: ignore[assignment]
        self.pos_embed.requires_grad_(True)
        self.head = nn.Linear(size.width, classes)
        self.apply(_xavier)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """For timm's layer decay: embeddings are layer 0, blocks 1 to depth, head and norm the one above."""
        return {"stem": r"^cls_token|pos_embed|patch_embed", "blocks": r"^blocks\.(\d+)"}

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Take over patch embedding, cls token, positions (resized if the grid differs) and blocks of an MAE.

        ``fc_norm`` and ``head`` start anew: U-MAE's checkpoints carry an ``fc_norm`` that nothing has trained, over
        which the authors' fine-tuning stops. ``ValueError`` for weights of another network.
        """
        own = self.state_dict()
        taken_over = {name: value for name, value in state.items() if name in own and not name.startswith("fc_norm")}
        taken_over["pos_embed"] = resized_positions(taken_over["pos_embed"], self.side // self.patch)
        missing = self.load_state_dict(taken_over, strict=False).missing_keys
        if strangers := [name for name in missing if name.split(".")[0] not in ("fc_norm", "head")]:
            raise ValueError(f"these weights are not those of an MAE of this size: {', '.join(strangers[:3])} missing")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.head(self.pooled(images))


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
