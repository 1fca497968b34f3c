"""NCN and NCNC."""

import torch

from methods.ncn.overlap import Neighbours
from methods.ncn.predictor import Completion, Predictor, link_loss

EDGES = torch.tensor([[0, 1, 0, 2, 1, 2, 2, 3, 3, 4], [1, 0, 2, 0, 2, 1, 3, 2, 4, 3]])
PAIRS = torch.tensor([[0, 1, 0], [1, 3, 4]])


def made(**options) -> tuple[Predictor, torch.Tensor, Neighbours]:
    torch.manual_seed(0)
    return Predictor(4, **options).double().eval(), torch.randn(5, 4, dtype=torch.float64), Neighbours(EDGES, 5)


def test_the_pooled_sum_is_over_common_neighbours() -> None:
    model, x, graph = made()
    states = x + model.xlin(x)
    # Common neighbours: of (0, 1) node 2; of (1, 3) node 2; of (0, 4) none.
    pooled = torch.stack([states[2], states[2], torch.zeros(4, dtype=torch.float64)])
    product = model.xijlin(x[PAIRS[0]] * x[PAIRS[1]])
    expected = model.lin(model.beta * model.xcnlin(pooled) + product)[:, 0]
    torch.testing.assert_close(model(x, graph, PAIRS), expected)


def test_completion_adds_neighbours_of_one_node_by_what_the_lower_depth_says() -> None:
    completion = Completion(depth=1, alpha=0.8, scale=4.0, offset=0.1, pt=0.75)
    model, x, graph = made(completion=completion)
    states = x + model.xlin(x)
    # (0, 4): N(0) = {1, 2}, N(4) = {3}, nothing in common.
    pair = PAIRS[:, 2:]
    with torch.no_grad():
        left = completion.weight(model(states, graph, torch.tensor([[4, 4], [1, 2]]), 0))
        right = completion.weight(model(states, graph, torch.tensor([[0], [3]]), 0))
    pooled = (left[:, None] * states[[1, 2]]).sum(0) + right * states[3]
    product = model.xijlin(x[pair[0]] * x[pair[1]])
    expected = model.lin(model.beta * model.xcnlin(pooled[None]) + product)[:, 0]
    torch.testing.assert_close(model(x, graph, pair), expected)


def test_weights_rise_with_the_logit_up_to_alpha() -> None:
    weights = Completion(alpha=0.3, scale=5.0, offset=1.0, pt=0.5).weight(torch.tensor([-50.0, 0.0, 1.0, 50.0]))
    assert (weights.diff() > 0).all()
    torch.testing.assert_close(weights[[0, 3]], torch.tensor([0.0, 0.3]), atol=1e-6, rtol=0)


def test_an_autoencoder_sees_no_neighbours() -> None:
    model, x, graph = made(common=False)
    torch.testing.assert_close(model(x, graph, PAIRS), model(x, Neighbours(EDGES[:, :2], 5), PAIRS))


def test_edges_are_missed_in_training_only() -> None:
    model, x, graph = made(edge_dropout=0.5)
    assert torch.equal(model(x, graph, PAIRS), model(x, graph, PAIRS))
    model.train()
    assert not torch.equal(
        torch.stack([model(x, graph, PAIRS) for _ in range(20)]).std(0), torch.zeros(3, dtype=x.dtype)
    )


def test_the_loss_is_the_mean_over_each_kind() -> None:
    logits = {1: torch.tensor([0.0, 2.0]), 0: torch.tensor([0.0])}
    loss = link_loss(lambda pairs: logits[len(pairs) % 2], torch.zeros(1), torch.zeros(2))
    expected = -(torch.sigmoid(logits[1]).log().mean() + torch.sigmoid(-logits[0]).log().mean())
    torch.testing.assert_close(loss, expected)
