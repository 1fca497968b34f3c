"""A step of pre-training and its schedules, on a tiny network; whole runs are in test_run.py."""

import math
from types import SimpleNamespace

import pytest
import torch
from methods.dynacl.losses import nt_xent

from methods.dynacl import pretrain
from methods.dynacl.data import Part
from methods.dynacl.pretrain import FLOOR, Pretraining, make_optimiser
from retable.cards import CardError
from retable.train.optim import LARS

SETTINGS = {
    "epochs": 20, "plateaus": 4, "arch": "tiny", "head_layers": 2, "momentum_encoder": True, "momentum": 0.9,
    "swap": 2 / 3, "weight_rule": "code", "strength": 0.5, "lr": 0.2, "warmup": 4, "batch_size": 4,
    "adversarial": True, "eps": 0.03, "step_size": 0.01, "temperature": 0.5, "attack_iters": 2, "optimiser": "sgd",
    "weight_decay": 0.0, "interpolation": "bilinear", "flip": True,
}  # fmt: skip


def made(**settings) -> Pretraining:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8)
    labelled, rest = (Part(part, torch.zeros(len(part), dtype=torch.long)) for part in (images[:3], images))
    return Pretraining(SimpleNamespace(train=labelled, unlabelled=rest), SETTINGS | settings)


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_strength_has_as_many_plateaus_as_asked_for_and_the_weight_moves_an_epoch_earlier() -> None:
    strengths, loss_weights = zip(*(made().schedule(epoch) for epoch in range(1, 21)), strict=True)
    expected = [0.5 * share for share in (1, 0.75, 0.5, 0.25) for _ in range(5)]
    assert strengths == pytest.approx(expected)
    assert loss_weights == pytest.approx([1 + 2 / 3 * (1 - s / 0.5) for s in (*expected[1:], 0)])
    assert made(epochs=3, plateaus=20).period == 1


def test_the_loss_is_nt_xent_of_each_half_on_its_route_by_the_weight(clean: torch.Tensor) -> None:
    training = made()
    for name, parameter in training.pair.named_parameters():
        if ".norms.adv." in name:  # at the start both bn_branches are alike
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    attacked = clean.flip(3)
    halves = [nt_xent(training.pair(x, bn_branch), 0.5) for x, bn_branch in ((clean, "clean"), (attacked, "adv"))]
    for weight, expected in ((0, halves[0]), (1, sum(halves) / 2), (2, halves[1])):
        assert training.loss(clean, attacked, weight).item() == pytest.approx(expected.item(), rel=1e-6)
    assert training.loss(clean, None, 2).item() == halves[0].item()
    assert not math.isclose(halves[0].item(), halves[1].item(), rel_tol=1e-3)


def test_the_moving_average_takes_in_the_weights_from_before_the_step(clean: torch.Tensor) -> None:
    training = made()
    history = [weights(training.pair.q)]
    for _ in range(2):
        training.step(clean, 1)
        history.append(weights(training.pair.q))
    start, first, second = history
    assert all(not torch.equal(a, b) for a, b in zip(first[:1], second[:1], strict=True))
    for k, q0, q1 in zip(weights(training.pair.k), start, first, strict=True):
        assert torch.allclose(k, 0.9 * q0 + 0.1 * q1, atol=1e-6)


def test_attacked_views_are_within_eps_and_without_attacks_their_batch_norms_rest(clean: torch.Tensor) -> None:
    training = made()
    attacked = training.attack(clean)
    assert 0 < float((attacked - clean).abs().max()) <= 0.03 + 1e-6
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1
    counted = {}
    for adversarial in (True, False):
        training = made(adversarial=adversarial)
        training.step(clean, 1)
        norms = training.pair.q.encoder.stem.norms
        counted[adversarial] = int(norms["clean"].num_batches_tracked), int(norms["adv"].num_batches_tracked)
    assert counted == {True: (1, 1), False: (1, 0)}


def test_an_epoch_takes_each_unlabelled_image_once_at_the_rate_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    training, seen = made(), []
    monkeypatch.setattr(pretrain, "views", lambda x, augmentation, settings: (x, augmentation))
    losses = iter([1.0, 2.0, 6.0])

    def step(drawn, weight):
        seen.append((*drawn, weight, training.optimiser.param_groups[0]["lr"]))
        return torch.tensor(next(losses))

    monkeypatch.setattr(training, "step", step)
    assert training.epoch(2) == 3.0
    assert [len(x) for x, *_ in seen] == [4, 4, 2]
    images = torch.cat([x for x, *_ in seen]).flatten(1).tolist()
    assert sorted(images) == sorted(training.task.unlabelled.x.flatten(1).tolist())
    for _, augmentation, weight, rate in seen:
        assert augmentation.smallest_crop == pytest.approx(1 - 0.9 * 0.5)
        assert (weight, rate) == (1.0, pytest.approx(0.2 * 2 / 4))
    losses = iter([1.0] * 3)
    training.epoch(20)
    assert FLOOR < seen[-1][3] < 0.01


def test_optimisers_have_the_rate_and_decay_and_another_name_is_refused_in_one_line() -> None:
    network = torch.nn.Linear(2, 2)
    for name, kind in (("lars", LARS), ("sgd", torch.optim.SGD)):
        optimiser = make_optimiser(network, {"lr": 0.3, "weight_decay": 1e-4, "optimiser": name})
        (group,) = optimiser.param_groups
        assert isinstance(optimiser, kind)
        assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.3, 1e-4, 0.9)
        assert len(group["params"]) == 2
    with pytest.raises(CardError, match=r"^unknown optimiser 'adam'; valid: lars, sgd$"):
        make_optimiser(network, {"lr": 0.3, "weight_decay": 0.0, "optimiser": "adam"})
