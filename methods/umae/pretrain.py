"""Pre-training by masked reconstruction, with or without U-MAE's uniformity loss, and what its features are like.

With 5,000 images of CIFAR-10 the loss raises the effective rank of the cls feature at no cost in reconstruction:

    retable run umae/pretrain --scale reduced
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from retable.cards import CardError
from retable.data.folder_images import FolderSet
from retable.data.image_batches import ImageBatches, MemoryBatches
from retable.evaluate.answers import beside
from retable.evaluate.spectra import pairwise_cosines, spectrum
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.distributed import world_size
from retable.train.parallel import all_reduce_mean, ddp, shard
from retable.train.precision import Stepper, autocast, compile_in_place
from retable.train.schedules import set_lr, warmup_cosine

from .losses import uniformity_loss
from .mae import MAE
from .pictures import reconstructions
from .settings import PretrainSettings
from .simmim import SimMIM
from .task import accuracies, accuracy, in_memory
from .vit import SIZES

# Training -------------------------------------------------------------------------------------------------------------


class Objective(nn.Module):
    """Reconstruction + lambda * uniformity, and the cross-entropy of the online monitor, which trains `fc` alone."""

    def __init__(self, model: MAE | SimMIM, settings: PretrainSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, images: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss to minimise; reconstruction and uniformity, detached. `noise` from `model.draw`."""
        s = self.settings
        with autocast(images.device, s.autocast):
            out = self.model(images, noise)
            # Images without a label have -1; a batch of only those would give 0 / 0.
            monitor = F.cross_entropy(self.model.fc(out.z.detach()).float(), labels, ignore_index=-1)
            monitor = monitor.nan_to_num(0.0, posinf=float("inf"))
        # Logged even where it has no weight.
        with torch.set_grad_enabled(torch.is_grad_enabled() and s.lambda_ > 0):
            uniformity = uniformity_loss(out.z, s.emulate_world_size)
        loss = out.loss + monitor
        if s.lambda_ > 0:
            loss = loss + s.lambda_ * uniformity
        return loss, out.loss.detach(), uniformity.detach()


