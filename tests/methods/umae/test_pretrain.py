"""Pre-training: what the term and the monitor reach, the schedule, bad settings, real steps at full size."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.umae.mae import MAE
from methods.umae.pretrain import Objective, Pretrain, make_model, pretrain
from methods.umae.settings import PretrainSettings, TransferSettings
from methods.umae.simmim import SimMIM
from retable.cards import CardError, Scalar
from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.run import make_context
from retable.train.context import Context

ROOT = Path(__file__).resolve().parents[3]


@cache
def whole_workspace() -> Workspace:
    return Workspace(ROOT, Config())


def demo(variant: str = "umae-0.1", recipe: str = "pretrain", **settings: Scalar) -> Cell:
    workspace = whole_workspace()
    cells = recipe_cells("umae", workspace.papers["umae"].recipe(recipe), workspace.datasets, "demo")
    (cell,) = [cell for cell in cells if cell.variant == variant]
    return Cell(**{name: getattr(cell, name) for name in cell.__dataclass_fields__} | {
        "settings": cell.settings | settings
    })  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    tmp_path = tmp_path_factory.mktemp("umae")
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    return make_context(Workspace(tmp_path, Config(device="cpu")), demo(), 0, torch.device("cpu"))


def experiment(context: Context, variant: str = "umae-0.1", **settings: Scalar) -> Pretrain:
    return Pretrain(PretrainSettings.parse(demo(variant, **settings).settings, "umae"), context)


class Loop:
    """In place of a context: gives the epochs that a test names, and keeps the optimiser."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def epochs(self, total: int, phase: str = "", **parts) -> Iterator[int]:
        self.optimiser = parts["optimiser"]
        yield from self.numbers


def train(one: Pretrain, *epochs: int) -> list[dict[str, float]]:
    """Mean losses of these epochs."""
    return [losses for _, losses in pretrain(one.task, one.model, one.settings, Loop(*epochs))]  # type: ignore[arg-type]


def fixed_loss(one: Pretrain) -> torch.Tensor:
    one.context.seed_torch("fixed batch")
    return one.fixed_batch()()


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in named.items() if weight.grad is not None}


def test_weight_zero_has_the_gradients_of_mae_to_the_bit(context: Context) -> None:
    one = experiment(context, "mae")
    model = one.model
    found = gradients(model, fixed_loss(one))
    images, labels = (part[:128] for part in next(one.task.part("train")))
    context.seed_torch("fixed batch")
    out = model(images, model.draw(len(images), images.device))
    monitor = torch.nn.functional.cross_entropy(model.fc(out.z.detach()), labels)
    alone = gradients(model, out.loss + monitor)
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[name], alone[name]) for name in found)


def test_the_monitor_does_not_reach_the_encoder(context: Context) -> None:
    one = experiment(context)
    model = one.model
    images, labels = (part[:64] for part in next(one.task.part("train")))
    found = []
    for wrong in (0, 1):
        context.seed_torch("mask")
        noise = model.draw(len(images), images.device)
        total, _, _ = Objective(model, one.settings)(images, (labels + wrong) % 10, noise)
        found.append(gradients(model, total))
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]) is not name.startswith("fc.")


def test_images_without_a_label_do_not_reach_the_monitor(context: Context) -> None:
    one = experiment(context)
    model, objective = one.model, Objective(one.model, one.settings)
    images, labels = (part[:8] for part in next(one.task.part("train")))
    noise = torch.rand(8, model.length)
    some = torch.where(torch.arange(8) < 3, labels, -1)
    found = gradients(model, objective(images, some, noise)[0])["fc.weight"]
    # The uniformity is of the whole batch, the monitor's gradient that of the three.
    z = model.masked_feature(images, noise)[:3].detach()
    alone = torch.autograd.grad(torch.nn.functional.cross_entropy(model.fc(z), labels[:3]), model.fc.weight)[0]
    torch.testing.assert_close(found, alone)
    loss = objective(images, torch.full_like(labels, -1), noise)[0]
    none = gradients(model, loss)
    assert loss.isfinite()
    assert not none["fc.weight"].any()
    assert none["cls_token"].isfinite().all()


def test_emulated_processes_scale_only_the_terms_gradient(context: Context) -> None:
    found = {}
    for processes, weight in ((1, 0.1), (8, 0.8)):
        one = experiment(context, emulate_world_size=processes, **{"lambda": weight})
        found[processes] = gradients(one.model, fixed_loss(one))
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, found[8][name], rtol=1e-4, atol=1e-6)


def test_the_rate_rises_from_zero_and_the_first_step_moves_nothing(context: Context) -> None:
    one = experiment(context, batch_size=1000, warmup=2.0)
    model, loop = one.model, Loop(1, 2)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    training = pretrain(one.task, model, one.settings, loop)  # type: ignore[arg-type]
    next(training)
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
    next(training)
    assert loop.optimiser.param_groups[0]["lr"] == pytest.approx(0.004 * 1000 / 256 / 2)
    assert not torch.equal(before["cls_token"], model.cls_token)


