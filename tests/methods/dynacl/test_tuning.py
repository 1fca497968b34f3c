import dataclasses

import pytest
import torch
from methods.dynacl.classify import Plan, Training, pseudo_labels, representations

from methods.dynacl.data import Part
from methods.dynacl.models import Classifier, make_encoder
from retable.cards import CardError

SETTINGS = {
    "crop_padding": 1, "flip": False, "eps": 0.05, "step_size": 0.02, "trades_noise": 0.001, "trades_iters": 2,
    "alf_iters": 2, "beta": 6.0,
}  # fmt: skip


@pytest.fixture
def data():
    """Two classes: dark and bright images."""
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = torch.randint(0, 100, (64, 3, 16, 16)) + 120 * y.view(-1, 1, 1, 1)
    return Part(x.to(torch.uint8), y)


def test_pseudo_labels_find_clusters_and_their_number_must_fit():
    torch.manual_seed(0)
    y = torch.arange(30) % 3
    features = 10 * torch.eye(3)[y] + torch.randn(30, 3) * 0.1
    found = pseudo_labels(features, 3, 10, seed=2**40)
    assert len({(a, b) for a, b in zip(y.tolist(), found.tolist(), strict=True)}) == 3
    assert torch.equal(found, pseudo_labels(features, 3, 10, seed=2**40))
    for clusters in (1, 11):
        with pytest.raises(CardError, match=f"clusters is {clusters}; expected 2 to the number of classes, 10"):
            pseudo_labels(features, clusters, 10, seed=0)


def test_the_rate_falls_after_ten_and_twenty_of_25_epochs():
    plan = Plan("linear", 25, 1.0, 0.0, 32)
    rates = [plan.rate(epoch) for epoch in (1, 10, 11, 20, 21, 25)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert dataclasses.replace(plan, drops=()).rate(25) == 1


@pytest.mark.parametrize("what", ["linear", "linear-attacked", "trades"])
def test_learns_and_only_trades_moves_the_encoder(what, data):
    classifier = Classifier(make_encoder("tiny"), 2)
    for _ in range(20):
        classifier.encoder(data.x / 255, "pgd")
    before = {name: value.clone() for name, value in classifier.encoder.state_dict().items()}
    training = Training(classifier, Plan(what, 6, 0.1, 0.0, 16, drops=(), views=2), SETTINGS)
    torch.manual_seed(1)
    losses = [training.epoch(epoch, data, seed=7) for epoch in range(1, 7)]
    assert losses[-1] < losses[0]
    same = all(torch.equal(value, before[name]) for name, value in classifier.encoder.state_dict().items())
    assert same == (what != "trades")


def test_stored_augmentations_do_not_depend_on_when_they_are_drawn(data):
    def after(epochs):
        torch.manual_seed(3)
        classifier = Classifier(make_encoder("tiny"), 2)
        training = Training(classifier, Plan("linear", 4, 0.1, 0.0, 64, drops=(), views=2), SETTINGS)
        for epoch in epochs:
            torch.manual_seed(epoch)
            training.epoch(epoch, data, seed=7)
        return training

    whole, late = after([1, 2, 3]), after([3])
    assert torch.equal(whole._kept[0], late._kept[0])
    assert not torch.equal(whole._kept[0], whole._kept[1])


def test_representations_are_those_of_eval_mode(data):
    encoder = make_encoder("tiny")
    encoder(data.x / 255, "normal")
    features = representations(encoder, data.x, "normal")
    assert encoder.training
    torch.testing.assert_close(features, encoder.eval()(data.x / 255, "normal").detach(), rtol=1e-4, atol=1e-5)
