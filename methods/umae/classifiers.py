"""What is trained with labels after pre-training: the linear probe's head, and the network that is fine-tuned."""

from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from .vit import Encoder, Size, init_linear


class ProbeHead(nn.Sequential):
    """Head of the linear probe: BatchNorm without affine parameters, then a linear layer (MAE, appendix A.1)."""

    def __init__(self, width: int, classes: int) -> None:
        linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.BatchNorm1d(width, affine=False, eps=1e-6), linear)


def resized_positions(positions: Tensor, grid: int) -> Tensor:
    """Positions (1, 1 + g^2, D) for another grid, bicubic without antialiasing; the cls row stays."""
    return resample_abs_pos_embed(positions, [grid, grid], num_prefix_tokens=1, antialias=False)


class Classifier(Encoder):
    """The network that is fine-tuned: mean of patch tokens, ``fc_norm``, linear head; positions are trained as well."""

    def __init__(
        self, size: Size, classes: int, *, image: int | None = None, channels: int = 3, drop_path: float = 0.0
    ) -> None:
        super().__init__(size, image, channels, drop_path)
        self.norm = nn.Identity()
        self.pos_embed.requires_grad_(True)
        self.head = nn.Linear(size.width, classes)
        self.apply(init_linear)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """For timm's layer decay: embeddings are layer 0, blocks 1 to depth, head and norm the one above."""
        return {"stem": r"^cls_token|pos_embed|patch_embed", "blocks": r"^blocks\.(\d+)"}

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load patch embedding, cls token, positions (resized if the grid differs) and blocks of an MAE's weights.

        ``fc_norm`` and ``head`` keep their initial weights: U-MAE's checkpoints hold an untrained ``fc_norm``, which
        the authors' fine-tuning refuses to load. ``ValueError`` for weights of another network.
        """
        own = self.state_dict()
        loaded = {name: value for name, value in state.items() if name in own and not name.startswith("fc_norm")}
        loaded["pos_embed"] = resized_positions(loaded["pos_embed"], self.side // self.patch)
        missing = self.load_state_dict(loaded, strict=False).missing_keys
        if unknown := [name for name in missing if name.split(".")[0] not in ("fc_norm", "head")]:
            raise ValueError(f"these weights are not those of an MAE of this size: {', '.join(unknown[:3])} missing")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.head(self.pooled(images))
