import math

import pytest
import torch

from methods.gcl.geometry import geometry


def test_measures_of_four_points_are_those_worked_out_by_hand():
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    y = torch.tensor([0, 0, 1, 1])
    centred = torch.tensor([[0.25, -1.0], [1.25, -1.0], [-0.75, 0.0], [-0.75, 2.0]], dtype=torch.float64)
    p = torch.linalg.eigvalsh(centred.T @ centred).sqrt()
    p = p / p.sum()
    assert geometry(z, y) == pytest.approx(
        {
            "mean_cosine": 2 / 6,  # of six pairs, two point one way and four are at right angles
            "within_class_cosine": 1,
            "between_class_cosine": 0,
            "uniformity": math.log((2 + 4 * math.exp(-4)) / 6),
            "effective_rank": float((-p * p.log()).sum().exp()),
            "collapsed": 0,
        }
    )


def test_the_effective_rank_is_of_what_the_rows_do_not_share():
    z = torch.tensor([[11.0, 5.0], [9.0, 5.0], [10.0, 6.0], [10.0, 4.0]])
    measured = geometry(z, torch.tensor([0, 0, 1, 1]))
    assert measured["effective_rank"] == pytest.approx(2)
    assert measured["mean_cosine"] > 0.95


def test_representations_of_one_direction_are_collapsed():
    measured = geometry(torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), torch.tensor([0, 0, 1]))
    assert measured["collapsed"] == 1
    assert measured["mean_cosine"] == pytest.approx(1)
    assert all(type(value) is float for value in measured.values())


def test_what_is_not_defined_is_left_out_and_the_callers_own_is_added():
    alone = geometry(torch.eye(3), torch.arange(3), energy=torch.tensor(0.5), gap=float("inf"), ratio=math.nan)
    assert "within_class_cosine" not in alone  # no class has two rows
    assert alone["between_class_cosine"] == 0
    assert alone["energy"] == 0.5
    assert not {"gap", "ratio"} & alone.keys()
