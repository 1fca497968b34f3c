from pathlib import Path

import numpy as np
import pytest
import torch

from retable import interop
from retable.cards import CardError
from retable.config import Config, Workspace


@pytest.fixture(scope="module")
def suite(root: Path) -> Workspace:
    return Workspace(root, Config())


def test_a_graph_is_torch_geometrics(suite: Workspace) -> None:
    data = interop.graph("digits-knn", workspace=suite)
    parsed, split = interop.read(suite, "digits-knn")
    assert (data.num_nodes, data.num_edges, data.num_features) == (1797, 2 * 12535, 64)
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert data.validate()
    np.testing.assert_array_equal(data.train_mask.numpy(), split.train)
    np.testing.assert_array_equal(data.x.numpy(), parsed.x.toarray())


def test_a_set_of_graphs_is_a_dataset_whose_graphs_have_their_own_edges(suite: Workspace) -> None:
    from torch_geometric.loader import DataLoader

    graphs = interop.graphs("digits-grid", workspace=suite)
    parsed, _ = interop.read(suite, "digits-grid")
    assert (len(graphs), graphs.num_classes, sum(g.num_nodes for g in graphs)) == (500, 10, 16339)
    assert sum(g.num_edges for g in graphs) == 2 * 24215
    assert all(g.edge_index.max() < g.num_nodes for g in graphs if g.num_edges)
    assert [int(g.y) for g in graphs] == parsed.y.tolist()
    batch = next(iter(DataLoader(graphs, batch_size=500)))
    np.testing.assert_array_equal(batch.batch.numpy(), parsed.node_graph)
    assert {tuple(e) for e in batch.edge_index.T.tolist()} == {
        tuple(e) for e in interop.simple_edges(parsed).T.tolist()
    }


def test_images_are_pils_with_transforms(suite: Workspace) -> None:
    train, test = (interop.images("digits-16", part, workspace=suite) for part in ("train", "test"))
    assert (len(train), len(test), len(train.classes)) == (1000, 500, 10)
    parsed, split = interop.read(suite, "digits-16")
    image, label = train[3]
    np.testing.assert_array_equal(np.asarray(image), parsed.images[split.train[3]].transpose(1, 2, 0))
    assert (label, train.targets[3]) == (parsed.labels[split.train[3]],) * 2
    pixels = interop.images("digits-16", "val", lambda image: torch.from_numpy(np.asarray(image)), workspace=suite)
    assert pixels[0][0].shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: interop.graph("corra", workspace=s), "unknown data set 'corra'; did you mean 'cora'"),
        (lambda s: interop.graph("digits-16", workspace=s), "is no graph of nodes but a ImageSet"),
        (lambda s: interop.graphs("digits-knn", workspace=s), "is no set of graphs"),
        (lambda s: interop.images("digits-knn", workspace=s), "has no images"),
        (lambda s: interop.images("digits-16", "tests", workspace=s), "unknown part 'tests'"),
    ],
)
def test_what_it_is_not_is_said(call, said: str, suite: Workspace) -> None:
    with pytest.raises(CardError, match=said):
        call(suite)
