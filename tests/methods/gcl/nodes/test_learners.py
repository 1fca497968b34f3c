"""What every method on nodes does; their objectives are in the files of their modules, training is in test_node.py."""

from typing import get_args

import pytest
import torch

from methods.gcl.nodes.learners import LEARNERS
from methods.gcl.settings import NodeSettings


def test_every_method_that_can_be_set_is_here_but_the_rows_without_an_encoder() -> None:
    named = get_args(NodeSettings.model_fields["method"].annotation)
    assert set(named) == {*LEARNERS, "raw-features", "majority"}


@pytest.mark.parametrize("method", list(LEARNERS))
def test_the_loss_draws_from_torchs_global_stream_and_the_representations_draw_nothing(
    method: str, learner_of, loss_of
) -> None:
    learner = learner_of(method=method).eval()
    assert loss_of(learner, 0) == loss_of(learner, 0) != loss_of(learner, 1)
    before = torch.get_rng_state()
    z = learner.embed()
    assert z.shape == (30, learner.settings.out if method == "bgrl" else learner.settings.hidden)
    assert torch.equal(z, learner.embed())
    assert torch.equal(torch.get_rng_state(), before)
