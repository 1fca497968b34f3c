import math

import pytest
import torch

from methods.dynacl.data import Part
from methods.dynacl.models import Classifier, make_encoder
from methods.dynacl.settings import PretrainSettings
from methods.dynacl.tuning import Stage, augmented_features, finetune_trades, train_linear, train_linear_attacked

SETTINGS = PretrainSettings.model_construct(
    crop_padding=1, flip=False, lp_aft=False, eps=0.05, step_size=0.02, trades_noise=0.001, trades_iters=2, alf_iters=2,
    beta=6.0, probe_views=2,
)  # fmt: skip
TRAIN = {
    "linear": lambda classifier, *rest: train_linear(classifier, rest[0], "adv", *rest[1:]),
    "linear-attacked": lambda classifier, *rest: train_linear_attacked(classifier, rest[0], "adv", *rest[1:]),
    "trades": lambda classifier, *rest: finetune_trades(classifier, rest[0], "adv", "adv", *rest[1:]),
}


class Loop:
    """The part of a context that training needs, without saved states."""

    def __init__(self):
        self.losses, self.phases, self.lrs = [], [], []

    def epochs(self, total, phase, classifier, optimiser):
        self.phases.append(phase)
        for epoch in range(1, total + 1):
            yield epoch
            self.lrs.append(optimiser.param_groups[0]["lr"])

    def log(self, epoch, loss):
        self.losses.append(loss)

    def derive(self, *names):
        return 14


@pytest.fixture
def data():
    """Two classes: dark and bright images."""
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = torch.randint(0, 100, (64, 3, 16, 16)) + 120 * y.view(-1, 1, 1, 1)
    return Part(x.to(torch.uint8), y)


def test_the_learning_rate_falls_after_ten_and_twenty_of_25_epochs():
    lrs = [Stage("slf", 25, 1.0, 0.0, 32).lr_at(epoch) for epoch in (1, 10, 11, 20, 21, 25)]
    assert lrs == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Stage("lp", 25, 1.0, 0.0, 32, lr_drops=()).lr_at(25) == 1


@pytest.mark.parametrize("what", TRAIN)
def test_learns_and_only_trades_moves_the_encoder(what, data):
    classifier = Classifier(make_encoder("tiny"), 2)
    for _ in range(20):
        classifier.encoder(data.x / 255, "adv")
    before = {name: value.clone() for name, value in classifier.encoder.state_dict().items()}
    torch.manual_seed(1)
    loop = Loop()
    TRAIN[what](classifier, data, Stage("stage", 6, 0.1, 0.0, 16, lr_drops=()), SETTINGS, loop)
    assert loop.phases == ["stage"]
    assert loop.losses[-1] < loop.losses[0]
    same = all(torch.equal(value, before[name]) for name, value in classifier.encoder.state_dict().items())
    assert same == (what != "trades")


@pytest.mark.parametrize("what", TRAIN)
def test_each_epoch_has_its_learning_rate(what, data):
    loop = Loop()
    TRAIN[what](Classifier(make_encoder("tiny"), 2), data, Stage("stage", 5, 0.1, 0.0, 64), SETTINGS, loop)
    assert loop.lrs == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert all(math.isfinite(loss) for loss in loop.losses)


@pytest.mark.parametrize("what", TRAIN)
@pytest.mark.parametrize(("drop_last", "steps"), [(False, 3), (True, 2)])
def test_an_epochs_smaller_last_batch_is_kept_unless_a_stage_leaves_it_out(what, drop_last, steps, data, monkeypatch):
    taken = []
    monkeypatch.setattr("methods.dynacl.tuning.descend", lambda optimiser, loss: taken.append(loss) or loss.detach())
    stage = Stage("stage", 1, 0.1, 0.0, 24, drop_last=drop_last)
    TRAIN[what](Classifier(make_encoder("tiny"), 2), data, stage, SETTINGS, Loop())
    assert len(taken) == steps  # 24 + 24 + 16 images


def test_alf_attacks_for_twice_as_many_steps_after_lp_aft(data, monkeypatch):
    seen = []

    def attack(model, x, y, *, iterations, **rest):
        seen.append(iterations)
        return x

    monkeypatch.setattr("methods.dynacl.tuning.pgd_examples", attack)
    for lp_aft in (False, True):
        s = SETTINGS.model_copy(update={"alf_iters": 10, "lp_aft": lp_aft})
        train_linear_attacked(
            Classifier(make_encoder("tiny"), 2), data, "adv", Stage("alf", 1, 0.1, 0.0, 64), s, Loop()
        )
    assert seen == [10, 20]


def test_stored_augmentations_do_not_depend_on_when_they_are_drawn(data):
    torch.manual_seed(3)
    encoder = make_encoder("tiny")
    first = augmented_features(encoder, data.x, "adv", 7, SETTINGS)
    after = torch.rand(1)
    torch.manual_seed(4)
    torch.rand(10)
    assert torch.equal(first, augmented_features(encoder, data.x, "adv", 7, SETTINGS))
    assert not torch.equal(first, augmented_features(encoder, data.x, "adv", 8, SETTINGS))
    torch.manual_seed(3)
    make_encoder("tiny")
    assert torch.equal(after, torch.rand(1))  # the global stream is left alone


def test_the_augmentations_of_linear_training_take_turns(data, monkeypatch):
    seeds = []

    def features(encoder, x, bn_branch, seed, s):
        seeds.append(seed)
        return torch.zeros(len(x), encoder.width)

    monkeypatch.setattr("methods.dynacl.tuning.augmented_features", features)
    classifier = Classifier(make_encoder("tiny"), 2)
    train_linear(classifier, data, "adv", Stage("slf", 6, 0.1, 0.0, 64), SETTINGS, Loop())
    assert seeds == [7, 8]
    more = SETTINGS.model_copy(update={"probe_views": 6})
    train_linear(classifier, data, "adv", Stage("slf", 6, 0.1, 0.0, 64), more, Loop())
    assert seeds[2:] == [7, 8, 9, 10, 11, 12]
