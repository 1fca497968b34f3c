"""The PyG transform."""

import pytest
import torch
from torch_geometric.data import Data

from methods.map.transform import CanonicalEncoding

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 4], [1, 0, 2, 1, 3, 2, 0, 3, 4, 0]])


def test_columns_are_appended_and_move_with_the_nodes() -> None:
    data = CanonicalEncoding(4)(Data(x=torch.ones(5, 2), edge_index=EDGES))
    assert data.x.shape == (5, 6)
    assert data.x.dtype == torch.float32
    order = torch.tensor([3, 0, 4, 1, 2])
    place = order.argsort()
    moved = CanonicalEncoding(4)(Data(x=torch.ones(5, 2), edge_index=place[EDGES]))
    torch.testing.assert_close(moved.x[:, 2:][:, data.canonical], data.x[order][:, 2:][:, data.canonical])


def test_a_graph_without_features_gets_the_columns_alone() -> None:
    assert CanonicalEncoding(3)(Data(edge_index=EDGES, num_nodes=5)).x.shape == (5, 3)


def test_a_graph_without_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="without nodes"):
        CanonicalEncoding(3)(Data(edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=0))
