"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from retable.settings import Settings

Rate = Annotated[float, Field(ge=0, lt=1)]


class LinkSettings(Settings):
    """Link prediction by a predictor on an encoder's node states, or by a count of common neighbours."""

    method: Literal["gae", "ncn", "ncnc", "common-neighbours", "adamic-adar", "resource-allocation", "degree-product"]
    remove_targets: bool
    """Take the links of a training batch out of the input graph while they are scored."""
    hidden: PositiveInt
    layers: PositiveInt
    feature_dropout: Rate
    hidden_dropout: Rate
    """After the encoder's linear map."""
    propagated_dropout: Rate
    edge_dropout: Rate
    """Of the neighbours that the predictor looks at."""
    predictor_dropout: Rate
    two_layers: bool
    """A hidden layer more before the logit."""
    pt: float
    scale: float
    offset: float
    alpha: float
    encoder_lr: float
    predictor_lr: float
    batch_size: PositiveInt
    """Links."""
    epochs: int


EXPERIMENTS = {"run": LinkSettings}
