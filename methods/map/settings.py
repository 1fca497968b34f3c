"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from retable.settings import Settings

EncodingName = Literal["none", "raw", "random-sign", "two-branch", "sign", "map"]
"""No encoding; eigenvectors as the solver gives them; their signs drawn anew for each training batch; a network that is
even in them; canonized in sign; canonized in sign and basis."""


class InvarianceSettings(Settings):
    """How much of an encoding survives a permutation of the nodes."""

    encoding: Literal["raw", "sign", "map"]
    k: PositiveInt
    """Eigenvectors of the encoding."""
    graphs: PositiveInt
    """The first so many of the data set in an order of the seed."""
    tolerance: float
    """Largest difference of two entries that count as equal."""


class ClassifySettings(Settings):
    """Classification of graphs by a network that sees an encoding beside the features."""

    model: Literal["gin", "gatedgcn", "majority"]
    encoding: EncodingName
    k: PositiveInt
    hidden: PositiveInt
    layers: PositiveInt
    trunk_layers: PositiveInt
    """Of the network that reads the encoding."""
    trunk_hidden: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)]
    lr: float
    epochs: int
    batch_size: PositiveInt


EXPERIMENTS = {"invariance": InvarianceSettings, "run": ClassifySettings}
