import pytest
import torch

from methods.gcl.nodes.bgrl import BGRL, bootstrap_loss, target_momentum
from methods.gcl.nodes.encoders import View


def model_and_view() -> tuple[BGRL, View]:
    torch.manual_seed(0)
    edges = torch.randint(0, 20, (2, 60))
    return BGRL(6, (8, 5), 7), View.of(torch.rand(20, 6), edges)


def test_the_target_starts_elsewhere_and_takes_no_gradient() -> None:
    model, view = model_and_view()
    assert not torch.equal(model.online.weights[0], model.target.weights[0])
    bootstrap_loss(*model(view, view)).backward()
    assert all(p.grad is None for p in model.target.parameters())
    assert all(p.grad is not None for p in model.online.parameters())


def test_following_moves_parameters_by_the_share_and_leaves_statistics() -> None:
    model, view = model_and_view()
    model(view, view)
    before = [p.clone() for p in model.target.parameters()]
    statistics = model.target.norms[0].running_mean.clone()
    model.update_target(0.75)
    for old, target, online in zip(before, model.target.parameters(), model.online.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * online)
    assert torch.equal(model.target.norms[0].running_mean, statistics)


def test_loss_is_zero_for_equal_directions_and_four_for_opposite_ones() -> None:
    q = torch.randn(9, 4)
    torch.testing.assert_close(bootstrap_loss(q, 3 * q, q, q), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(bootstrap_loss(q, -q, q, -2 * q), torch.tensor(4.0))


def test_momentum_rises_from_its_base_to_one() -> None:
    values = [target_momentum(step, 0.9, 10) for step in range(11)]
    assert values[0] == pytest.approx(0.9)
    assert values[10] == 1.0
    assert values == sorted(values)


def test_bgrls_target_follows_with_the_momentum_of_the_epoch_and_its_rate_warms_up(learner_of) -> None:
    learner = learner_of(method="bgrl")
    online, target = list(learner.model.online.parameters()), list(learner.model.target.parameters())
    with torch.no_grad():
        for parameter in online:
            parameter += 1
    apart = [(a - b).norm().item() for a, b in zip(online, target, strict=True)]
    learner.after_step(1)
    left = [(a - b).norm().item() for a, b in zip(online, target, strict=True)]
    assert left == pytest.approx([0.9 * gap for gap in apart], rel=1e-4)
    rates = [learner.lr(epoch) for epoch in range(1, 9)]
    assert rates[:3] == pytest.approx([0, 0.005, 0.01])
    assert rates[2:] == sorted(rates[2:], reverse=True)
