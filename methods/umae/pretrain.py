"""Pre-training by masked reconstruction, with or without U-MAE's uniformity term, and what the features are like.

With 5,000 images of CIFAR-10 the term raises the effective rank of the cls feature at no cost in reconstruction:

    retable run umae/pretrain --scale reduced
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from methods.umae.diagnostics import geometry, spectrum
from methods.umae.losses import patchify, uniformity_loss, unpatchify
from methods.umae.models import MAE, SIZES, Pretraining, SimMIM
from methods.umae.task import FromFolder, InMemory, task_of
from retable.cards import CardError, Scalar, unknown
from retable.plan import Cell
from retable.train.context import Context, Result
from retable.train.distributed import world_size
from retable.train.parallel import all_reduce_mean, ddp, shard
from retable.train.precision import Stepper, autocast, compile_in_place
from retable.train.schedules import set_rate, warmup_cosine

PARALLEL = True
CONTROLS = ("majority", "raw-pixels")
# SimMIM's code leaves these out of the weight decay, MAE's does not.
SIMMIM_UNDECAYED = ("encoder.cls_token", "mask_token")
PICTURED, MAGNIFIED = 8, 96


# Model and loss -------------------------------------------------------------------------------------------------------


def make_model(settings: dict[str, Scalar], side: int, channels: int, classes: int) -> MAE | SimMIM:
    """The untrained network of a cell; weights come from torch's global stream.

    ``CardError`` for unknown names and settings that do not fit, such as a mask ratio that leaves nothing visible.
    """
    s = settings
    if s["size"] not in SIZES:
        raise CardError(unknown("size", str(s["size"]), list(SIZES)))
    size, ratio = SIZES[str(s["size"])], float(s["mask_ratio"])
    try:
        if s["model"] == "mae":
            norm_pixels = bool(s["norm_pixels"])
            return MAE(size, classes, ratio, image=side, channels=channels, norm_pixels=norm_pixels)
        if s["model"] == "simmim":
            return SimMIM(
                size, classes, ratio, image=side, channels=channels, square=int(s["square"]),
                probe_block=int(s["probe_block"]), drop_path=float(s["drop_path"]),
            )  # fmt: skip
    except ValueError as error:
        raise CardError(str(error)) from None
    raise CardError(unknown("model", str(s["model"]), ["mae", "simmim", *CONTROLS]))


def objective(
    model: MAE | SimMIM, images: Tensor, labels: Tensor, settings: dict[str, Scalar], draw: Tensor | None = None
) -> tuple[Tensor, Pretraining, Tensor]:
    """What is minimised, the masked pass and the uniformity; without `draw` the mask is from torch's global stream.

    Reconstruction + lambda * uniformity + the online monitor's cross-entropy, which does not reach the encoder.
    """
    weight = float(settings["lambda"])
    if draw is None:
        draw = model.draw(len(images), images.device)
    with autocast(images.device, settings["autocast"]):
        out = model(images, draw)
        # Images without a label have -1; a batch of such alone would give 0 / 0.
        monitor = F.cross_entropy(model.fc(out.z.detach()).float(), labels, ignore_index=-1)
        monitor = monitor.nan_to_num(0.0, posinf=float("inf"))
    # Without the term its value is still logged.
    with torch.set_grad_enabled(torch.is_grad_enabled() and weight > 0):
        uniformity = uniformity_loss(out.z, int(settings["emulate_world_size"]))
    total = out.loss + monitor
    return (total + weight * uniformity if weight > 0 else total), out, uniformity.detach()


class Objective(nn.Module):
    """A network with its objective as one module: what several processes share."""

    def __init__(self, model: MAE | SimMIM, settings: dict[str, Scalar]) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, images: Tensor, labels: Tensor, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is minimised, the reconstruction loss and the uniformity."""
        loss, out, uniformity = objective(self.model, images, labels, self.settings, draw)
        return loss, out.loss.detach(), uniformity


