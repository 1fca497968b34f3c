"""The authors' evaluations: what is trained, at which rate, and two real steps at full size."""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.umae.mae import MAE
from methods.umae.settings import TransferSettings
from methods.umae.transfer import FineTuning, LinearProbe, Transfer
from methods.umae.vit import SIZES
from retable.cards import Scalar
from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.run import make_context
from retable.train.context import Context

ROOT = Path(__file__).resolve().parents[3]


@cache
def whole_workspace() -> Workspace:
    return Workspace(ROOT, Config())


def cell_of(recipe: str, scale: str, variant: str, dataset: str = "digits-16", **settings: Scalar) -> Cell:
    workspace = whole_workspace()
    cells = recipe_cells("umae", workspace.papers["umae"].recipe(recipe), workspace.datasets, scale)  # type: ignore[arg-type]
    (cell,) = [cell for cell in cells if cell.variant == variant and cell.dataset == dataset]
    fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__}
    return Cell(**fields | {"settings": cell.settings | settings})


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    tmp_path = tmp_path_factory.mktemp("umae")
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    cell = cell_of("transfer", "demo", "umae-probe")
    return make_context(Workspace(tmp_path, Config(device="cpu")), cell, 0, torch.device("cpu"))


class Loop:
    """In place of a context: gives epochs of tuning and none of pre-training, and keeps the losses."""

    device = torch.device("cpu")

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.losses = numbers, []

    def epochs(self, total: int, phase: str, **parts) -> Iterator[int]:
        yield from self.numbers if phase == "tune" else ()

    def derive(self, *names: str | int) -> int:
        return 0

    def log(self, epoch: int, **scalars: float) -> None:
        self.losses.append(scalars["tuning_loss"])


def experiment(context: Context, variant: str, **settings: Scalar) -> Transfer:
    cell = cell_of("transfer", "demo", variant, **settings)
    return Transfer(TransferSettings.parse(cell.settings, "umae"), context)


def tune(one: Transfer, *epochs: int) -> list[float]:
    """Train these epochs of the evaluation; their mean losses."""
    one.context = loop = Loop(*epochs)  # type: ignore[assignment]
    one.train()
    return loop.losses


def test_the_probe_trains_its_head_alone(context: Context) -> None:
    one = experiment(context, "umae-probe", tune_warmup=0.0)
    encoder, evaluation = one.encoder, one.evaluation
    frozen = {name: value.clone() for name, value in encoder.state_dict().items()}
    head = evaluation.model.state_dict()["1.weight"].clone()
    tune(one, 1)
    assert all(torch.equal(frozen[name], value) for name, value in encoder.state_dict().items())
    assert not torch.equal(head, evaluation.model.state_dict()["1.weight"])


def test_the_probe_learns_what_the_features_hold(context: Context) -> None:
    one = experiment(context, "umae-probe")
    before = one.measure().metrics["test_accuracy"]
    tune(one, 1, 2, 3, 4, 5)
    assert one.measure().metrics["test_accuracy"] > before + 5


def test_fine_tuning_starts_from_the_encoder_and_lower_layers_move_less(context: Context) -> None:
    one = experiment(context, "umae-fine-tuned", layer_decay=0.1, tune_warmup=0.0, weight_decay=0.0)
    encoder, evaluation = one.encoder, one.evaluation
    tune(one)
    before = {name: value.detach().clone() for name, value in evaluation.model.named_parameters()}
    assert torch.equal(before["cls_token"], encoder.cls_token)
    tune(one, 1)
    moved = {name: (value - before[name]).abs().max().item() for name, value in evaluation.model.named_parameters()}
    layers = ("patch_embed.proj.weight", "blocks.0.mlp.fc2.weight", "blocks.1.mlp.fc2.weight", "head.weight")
    assert all(moved[low] < moved[high] for low, high in itertools.pairwise(layers))
    assert moved["pos_embed"] > 0


def test_without_mixing_labels_are_smoothed_only(context: Context) -> None:
    one = experiment(context, "umae-fine-tuned", mixup=0.0, cutmix=0.0, drop_path=0.0)
    evaluation = one.evaluation
    assert isinstance(evaluation, FineTuning)
    images, labels = (part[:20] for part in next(one.task.part("train")))
    expected = torch.nn.functional.cross_entropy(evaluation.logits(images), labels, label_smoothing=0.1)
    torch.testing.assert_close(evaluation.loss(images, labels), expected)


class Noise:
    """Images of ImageNet's size in the place of a folder of them: two steps an epoch."""

    device, side, channels, classes = torch.device("cpu"), 224, 3, 1000

    def steps(self, batch_size: int) -> int:
        return 2

    def training(self, batch_size: int, crop_low: float = 1.0, views: int = 1):
        for _ in range(2):
            yield torch.randn(2, 3, 224, 224), torch.randint(1000, (2,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "kind", "rate"),
    [("imagenet-probe", LinearProbe, 0.1 * 8192 / 256 / 20), ("imagenet-fine-tune", FineTuning, 5e-4 * 4 / 10)],
)
def test_two_real_steps_of_the_imagenet_evaluations_at_full_size(recipe: str, kind: type, rate: float) -> None:
    cell = cell_of(recipe, "full", "umae", "imagenet")
    torch.manual_seed(0)
    one = Transfer.__new__(Transfer)  # without its data
    one.settings, one.task = TransferSettings.parse(cell.settings, "umae"), Noise()  # type: ignore[assignment]
    one.encoder = MAE(SIZES["vit-b-16"], 1000)
    one.evaluation = (
        LinearProbe(one.task, one.encoder, one.settings) if kind is LinearProbe else FineTuning(one.task, one.settings)
    )
    (loss,) = tune(one, 1)
    assert np.isfinite(loss)
    assert max(group["lr"] for group in one.evaluation.optimiser.param_groups) == pytest.approx(rate)
