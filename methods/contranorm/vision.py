"""ContraNorm in vision transformers: a DeiT whose every LayerNorm becomes the token layer, trained on labels.

The paper trains DeiT-tiny on ImageNet-100 for 300 epochs. A tiny transformer on 5,000 images of CIFAR-10 takes a minute
on one CPU core:

    retable run contranorm/vision --scale reduced
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from retable.data.folder_images import FolderSet
from retable.data.image_batches import MemoryBatches
from retable.data.timm_batches import TimmBatches
from retable.evaluate.answers import beside
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.schedules import set_lr, warmup_cosine_timm

from .settings import VisionSettings
from .token import TokenContraNorm
from .vision_data import in_folder, in_memory

SPECTRUM_IMAGES = 128


def make_model(s: VisionSettings, classes: int) -> nn.Module:
    """timm's VisionTransformer; weights are drawn from torch's global generator.

    All 2 depth + 1 normalisations are LayerNorms (eps 1e-6), or token layers where `norm` is "CN".
    """
    from timm.models.vision_transformer import VisionTransformer  # imported on use: it takes seconds

    token_layer = partial(
        TokenContraNorm,
        scale=s.norm_scale,
        temp=s.temp,
        dual=s.dual,
        pre_norm=s.pre_norm,
        identity=s.identity,
        learnable=None if s.learnable == "none" else s.learnable,
    )
    return VisionTransformer(
        img_size=s.image_size,
        patch_size=s.patch,
        num_classes=classes,
        embed_dim=s.dim,
        depth=s.depth,
        num_heads=s.heads,
        mlp_ratio=s.mlp_ratio,
        drop_path_rate=s.drop_path,
        norm_layer=token_layer if s.norm == "CN" else partial(nn.LayerNorm, eps=1e-6),
    )


def make_optimiser(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; no decay on vectors, biases and the position and class tokens."""
    from timm.optim import param_groups_weight_decay

    no_decay = model.no_weight_decay()  # type: ignore[operator]
    groups = param_groups_weight_decay(model, weight_decay, no_weight_decay_list=no_decay)
    return torch.optim.AdamW(groups, lr=lr, eps=1e-8)


def ridge(settings: VisionSettings, context: Context) -> Result:
    """Ridge regression from pixels to classes; its strength is chosen by validation accuracy."""
    images, split = context.data()
    x, y = {}, {}
    for name, indices in vars(split).items():
        x[name] = images.images[indices].reshape(len(indices), -1) / np.float32(255)
        y[name] = images.labels[indices]
    models = [RidgeClassifier(alpha=alpha).fit(x["train"], y["train"]) for alpha in (1.0, 10.0, 100.0, 1000.0)]
    best = max(models, key=lambda model: model.score(x["val"], y["val"]))
    metrics = {f"last_{name}_accuracy": 100 * float(best.score(x[name], y[name])) for name in ("test", "val")}
    return Result(metrics | beside("last_test_accuracy", best.predict(x["test"])))


def percent_right(predicted: Tensor, labels: Tensor) -> float:
    """Accuracy in percent of predicted classes (N,)."""
    return 100 * (predicted == labels).double().mean().item()


class Vision(Experiment[VisionSettings]):
    """Training on labels for a fixed number of epochs; bfloat16 on a GPU."""

    controls = {"ridge": ridge}

    def __init__(self, settings: VisionSettings, context: Context) -> None:
        super().__init__(settings, context)
        images, split = context.data()
        load = in_folder if isinstance(images, FolderSet) else in_memory
        self.images: MemoryBatches | TimmBatches = load(images, split, settings, context.device)
        context.seed_torch("weights")
        self.model = make_model(settings, self.images.classes).to(context.device)

    def train(self) -> None:
        s, model, device = self.settings, self.model, self.context.device
        optimiser = make_optimiser(model, s.lr, s.weight_decay)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser):
            set_lr(optimiser, warmup_cosine_timm(epoch, s.lr, s.warmup, s.epochs, s.start_lr, s.end_lr))
            model.train()
            losses = []
            for x, target in self.images.training(s.batch):
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = F.cross_entropy(model(x), target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            accuracies = {"val_accuracy": percent_right(*self.predictions("val"))} if "val" in self.images.parts else {}
            self.context.log(epoch, loss=float(torch.stack(losses).mean()), **accuracies)

    def measure(self) -> Result:
        """Accuracies, and the tokens' similarity and effective rank by block on some test images."""
        parts = [name for name in ("test", "val") if name in self.images.parts]
        metrics: dict[str, float] = {}
        for name in parts:
            predicted, labels = self.predictions(name)
            metrics[f"last_{name}_accuracy"] = percent_right(predicted, labels)
            if name == "test":
                metrics |= beside("last_test_accuracy", predicted)
        return Result(metrics, spectra(self.model, first_images(self.images.part("test"), SPECTRUM_IMAGES)))

    @torch.no_grad()
    def predictions(self, part: str) -> tuple[Tensor, Tensor]:
        """Predicted and true classes (N,) of "train", "val" or "test"."""
        self.model.eval()
        pairs = [(self.model(x).argmax(1), y) for x, y in self.images.part(part)]
        predicted, labels = zip(*pairs, strict=True)
        return torch.cat(predicted), torch.cat(labels)

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training images, without augmentation."""
        x, y = next(self.images.part("train"))
        self.model.eval()
        return lambda: F.cross_entropy(self.model(x), y)


EXPERIMENT = Vision


@torch.no_grad()
def spectra(model: nn.Module, x: Tensor) -> dict[str, list[float]]:
    """Similarity and effective rank of the tokens of images ``x`` (B, 3, H, W), averaged over images, by block.

    "norm": the input of the block's attention; "block": the block's output.
    """
    series: dict[str, list[float]] = {}

    def record(stage: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], tokens: Tensor) -> None:
            for name, statistic in (("similarity", mean_cosine_similarity), ("effective_rank", effective_rank)):
                series.setdefault(f"{name}/{stage}", []).append(float(statistic(tokens).mean()))

        return hook

    hooks = [
        module.register_forward_hook(record(stage))
        for block in model.blocks  # type: ignore[union-attr]
        for stage, module in (("norm", block.norm1), ("block", block))
    ]
    model.eval()
    model(x)
    for hook in hooks:
        hook.remove()
    return series


def first_images(batches: Iterator[tuple[Tensor, Tensor]], number: int) -> Tensor:
    """The first images of some batches: (number, 3, H, W), or all if there are fewer."""
    taken: list[Tensor] = []
    for x, _ in batches:
        taken.append(x[: number - sum(map(len, taken))])
        if sum(map(len, taken)) == number:
            break
    return torch.cat(taken)
