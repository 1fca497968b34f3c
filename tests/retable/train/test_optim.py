"""LARS against one tensor at a time in plain arithmetic."""

import copy
import itertools

import pytest
import torch

from retable.train.optim import FORMS, LARS
from retable.train.schedules import set_lr

SHAPES = ((4, 3), (3, 2, 2, 2), (5,), (2, 2), (3,))
MOMENTUM, TRUST, EPS = 0.8, 0.02, 1e-8


def slow_direction(form, p, g, lr, decay, clip, exclude):
    """d of one tensor, read off the class's docstring."""
    p_norm, g_norm = p.norm().item(), g.norm().item()
    if form == "mae":
        if p.ndim <= 1:
            return g
        d = g + decay * p
        return d * (TRUST * p_norm / d.norm().item() if p_norm > 0 and d.norm() > 0 else 1.0)
    if form == "acl":
        small = p_norm < 1e-15 or g_norm < 1e-15
        return lr * (1.0 if small else TRUST * p_norm / (g_norm + decay * p_norm)) * (g + decay * p)
    if p_norm == 0 or g_norm == 0 or (exclude and p.ndim == 1):
        return g
    ratio = TRUST * p_norm / (g_norm + decay * p_norm + EPS)
    return (min(ratio / lr, 1.0) if clip else ratio) * (g + decay * p)


def make_params(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    params = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    params[3].zero_()
    return [p.requires_grad_() for p in params]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    # The second step's are large, so that a clipped ratio is met from both sides.
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0 ** (step - 1) for shape in SHAPES]
    if step == 1:
        drawn[0].zero_()
    return drawn


CASES = [
    ("mae", False, True),
    ("acl", False, True),
    ("solo-learn", True, True),
    ("solo-learn", True, False),
    ("solo-learn", False, True),
    ("solo-learn", False, False),
]


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("form", "clip", "exclude"), CASES)
def test_lars_follows_its_formula_tensor_by_tensor(form, clip, exclude, nesterov, decay):
    if nesterov and form == "acl":
        with pytest.raises(ValueError, match="no Nesterov"):
            LARS(make_params(), 0.1, form=form, nesterov=True)
        return
    ours, slow = make_params(), [p.detach().clone() for p in make_params()]
    buffers = [torch.zeros_like(p) for p in slow]
    options = {"momentum": MOMENTUM, "trust": TRUST, "eps": EPS, "clip": clip, "exclude_vectors": exclude}
    optimiser = LARS(ours, 0.3, form=form, weight_decay=decay, nesterov=nesterov, **options)
    for step, lr in enumerate((0.3, 0.1, 0.5)):
        set_lr(optimiser, lr)
        for k, g in enumerate(gradients(step)):
            ours[k].grad = g
            d = slow_direction(form, slow[k], g, lr, decay, clip, exclude)
            buffers[k] = MOMENTUM * buffers[k] + d
            move = d + MOMENTUM * buffers[k] if nesterov else buffers[k]
            slow[k] = slow[k] - (move if form == "acl" else lr * move)
        optimiser.step()
        for p, expected in zip(ours, slow, strict=True):
            torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_lars_goes_on_from_a_saved_state_with_the_same_bits(form):
    whole, halves = make_params(), make_params()
    uninterrupted = LARS(whole, 0.1, form=form, weight_decay=1e-3)
    first = LARS(halves, 0.1, form=form, weight_decay=1e-3)
    for step in range(4):
        if step == 2:
            state = copy.deepcopy(first.state_dict())
            first = LARS(halves, 9.9, form=form)
            first.load_state_dict(state)
        for params in (whole, halves):
            for p, g in zip(params, gradients(step), strict=True):
                p.grad = g
        uninterrupted.step()
        first.step()
    for p, q in zip(whole, halves, strict=True):
        assert torch.equal(p, q)


def test_lars_leaves_tensors_without_gradient_alone_and_uses_each_groups_own_settings():
    frozen, slow, fast = (torch.ones(2, 2, requires_grad=True) for _ in range(3))
    groups = [{"params": [frozen, slow]}, {"params": [fast], "lr": 1.0}]
    optimiser = LARS(groups, 0.1, form="mae", trust=1.0)
    slow.grad, fast.grad = torch.ones(2, 2), torch.ones(2, 2)
    optimiser.step()
    assert torch.equal(frozen, torch.ones(2, 2))
    torch.testing.assert_close(slow.detach(), torch.full((2, 2), 0.9))
    torch.testing.assert_close(fast.detach(), torch.zeros(2, 2))


def test_a_step_of_the_mae_and_acl_forms_has_the_trust_coefficients_share_of_the_norm_whatever_the_gradients_size():
    for form, size in itertools.product(("mae", "acl"), (1e-6, 1e6)):
        p = make_params()[0]
        before = p.detach().clone()
        p.grad = gradients(0)[0] * size
        LARS([p], 0.5, form=form, trust=TRUST).step()
        moved = (p.detach() - before).norm() / before.norm()
        torch.testing.assert_close(moved.item(), 0.5 * TRUST)


def test_an_unknown_form_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="no form 'plain': choose from mae, solo-learn, acl"):
        LARS(make_params(), 0.1, form="plain")
