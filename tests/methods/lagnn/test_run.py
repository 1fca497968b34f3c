"""The experiment on nodes."""

import pytest
import torch

from methods.lagnn.run import Chosen, Nodes
from retable.cards import CardError


def test_the_lowest_validation_loss_is_kept() -> None:
    chosen, model = Chosen(), torch.nn.Linear(1, 1)
    for epoch, loss in enumerate([3.0, 1.0, 2.0], 1):
        with torch.no_grad():
            model.bias.fill_(epoch)
        chosen.update(loss, model, epoch)
    assert chosen.weights["bias"].item() == chosen.weights["epoch"].item() == 2


def test_the_number_is_that_of_the_draw_that_chose_the_epoch(make) -> None:
    settings, context = make("lagcn", epochs=3)
    experiment = Nodes(settings, context)
    experiment.train()
    found = experiment.measure().metrics
    assert experiment.measure().metrics == found
    assert found["chosen_epoch"] in (1, 2, 3)


def test_branches_without_copies_are_refused(make) -> None:
    with pytest.raises(CardError, match="extra branches and copies go together"):
        Nodes(*make("gcn", branches=1))


def test_an_ensemble_has_its_members(make) -> None:
    assert len(Nodes(*make("gcn", method="ensemble", members=3)).model) == 3