def test_positions_are_never_trained(context: Context) -> None:
    one = experiment(context)
    model = one.model
    assert isinstance(model, MAE)
    before = model.pos_embed.clone(), model.decoder_pos_embed.clone()
    train(one, 5)
    assert torch.equal(before[0], model.pos_embed)
    assert torch.equal(before[1], model.decoder_pos_embed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_ratio": 1.2}, "from 0 to below 1; got 1.2"),
        ({"mask_ratio": 0.99}, "leaves none of 16 patches visible"),
        ({"size": "vit-b-16", "model": "simmim", "square": 24}, "SimMIM masks squares of 24 pixels"),
    ],
)
def test_settings_that_do_not_fit_give_one_line(settings: dict, message: str) -> None:
    with pytest.raises(CardError, match=message):
        make_model(PretrainSettings.parse(demo(**settings).settings, "umae"), 16, 3, 10)


def test_mask_ratio_zero_trains(context: Context) -> None:
    (losses,) = train(experiment(context, mask_ratio=0.0, batch_size=500), 3)
    assert np.isfinite(list(losses.values())).all()


def test_bfloat16_gives_nearly_the_same_loss(context: Context) -> None:
    losses = [fixed_loss(experiment(context, autocast=autocast)).item() for autocast in (False, True)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("change", [{"autocast": "float16"}, {"compile": "eager"}])
def test_half_precision_and_compiled_code_train_as_float32_does(change: dict, context: Context) -> None:
    def losses(**settings: Scalar) -> list[float]:
        one = experiment(context, batch_size=100, **settings)
        torch.manual_seed(0)
        return [epoch["loss"] for epoch in train(one, 1, 2)]

    exact = losses()
    assert exact[1] < exact[0]
    assert losses(**change) == pytest.approx(exact, rel=0.02)


def full_recipe(name: str, variant: str) -> TransferSettings:
    """Settings of an ImageNet recipe at full scale."""
    workspace = whole_workspace()
    cells = recipe_cells("umae", workspace.papers["umae"].recipe(name), workspace.datasets, "full")
    cell = next(cell for cell in cells if cell.variant == variant and cell.dataset == "imagenet")
    return TransferSettings.parse(cell.settings, "umae")


class Noise:
    """Images of ImageNet's size in the place of a folder of them: two steps an epoch."""

    device, side, channels, classes = torch.device("cpu"), 224, 3, 1000

    def steps(self, batch_size: int) -> int:
        return 2

    def training(self, batch_size: int, crop_low: float = 1.0, views: int = 1):
        for _ in range(2):
            yield torch.randn(2, 3, 224, 224), torch.randint(1000, (2,))


@pytest.mark.slow
def test_two_real_steps_of_the_imagenet_recipe_at_full_size() -> None:
    settings = full_recipe("imagenet-probe", "umae")
    torch.manual_seed(0)
    model = make_model(settings, 224, 3, 1000)
    assert (len(model.blocks), model.length, model.fc.out_features) == (12, 196, 1000)
    loop = Loop(1)
    before = model.blocks[11].mlp.fc2.weight.detach().clone()
    ((_, losses),) = pretrain(Noise(), model, settings, loop)  # type: ignore[arg-type]
    assert all(np.isfinite(value) for value in losses.values())
    # Of two steps an epoch the second is at half an epoch of 40: blr * 1024 / 256 / 80.
    assert loop.optimiser.param_groups[0]["lr"] == pytest.approx(6e-4 / 80)
    assert not torch.equal(before, model.blocks[11].mlp.fc2.weight)


@pytest.mark.slow
def test_two_real_steps_of_simmim_at_full_size() -> None:
    recipe = whole_workspace().papers["umae"].recipe("pretrain")
    values = {key: sourced.value for key, sourced in recipe.hyper.items()} | recipe.variants["u-simmim"].settings
    settings = PretrainSettings.parse(values, "umae")
    torch.manual_seed(0)
    model = make_model(settings, 224, 3, 1000)
    assert isinstance(model, SimMIM)
    assert (len(model.encoder.blocks), model.squares, model.tokens_per_square) == (12, 49, 2)
    loop = Loop(1)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    ((_, losses),) = pretrain(Noise(), model, settings, loop)  # type: ignore[arg-type]
    assert all(np.isfinite(value) for value in losses.values())
    moved = [name for name, weight in model.named_parameters() if not torch.equal(before[name], weight)]
    assert {
        "mask_token",
        "decoder.0.weight",
        "encoder.blocks.11.mlp.fc2.weight",
        "encoder.patch_embed.proj.weight",
    } <= {*moved}
