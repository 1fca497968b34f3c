import pytest
import torch

from methods.gcl.graphs.adgcl import ADGCL, dropped_share, gate, view_objective
from methods.gcl.losses import TERMS
from retable.nn.graph_batch import GraphBatch


@pytest.fixture
def batch() -> GraphBatch:
    """Two rings and a graph without edges."""
    ring = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 6), (6, 3)]
    edges = torch.tensor([pair for a, b in ring for pair in ((a, b), (b, a))]).T
    graph = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    return GraphBatch(torch.ones(8, 1), edges, graph, 3)


def snapshot(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_the_gate_is_a_relaxed_coin_that_follows_its_logit():
    uniform = torch.linspace(0.001, 0.999, 1001)
    low, even, high = (gate(torch.full((1001,), logit), uniform) for logit in (-4.0, 0.0, 4.0))
    assert ((even > 0) & (even < 1)).all()
    assert even.mean() == pytest.approx(0.5, abs=0.01)
    assert (low < even).all()
    assert (even < high).all()
    assert gate(torch.zeros(2), torch.tensor([0.0, 1.0])).isfinite().all()


def test_the_penalty_weighs_graphs_alike_and_skips_those_without_edges(batch):
    weight = torch.cat([torch.full((6,), 0.5), torch.full((8,), 0.25)])
    assert float(dropped_share(weight, batch)) == pytest.approx((0.5 + 0.75) / 2)
    bare = GraphBatch(batch.x, torch.empty(2, 0, dtype=torch.long), batch.node_graph, 3)
    assert float(dropped_share(torch.empty(0), bare)) == 0


@pytest.mark.parametrize("terms", TERMS)
def test_the_learner_climbs_its_objective_and_the_penalty_keeps_edges(terms, batch, graph_settings):
    torch.manual_seed(0)
    players = ADGCL(1, graph_settings(method="adgcl"))
    players.model.eval()
    uniform = torch.rand(14)
    optimiser = torch.optim.SGD(players.view_learner.parameters(), lr=1e-2)

    def objective(penalty: float) -> torch.Tensor:
        return view_objective(players.model, players.view_learner, batch, uniform, terms, 0.2, penalty)

    before = objective(2.0)
    (-before).backward()
    optimiser.step()
    assert objective(2.0) > before
    share = dropped_share(gate(players.view_learner(batch), uniform), batch)
    torch.testing.assert_close(objective(0.0) - objective(2.0), 2 * share)


def test_a_step_moves_each_player_by_its_own_optimiser(batch, graph_settings):
    torch.manual_seed(0)
    players = ADGCL(1, graph_settings(method="adgcl", tau=0.2, penalty=5.0))
    still = torch.optim.SGD(players.model.parameters(), lr=0.0)
    model, learner = snapshot(players.model), snapshot(players.view_learner)
    moving = torch.optim.SGD(players.view_learner.parameters(), lr=0.1)
    players.step(batch, {"optimiser": still, "view_optimiser": moving})
    assert all(map(torch.equal, model, snapshot(players.model)))
    assert not all(map(torch.equal, learner, snapshot(players.view_learner)))

    learner = snapshot(players.view_learner)
    moving = torch.optim.SGD(players.model.parameters(), lr=0.1)
    still = torch.optim.SGD(players.view_learner.parameters(), lr=0.0)
    players.step(batch, {"optimiser": moving, "view_optimiser": still})
    assert not all(map(torch.equal, model, snapshot(players.model)))
    assert all(map(torch.equal, learner, snapshot(players.view_learner)))


def test_the_encoders_loss_reaches_no_weight_of_the_learner(batch, graph_settings):
    players = ADGCL(1, graph_settings(method="adgcl", tau=0.2))
    players.loss(batch).backward()
    assert all(parameter.grad is None for parameter in players.view_learner.parameters())
    assert any(parameter.grad is not None for parameter in players.model.parameters())
