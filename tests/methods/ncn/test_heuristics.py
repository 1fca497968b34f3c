"""Scores without training, by hand."""

import math

import pytest
import torch

from methods.ncn.heuristics import HEURISTICS
from methods.ncn.overlap import Neighbours

# Nodes 0 and 1 share 2 (degree 3) and 3 (degree 2).
GRAPH = Neighbours(torch.tensor([[0, 2, 1, 2, 0, 3, 1, 3, 2, 4], [2, 0, 2, 1, 3, 0, 3, 1, 4, 2]]), 5)
PAIRS = torch.tensor([[0, 0], [1, 4]])


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("common-neighbours", [2.0, 1.0]),
        ("adamic-adar", [1 / math.log(3) + 1 / math.log(2), 1 / math.log(3)]),
        ("resource-allocation", [1 / 3 + 1 / 2, 1 / 3]),
        ("degree-product", [4.0, 2.0]),
    ],
)
def test_scores(name: str, scores: list[float]) -> None:
    assert HEURISTICS[name](GRAPH, PAIRS).tolist() == pytest.approx(scores)
