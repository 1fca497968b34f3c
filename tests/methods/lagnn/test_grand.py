"""GRAND with fixed copies of the features."""

import json

import pytest
import torch

from methods.lagnn.grand import MLP, Grand, Patience, draws_of, masked
from methods.lagnn.model import random_propagation
from methods.lagnn.settings import GrandSettings
from retable.cards import CardError


@pytest.fixture
def start(demo_cell):
    """`start(variant, **settings)`: the experiment of a demo cell, seed 0."""

    def made(variant: str, **settings) -> Grand:
        cell, context = demo_cell("lagnn", "grand", variant, **settings)
        return Grand(GrandSettings.parse(cell.settings, "test"), context)

    return made


def test_whole_rows_are_masked_and_the_others_stay() -> None:
    torch.manual_seed(0)
    x = torch.rand(2000, 5) + 1
    drawn = masked(x, 0.3)
    kept = drawn.any(1)
    assert 0.65 < kept.double().mean() < 0.75
    assert torch.equal(drawn[kept], x[kept])
    assert torch.equal(masked(x, 0.0), x)


def test_each_input_is_drawn_as_often_as_the_settings_say(start) -> None:
    experiment = start("lagrand", dropnode=0.0, input_dropout=0.0, hidden_dropout=0.0, draws=3)
    inputs, adjacency = experiment.inputs(), experiment.task.adjacency
    log_p = draws_of(experiment.model.train(), inputs, adjacency, experiment.settings)
    assert log_p.shape == (6, len(experiment.task.y), experiment.task.classes)
    for place, x in ((0, inputs[0]), (2, inputs[0]), (3, inputs[1]), (5, inputs[1])):
        expected = experiment.model(random_propagation(x, adjacency, experiment.settings.order))
        torch.testing.assert_close(log_p[place], expected)


def test_copies_are_drawn_once_and_carry_no_gradient(start) -> None:
    experiment = start("lagrand")
    first, second = experiment.inputs(), experiment.inputs()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not any(x.requires_grad for x in first)
    twice = start("lagrand", copies="real").inputs()
    assert torch.equal(twice[0], twice[1])


def test_the_prediction_is_of_the_real_features_scaled_by_what_a_draw_keeps(start) -> None:
    experiment = start("lagrand", dropnode=0.4)
    task = experiment.task
    propagated = random_propagation(0.6 * task.normalised, task.adjacency, experiment.settings.order)
    expected = experiment.model.eval()(propagated)
    torch.testing.assert_close(experiment._log_p(), expected)


def test_batch_normalisation_comes_before_dropout(start) -> None:
    s = start("grand").settings.model_copy(update={"batch_norm": True, "input_dropout": 0.0, "hidden_dropout": 0.0})
    x = 100 * torch.rand(50, 7)
    model = MLP(7, 3, s)
    assert torch.allclose(model(x), model(3 * x + 5), atol=1e-4)


def test_training_ends_when_neither_loss_nor_accuracy_is_as_good_as_ever(start) -> None:
    patience = Patience()
    waited = []
    for loss, accuracy in ((1.0, 50.0), (0.9, 40.0), (1.1, 50.0), (1.0, 49.0), (0.95, 49.0), (0.9, 0.0)):
        patience.update(loss, accuracy)
        waited.append(patience.waited)
    assert waited == [0, 0, 0, 1, 2, 0]
    again = Patience()
    again.load_state_dict(patience.state_dict())
    assert vars(again) == vars(patience)

    # With a rate of 0 the network stays as it is: every epoch is as good as the first one.
    experiment = start("grand", lr=0.0, weight_decay=0.0, patience=1, epochs=5)
    experiment.train()
    assert len(experiment.context.curve.read_text().splitlines()) == 5
    experiment = start("grand", lr=30.0, patience=1, epochs=200)
    experiment.train()
    assert len(experiment.context.curve.read_text().splitlines()) < 200


def test_the_epoch_with_the_lowest_validation_loss_is_read(start) -> None:
    experiment = start("lagrand", epochs=5)
    experiment.train()
    losses = [json.loads(line)["val_loss"] for line in experiment.context.curve.read_text().splitlines()[-5:]]
    assert experiment.measure().metrics["chosen_epoch"] == 1 + losses.index(min(losses))


def test_copies_of_nothing_are_refused(start) -> None:
    with pytest.raises(CardError, match="extra branches and copies go together"):
        start("grand", branches=1)
