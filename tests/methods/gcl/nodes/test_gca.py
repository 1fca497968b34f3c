import networkx
import pytest
import torch

from methods.gcl.nodes import gca
from retable.nn.sparse import SparseMatrix

NODES = 40


def random_graph(seed: int = 0, nodes: int = NODES, p: float = 0.15) -> tuple[networkx.Graph, torch.Tensor]:
    graph = networkx.gnp_random_graph(nodes, p, seed=seed)
    pairs = torch.tensor(sorted(graph.edges)).t()
    return graph, torch.cat([pairs, pairs.flip(0)], dim=1)


@pytest.mark.parametrize("nodes", [NODES, 150])  # the dense and the iterative eigen-solver
def test_eigenvector_is_networkx_own(nodes: int) -> None:
    graph, edges = random_graph(nodes=nodes)
    expected = networkx.eigenvector_centrality_numpy(graph)
    actual = gca.node_centrality(edges, nodes, "eigenvector")
    torch.testing.assert_close(actual, torch.tensor([expected[i] for i in range(nodes)]).float(), atol=1e-4, rtol=1e-3)


def test_degree_counts_each_neighbour_once() -> None:
    graph, edges = random_graph()
    actual = gca.node_centrality(torch.cat([edges, edges], dim=1), NODES, "degree")
    assert actual.tolist() == [graph.degree[i] for i in range(NODES)]


def test_pagerank_keeps_its_sum_and_tends_to_the_degree() -> None:
    graph, edges = random_graph(p=0.3)
    assert networkx.is_connected(graph)
    torch.testing.assert_close(gca.pagerank(edges, NODES, 10).sum(), torch.tensor(float(NODES)))
    degree = gca.node_centrality(edges, NODES, "degree")
    torch.testing.assert_close(gca.pagerank(edges, NODES, 500), degree / degree.mean(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", gca.CENTRALITIES)
def test_important_edges_are_dropped_least_and_none_above_the_cut(scheme: str) -> None:
    _, edges = random_graph()
    weights = gca.edge_weights(edges, NODES, scheme)
    centrality = gca.node_centrality(edges, NODES, scheme, 200)
    assert weights[centrality[edges[1]].argmax()] == 0
    p = gca.drop_probabilities(weights, 0.9)
    assert 0 <= p.min() <= p.max() <= gca.MOST
    free = gca.drop_probabilities(weights, 0.05)
    torch.testing.assert_close(free.mean(), torch.tensor(0.05))


def test_sparse_and_dense_features_have_the_same_weights() -> None:
    x = (torch.rand(NODES, 12, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    centrality = gca.node_centrality(random_graph()[1], NODES, "degree")
    sparse = SparseMatrix((3 * x).to_sparse_csr())
    torch.testing.assert_close(
        gca.feature_weights(gca.indicator(sparse), centrality), gca.feature_weights(gca.indicator(3 * x), centrality)
    )
    assert gca.node_counts(gca.indicator(sparse)).tolist() == x.sum(0).tolist()


def test_an_empty_column_changes_nothing_for_the_others() -> None:
    x = (torch.rand(NODES, 12, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    centrality = gca.node_centrality(random_graph()[1], NODES, "degree")
    with_empty = torch.cat([x, torch.zeros(NODES, 1)], dim=1)
    weights = gca.feature_weights(with_empty, centrality)
    torch.testing.assert_close(weights[:-1], gca.feature_weights(x, centrality))
    assert gca.drop_probabilities(weights, 0.2).isfinite().all()


@pytest.mark.parametrize("scheme", gca.CENTRALITIES)
def test_a_graph_without_edges_drops_features_alike(scheme: str) -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    assert gca.edge_weights(none, 5, scheme).shape == (0,)
    assert gca.drop_probabilities(gca.edge_weights(none, 5, scheme), 0.2).shape == (0,)
    weights = gca.feature_weights(torch.ones(5, 3), gca.node_centrality(none, 5, scheme))
    torch.testing.assert_close(gca.drop_probabilities(weights, 0.2), torch.full((3,), 0.2))


@pytest.mark.parametrize("scheme", gca.CENTRALITIES)
def test_a_regular_graph_drops_edges_alike(scheme: str) -> None:
    ring = torch.arange(100)
    edges = torch.stack([torch.cat([ring, (ring + 1) % 100]), torch.cat([(ring + 1) % 100, ring])])
    p = gca.drop_probabilities(gca.edge_weights(edges, 100, scheme), 0.3)
    torch.testing.assert_close(p, torch.full((200,), 0.3))


def test_unknown_centrality_is_named() -> None:
    with pytest.raises(ValueError, match="unknown centrality 'pr': choose one of degree, pagerank, eigenvector"):
        gca.node_centrality(random_graph()[1], NODES, "pr")


def test_an_empty_column_drops_all_others_only_under_the_authors_form(learner_of) -> None:
    for quirks in (False, True):
        learner = learner_of(empty=True, method="gca", official_quirks=quirks)
        columns = learner.drops[0][1]
        assert columns == 0.7 if quirks else abs(float(columns.mean()) - 0.2) < 0.02


def test_the_authors_code_sums_over_nodes(learner_of, loss_of) -> None:
    learner = learner_of(method="gca")
    quirky = loss_of(learner_of(method="gca", official_quirks=True))
    assert quirky == pytest.approx(learner.task.view.x.shape[0] * loss_of(learner), rel=1e-5)