class Pretrainer:
    """A network with its optimiser: AdamW, a rate of blr * batch / 256 after warm-up, half a cosine to 0.

    The setting `compile`, absent in most recipes, has the network compiled.
    """

    def __init__(self, task: InMemory | FromFolder, model: MAE | SimMIM, settings: dict[str, Scalar]) -> None:
        self.task, self.model, self.settings = task, model, settings
        undecayed = SIMMIM_UNDECAYED if isinstance(model, SimMIM) else ()
        groups = param_groups_weight_decay(model, float(settings["weight_decay"]), no_weight_decay_list=undecayed)
        betas = (0.9, float(settings["beta2"]))
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)
        self.stepper = Stepper(self.optimiser, task.device, settings["autocast"])
        compile_in_place(model, settings.get("compile", False))
        self.objective = ddp(Objective(model, settings), int(settings["batch_size"]))
        self.encoder_and_decoder = [weight for name, weight in model.named_parameters() if not name.startswith("fc.")]

    def epoch(self, number: int) -> dict[str, float]:
        """Pass number `number`, from 1, over the training images; returns means of the losses."""
        s, batch_size = self.settings, int(self.settings["batch_size"])
        rate, steps = float(s["blr"]) * batch_size / 256, self.task.steps(batch_size)
        sums = torch.zeros(3, device=self.task.device)
        self.model.train()
        batches = self.task.batches(batch_size, number, float(s["crop_low"]))
        for step, (images, labels) in enumerate(batches):
            done = number - 1 + step / steps
            set_rate(self.optimiser, warmup_cosine(done, rate, float(s["warmup"]), int(s["epochs"])))
            # Drawn for the whole batch, so that it does not matter how many processes share it.
            draw = shard(self.model.draw(len(images) * world_size(), self.task.device))
            loss, reconstruction, uniformity = self.objective(images, labels, draw)
            self.stepper.step(loss, float(s["clip"]), self.encoder_and_decoder)
            sums += torch.stack([loss.detach(), reconstruction, uniformity])
        names = ("loss", "reconstruction", "uniformity")
        return dict(zip(names, (all_reduce_mean(sums) / steps).tolist(), strict=True))


@torch.no_grad()
def monitored(task: InMemory, model: MAE | SimMIM) -> float:
    """Accuracy in percent of the online monitor on masked validation images; the decoder does no work."""
    model.eval()
    right = 0
    for images, labels in task.whole("val"):
        z = model.masked_feature(images, model.draw(len(images), task.device))
        right += int((model.fc(z).argmax(1) == labels).sum())
    return 100 * right / task.size("val")


# Training -------------------------------------------------------------------------------------------------------------


def memory_task(cell: Cell, context: Context) -> InMemory:
    """The cell's images; raises CardError for those that stay in folders, whose features are too many for the probe."""
    task = task_of(context.data(), cell.settings, context)
    if isinstance(task, FromFolder):
        raise CardError(f"{cell.dataset}: the recipe {cell.recipe} needs images that fit in memory; use imagenet-probe")
    return task


def build(cell: Cell, context: Context) -> tuple[InMemory, MAE | SimMIM]:
    """Data and untrained network of a cell; the weights depend on the seed only."""
    task = memory_task(cell, context)
    context.seed_torch("weights")
    return task, make_model(cell.settings, task.side, task.channels, task.classes).to(context.device)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network and its loss on the first training images, with the same mask each time."""
    task, model = build(cell, context)
    images, labels = (part[: int(cell.settings["batch_size"])] for part in next(task.whole("train")))

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        return objective(model, images, labels, cell.settings)[0]

    return model, loss


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Accuracies are in percent."""
    s = cell.settings
    if s["model"] in CONTROLS:
        return control(cell, context)

    # Data, model, optimiser
    task, model = build(cell, context)
    pretrainer = Pretrainer(task, model, s)

    # Loop
    epochs, every = int(s["epochs"]) if s["trained"] else 0, int(s["monitor_every"])
    for epoch in context.epochs(epochs, model=model, optimiser=pretrainer.optimiser, stepper=pretrainer.stepper):
        losses = pretrainer.epoch(epoch)
        watched = {"online_accuracy": monitored(task, model)} if epoch % every == 0 or epoch == epochs else {}
        context.log(epoch, **losses, **watched)

    # Evaluation
    context.save_weights("last", model.state_dict())
    context.picture("reconstruction", reconstructions(task, model, context), picture_caption(cell))
    return measure(task, model, context)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["model"] in CONTROLS:
        return control(cell, context)
    task, model = build(cell, context)
    model.load_state_dict(context.load_weights("last"))
    return measure(task, model, context)


