"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from retable.settings import Settings

Rate = Annotated[float, Field(ge=0, lt=1)]


class CopiesSettings(Settings):
    """Copies of the features, the generator that may draw them, and the loss that ties draws together."""

    copies: Literal["none", "generated", "neighbour", "noise", "real"]
    """What the extra inputs are: draws of the generator, a random neighbour's features, the node's own with Gaussian
    noise, the node's own as they are."""
    branches: int
    """Extra inputs; without copies there is none."""
    noise: float
    """Std of the noise, in stds of the features' entries."""
    hidden: PositiveInt
    draws: PositiveInt
    """S: forward passes of a training step (of each input, in GRAND's form) that the consistency loss ties together."""
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


class NodeSettings(CopiesSettings):
    """Node classification by a GCN with extra copies of the features, or by an ensemble of plain ones."""

    method: Literal["lagcn", "ensemble", "majority"]
    members: PositiveInt
    """Of an ensemble."""
    init: Literal["official", "xavier"]
    dropout: Rate


class GrandSettings(CopiesSettings):
    """Node classification by GRAND, which propagates masked rows, with fixed copies of the features beside."""

    method: Literal["grand", "majority"]
    input_dropout: Rate
    hidden_dropout: Rate
    dropnode: Rate
    """Share of the rows that a draw masks."""
    order: PositiveInt
    """Highest power of the adjacency."""
    batch_norm: bool
    patience: PositiveInt
    """Epochs without a better validation loss or accuracy after which training ends."""


EXPERIMENTS = {"run": NodeSettings, "grand": GrandSettings}
