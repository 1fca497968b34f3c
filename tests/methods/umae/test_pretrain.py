"""Pre-training: what the term and the monitor reach, the schedule, pictures, bad settings, real steps at full size."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.umae.models import MAE, SimMIM
from methods.umae.pretrain import Pretrainer, build, fixed_batch, make_model, memory_task, objective, reconstructions
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


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in named.items() if weight.grad is not None}


def test_weight_zero_has_the_gradients_of_mae_to_the_bit(context: Context) -> None:
    cell = demo("mae")
    model, loss = fixed_batch(cell, context)
    found = gradients(model, loss())
    images, labels = (part[:128] for part in next(memory_task(cell, context).whole("train")))
    context.seed_torch("fixed batch")
    out = model(images, model.draw(len(images), images.device))
    monitor = torch.nn.functional.cross_entropy(model.fc(out.z.detach()), labels)
    alone = gradients(model, out.loss + monitor)
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[name], alone[name]) for name in found)


def test_the_monitor_does_not_reach_the_encoder(context: Context) -> None:
    _, model = build(demo(), context)
    images, labels = (part[:64] for part in next(memory_task(demo(), context).whole("train")))
    found = []
    for wrong in (0, 1):
        context.seed_torch("mask")
        total, _, _ = objective(model, images, (labels + wrong) % 10, demo().settings)
        found.append(gradients(model, total))
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]) is not name.startswith("fc.")


def test_images_without_a_label_do_not_reach_the_monitor(context: Context) -> None:
    task, model = build(cell := demo(), context)
    images, labels = (part[:8] for part in next(task.whole("train")))
    draw = torch.rand(8, model.length)
    some = torch.where(torch.arange(8) < 3, labels, -1)
    found = gradients(model, objective(model, images, some, cell.settings, draw)[0])["fc.weight"]
    # The uniformity is of the whole batch, the monitor's gradient that of the three.
    z = model.masked_feature(images, draw)[:3].detach()
    alone = torch.autograd.grad(torch.nn.functional.cross_entropy(model.fc(z), labels[:3]), model.fc.weight)[0]
    torch.testing.assert_close(found, alone)
    loss = objective(model, images, torch.full_like(labels, -1), cell.settings, draw)[0]
    none = gradients(model, loss)
    assert loss.isfinite()
    assert not none["fc.weight"].any()
    assert none["cls_token"].isfinite().all()


def test_emulated_processes_scale_only_the_terms_gradient(context: Context) -> None:
    found = {}
    for processes, weight in ((1, 0.1), (8, 0.8)):
        model, loss = fixed_batch(demo(emulate_world_size=processes) if weight == 0.1 else
                                  demo(emulate_world_size=processes, **{"lambda": weight}), context)  # fmt: skip
        found[processes] = gradients(model, loss())
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, found[8][name], rtol=1e-4, atol=1e-6)


def test_the_rate_rises_from_zero_and_the_first_step_moves_nothing(context: Context) -> None:
    cell = demo(batch_size=1000, warmup=2.0)
    task, model = build(cell, context)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    pretrainer = Pretrainer(task, model, cell.settings)
    pretrainer.epoch(1)
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
    pretrainer.epoch(2)
    assert pretrainer.optimiser.param_groups[0]["lr"] == pytest.approx(0.004 * 1000 / 256 / 2)
    assert not torch.equal(before["cls_token"], model.cls_token)


def test_positions_are_never_trained(context: Context) -> None:
    task, model = build(demo(), context)
    assert isinstance(model, MAE)
    before = model.pos_embed.clone(), model.decoder_pos_embed.clone()
    Pretrainer(task, model, demo().settings).epoch(5)
    assert torch.equal(before[0], model.pos_embed)
    assert torch.equal(before[1], model.decoder_pos_embed)


def test_the_picture_ends_with_the_images_themselves(context: Context) -> None:
    task, model = build(demo(), context)
    pixels = reconstructions(task, model, context)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (8 * (96 + 4), 3 * (96 + 4), 3)
    original = task.images[task.parts["test"][0]].permute(1, 2, 0).numpy()
    assert np.array_equal(pixels[2:98:6, 202:298:6], original)
    masked = pixels[2:98:6, 2:98:6]
    assert (masked != original).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_ratio": 1.2}, "from 0 to below 1; got 1.2"),
        ({"mask_ratio": 0.99}, "leaves none of 16 patches visible"),
        ({"size": "vit-b"}, "unknown size 'vit-b'; did you mean 'vit-b-16'"),
        ({"model": "mea"}, "unknown model 'mea'; did you mean 'mae'"),
        ({"size": "vit-b-16", "model": "simmim", "square": 24}, "SimMIM hides squares of 24 pixels"),
    ],
)
def test_settings_that_do_not_fit_give_one_line(settings: dict, message: str) -> None:
    with pytest.raises(CardError, match=message):
        make_model(demo().settings | settings, 16, 3, 10)


def test_mask_ratio_zero_trains(context: Context) -> None:
    cell = demo(mask_ratio=0.0, batch_size=500)
    task, model = build(cell, context)
    losses = Pretrainer(task, model, cell.settings).epoch(3)
    assert np.isfinite(list(losses.values())).all()


def test_bfloat16_gives_nearly_the_same_loss(context: Context) -> None:
    losses = [fixed_batch(demo(autocast=autocast), context)[1]().item() for autocast in (False, True)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("change", [{"autocast": "float16"}, {"compile": "eager"}])
def test_half_precision_and_compiled_code_train_as_float32_does(change: dict, context: Context) -> None:
    def losses(**settings: Scalar) -> list[float]:
        task, model = build(cell := demo(batch_size=100, **settings), context)
        pretrainer = Pretrainer(task, model, cell.settings)
        torch.manual_seed(0)
        return [pretrainer.epoch(number)["loss"] for number in (1, 2)]

    exact = losses()
    assert exact[1] < exact[0]
    assert losses(**change) == pytest.approx(exact, rel=0.02)


def test_a_name_that_is_no_precision_is_refused(context: Context) -> None:
    task, model = build(cell := demo(autocast="fp16"), context)
    with pytest.raises(CardError, match="unknown half precision 'fp16'"):
        Pretrainer(task, model, cell.settings)


def full_recipe(name: str, variant: str) -> dict[str, Scalar]:
    """Settings of an ImageNet recipe at full scale."""
    workspace = whole_workspace()
    cells = recipe_cells("umae", workspace.papers["umae"].recipe(name), workspace.datasets, "full")
    return next(cell.settings for cell in cells if cell.variant == variant and cell.dataset == "imagenet")


class Noise:
    """Images of ImageNet's size in the place of a folder of them: two steps an epoch."""

    device, side, channels, classes = torch.device("cpu"), 224, 3, 1000

    def steps(self, batch_size: int) -> int:
        return 2

    def batches(self, batch_size: int, epoch: int, crop_low: float):
        for _ in range(2):
            yield torch.randn(2, 3, 224, 224), torch.randint(1000, (2,))


