"""Measures of collapse at the ends: isotropic features, one direction, nothing at all."""

import math

import pytest
import torch

from methods.umae.diagnostics import geometry, spectrum
from methods.umae.losses import uniformity_loss


def test_orthogonal_directions_of_one_length_fill_all_of_them() -> None:
    z = torch.eye(6).repeat(4, 1) * 3
    found = spectrum(z, centre=False)
    for name in ("effective_rank", "entropy_rank", "participation_ratio", "stable_rank", "directions_99"):
        assert getattr(found, name) == pytest.approx(6)


def test_one_line_is_one_direction() -> None:
    z = torch.linspace(-1, 2, 9)[:, None] * torch.tensor([1.0, 2, 3])
    found = spectrum(z)
    for name in ("effective_rank", "entropy_rank", "participation_ratio", "stable_rank", "directions_99"):
        assert getattr(found, name) == pytest.approx(1, abs=1e-5)
    assert geometry(z)["uniformity"] == pytest.approx(1, abs=1e-6)
    assert geometry(z.abs())["mean_cosine"] == pytest.approx(1, abs=1e-6)


def test_equal_rows_have_no_direction_after_centring() -> None:
    found = spectrum(torch.ones(5, 3))
    assert found.participation_ratio == 0
    assert found.stable_rank == 0
    assert not math.isnan(found.effective_rank)


def test_uniformity_is_that_of_the_loss() -> None:
    z = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = geometry(z)
    assert found["uniformity"] == pytest.approx(uniformity_loss(z).item())
    assert found["uniformity"] == pytest.approx(1 / 20 + 19 / 20 * found["uniformity_of_pairs"])
