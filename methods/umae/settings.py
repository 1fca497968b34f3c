"""What the recipes of `card.yaml` set."""

from typing import Literal

from pydantic import Field

from retable.settings import Settings

SizeName = Literal["vit-b-16", "vit-l-16", "vit-h-14", "vit-ti-2", "vit-ti-4", "vit-s-4", "vit-96-4", "vit-64-4"]


class PretrainSettings(Settings):
    """Masked pre-training, and how its features are evaluated."""

    model: Literal["mae", "simmim", "raw-pixels", "majority"]
    size: SizeName
    trained: bool
    """False: the encoder keeps its initial weights."""
    lambda_: float = Field(alias="lambda")
    """Weight of the uniformity loss; 0 is plain MAE or SimMIM."""
    emulate_world_size: int
    """Number of processes of the authors' run, which divides the gradient of the uniformity loss."""
    mask_ratio: float
    norm_pixels: bool
    """Whether MAE predicts standardised patches."""
    square: int
    """Side in pixels of the squares that SimMIM masks."""
    probe_block: int
    """Block, from 1, whose patch tokens are SimMIM's features."""
    drop_path: float
    epochs: int
    warmup: float
    """Epochs."""
    batch_size: int
    blr: float
    """Base learning rate: lr = blr * batch_size / 256."""
    weight_decay: float
    beta2: float
    clip: float
    """Largest gradient norm; 0 for no clipping."""
    crop_low: float
    """Smallest area of a random crop; 1 for no cropping."""
    flip: bool
    statistics: Literal["half", "imagenet"]
    """Mean and std that images are normalised by."""
    autocast: Literal["bfloat16", "float16"] | bool
    """True is bfloat16, False float32."""
    compile: bool | str = False
    """True, or the name of a backend of torch.compile."""
    monitor_every: int
    """Epochs between two accuracies of the online monitor."""


class TransferSettings(PretrainSettings):
    """Pre-training, then a linear probe or fine-tuning with labels."""

    model: Literal["mae"]
    evaluation: Literal["linear-probe", "fine-tune"]
    tune_epochs: int
    tune_warmup: float
    tune_batch_size: int
    tune_blr: float
    tune_min_lr: float
    tune_crop_low: float
    layer_decay: float
    """Factor of the learning rate from each block to the one below it."""
    mixup: float
    cutmix: float
    label_smoothing: float
    workers: int
    """Processes that decode images from folders."""


EXPERIMENTS = {"pretrain": PretrainSettings, "transfer": TransferSettings}
