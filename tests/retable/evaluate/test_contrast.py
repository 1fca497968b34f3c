import math

import pytest
import torch
import torch.nn.functional as F

from retable.evaluate import contrast


def features(n: int = 30, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_alignment_is_zero_for_equal_directions_and_four_for_opposite_ones() -> None:
    x = features()
    assert contrast.alignment(x, 2 * x).item() == pytest.approx(0)
    assert contrast.alignment(x, -x).item() == pytest.approx(4)
    assert contrast.alignment(x, -x, alpha=1).item() == pytest.approx(2)
    with pytest.raises(ValueError, match="needs pairs"):
        contrast.alignment(x, x[:3])


def test_uniformity_of_one_point_and_of_two_opposite_ones() -> None:
    assert contrast.uniformity(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-6)
    assert contrast.uniformity(torch.tensor([[1.0, 0.0], [-5.0, 0.0]])).item() == pytest.approx(-8)
    with pytest.raises(ValueError, match="at least two rows"):
        contrast.uniformity(torch.ones(1, 3))


def test_uniformity_of_many_rows_is_that_of_a_sample() -> None:
    x = features(2500)
    assert contrast.uniformity(x).item() == pytest.approx(contrast.uniformity(x[:1000]).item(), abs=0.02)


def test_neighbour_cosine_leaves_out_self_loops() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    edges = torch.tensor([[0, 1, 2, 0], [1, 0, 2, 2]])
    assert contrast.neighbour_cosine(x, edges).item() == pytest.approx((2 * math.sqrt(0.5) + 0) / 3)
    assert contrast.neighbour_cosine(x, torch.tensor([[2], [2]])).item() == 0


def test_class_cosines_equal_means_over_pairs() -> None:
    x, y = features(), torch.arange(30) % 3
    cosines = F.normalize(x) @ F.normalize(x).t()
    actual = contrast.class_cosines(x, y)
    for a in range(3):
        for b in range(3):
            pairs = [cosines[i, j] for i in range(30) for j in range(30) if y[i] == a and y[j] == b and i != j]
            assert actual[a, b].item() == pytest.approx(torch.stack(pairs).mean().item())


def test_classes_without_pairs_are_left_out_of_the_means() -> None:
    x = features(5)
    y = torch.tensor([0, 0, 0, 2, 0])  # class 1 has no row, class 2 a single one
    cosines = contrast.class_cosines(x, y)
    assert cosines[2, 2].isnan()
    within, between = contrast.within_and_between(x, y)
    torch.testing.assert_close(within, cosines[0, 0])
    torch.testing.assert_close(between, cosines[0, 2])


def test_dirichlet_energy_equals_the_trace() -> None:
    x = features(6)
    pairs = torch.tensor([[0, 0, 1, 3], [1, 2, 2, 4]])  # node 5 is alone
    edges = torch.cat([pairs, pairs.flip(0), torch.tensor([[2], [2]])], dim=1)
    adjacency = torch.eye(6, dtype=x.dtype)
    adjacency[pairs[0], pairs[1]] = adjacency[pairs[1], pairs[0]] = 1
    scale = adjacency.sum(1).rsqrt()
    u = F.normalize(x)
    expected = torch.trace(u.t() @ (torch.eye(6) - scale[:, None] * adjacency * scale) @ u) / 6
    torch.testing.assert_close(contrast.dirichlet_energy(x, edges), expected)


def test_collapse() -> None:
    x = features()
    assert not contrast.is_collapsed(x)
    assert contrast.is_collapsed(1 + 0.01 * x)
