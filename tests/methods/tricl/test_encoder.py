import math

import numpy as np
import pytest
import torch

from methods.tricl import images
from methods.tricl.encoder import make_encoder, make_optimiser, train_epoch
from methods.tricl.settings import ImageSettings
from methods.tricl.task import MemoryTask
from retable.data.image_sets import ImageSet, ImageSplit


def test_frozen_importance_keeps_its_start_and_learned_importance_moves(build) -> None:
    for variant, moves in (("tri-simclr", False), ("tri-scl-learned", True)):
        experiment = build(images, "importance", variant, epochs=2)
        model, s = experiment.model, experiment.settings
        before = model.importance.raw.detach().clone()
        optimiser = make_optimiser(model, s)
        train_epoch(model, optimiser, experiment.task, 1, s)
        assert torch.equal(model.importance.raw, before) != moves
        assert len(optimiser.param_groups) == (2 if moves else 1)


def test_learning_rates_warm_up_for_each_group(build) -> None:
    experiment = build(images, "importance", "tri-scl-learned", warmup_epochs=1, warmup_start=0.0)
    optimiser = make_optimiser(experiment.model, experiment.settings)
    train_epoch(experiment.model, optimiser, experiment.task, 1, experiment.settings)
    # The last step of the warm-up has each group's own learning rate.
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.002, 0.1])


# Full size ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("variant", "batch"), [("tri-scl-learned", 256), ("tri-simclr", 16), ("tri-scl-paper", 16)])
def test_two_steps_of_the_full_recipe(make, variant: str, batch: int) -> None:
    """ResNet-18 at 32 pixels, LARS in its warm-up, views of the authors; ImageNet's size is in test_imagenet.py."""
    # Few processors have bfloat16.
    cell, context = make("importance", variant, scale="full", precision="float32", batch_size=batch)
    s = ImageSettings.parse(cell.settings, "test")
    assert s.batch_size == batch
    pixels = np.random.default_rng(0).integers(256, size=(2 * batch, 3, 32, 32), dtype=np.uint8)
    every = np.arange(2 * batch)
    data = ImageSet("noise", pixels, every % 2, ("a", "b"), {})
    task = MemoryTask(data, ImageSplit(every, every[:0], every), s.view, context.device)
    torch.manual_seed(0)
    model = make_encoder(s, 32).to(memory_format=torch.channels_last)
    assert sum(p.numel() for p in model.backbone.parameters()) == 11_168_832
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = make_optimiser(model, s)
    assert task.steps(batch) == 2
    means = train_epoch(model, optimiser, task, 1, s)
    assert all(math.isfinite(value) for value in means.values())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before) - ({"importance.raw"} if variant == "tri-simclr" else set())
    # The second of 20 steps of warm-up.
    expected = 3e-5 + (0.4 - 3e-5) / 19
    groups = 1 if variant == "tri-simclr" else 2
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([expected] * groups)
