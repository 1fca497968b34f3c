"""The masked autoencoder that U-MAE adds its uniformity loss to."""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .losses import normalize_patches, patchify, reconstruction_loss
from .masking import gather_tokens, random_masking, visible_patches
from .vit import Encoder, LayerNorm, MaskedPass, Size, init_linear, sincos_positions


class MAE(Encoder):
    """A masked autoencoder (He et al., 2022, arXiv 2111.06377) as in U-MAE's code, with its names of weights.

    ``global_pool=False``: z is the cls token after the final LayerNorm *twice*, a quirk of the authors' code; else the
    mean of the visible tokens, normalised by ``fc_norm``. ``fc`` is the online monitor, whose gradient stops at z.
    With mask ratio 0 the loss is over all patches (the authors' would be 0 / 0). ``ValueError`` if the ratio is not
    in [0, 1) or leaves no patch visible.
    """

    undecayed: tuple[str, ...] = ()
    """Parameters without weight decay, besides vectors."""

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
            message = f"mask_ratio {mask_ratio} leaves none of {self.length} patches visible; take a smaller one"
            raise ValueError(message)
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
        self.apply(init_linear)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(size.width, -1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        # After the pass above: in the authors' code this layer keeps PyTorch's default initialisation.
        self.fc = nn.Linear(size.width, classes)

    def draw(self, n: int, device: torch.device) -> Tensor:
        """Noise (N, L) in [0, 1) that decides the masks of ``n`` images, from torch's global generator."""
        return torch.rand(n, self.length, device=device)

    def encode_visible(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latent (N, 1 + k, D) of the visible patches after the final LayerNorm; mask, restore (N, L)."""
        masking = random_masking(noise, self.mask_ratio)
        visible = gather_tokens(self.tokens(images), masking.visible)
        return self.norm(self.through_blocks(visible)), masking.mask, masking.restore

    def training_feature(self, latent: Tensor) -> Tensor:
        """z (N, D) of a latent; see the class."""
        return self.fc_norm(latent[:, 1:].mean(1)) if self.global_pool else self.norm(latent)[:, 0]

    def masked_feature(self, images: Tensor, noise: Tensor) -> Tensor:
        """z (N, D) of masked images, without running the decoder."""
        return self.training_feature(self.encode_visible(images, noise)[0])

    def decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Predicted patches (N, L, P)."""
        x = self.decoder_embed(latent)
        masked = restore.shape[1] - (x.shape[1] - 1)
        patches = torch.cat([x[:, 1:], self.mask_token.to(x.dtype).expand(len(x), masked, -1)], 1)  # (N, L, D)
        x = torch.cat([x[:, :1], gather_tokens(patches, restore)], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def target(self, images: Tensor) -> Tensor:
        """Target patches (N, L, P) of images (N, C, S, S)."""
        patches = patchify(images, self.patch)
        return normalize_patches(patches) if self.norm_pixels else patches

    def forward(self, images: Tensor, noise: Tensor) -> MaskedPass:
        """Reconstruct images (N, C, S, S) masked by noise (N, L)."""
        latent, mask, restore = self.encode_visible(images, noise)
        prediction = self.decode(latent, restore)
        counted = mask if self.mask_ratio else torch.ones_like(mask)
        loss = reconstruction_loss(prediction.to(images.dtype), self.target(images), counted)
        return MaskedPass(loss, self.training_feature(latent), prediction, mask)
