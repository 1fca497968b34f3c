import pytest
import torch
from torch import nn

from methods.tricl.loss import Importance
from methods.tricl.models import Projector, embed, parameter_groups


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_the_authors() -> None:
    assert count(Projector(512, 2048, 256)) == 1_575_168
    assert count(Projector(512, 4096, 512)) == 4_198_912


def test_embedding_in_batches_equals_one_pass_and_keeps_the_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8))
    network(torch.rand(20, 3, 4, 4))  # statistics of the normalisation
    images = torch.rand(2100, 3, 4, 4)
    rows = embed(network, images)
    assert network.training
    torch.testing.assert_close(rows, network.eval()(images))
    assert not rows.requires_grad


@pytest.mark.parametrize(("importance", "groups"), [(None, 1), (False, 1), (True, 2)])
def test_only_a_learned_importance_has_a_group_of_its_own(importance: bool | None, groups: int) -> None:
    s = None if importance is None else Importance(4, learned=importance)
    found = parameter_groups([nn.Parameter(torch.zeros(2))], s, 0.4, 0.1, 1e-4)
    assert [(group["peak_lr"], group["weight_decay"]) for group in found] == [(0.4, 1e-4), (0.1, 0.0)][:groups]
