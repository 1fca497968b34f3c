"""Canonical signs and bases."""

import pytest
import torch
from torch import Tensor

from methods.map.canonize import Precision, canonize, canonize_basis, canonize_signs, projection_lengths

PRECISIONS = [Precision(exact=True), Precision()]


def frame(nodes: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(nodes, dim, generator=generator, dtype=torch.float64))[0]


def canonize_sign(vector: Tensor, precision: Precision) -> tuple[Tensor, bool]:
    made, done = canonize_signs(vector[:, None], precision)
    return made[:, 0], bool(done)


@pytest.mark.parametrize("precision", PRECISIONS, ids=["exact", "gaps"])
def test_a_canonical_sign_is_that_of_any_sign_and_moves_with_the_nodes(precision: Precision) -> None:
    vector, order = frame(9, 1)[:, 0], torch.randperm(9)
    made, done = canonize_sign(vector, precision)
    assert done
    torch.testing.assert_close(canonize_sign(-vector, precision)[0], made)
    torch.testing.assert_close(canonize_sign(-vector[order], precision)[0], made[order])
    assert made.sum() > 0


@pytest.mark.parametrize("precision", PRECISIONS, ids=["exact", "gaps"])
def test_a_vector_whose_groups_all_sum_to_zero_has_no_canonical_sign(precision: Precision) -> None:
    vector = torch.tensor([1.0, -1.0, 2.0, -2.0], dtype=torch.float64) / 10**0.5
    made, done = canonize_sign(vector, precision)
    assert not done
    assert torch.equal(made, vector)


def test_the_shortest_group_decides_where_the_sum_is_zero() -> None:
    # 1 + 1 - 2: the sum is 0, so the group of the two shorter entries decides.
    vector = torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64) / 6**0.5
    torch.testing.assert_close(canonize_sign(vector, Precision())[0], -vector)


@pytest.mark.parametrize("precision", PRECISIONS, ids=["exact", "gaps"])
@pytest.mark.parametrize(("nodes", "dim"), [(7, 2), (12, 3), (20, 6)])
def test_a_canonical_basis_is_that_of_any_rotation_and_moves_with_the_nodes(
    precision: Precision, nodes: int, dim: int
) -> None:
    block, order, turn = frame(nodes, dim), torch.randperm(nodes), frame(dim, dim, seed=1)
    made, done = canonize_basis(block, precision)
    assert done
    torch.testing.assert_close(made.T @ made, torch.eye(dim, dtype=torch.float64))
    torch.testing.assert_close(made @ made.T, block @ block.T)
    torch.testing.assert_close(canonize_basis((block @ turn)[order], precision)[0], made[order])


def test_directions_are_the_projections_of_the_longest_groups_one_after_the_other() -> None:
    block = frame(8, 2)
    made, _ = canonize_basis(block, Precision())
    p = block @ block.T
    longest = projection_lengths(block).argsort(descending=True)
    first = p @ (torch.nn.functional.one_hot(longest[0], 8) + 10.0).double()
    torch.testing.assert_close(made[:, 0], first / first.norm())
    second = (p - torch.outer(made[:, 0], made[:, 0])) @ (torch.nn.functional.one_hot(longest[1], 8) + 10.0).double()
    torch.testing.assert_close(made[:, 1], second / second.norm())


def test_too_few_lengths_leave_a_basis_as_it_is() -> None:
    square = torch.linalg.eigh(torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]).double())[1]
    block = square[:, 1:3]
    made, done = canonize_basis(block, Precision())
    assert not done
    assert torch.equal(made, block)


def test_gaps_keep_together_what_rounding_splits() -> None:
    close = torch.tensor([0.5 - 4e-15, 0.5 + 4e-15, 0.7], dtype=torch.float64)
    boundary = torch.tensor([0.1 + 4.9e-15, 0.1 + 5.1e-15, 0.7], dtype=torch.float64)
    assert Precision().groups(boundary).tolist() == Precision().groups(close).tolist() == [0, 0, 1]
    assert Precision(exact=True).groups(boundary).tolist() == [0, 1, 2]


def test_signs_of_many_vectors_are_those_of_each() -> None:
    vectors = torch.cat([frame(12, 5), torch.tensor([1.0, -1.0] + [0.0] * 10).double()[:, None] / 2**0.5], 1)
    made, done = canonize_signs(vectors, Precision())
    assert done.tolist() == [True] * 5 + [False]
    for column in range(6):
        assert torch.equal(made[:, column], canonize_sign(vectors[:, column], Precision())[0])


def test_simple_eigenvalues_get_a_sign_and_multiple_ones_a_basis() -> None:
    vectors, values = frame(10, 4), torch.tensor([0.1, 0.3, 0.3, 0.9], dtype=torch.float64)
    made, done = canonize(vectors, values, Precision())
    assert done.all()
    torch.testing.assert_close(made[:, 1:3], canonize_basis(vectors[:, 1:3], Precision())[0])
    torch.testing.assert_close(made[:, 0], canonize_sign(vectors[:, 0], Precision())[0])
    made, done = canonize(vectors, values, Precision(), basis=False)
    assert done.tolist() == [True, False, False, True]
    assert torch.equal(made[:, 1:3], vectors[:, 1:3])
