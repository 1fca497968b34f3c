"""What the recipes of `card.yaml` set."""

from typing import Literal

from retable.settings import Settings

RuleName = Literal["topk", "seqtopk", "batchtopk", "threshold", "expert-choice", "top-p", "relu", "mrl", "dense"]


class FactsSettings(Settings):
    """A small language model trained from scratch, or fine-tuned from TopK."""

    router: RuleName | Literal["majority"]
    k: int
    lower: int
    extra: int
    """Most experts of a token above K."""
    experts: int
    width: int
    """Hidden units of an expert."""
    d: int
    layers: int
    heads: int
    positions: Literal["learned", "rope"]
    shared_width: int
    gate_scale: float
    balance: float
    tokens: int
    test_windows: int
    batch_size: int
    steps_per_epoch: int
    epochs: int
    lr: float
    warmup: int
    """Steps."""
    weight_decay: float
    pretraining_epochs: int
    pretraining_k: int
    pretraining_lr: float
    pretraining_warmup: int


class FineTuneSettings(Settings):
    """A pretrained model from Hugging Face, fine-tuned on problems with answers."""

    backbone: str
    router: Literal["topk", "seqtopk", "batchtopk"]
    k: int
    lower: int
    extra: int
    max_length: int
    batch_size: int
    micro_batch: int
    epochs: int
    lr: float
    warmup_share: float
    schedule: Literal["linear", "cosine"]
    weight_decay: float
    precision: Literal["float32", "bfloat16"]
    checkpointing: bool
    new_tokens: int


EXPERIMENTS = {"run": FactsSettings, "finetune": FineTuneSettings, "code": FineTuneSettings}
