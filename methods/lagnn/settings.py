"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from retable.settings import Settings

Rate = Annotated[float, Field(ge=0, lt=1)]


class NodeSettings(Settings):
    """Node classification by a GCN with extra copies of the features, or by an ensemble of plain ones."""

    method: Literal["lagcn", "ensemble", "majority"]
    copies: Literal["none", "generated", "neighbour", "noise", "real"]
    """What the extra branches see: draws of the generator, a random neighbour's features, the node's own with Gaussian
    noise, the node's own as they are."""
    branches: int
    """Extra branches; without copies there is none."""
    members: PositiveInt
    """Of an ensemble."""
    noise: float
    """Std of the noise, in stds of the features' entries."""
    init: Literal["official", "xavier"]
    hidden: PositiveInt
    dropout: Rate
    draws: PositiveInt
    """S: forward passes of a training step that the consistency loss ties together."""
    temperature: float
    consistency: float
    """lambda, the weight of the consistency loss."""
    lr: float
    weight_decay: float
    epochs: int
    generator_hidden: PositiveInt
    latent: PositiveInt
    generator_lr: float
    generator_batch: PositiveInt
    """Pairs of a node and a neighbour."""
    generator_epochs: int
    score_passes: int
    """K: passes with dropout of the scorer; 0 keeps the generator's last state without a score."""
    score_every: PositiveInt
    """Batches between two scores."""
    score_from: int
    """Batches before a scored generator may be kept."""


EXPERIMENTS = {"run": NodeSettings}
