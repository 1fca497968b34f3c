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


class MoleculeSettings(Settings):
    """Targets of molecules by GatedGCN, which sees an encoding beside atoms and bonds."""

    encoding: Literal["none", "random-sign", "map"]
    """Without; eigenvectors with signs drawn anew for each training batch, added to the embedding (LapPE); canonized in
    sign and basis and read by a network."""
    evaluator: str
    """"mae", for which training minimises it, or the name of OGB's evaluator, with a cross-entropy for each label."""
    k: PositiveInt
    hidden: PositiveInt
    out: PositiveInt
    """Width of the last layer."""
    layers: PositiveInt
    readout: Literal["mean", "sum"]
    trunk_layers: PositiveInt
    trunk_hidden: PositiveInt
    input_dropout: Annotated[float, Field(ge=0, lt=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    lr: float
    lr_factor: Annotated[float, Field(gt=0, lt=1)]
    """The rate falls by it after more than `lr_patience` epochs without a lower validation loss."""
    lr_patience: Annotated[int, Field(ge=0)]
    min_lr: float
    """Training ends below it."""
    weight_decay: float
    epochs: int
    batch_size: PositiveInt


class FramesSettings(Settings):
    """Which of several weighted graphs is it? Seen are bases of one eigenspace, in any order of the nodes."""

    encoding: Literal["raw", "random-sign", "two-branch", "map", "majority"]
    graphs: PositiveInt
    """Classes: frames of the data set that the seed chooses."""
    instances: PositiveInt
    """Bases and orders of each."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    hidden: PositiveInt
    lr: float
    epochs: int
    batch_size: PositiveInt


EXPERIMENTS = {
    "frames": FramesSettings,
    "invariance": InvarianceSettings,
    "molecules": MoleculeSettings,
    "run": ClassifySettings,
}
