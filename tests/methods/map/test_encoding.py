"""Encodings from spectra."""

import torch

from methods.map.canonize import Precision
from methods.map.encoding import Spectrum, encode, normalised_adjacency, spectrum

PATH = torch.diag(torch.ones(4, dtype=torch.float64), 1) + torch.diag(torch.ones(4, dtype=torch.float64), -1)


def test_the_adjacency_is_normalised_on_both_sides_and_isolated_nodes_stay_zero() -> None:
    adjacency = torch.zeros(3, 3, dtype=torch.float64)
    adjacency[0, 1] = adjacency[1, 0] = 1
    expected = adjacency.clone()
    assert torch.equal(normalised_adjacency(adjacency), expected)
    made = normalised_adjacency(PATH)
    torch.testing.assert_close(made[0, 1], torch.tensor(2**-0.5, dtype=torch.float64))
    torch.testing.assert_close(made[1, 2], torch.tensor(0.5, dtype=torch.float64))


def test_the_trivial_pair_is_dropped() -> None:
    pairs = spectrum(normalised_adjacency(PATH))
    assert pairs.vectors.shape == (5, 4)
    assert pairs.values.max() < 1 - 1e-6
    assert spectrum(normalised_adjacency(PATH), drop_trivial=False).values[-1] == 1


def test_columns_are_those_of_the_largest_eigenvalues_scaled_by_their_roots() -> None:
    pairs = spectrum(normalised_adjacency(PATH))
    found = encode(pairs, 3, Precision())
    torch.testing.assert_close(found.columns.norm(dim=0), pairs.values[-3:].clamp(min=0).sqrt())
    unscaled = encode(pairs, 3, Precision(), scale=False)
    torch.testing.assert_close(unscaled.columns.norm(dim=0), torch.ones(3, dtype=torch.float64))


def test_missing_columns_are_zeros_on_the_right_and_count_as_canonical() -> None:
    found = encode(spectrum(normalised_adjacency(PATH)), 7, Precision())
    assert found.columns.shape == (5, 7)
    assert not found.columns[:, 4:].any()
    assert found.canonical[4:].all()


def test_what_scaling_makes_zero_is_canonical_however_ambiguous() -> None:
    values = torch.tensor([-0.5, -0.5, 0.25], dtype=torch.float64)
    pairs = Spectrum(values, torch.eye(5, 3, dtype=torch.float64))
    assert encode(pairs, 3, Precision(), basis=False).canonical.all()
    assert not encode(pairs, 3, Precision(), basis=False, scale=False).canonical.all()
