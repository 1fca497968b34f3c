"""A step of pre-training and its schedules, on a tiny network; whole runs are in test_run.py."""

import math
from types import SimpleNamespace

import pytest
import torch

from methods.dynacl import pretrain
from methods.dynacl.data import Part
from methods.dynacl.models import Pair
from methods.dynacl.pretrain import FLOOR, attack, contrastive_loss, make_optimiser, make_pair, schedule, step
from methods.dynacl.settings import PretrainSettings
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.optim import LARS

SETTINGS = PretrainSettings.model_construct(
    epochs=20, plateaus=4, arch="tiny", head_layers=2, momentum_encoder=True, momentum=0.9, swap=2 / 3,
    weight_rule="code", strength=0.5, lr=0.2, warmup=4, batch_size=4, adversarial=True, eps=0.03, step_size=0.01,
    temperature=0.5, attack_iters=2, optimiser="sgd", weight_decay=0.0, interpolation="bilinear", flip=True,
)  # fmt: skip


def change(**settings) -> PretrainSettings:
    return SETTINGS.model_copy(update=settings)


@pytest.fixture
def pair() -> Pair:
    torch.manual_seed(0)
    return make_pair(SETTINGS)


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_strength_has_as_many_plateaus_as_asked_for_and_the_weight_moves_an_epoch_earlier() -> None:
    strengths, loss_weights = zip(*(schedule(epoch, SETTINGS) for epoch in range(1, 21)), strict=True)
    expected = [0.5 * share for share in (1, 0.75, 0.5, 0.25) for _ in range(5)]
    assert strengths == pytest.approx(expected)
    assert loss_weights == pytest.approx([1 + 2 / 3 * (1 - s / 0.5) for s in (*expected[1:], 0)])
    # More plateaus than epochs: each epoch is one.
    strengths = [schedule(epoch, change(epochs=3, plateaus=20))[0] for epoch in (1, 2, 3)]
    assert strengths == pytest.approx([0.5, 1 / 3, 1 / 6])


def test_the_loss_is_nt_xent_of_each_half_on_its_branch_by_the_weight(pair: Pair, clean: torch.Tensor) -> None:
    for name, parameter in pair.named_parameters():
        if ".norms.adv." in name:  # at the start both branches are alike
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    attacked = clean.flip(3)
    halves = [nt_xent_interleaved(pair(x, branch), 0.5) for x, branch in ((clean, "clean"), (attacked, "adv"))]
    for weight, expected in ((0, halves[0]), (1, sum(halves) / 2), (2, halves[1])):
        assert contrastive_loss(pair, clean, attacked, weight, 0.5).item() == pytest.approx(expected.item(), rel=1e-6)
    assert contrastive_loss(pair, clean, None, 2, 0.5).item() == halves[0].item()
    assert not math.isclose(halves[0].item(), halves[1].item(), rel_tol=1e-3)


def test_the_moving_average_takes_in_the_weights_from_before_the_step(pair: Pair, clean: torch.Tensor) -> None:
    optimiser = make_optimiser(pair, SETTINGS)
    history = [weights(pair.q)]
    for _ in range(2):
        step(pair, optimiser, clean, 1, SETTINGS)
        history.append(weights(pair.q))
    start, first, second = history
    assert all(not torch.equal(a, b) for a, b in zip(first[:1], second[:1], strict=True))
    for k, q0, q1 in zip(weights(pair.k), start, first, strict=True):
        assert torch.allclose(k, 0.9 * q0 + 0.1 * q1, atol=1e-6)


def test_attacked_views_are_within_eps_and_without_attacks_their_batch_norms_rest(
    pair: Pair, clean: torch.Tensor
) -> None:
    attacked = attack(pair, clean, SETTINGS)
    assert 0 < float((attacked - clean).abs().max()) <= 0.03 + 1e-6
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1
    counted = {}
    for adversarial in (True, False):
        fresh = make_pair(SETTINGS)
        step(fresh, make_optimiser(fresh, SETTINGS), clean, 1, change(adversarial=adversarial))
        norms = fresh.q.encoder.stem.norms
        counted[adversarial] = int(norms["clean"].num_batches_tracked), int(norms["adv"].num_batches_tracked)
    assert counted == {True: (1, 1), False: (1, 0)}


class Loop:
    """The part of a context that training needs: some epochs, without saved states."""

    def __init__(self, *asked: int) -> None:
        self.asked, self.losses = asked, []

    def epochs(self, total, phase, **parts):
        assert (total, phase, set(parts)) == (20, "pretrain", {"pair", "optimiser", "curve"})
        yield from self.asked

    def log(self, epoch, loss):
        self.losses.append(loss)


def test_an_epoch_takes_each_unlabelled_image_once_at_the_learning_rate_of_the_epoch(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, images = [], torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8)
    labelled, rest = (Part(part, torch.zeros(len(part), dtype=torch.long)) for part in (images[:3], images))
    monkeypatch.setattr(pretrain, "views", lambda x, augmentation, interpolation, flip: (x, augmentation))
    monkeypatch.setattr(pretrain, "ridge_robustness", lambda encoder, task, s: (70.0, 30.0))
    losses = iter([1.0, 2.0, 6.0] + [1.0] * 3)

    def one_step(pair, optimiser, drawn, weight, s):
        seen.append((*drawn, weight, optimiser.param_groups[0]["lr"]))
        return torch.tensor(next(losses))

    monkeypatch.setattr(pretrain, "step", one_step)
    loop = Loop(2, 20)
    series = pretrain.pretrain(pair, SimpleNamespace(train=labelled, unlabelled=rest), SETTINGS, loop)
    assert loop.losses == [3.0, 1.0]
    second, last = seen[:3], seen[3:]
    assert [len(x) for x, *_ in second] == [4, 4, 2]
    assert sorted(torch.cat([x for x, *_ in second]).flatten(1).tolist()) == sorted(images.flatten(1).tolist())
    for _, augmentation, weight, lr in second:
        assert augmentation.smallest_crop == pytest.approx(1 - 0.9 * 0.5)
        assert (weight, lr) == (1.0, pytest.approx(0.2 * 2 / 4))
    assert FLOOR < last[-1][3] < 0.01
    assert [series[name][-1] for name in ("probe_accuracy_by_epoch", "probe_pgd_accuracy_by_epoch")] == [70.0, 30.0]


def test_optimisers_have_the_learning_rate_and_decay_of_the_settings(pair: Pair) -> None:
    for name, kind in (("lars", LARS), ("sgd", torch.optim.SGD)):
        optimiser = make_optimiser(pair, change(lr=0.3, weight_decay=1e-4, optimiser=name))
        (group,) = optimiser.param_groups
        assert isinstance(optimiser, kind)
        assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.3, 1e-4, 0.9)
        assert len(group["params"]) == len(list(pair.q.parameters()))