# Evaluation -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(task: InMemory, model: MAE | SimMIM, context: Context) -> Result:
    """Probe, k-NN and spectrum of the cls and mean-patch features of whole images; the masked losses on test images."""
    model.eval()
    pieces: dict[str, list[Tensor]] = {}
    for part in ("fit", "val", "test"):
        for images, _ in task.whole(part):
            for name, feature in model.features(images).items():
                pieces.setdefault(name, []).append(feature)
    metrics: dict[str, float] = {}
    series: dict[str, list[float]] = {}
    for name, features in pieces.items():
        more, series[f"spectrum_{name}"] = described(name, torch.cat(features), task)
        metrics |= more

    context.seed_torch("masked test images")
    loss, z = [], []
    for images, _ in task.whole("test"):
        out = model(images, model.draw(len(images), task.device))
        loss.append(out.loss * len(images))
        z.append(out.z)
    metrics["test_reconstruction"] = (torch.stack(loss).sum() / task.size("test")).item()
    metrics["test_uniformity_masked"] = geometry(torch.cat(z))["uniformity"]
    return Result(metrics, series)


def described(name: str, features: Tensor, task: InMemory) -> tuple[dict[str, float], list[float]]:
    """Accuracies and geometry of the features (N, d) of all parts, and the test features' centred singular values.

    Singular values are divided by the largest one.
    """
    accuracies, test = task.judge(features)
    centred, raw = spectrum(test), spectrum(test, centre=False)
    metrics = {f"{name}_{kind}_accuracy": value for kind, value in accuracies.items()}
    metrics[f"{name}_effective_rank"] = centred.effective_rank
    metrics[f"{name}_effective_rank_uncentred"] = raw.effective_rank
    shape = geometry(test)
    metrics |= {f"{name}_{kind}": shape[kind] for kind in ("uniformity", "mean_cosine")}
    values = centred.singular_values
    return metrics, (values / values[0].clamp(min=torch.finfo(values.dtype).tiny)).tolist()


def control(cell: Cell, context: Context) -> Result:
    """Rows without a network: the most frequent class, and the pixels as features."""
    task = memory_task(cell, context)
    if cell.settings["model"] == "majority":
        answer = task.labels[task.parts["fit"]].bincount(minlength=task.classes).argmax()
        share = {name: (task.labels[task.parts[name]] == answer).double().mean() for name in ("test", "val")}
        kinds = {"probe": "test", "probe_val": "val", "knn20": "test", "knn10": "test"}
        return Result({f"cls_{kind}_accuracy": 100 * share[part].item() for kind, part in kinds.items()})
    pixels = [images.flatten(1) for name in ("fit", "val", "test") for images, _ in task.whole(name)]
    metrics, singular = described("cls", torch.cat(pixels), task)
    return Result(metrics, {"spectrum_cls": singular})


# Pictures -------------------------------------------------------------------------------------------------------------


def picture_caption(cell: Cell) -> str:
    """What the picture shows."""
    share = f"{float(cell.settings['mask_ratio']):.0%}"
    return f"Test images: masked ({share} hidden), reconstructed (visible patches as they were), original."


@torch.no_grad()
def reconstructions(task: InMemory, model: MAE | SimMIM, context: Context) -> np.ndarray:
    """Masked | reconstructed | original test images, one below the other: uint8 (H, W, 3).

    Where the network predicts standardised patches, they get the true patch's mean and deviation back.
    """
    model.eval()
    context.seed_torch("pictures")
    images = next(task.whole("test"))[0][:PICTURED]
    out = model(images, model.draw(len(images), task.device))
    original = patchify(images, model.patch)
    prediction = out.prediction.to(original.dtype)
    if isinstance(model, MAE) and model.norm_pixels:
        prediction = prediction * (original.var(-1, keepdim=True) + 1e-6).sqrt() + original.mean(-1, keepdim=True)
    hidden = out.hidden[..., None].to(original.dtype)
    columns = (original * (1 - hidden), original * (1 - hidden) + prediction * hidden, original)
    return np.concatenate([_tiles(columns[i], model.patch, task) for i in range(3)], axis=1)


def _tiles(patches: Tensor, patch: int, task: InMemory) -> np.ndarray:
    """A column of images, enlarged by whole factors, with a white line around each."""
    x = unpatchify(patches, patch, task.channels).cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (task.mean, task.std))
    bytes_ = ((x * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    factor = max(1, MAGNIFIED // task.side)
    large = bytes_.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    framed = F.pad(large, (2, 2, 2, 2), value=255)
    return torch.cat(list(framed), 1).permute(1, 2, 0).numpy()
