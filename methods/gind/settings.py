"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from retable.settings import Settings

Rate = Annotated[float, Field(ge=0, lt=1)]


class ModelSettings(Settings):
    """GIND, or a control of the same width: its MLP, its explicit form, a GCN."""

    method: Literal["gind", "mlp", "explicit", "gcn", "majority"]
    channels: PositiveInt
    layers: PositiveInt
    alpha: float
    """Damping: the share of the new state."""
    steps: PositiveInt
    gradient_steps: PositiveInt
    """The last of them, which pass on gradients."""
    double: bool
    rescale: bool
    dropout: Rate
    """Of the input and before the head."""
    implicit_dropout: Rate
    implicit_lr: float
    lr: float
    """Of encoder and head."""
    implicit_weight_decay: float
    weight_decay: float
    epochs: int


class NodeSettings(ModelSettings):
    """Node classification."""

    self_loops: bool
    """Degrees count one more."""
    symmetrise: bool
    keep_loops: bool
    """Of the edges as they are listed."""
    regulariser: Literal["none", "Lap", "Dec"]
    regulariser_rate: float
    patience: int
    """Epochs without a better validation accuracy."""


class InductiveSettings(ModelSettings):
    """Several labels for each node, on graphs that were not trained on."""

    self_loops: bool
    """Degrees count one more."""
    lr_every: PositiveInt
    """Epochs after which the learning rate falls by `lr_factor`."""
    lr_factor: float
    patience: int
    """Epochs without a better validation F1."""


class GraphSettings(ModelSettings):
    """Classification of graphs, whose node states are summed."""

    batch_size: PositiveInt


EXPERIMENTS = {"run": NodeSettings, "graphs": GraphSettings, "inductive": InductiveSettings}
