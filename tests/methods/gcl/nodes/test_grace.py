import numpy as np
import pytest
import torch

from retable.cards import CardError


@pytest.mark.parametrize("loss", ["contrast", "no-positives", "no-negatives"])
def test_graces_loss_without_augmentation_is_its_definition_pair_by_pair(loss: str, learner_of, loss_of) -> None:
    learner = learner_of(augmentation="none", loss=loss)
    h = torch.nn.functional.normalize(learner.projector(learner.embed()).detach().double())
    s = (h @ h.T / learner.settings.tau).tolist()
    total, nodes = 0.0, len(s)
    for i in range(nodes):
        others = sum(np.exp(s[i][j]) for j in range(nodes) if j != i)
        push, pull = np.log(others + others + np.exp(s[i][i])), s[i][i]
        total += {"contrast": push - pull, "no-positives": push, "no-negatives": -pull}[loss]
    assert loss_of(learner) == pytest.approx(total / nodes, rel=1e-5)


@pytest.mark.parametrize("method", ["grace", "gca"])
def test_a_sample_of_all_nodes_is_no_sample(method: str, learner_of, loss_of) -> None:
    whole = loss_of(learner_of(method=method))
    nodes = learner_of().task.view.x.shape[0]
    assert loss_of(learner_of(method=method, sample=nodes)) == whole
    assert loss_of(learner_of(method=method, sample=nodes - 1)) != whole


def test_neighbours_among_a_sample_of_nodes_are_refused(learner_of) -> None:
    with pytest.raises(CardError, match="the loss 'neighbours' is computed among all nodes"):
        learner_of(loss="neighbours", sample=10)
