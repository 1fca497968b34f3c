from pathlib import Path

import numpy as np
import pytest

from retable.cards import load_dataset
from retable.data.containers import DataError
from retable.data.load import load, parse


def test_frames_are_orthonormal_and_in_all_directions(root: Path, tmp_path: Path) -> None:
    data, split = load(load_dataset(root / "datasets" / "frames-7x3.yaml"), "whole", tmp_path)
    frames = data.node_attributes.reshape(100, 7, 3).astype(np.float64)
    np.testing.assert_allclose(frames.transpose(0, 2, 1) @ frames, np.tile(np.eye(3), (100, 1, 1)), atol=1e-6)
    # The mean projector onto uniform subspaces is d/n times the identity.
    mean = (frames @ frames.transpose(0, 2, 1)).mean(0)
    np.testing.assert_allclose(mean, 3 / 7 * np.eye(7), atol=0.09)
    assert split.sizes == (100,)


@pytest.mark.parametrize(("nodes", "columns"), [(7, 8), (7, 0)])
def test_more_columns_than_nodes_is_an_error(root: Path, tmp_path: Path, nodes: int, columns: int) -> None:
    card = load_dataset(root / "datasets" / "frames-7x3.yaml")
    options = {"frames": 2, "nodes": nodes, "columns": columns}
    with pytest.raises(DataError, match=f"`columns` is from 1 to `nodes`, got {columns} of 7"):
        parse(card.model_copy(update={"options": options}), tmp_path)
