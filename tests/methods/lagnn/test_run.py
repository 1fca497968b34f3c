"""The experiment on nodes."""

import json

import pytest
import torch

from methods.lagnn.run import Nodes
from retable.cards import CardError


def test_the_number_is_that_of_the_draw_that_chose_the_epoch(make) -> None:
    settings, context = make("lagcn", epochs=3)
    experiment = Nodes(settings, context)
    experiment.train()
    found = experiment.measure().metrics
    assert experiment.measure().metrics == found
    losses = [json.loads(line)["val_loss"] for line in experiment.context.curve.read_text().splitlines()[-3:]]
    assert found["chosen_epoch"] == 1 + losses.index(min(losses))


def test_branches_without_copies_are_refused(make) -> None:
    with pytest.raises(CardError, match="extra branches and copies go together"):
        Nodes(*make("gcn", branches=1))


def test_an_ensemble_has_its_members(make) -> None:
    assert len(Nodes(*make("gcn", method="ensemble", members=3)).model) == 3


def test_a_member_is_trained_as_it_would_be_alone(make) -> None:
    """Under a mean over members, weight decay would weigh as many times as there are members."""
    experiment = Nodes(*make("gcn", method="ensemble", members=3, dropout=0.0))
    gradients = []
    for members in (experiment.model, experiment.model[:1]):
        experiment.model = members
        experiment.fixed_batch()().backward()
        first = list(members[0].parameters())
        gradients.append([parameter.grad.clone() for parameter in first])
        for parameter in first:
            parameter.grad = None
    torch.testing.assert_close(*gradients)