@pytest.mark.slow
def test_two_real_steps_of_the_imagenet_recipe_at_full_size() -> None:
    settings = full_recipe("imagenet-probe", "umae")
    torch.manual_seed(0)
    model = make_model(settings, 224, 3, 1000)
    assert (len(model.blocks), model.length, model.fc.out_features) == (12, 196, 1000)
    pretrainer = Pretrainer(Noise(), model, settings)  # type: ignore[arg-type]
    before = model.blocks[11].mlp.fc2.weight.detach().clone()
    losses = pretrainer.epoch(1)
    assert all(np.isfinite(value) for value in losses.values())
    # Of two steps an epoch the second is at half an epoch of 40: blr * 1024 / 256 / 80.
    assert pretrainer.optimiser.param_groups[0]["lr"] == pytest.approx(6e-4 / 80)
    assert not torch.equal(before, model.blocks[11].mlp.fc2.weight)


@pytest.mark.slow
def test_two_real_steps_of_simmim_at_full_size() -> None:
    recipe = whole_workspace().papers["umae"].recipe("pretrain")
    settings = {key: sourced.value for key, sourced in recipe.hyper.items()} | recipe.variants["u-simmim"].settings
    torch.manual_seed(0)
    model = make_model(settings, 224, 3, 1000)
    assert isinstance(model, SimMIM)
    assert (len(model.encoder.blocks), model.squares, model.tokens_per_square) == (12, 49, 2)
    pretrainer = Pretrainer(Noise(), model, settings)  # type: ignore[arg-type]
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    losses = pretrainer.epoch(1)
    assert all(np.isfinite(value) for value in losses.values())
    moved = [name for name, weight in model.named_parameters() if not torch.equal(before[name], weight)]
    assert {
        "mask_token",
        "decoder.0.weight",
        "encoder.blocks.11.mlp.fc2.weight",
        "encoder.patch_embed.proj.weight",
    } <= {*moved}
