"""What the recipes of `card.yaml` set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from retable.settings import Settings

Arch = Literal["resnet18", "resnet18-stl", "small", "tiny"]
Interpolation = Literal["bilinear", "bicubic"]
WeightRule = Literal["code", "one-minus-strength"]
PixelDistance = Annotated[float, Field(gt=0, le=1)]


class PretrainSettings(Settings):
    """Pre-training, LP-AFT, and classifiers evaluated under attack."""

    method: Literal["contrastive", "supervised", "untrained", "majority"]
    adversarial: bool
    """False: SimCLR, without an attack in pre-training."""
    arch: Arch
    head_layers: int
    momentum_encoder: bool
    momentum: float
    temperature: float
    eps: PixelDistance
    step_size: PixelDistance
    attack_iters: PositiveInt
    epochs: int
    plateaus: int
    """E / K: the number of different augmentation strengths."""
    strength: float
    """Augmentation strength of the first epoch."""
    swap: float
    """lambda: how far the loss moves to its adversarial half."""
    weight_rule: WeightRule
    interpolation: Interpolation
    flip: bool
    optimiser: Literal["lars", "sgd"]
    lr: float
    warmup: int
    """Epochs."""
    weight_decay: float
    batch_size: int
    lp_aft: bool
    """Fine-tune on pseudo-labels: DYNACL++."""
    clusters: int
    lp_epochs: int
    lp_lr: float
    aft_epochs: int
    aft_lr: float
    tune_batch: int
    trades_iters: PositiveInt
    trades_noise: float
    beta: float
    supervised_epochs: int
    evaluations: Literal["slf", "alf", "aff", "slf+alf", "slf+aff", "alf+aff", "slf+alf+aff"]
    crop_padding: int
    probe_epochs: int
    probe_lr: float
    probe_batch: int
    probe_views: int
    """Different augmentations of an image in linear evaluation."""
    alf_iters: PositiveInt
    aff_epochs: int
    aff_lr: float
    aff_batch: int
    pgd_iters: PositiveInt
    attacked_images: int
    aa_version: Literal["standard", "lite"]
    aa_images: int
    aa_iterations: PositiveInt


class FewLabelsSettings(PretrainSettings):
    """Pre-training, then a teacher and a student from few labels."""

    method: Literal["contrastive"]
    evaluations: Literal["slf"]
    labels: str
    """Share of the training images, such as 10%."""
    few_labels_lr: float
    teacher_epochs: int
    teacher_batch: int
    student_epochs: int
    student_batch: int
    student_iters: PositiveInt


EXPERIMENTS = {"run": PretrainSettings, "few_labels": FewLabelsSettings}
