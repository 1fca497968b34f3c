"""The learners' objectives on a small planted graph, against their definitions; training is in test_node.py."""

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.gcl.nodes.encoders import View
from methods.gcl.nodes.learner import Learner
from methods.gcl.nodes.learners import LEARNERS
from methods.gcl.nodes.task import NodeTask
from methods.gcl.settings import NodeSettings
from retable.cards import CardError

SETTINGS = {
    "method": "grace", "loss": "contrast", "encoder": "gcn", "normaliser": "none", "norm_scale": 5.0,
    "augmentation": "own", "noise_variance": 1e-4, "hidden": 8, "projection": 8, "layers": 2, "activation": "prelu",
    "tau": 0.5, "drop_edges_1": 0.2, "drop_edges_2": 0.2, "drop_features_1": 0.2, "drop_features_2": 0.2, "sample": 0,
    "lr": 0.01, "epochs": 8, "official_quirks": False, "centrality": "degree", "weight_init": 0.05, "weights_from": 2,
    "out": 6, "predictor": 16, "warmup": 2, "target_momentum": 0.9, "trained": True, "weight_decay": 0.0,
    "patience": 0, "row_normalise": True, "splits": "random",
}  # fmt: skip
NODES, WORDS = 30, 24


def planted(empty: bool = False) -> NodeTask:
    """Two blocks with more links and words of their own inside; `empty`: a word and a node without any."""
    random = np.random.default_rng(0)
    y = np.arange(NODES) // 15
    upper = np.triu(random.random((NODES, NODES)) < np.where(y[:, None] == y, 0.4, 0.05), 1)
    x = random.random((NODES, WORDS)) < np.where(np.arange(WORDS) // 12 == y[:, None], 0.4, 0.1)
    x = x.astype(np.float32)
    if empty:
        x[:, 3] = 0
        x[5] = 0
    task = object.__new__(NodeTask)  # no splits are needed here
    edges = torch.from_numpy(np.stack(np.nonzero(upper | upper.T)))
    task.view, task.y = View.of(torch.from_numpy(scipy.sparse.csr_matrix(x).toarray()), edges), torch.from_numpy(y)
    return task


def learner_of(empty: bool = False, **settings) -> Learner:
    parsed = NodeSettings.parse(SETTINGS | settings, "gcl/node")
    torch.manual_seed(0)
    return LEARNERS[parsed.method](planted(empty), parsed)


def loss_of(learner: Learner, seed: int = 0, epoch: int = 1) -> float:
    torch.manual_seed(seed)
    return learner.loss(epoch).item()


@pytest.mark.parametrize("method", list(LEARNERS))
def test_the_loss_draws_from_torchs_global_stream_and_the_representations_draw_nothing(method: str) -> None:
    learner = learner_of(method=method).eval()
    assert loss_of(learner, 0) == loss_of(learner, 0) != loss_of(learner, 1)
    before = torch.get_rng_state()
    z = learner.embed()
    assert z.shape == (NODES, SETTINGS["out" if method == "bgrl" else "hidden"])
    assert torch.equal(z, learner.embed())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("loss", ["contrast", "no-positives", "no-negatives"])
def test_graces_loss_without_augmentation_is_its_definition_pair_by_pair(loss: str) -> None:
    learner = learner_of(augmentation="none", loss=loss)
    h = torch.nn.functional.normalize(learner.projector(learner.embed()).detach().double())
    s = (h @ h.T / SETTINGS["tau"]).tolist()
    total = 0.0
    for i in range(NODES):
        others = sum(np.exp(s[i][j]) for j in range(NODES) if j != i)
        push, pull = np.log(others + others + np.exp(s[i][i])), s[i][i]
        total += {"contrast": push - pull, "no-positives": push, "no-negatives": -pull}[loss]
    assert loss_of(learner) == pytest.approx(total / NODES, rel=1e-5)


def test_the_authors_gca_sums_over_nodes_and_a_sample_of_all_is_no_sample() -> None:
    mean = loss_of(learner_of(method="gca"))
    assert loss_of(learner_of(method="gca", official_quirks=True)) == pytest.approx(NODES * mean, rel=1e-5)
    assert loss_of(learner_of(method="gca", sample=NODES)) == mean
    assert loss_of(learner_of(method="gca", sample=NODES - 1)) != mean


def test_bgrls_target_follows_with_the_momentum_of_the_epoch_and_its_rate_warms_up() -> None:
    learner = learner_of(method="bgrl")
    online, target = list(learner.model.online.parameters()), list(learner.model.target.parameters())
    with torch.no_grad():
        for parameter in online:
            parameter += 1
    apart = [(a - b).norm().item() for a, b in zip(online, target, strict=True)]
    learner.after_step(1)
    left = [(a - b).norm().item() for a, b in zip(online, target, strict=True)]
    assert left == pytest.approx([0.9 * gap for gap in apart], rel=1e-4)
    rates = [learner.lr(epoch) for epoch in range(1, 9)]
    assert rates[:3] == pytest.approx([0, 0.005, 0.01])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert learner_of(method="grace").lr(7) == 0.01


def test_an_empty_column_drops_all_others_only_under_the_authors_form() -> None:
    for quirks in (False, True):
        learner = learner_of(empty=True, method="gca", official_quirks=quirks)
        columns = learner.drops[0][1]
        assert columns == 0.7 if quirks else abs(float(columns.mean()) - 0.2) < 0.02


def test_progcl_fits_once_and_remembers_through_its_state() -> None:
    learner = learner_of(method="progcl")
    learner.loss(1)
    assert not learner.fitted
    learner.loss(2)
    weights, views = learner.pair_weights(*learner.views()[:2]), learner.fit_views.clone()
    learner.loss(3)
    assert torch.equal(learner.fit_views, views)
    other = learner_of(method="progcl")
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.pair_weights(*other.views()[:2]), weights)


def test_progcls_sign_without_negatives_flips_only_under_the_authors_form() -> None:
    values = []
    for quirks in (False, True):
        learner = learner_of(method="progcl", loss="no-negatives", official_quirks=quirks)
        values.append(loss_of(learner, epoch=2))
    assert values[0] == -values[1] < 0


def test_neighbours_among_a_sample_of_nodes_are_refused() -> None:
    with pytest.raises(CardError, match="the loss 'neighbours' is computed among all nodes"):
        learner_of(loss="neighbours", sample=10)
