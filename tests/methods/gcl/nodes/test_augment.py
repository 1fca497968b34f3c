import torch

from methods.gcl.nodes.augment import add_noise, drop
from methods.gcl.nodes.encoders import View


def view() -> View:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(50, 400, generator=generator)
    return View.of(x, torch.randint(0, 50, (2, 3000), generator=generator))


def test_nothing_is_drawn_and_nothing_changes_at_zero() -> None:
    torch.manual_seed(0)
    before, whole = torch.get_rng_state(), view()
    same = drop(whole, 0.0, 0.0)
    assert same.edges is whole.edges
    assert same.propagate is whole.propagate
    assert same.columns is None
    assert torch.equal(torch.get_rng_state(), before)


def test_all_edges_dropped_leaves_each_node_its_own_features() -> None:
    bare = drop(view(), 1.0, 0.0)
    assert bare.edges.shape == (2, 0)
    torch.testing.assert_close(bare.propagate.csr.to_dense(), torch.eye(50))


def test_shares_of_edges_and_columns_are_dropped_without_rescaling() -> None:
    torch.manual_seed(0)
    whole = view()
    part = drop(whole, 0.3, 0.6)
    assert abs(part.edges.shape[1] / whole.edges.shape[1] - 0.7) < 0.05
    assert abs(part.columns.mean().item() - 0.4) < 0.1
    assert set(part.columns.tolist()) == {0.0, 1.0}
    torch.testing.assert_close(part.times(torch.eye(400)), whole.x * part.columns)


def test_probabilities_by_edge_and_by_column() -> None:
    whole = view()
    edge_p, column_p = torch.zeros(whole.edges.shape[1]), torch.ones(400)
    edge_p[::2], column_p[:3] = 1.0, 0.0
    part = drop(whole, edge_p, column_p)
    assert torch.equal(part.edges, whole.edges[:, 1::2])
    assert part.columns.nonzero().flatten().tolist() == [0, 1, 2]


def test_noise_has_the_given_variance() -> None:
    torch.manual_seed(0)
    z = torch.ones(1000, 50)
    assert abs((add_noise(z, torch.randn_like(z), 0.04) - z).var().item() - 0.04) < 0.001
