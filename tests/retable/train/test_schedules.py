"""The rules against the points that define them, timm's against timm."""

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler

from retable.train.schedules import (
    cosine,
    cosine_share,
    set_lr,
    warmup_cosine,
    warmup_cosine_epoch,
    warmup_cosine_step,
    warmup_cosine_tail,
    warmup_cosine_timm,
    warmup_decay,
)


@pytest.mark.parametrize("warmup", [0, 5])
def test_the_fractional_rule_counts_steps_too_and_may_have_no_warmup(warmup: int) -> None:
    rates = [warmup_cosine(step, 2.0, warmup, 20) for step in range(21)]
    assert rates[warmup] == max(rates) == 2.0
    assert rates[20] == pytest.approx(0)
    assert rates[:warmup] == [2.0 * step / 5 for step in range(warmup)]
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_the_tail_rule_warms_up_from_the_first_step_and_falls_to_a_tenth():
    rates = [warmup_cosine_tail(step, 2.0, 10, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[100] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_timm_rule_is_timms_as_deit_steps_it():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1e-3)
    theirs = CosineLRScheduler(optimiser, t_initial=30, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6, cycle_limit=1)
    for epoch in range(1, 31):
        expected = optimiser.param_groups[0]["lr"]
        assert warmup_cosine_timm(epoch, 1e-3, 5, 30, 1e-6, 1e-5) == pytest.approx(expected, rel=1e-12)
        theirs.step(epoch - 1)


def test_a_share_falls_from_one_to_its_floor():
    assert [cosine_share(done) for done in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert [cosine_share(done, 0.1) for done in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1])


def test_the_fractional_rule_starts_at_zero_peaks_after_the_warmup_and_ends_at_the_floor():
    def rate(epoch):
        return warmup_cosine(epoch, lr=0.4, warmup=5, epochs=25, floor=0.1)

    assert rate(0) == 0
    assert rate(2.5) == pytest.approx(0.2)
    assert rate(5) == pytest.approx(0.4)
    assert rate(15) == pytest.approx(0.25)
    assert rate(25) == pytest.approx(0.1)


def test_the_step_rule_has_its_peak_twice():
    rates = [warmup_cosine_step(t, lr=0.4, warmup=3, steps=7, start=0.1, floor=0.02) for t in range(8)]
    assert rates[:4] == pytest.approx([0.1, 0.25, 0.4, 0.4])
    assert rates[5] == pytest.approx(0.21)
    assert rates[7] == pytest.approx(0.02)
    assert warmup_cosine_step(0, lr=0.4, warmup=1, steps=7, start=0.1) == 0.1


def test_the_epoch_rule_never_starts_at_zero_and_has_its_peak_twice():
    rates = [warmup_cosine_epoch(e, lr=5.0, warmup=10, epochs=30, floor=1e-6) for e in range(1, 31)]
    assert rates[0] == pytest.approx(0.5)
    assert rates[9] == rates[10] == pytest.approx(5.0)
    assert rates[20] == pytest.approx(2.5, abs=1e-6)
    assert 1e-6 < rates[29] < rates[28]


def test_a_cosine_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="must come after the warm-up"):
        cosine(10, 0.1, start=10, end=10)
    assert math.isclose(cosine(3, 0.1, start=3, end=10), 0.1)


def test_rates_scale_with_timms_layer_decay():
    model = VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=3)
    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.5)
    optimiser = torch.optim.SGD(groups, lr=1.0)
    set_lr(optimiser, 0.8)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates[id(model.head.weight)] == pytest.approx(0.8)
    assert rates[id(model.blocks[1].mlp.fc1.weight)] == pytest.approx(0.4)
    assert rates[id(model.blocks[0].mlp.fc1.bias)] == pytest.approx(0.2)
    assert rates[id(model.cls_token)] == pytest.approx(0.1)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_rate_of_fine_tuning_rises_and_falls_to_nothing(shape) -> None:
    rates = [warmup_decay(step, 1.0, 0.1, 100, shape) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
