"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field

from retable.settings import Settings

LossName = Literal["simclr", "scl", "scl-original", "tri-simclr", "tri-scl"]
BackboneName = Literal["resnet18", "small-resnet", "mlp"]
ViewName = Literal["photograph", "digit"]


class MatrixSettings(Settings):
    """A known matrix factored from several random starts."""

    factors: Literal["two", "three", "three-no-penalty"]
    trained: bool
    """False measures the random initialisation, here and below."""
    runs: int
    """Starts compared within a seed."""
    features: int
    lr: float
    epochs: int
    steps: int
    """Of an epoch."""


class ContrastiveSettings(Settings):
    """What contrastive learning on images has in common."""

    trained: bool
    width: int
    """Channels or hidden units of the backbone's first layer."""
    dim: int
    """Features: outputs of the projector."""
    top_dims: int
    """Features kept when the first, middle or last ones are evaluated."""
    temperature: float
    tau: float
    """Weight of the decorrelation penalty."""
    view: ViewName
    lr: float
    importance_lr: float
    epochs: int
    batch_size: int


class ImageSettings(ContrastiveSettings):
    """An encoder, its features evaluated in their order of importance."""

    loss: LossName | Literal["raw-pixels", "majority"]
    mode: Literal["none", "released", "released_learned", "paper"]
    backbone: BackboneName
    hidden: int
    """Hidden units of the projector."""
    mu: float
    """Largest squared norm of a feature vector in SCL's original form."""
    optimiser: Literal["lars", "adam"]
    weight_decay: float
    warmup_epochs: float
    warmup_start: float
    """First learning rate of the warm-up."""
    precision: Literal["float32", "bfloat16"]


class ImageNetSettings(ImageSettings):
    """The same on images that worker processes read from folders."""

    loss: LossName
    view: Literal["photograph"]
    workers: int


class AgreementSettings(ImageSettings):
    """Several encoders trained on the same images."""

    loss: LossName
    runs: Annotated[int, Field(ge=2)]
    """Encoders compared within a seed."""


class TwoTowerSettings(ContrastiveSettings):
    """CLIP on the two halves of an image."""

    loss: Literal["clip", "tri-clip"]
    mode: Literal["none", "frozen", "learned"]


EXPERIMENTS: dict[str, type[Settings]] = {
    "synthetic": MatrixSettings,
    "images": ImageSettings,
    "imagenet": ImageNetSettings,
    "agreement": AgreementSettings,
    "two_tower": TwoTowerSettings,
}
