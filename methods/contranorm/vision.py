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

from methods.contranorm.token import TokenContraNorm
from methods.contranorm.vision_data import FromFolder, InMemory
from retable.cards import CardError, Scalar, unknown
from retable.data.folder_images import FolderSet
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.plan import Cell
from retable.train.context import Context, Result
from retable.train.schedules import set_rate, warmup_cosine_timm

CONTROLS = ("ridge",)
SPECTRUM_IMAGES = 128


def make_model(settings: dict[str, Scalar], classes: int) -> nn.Module:
    """timm's VisionTransformer as the cell's settings describe it; weights come from torch's global stream.

    All 2 depth + 1 normalisations are LayerNorms (eps 1e-6), or token layers where `norm` is "CN". Raises CardError for
    another `norm`.
    """
    from timm.models.vision_transformer import VisionTransformer  # imported on use: it takes seconds

    s = settings
    if s["norm"] not in ("LN", "CN"):
        raise CardError(unknown("norm", str(s["norm"]), ["LN", "CN"]))
    token_layer = partial(
        TokenContraNorm,
        scale=float(s["norm_scale"]),
        temp=float(s["temp"]),
        dual=bool(s["dual"]),
        pre_norm=bool(s["pre_norm"]),
        identity=bool(s["identity"]),
        learnable=None if s["learnable"] == "none" else str(s["learnable"]),
    )
    return VisionTransformer(
        img_size=int(s["image_size"]),
        patch_size=int(s["patch"]),
        num_classes=classes,
        embed_dim=int(s["dim"]),
        depth=int(s["depth"]),
        num_heads=int(s["heads"]),
        mlp_ratio=float(s["mlp_ratio"]),
        drop_path_rate=float(s["drop_path"]),
        norm_layer=token_layer if s["norm"] == "CN" else partial(nn.LayerNorm, eps=1e-6),
    )


def build(cell: Cell, context: Context) -> tuple[InMemory | FromFolder, nn.Module]:
    """Data and untrained model of a cell; the weights depend on the seed only."""
    images, split = context.data()
    batches = FromFolder if isinstance(images, FolderSet) else InMemory
    task = batches(images, split, cell.settings, context.device)
    context.seed_torch("weights")
    return task, make_model(cell.settings, task.classes).to(context.device)


def make_optimiser(model: nn.Module, settings: dict[str, Scalar]) -> torch.optim.Optimizer:
    """AdamW; no decay on vectors, biases and the position and class tokens."""
    from timm.optim import param_groups_weight_decay

    spared = model.no_weight_decay()  # type: ignore[operator]
    groups = param_groups_weight_decay(model, float(settings["weight_decay"]), no_weight_decay_list=spared)
    return torch.optim.AdamW(groups, lr=float(settings["lr"]), eps=1e-8)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model and a loss without chance in it, for the test that one step of learning lowers the loss."""
    task, model = build(cell, context)
    x, y = next(task.part("train"))
    model.eval()
    return model, lambda: F.cross_entropy(model(x), y)


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Metrics are accuracies in percent."""
    if cell.settings["model"] in CONTROLS:
        return control(context)
    s = cell.settings
    task, model = build(cell, context)
    optimiser = make_optimiser(model, s)

    epochs, lr = int(s["epochs"]), float(s["lr"])
    for epoch in context.epochs(epochs, model=model, optimiser=optimiser):
        rate = warmup_cosine_timm(epoch, lr, int(s["warmup"]), epochs, float(s["start_lr"]), float(s["end_lr"]))
        set_rate(optimiser, rate)
        model.train()
        loss = train_epoch(task, model, optimiser, context.device)
        scalars = {"val_accuracy": accuracy(task, model, "val")} if "val" in task.parts else {}
        context.log(epoch, loss=loss, **scalars)
    context.save_weights("last", model.state_dict())
    return measure(task, model)


def train_epoch(
    task: InMemory | FromFolder, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> float:
    """One pass over the training batches; returns the mean loss of its batches."""
    losses = []
    for x, target in task.training():
        with mixed_precision(device):
            loss = F.cross_entropy(model(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU, nothing on a processor."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["model"] in CONTROLS:
        return control(context)
    task, model = build(cell, context)
    model.load_state_dict(context.load_weights("last"))
    return measure(task, model)


def measure(task: InMemory | FromFolder, model: nn.Module) -> Result:
    """Accuracies of the last epoch, and the tokens' similarity and effective rank by layer on some test images."""
    metrics = {f"last_{name}_accuracy": accuracy(task, model, name) for name in ("test", "val") if name in task.parts}
    return Result(metrics, spectra(model, first_images(task.part("test"), SPECTRUM_IMAGES)))


@torch.no_grad()
def accuracy(task: InMemory | FromFolder, model: nn.Module, part: str) -> float:
    """In percent, on a part of the data."""
    model.eval()
    right = [(model(x).argmax(1) == y).double() for x, y in task.part(part)]
    return 100 * torch.cat(right).mean().item()


@torch.no_grad()
def spectra(model: nn.Module, x: Tensor) -> dict[str, list[float]]:
    """Similarity and effective rank of the tokens of images ``x`` (B, 3, H, W), averaged over images, by block.

    "norm": as the block's attention gets them; "block": as the block returns them.
    """
    series: dict[str, list[float]] = {}

    def note(place: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], tokens: Tensor) -> None:
            for name, statistic in (("similarity", mean_cosine_similarity), ("effective_rank", effective_rank)):
                series.setdefault(f"{name}/{place}", []).append(float(statistic(tokens).mean()))

        return hook

    hooks = [
        module.register_forward_hook(note(place))
        for block in model.blocks  # type: ignore[union-attr]
        for place, module in (("norm", block.norm1), ("block", block))
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


def control(context: Context) -> Result:
    """A row without a network: ridge regression from pixels to classes, its strength by validation accuracy."""
    images, split = context.data()
    x, y = {}, {}
    for name, places in vars(split).items():
        x[name] = images.images[places].reshape(len(places), -1) / np.float32(255)
        y[name] = images.labels[places]
    models = [RidgeClassifier(alpha=alpha).fit(x["train"], y["train"]) for alpha in (1.0, 10.0, 100.0, 1000.0)]
    best = max(models, key=lambda model: model.score(x["val"], y["val"]))
    return Result({f"last_{name}_accuracy": 100 * float(best.score(x[name], y[name])) for name in ("test", "val")})
