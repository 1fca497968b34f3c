import math
from types import SimpleNamespace

import pytest
import torch

from methods.tricl import images
from retable.cards import CardError


def test_a_learned_order_puts_what_matters_first(make) -> None:
    learned = images.run(*make("importance", "tri-scl-paper")).metrics
    plain = images.run(*make("importance", "scl")).metrics
    assert learned["probe_gap"] > plain["probe_gap"] + 5
    assert learned["precision_gap"] > plain["precision_gap"] + 5
    assert learned["probe_all"] > 85
    assert learned["knn_accuracy"] > 85


def test_frozen_importance_keeps_its_start_and_learned_importance_moves(make) -> None:
    for variant, moves in (("tri-simclr", False), ("tri-scl-learned", True)):
        cell, context = make("importance", variant, epochs=2)
        task, learner = images.build(cell, context)
        before = learner.importance.raw.detach().clone()
        training = images.Training(task, learner, cell.settings)
        training.epoch(1)
        assert torch.equal(learner.importance.raw, before) != moves
        assert len(training.rates) == (2 if moves else 1)


def test_features_of_equal_importance_are_a_curve_that_ends_at_all(make) -> None:
    cell, context = make("importance", "tri-scl-learned", epochs=1, warmup_epochs=0)
    found = images.run(cell, context)
    first, last = found.series["retrieval_best_first"], found.series["retrieval_worst_first"]
    assert len(first) == len(last) == len(found.series["purity"]) == 16
    assert first[-1] == pytest.approx(last[-1], abs=0.5) == pytest.approx(found.metrics["precision_all"], abs=0.5)
    assert found.series["importance"] == sorted(found.series["importance"], reverse=True)
    picture = context.pictures["features"]
    assert (picture.height, picture.width) == (8 * 16, 12 * 16)


def test_the_majority_class_needs_no_network(make) -> None:
    metrics = images.run(*make("importance", "majority")).metrics
    assert metrics["probe_all"] == pytest.approx(10, abs=1)
    assert metrics["probe_gap"] == 0.0


def test_rates_warm_up_for_each_group(make) -> None:
    cell, context = make("importance", "tri-scl-learned", warmup_epochs=1, warmup_start=0.0)
    training = images.Training(*images.build(cell, context), cell.settings)
    training.epoch(1)
    # The last step of the warm-up has each group's own rate.
    assert [group["lr"] for group in training.optimiser.param_groups] == pytest.approx([0.002, 0.1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "byol"}, "unknown loss 'byol'"),
        ({"mode": "published"}, "the loss 'tri-scl': unknown mode 'published'"),
        ({"loss": "scl", "mode": "released"}, "the loss 'scl': unknown mode 'released'"),
        ({"backbone": "vit"}, "unknown backbone 'vit'"),
        ({"view": "colour"}, "unknown view 'colour'"),
        ({"optimiser": "adamw"}, "unknown optimiser 'adamw'"),
        ({"batch_size": 2000}, "batch_size 2000: the split has 1000 training images"),
    ],
)
def test_settings_that_mean_nothing_are_named(make, settings: dict, message: str) -> None:
    cell, context = make("importance", "tri-scl-learned", **settings)
    with pytest.raises(CardError, match=message):
        images.run(cell, context)


def test_more_features_than_there_are_is_an_error(make) -> None:
    cell, context = make("importance", "tri-scl-learned", epochs=2, top_dims=100)
    with pytest.raises(ValueError, match="100 of 64 features were asked for"):
        images.run(cell, context)


# Full size ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("variant", "batch"), [("tri-scl-learned", 256), ("tri-simclr", 16), ("tri-scl-paper", 16)])
def test_two_steps_of_the_full_recipe(make, variant: str, batch: int) -> None:
    """ResNet-18 at 32 pixels, LARS in its warm-up, views of the authors; ImageNet's size is in test_imagenet.py."""
    # Few processors have bfloat16.
    cell, context = make("importance", variant, scale="full", precision="float32", batch_size=batch)
    assert cell.settings["batch_size"] == batch
    torch.manual_seed(0)
    train = torch.randint(0, 256, (2 * batch, 3, 32, 32), dtype=torch.uint8)
    task = SimpleNamespace(train=train, device=context.device, normalised=lambda x: x - 0.5)
    learner = images.make_learner(cell.settings, 32).to(memory_format=torch.channels_last)
    assert sum(p.numel() for p in learner.backbone.parameters()) == 11_168_832
    before = {name: p.detach().clone() for name, p in learner.named_parameters()}
    training = images.Training(task, learner, cell.settings)
    assert training.steps == 2
    means = training.epoch(1)
    assert all(math.isfinite(value) for value in means.values())
    moved = {name for name, p in learner.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before) - ({"importance.raw"} if variant == "tri-simclr" else set())
    # The second of 20 steps of warm-up.
    expected = 3e-5 + (0.4 - 3e-5) / 19
    assert [group["lr"] for group in training.optimiser.param_groups] == pytest.approx([expected] * len(training.rates))
