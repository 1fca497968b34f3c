"""The authors' evaluations: what is trained, at which rate, and two real steps at full size."""

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.umae.models import MAE, SIZES
from methods.umae.transfer import FineTuning, LinearProbe, build, measure, tune
from retable.cards import CardError, Scalar
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


def test_the_probe_trains_its_head_alone(context: Context) -> None:
    cell = cell_of("transfer", "demo", "umae-probe", tune_warmup=0.0)
    task, encoder, evaluation = build(cell, context)
    frozen = {name: value.clone() for name, value in encoder.state_dict().items()}
    head = evaluation.model.state_dict()["1.weight"].clone()
    tune(task, evaluation, cell, epoch=13, number=1)
    assert all(torch.equal(frozen[name], value) for name, value in encoder.state_dict().items())
    assert not torch.equal(head, evaluation.model.state_dict()["1.weight"])


def test_the_probe_learns_what_the_features_hold(context: Context) -> None:
    cell = cell_of("transfer", "demo", "umae-probe")
    task, _, evaluation = build(cell, context)
    before = measure(task, evaluation).metrics["test_accuracy"]
    for number in range(1, 6):
        tune(task, evaluation, cell, epoch=number, number=number)
    assert measure(task, evaluation).metrics["test_accuracy"] > before + 5


def test_fine_tuning_starts_from_the_encoder_and_lower_layers_move_less(context: Context) -> None:
    cell = cell_of("transfer", "demo", "umae-fine-tuned", layer_decay=0.1, tune_warmup=0.0, weight_decay=0.0)
    task, encoder, evaluation = build(cell, context)
    evaluation.start()
    before = {name: value.detach().clone() for name, value in evaluation.model.named_parameters()}
    assert torch.equal(before["cls_token"], encoder.cls_token)
    np.random.seed(0)  # noqa: NPY002 - timm's Mixup draws from there
    tune(task, evaluation, cell, epoch=13, number=1)
    moved = {name: (value - before[name]).abs().max().item() for name, value in evaluation.model.named_parameters()}
    layers = ("patch_embed.proj.weight", "blocks.0.mlp.fc2.weight", "blocks.1.mlp.fc2.weight", "head.weight")
    assert all(moved[low] < moved[high] for low, high in itertools.pairwise(layers))
    assert moved["pos_embed"] > 0


def test_without_mixing_labels_are_smoothed_only(context: Context) -> None:
    plain = cell_of("transfer", "demo", "umae-fine-tuned", mixup=0.0, cutmix=0.0, drop_path=0.0)
    task, _, evaluation = build(plain, context)
    assert isinstance(evaluation, FineTuning)
    images, labels = (part[:20] for part in next(task.whole("train")))
    expected = torch.nn.functional.cross_entropy(evaluation.logits(images), labels, label_smoothing=0.1)
    torch.testing.assert_close(evaluation.loss(images, labels), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluation": "finetune"}, "unknown evaluation 'finetune'; did you mean 'fine-tune'"),
        ({"model": "simmim"}, "are for the model 'mae', got 'simmim'"),
    ],
)
def test_unknown_evaluations_are_named(settings: dict, message: str, context: Context) -> None:
    with pytest.raises(CardError, match=message):
        build(cell_of("transfer", "demo", "umae-probe", **settings), context)


class Noise:
    """Images of ImageNet's size in the place of a folder of them: two steps an epoch."""

    device, side, channels, classes = torch.device("cpu"), 224, 3, 1000

    def steps(self, batch_size: int) -> int:
        return 2

    def batches(self, batch_size: int, epoch: int, crop_low: float):
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
    np.random.seed(0)  # noqa: NPY002 - timm's Mixup draws from there
    evaluation = kind(Noise(), MAE(SIZES["vit-b-16"], 1000), cell)
    evaluation.start()
    assert np.isfinite(tune(Noise(), evaluation, cell, epoch=1, number=1))  # type: ignore[arg-type]
    assert max(group["lr"] for group in evaluation.optimiser.param_groups) == pytest.approx(rate)
