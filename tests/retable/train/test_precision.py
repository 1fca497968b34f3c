"""Half precision and compiled code give what float32 gives, nearly; float16's scaler leaves out overflowing steps."""

import pytest
import torch
from torch import nn

from retable.cards import CardError
from retable.train.precision import Stepper, autocast, compile_in_place, half_precision

CPU = torch.device("cpu")


def test_settings_have_names():
    assert half_precision(False) is None
    assert half_precision(True) is half_precision("bfloat16") is torch.bfloat16
    assert half_precision("float16") is torch.float16
    with pytest.raises(CardError, match="unknown half precision 'fp16'"):
        half_precision("fp16")


@pytest.mark.parametrize(
    ("setting", "dtype"), [(False, torch.float32), (True, torch.bfloat16), ("float16", torch.half)]
)
def test_the_block_computes_in_the_type_that_was_asked_for(setting, dtype):
    with autocast(CPU, setting):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype


def trained(setting, *, clip: float = 0.0) -> list[float]:
    """Losses of a few steps of a small regression."""
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(64, 5), torch.randn(64, 1)
    stepper = Stepper(torch.optim.SGD(model.parameters(), lr=0.1), CPU, setting)
    losses = []
    for _ in range(8):
        with autocast(CPU, setting):
            loss = (model(x).float() - y).square().mean()
        stepper.step(loss, clip, model.parameters())
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("setting", [True, "float16"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_half_precision_follows_float32(setting, clip):
    exact = trained(False, clip=clip)
    assert exact[-1] < exact[0]
    assert trained(setting, clip=clip) == pytest.approx(exact, rel=0.02)


def test_clipping_bounds_the_true_gradient():
    for setting in (False, "float16"):
        weight = nn.Parameter(torch.zeros(3))
        stepper = Stepper(torch.optim.SGD([weight], lr=1.0), CPU, setting)
        stepper.step((weight * torch.tensor([3.0, 4.0, 0.0])).sum(), clip=1.0, clipped=[weight])
        torch.testing.assert_close(weight.detach(), -torch.tensor([0.6, 0.8, 0.0]), rtol=1e-4, atol=1e-6)


def test_an_overflowing_step_is_left_out_and_the_state_is_kept():
    weight = nn.Parameter(torch.ones(1))
    stepper = Stepper(torch.optim.SGD([weight], lr=1.0), CPU, "float16")
    before = stepper.state_dict()["scale"] if stepper.state_dict() else None
    stepper.step((weight * float("inf")).sum())
    assert weight.item() == 1.0
    state = stepper.state_dict()
    assert before is None or state["scale"] < before
    other = Stepper(torch.optim.SGD([weight], lr=1.0), CPU, "float16")
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_float32_keeps_no_state():
    stepper = Stepper(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), CPU, False)
    assert stepper.state_dict() == {}
    stepper.load_state_dict({})


def test_a_module_is_compiled_in_place_with_its_weights_names():
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    names, expected = list(module.state_dict()), module(torch.ones(1, 3))
    compile_in_place(module, False)
    assert module._compiled_call_impl is None
    compile_in_place(module, "eager")
    assert module._compiled_call_impl is not None
    torch.testing.assert_close(module(torch.ones(1, 3)), expected)
    assert list(module.state_dict()) == names
    with pytest.raises(CardError, match="unknown backend to compile with 'inductr'; did you mean 'inductor'"):
        compile_in_place(module, "inductr")