def pretrain(
    task: ImageBatches, model: MAE | SimMIM, settings: PretrainSettings, context: Context, phase: str = ""
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train the model by AdamW, and yield each epoch with its mean losses; no epochs if `trained` is false."""
    s = settings
    groups = param_groups_weight_decay(model, s.weight_decay, no_weight_decay_list=model.undecayed)
    optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, s.beta2), fused=True)
    stepper = Stepper(optimiser, task.device, s.autocast)
    compile_in_place(model, s.compile)
    objective = ddp(Objective(model, s), s.batch_size)
    clipped = [weight for name, weight in model.named_parameters() if not name.startswith("fc.")]
    lr, steps = s.blr * s.batch_size / 256, task.steps(s.batch_size)
    epochs = s.epochs if s.trained else 0
    for epoch in context.epochs(epochs, phase=phase, model=model, optimiser=optimiser, stepper=stepper):
        model.train()
        sums = torch.zeros(3, device=task.device)
        for step, (images, labels) in enumerate(task.training(s.batch_size, s.crop_low)):
            set_lr(optimiser, warmup_cosine(epoch - 1 + step / steps, lr, s.warmup, s.epochs))
            # Drawn for the whole batch, so that the number of processes does not matter.
            noise = shard(model.draw(len(images) * world_size(), task.device))
            loss, reconstruction, uniformity = objective(images, labels, noise)
            stepper.step(loss, s.clip, clipped)
            sums += torch.stack([loss.detach(), reconstruction, uniformity])
        means = (all_reduce_mean(sums) / steps).tolist()
        yield epoch, dict(zip(("loss", "reconstruction", "uniformity"), means, strict=True))


# The experiment -------------------------------------------------------------------------------------------------------


def make_model(settings: PretrainSettings, side: int, channels: int, classes: int) -> MAE | SimMIM:
    """The untrained network, from torch's global generator. `CardError` for settings that do not fit together."""
    s = settings
    try:
        if s.model == "simmim":
            return SimMIM(
                SIZES[s.size], classes, s.mask_ratio, image=side, channels=channels, square=s.square,
                probe_block=s.probe_block, drop_path=s.drop_path,
            )  # fmt: skip
        return MAE(SIZES[s.size], classes, s.mask_ratio, image=side, channels=channels, norm_pixels=s.norm_pixels)
    except ValueError as error:
        raise CardError(str(error)) from None


def load_images(settings: PretrainSettings, context: Context) -> MemoryBatches:
    """The cell's images. `CardError` for those that stay in folders, whose features are too many for the probe."""
    images, split = context.data()
    if isinstance(images, FolderSet):
        cell = context.cell
        raise CardError(f"{cell.dataset}: the recipe {cell.recipe} needs images that fit in memory; use imagenet-probe")
    return in_memory(images, split, settings, context.device)


def majority(settings: PretrainSettings, context: Context) -> Result:
    """The most frequent class as the answer to everything."""
    task = load_images(settings, context)
    answer = task.labels("fit").bincount(minlength=task.classes).argmax()
    share = {name: (task.labels(name) == answer).double().mean() for name in ("test", "val")}
    test, val = 100 * share["test"].item(), 100 * share["val"].item()
    metrics = {"cls_probe_val_accuracy": val}
    for name in ("cls_probe_accuracy", "cls_knn20_accuracy", "cls_knn10_accuracy"):
        metrics |= {name: test} | beside(name, answer.expand(task.size("test")))
    return Result(metrics)


def raw_pixels(settings: PretrainSettings, context: Context) -> Result:
    """Pixels as features."""
    task = load_images(settings, context)
    pixels = [images.flatten(1) for name in ("fit", "val", "test") for images, _ in task.part(name)]
    metrics, singular_values = evaluate_features("cls", torch.cat(pixels), task)
    return Result(metrics, {"spectrum_cls": singular_values})


class Pretrain(Experiment[PretrainSettings]):
    """Pre-train without labels, then evaluate the frozen features of whole images."""

    controls = {"majority": majority, "raw-pixels": raw_pixels}
    parallel = True
    model: MAE | SimMIM

    def __init__(self, settings: PretrainSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = load_images(settings, context)
        context.seed_torch("weights")
        self.model = make_model(settings, self.task.side, self.task.channels, self.task.classes).to(context.device)

    def train(self) -> None:
        s = self.settings
        for epoch, losses in pretrain(self.task, self.model, s, self.context):
            if epoch % s.monitor_every == 0 or epoch == s.epochs:
                losses["online_accuracy"] = online_accuracy(self.task, self.model)
            self.context.log(epoch, **losses)

    @torch.no_grad()
    def measure(self) -> Result:
        """Probe, k-NN and spectrum of cls and mean-patch features; the losses of masked test images."""
        task, model, context = self.task, self.model, self.context
        context.seed_torch("pictures")
        caption = (
            f"Test images: masked ({self.settings.mask_ratio:.0%} hidden), reconstructed (visible patches as they "
            "were), original."
        )
        context.picture("reconstruction", reconstructions(task, model), caption)

        model.eval()
        batches = [model.features(images) for part in ("fit", "val", "test") for images, _ in task.part(part)]
        metrics: dict[str, float] = {}
        series: dict[str, list[float]] = {}
        for name in ("cls", "mean_patch"):
            features = torch.cat([batch[name] for batch in batches])
            evaluated, series[f"spectrum_{name}"] = evaluate_features(name, features, task)
            metrics |= evaluated

        context.seed_torch("masked test images")
        loss, z = [], []
        for images, _ in task.part("test"):
            out = model(images, model.draw(len(images), task.device))
            loss.append(out.loss * len(images))
            z.append(out.z)
        metrics["test_reconstruction"] = (torch.stack(loss).sum() / task.size("test")).item()
        metrics["test_uniformity_masked"] = pairwise_cosines(torch.cat(z))["uniformity"]
        return Result(metrics, series)

    @torch.no_grad()
    def representations(self, places: Tensor) -> Tensor:
        """The cls token's features."""
        model = self.model.eval()
        return torch.cat([model.features(images)["cls"] for images in self.task.whole(places)])

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The loss with the same masks each time."""
        images, labels = (part[: self.settings.batch_size] for part in next(self.task.part("train")))
        objective = Objective(self.model, self.settings)

        return lambda: objective(images, labels, self.model.draw(len(images), images.device))[0]


EXPERIMENT = Pretrain


# Evaluation -----------------------------------------------------------------------------------------------------------


def online_accuracy(task: MemoryBatches, model: MAE | SimMIM) -> float:
    """Accuracy in percent of the online monitor on masked validation images."""
    model.eval()
    return accuracy(task, "val", lambda x: model.fc(model.masked_feature(x, model.draw(len(x), task.device))))


def evaluate_features(name: str, features: Tensor, task: MemoryBatches) -> tuple[dict[str, float], list[float]]:
    """Metrics of the features (N, D) of `fit`, `val` and `test` images, their keys beginning with `name`.

    And the singular values of the centred test features, divided by the largest.
    """
    metrics, test = accuracies(task, features)
    centred, shape = spectrum(test), pairwise_cosines(test)
    metrics |= {
        "effective_rank": centred.effective_rank,
        "effective_rank_uncentred": spectrum(test, centre=False).effective_rank,
        "uniformity": shape["uniformity"],
        "mean_cosine": shape["mean_cosine"],
    }
    s = centred.singular_values
    normalized = s / s[0].clamp(min=torch.finfo(s.dtype).tiny)
    return {f"{name}_{key}": value for key, value in metrics.items()}, normalized.tolist()
