"""What the recipes of `card.yaml` set."""

from typing import Literal

from retable.settings import Settings

NormName = Literal["none", "PN", "PN-SI", "PN-SCS", "LN", "DGN", "CN", "CN-D"]
LayerNormKind = Literal["none", "shared", "per-layer"]


class NodeSettings(Settings):
    """Node classification by a graph network, or by a control without one."""

    model: Literal["gcn", "gat", "sgc", "majority", "logistic-regression"]
    norm: NormName
    norm_scale: float
    """s of PairNorm and ContraNorm."""
    layer_norm: LayerNormKind
    tau: float
    """ContraNorm's temperature."""
    depth: int = 0
    """Layers; controls have none."""
    hidden: int
    heads: int = 1
    """Of GAT."""
    residual: int
    """Layers between residual connections; 0: none."""
    dropout: float
    epochs: int
    lr: float
    weight_decay: float
    eval_every: int
    """Epochs."""


class VisionSettings(Settings):
    """A vision transformer trained on labels from random weights."""

    model: Literal["vit", "ridge"]
    norm: Literal["LN", "CN"]
    norm_scale: float
    temp: float
    dual: bool
    pre_norm: bool
    identity: bool
    learnable: Literal["none", "linear", "exp"]
    image_size: int
    patch: int
    dim: int
    heads: int
    depth: int
    mlp_ratio: float
    drop_path: float
    """Of the last block; it grows linearly from 0."""
    epochs: int
    batch: int
    lr: float
    start_lr: float
    end_lr: float
    warmup: int
    """Epochs."""
    weight_decay: float
    augment: Literal["none", "crop-flip", "deit"]
    """The fields from auto_augment to workers are read by "deit" alone."""
    auto_augment: str
    color_jitter: float
    erasing: float
    repeats: int
    mixup: float
    cutmix: float
    mix_switch: float
    label_smoothing: float
    workers: int


class LanguageSettings(Settings):
    """BERT or ALBERT with ContraNorm, fine-tuned on a GLUE task."""

    backbone: Literal["tiny-random-bert", "bert-base-uncased", "albert-base-v2"]
    norm_scale: float
    position: str
    """Digits of `hf.POSITIONS`."""
    form: Literal["row", "feature"]
    max_length: int
    """Tokens."""
    batch_size: int
    epochs: int
    lr: float
    eps: float
    """Of AdamW."""
    weight_decay: float


EXPERIMENTS = {
    "run": NodeSettings,
    "layers": NodeSettings,
    "vision": VisionSettings,
    "language": LanguageSettings,
}
