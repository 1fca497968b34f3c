import itertools
import math

import pytest
import torch
from torch import Tensor

from retable.evaluate.spectra import (
    dispersion,
    effective_rank,
    feature_variance,
    mean_cosine_similarity,
    pairwise_cosines,
    spectrum,
)


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


ALL = [mean_cosine_similarity, effective_rank, feature_variance, dispersion]


@pytest.mark.parametrize("measure", ALL)
def test_a_batch_equals_its_members(measure) -> None:
    x = features(2, 3, 7, 4)
    one_by_one = [measure(x[i, j]) for i, j in itertools.product(range(2), range(3))]
    torch.testing.assert_close(measure(x), torch.stack(one_by_one).view(2, 3))


@pytest.mark.parametrize("measure", ALL)
def test_order_of_rows_does_not_matter(measure) -> None:
    x = features(9, 4)
    torch.testing.assert_close(measure(x.flip(0)), measure(x))


def test_similarity_is_the_mean_over_pairs() -> None:
    x = features(6, 4)
    pairs = [torch.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(x, 2)]
    torch.testing.assert_close(mean_cosine_similarity(x), torch.stack(pairs).mean())


def test_similarity_of_known_rows() -> None:
    assert mean_cosine_similarity(features(1, 4).expand(5, 4) * 3).item() == pytest.approx(1)
    assert mean_cosine_similarity(torch.eye(5)).item() == pytest.approx(0)
    assert mean_cosine_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])).item() == pytest.approx(-1)
    with_zero_row = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    assert mean_cosine_similarity(with_zero_row).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_effective_rank_of_equal_singular_values_is_their_number(rank: int) -> None:
    basis, _ = torch.linalg.qr(features(10, rank))
    other, _ = torch.linalg.qr(features(6, rank))
    assert effective_rank(2.5 * basis @ other.T).item() == pytest.approx(rank)


def test_effective_rank_of_known_singular_values() -> None:
    p = [0.5, 0.3, 0.2]
    expected = math.exp(-sum(v * math.log(v) for v in p))
    assert effective_rank(torch.diag(torch.tensor(p, dtype=torch.float64))).item() == pytest.approx(expected)


def test_effective_rank_of_degenerate_matrices() -> None:
    ones = torch.ones(8, 5)
    assert effective_rank(ones).item() == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.zeros(8, 5)).item() == 0
    batch = effective_rank(torch.stack([ones, torch.zeros(8, 5)]))
    assert batch.tolist() == pytest.approx([1, 0], abs=1e-6)


def test_variance_is_across_features_and_dispersion_across_rows() -> None:
    x = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    assert feature_variance(x).item() == pytest.approx(2)  # (1 + 1) / (2 - 1) in row 0, none in row 1
    assert dispersion(x).item() == pytest.approx(4 + 4 + 1 + 1)  # about the mean row (3, 4)
    assert dispersion(x[:1].expand(4, 2)).item() == 0


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="n >= 2, got shape"):
        mean_cosine_similarity(features(1, 4))
    with pytest.raises(ValueError, match="dispersion needs"):
        dispersion(features(4))


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
    assert pairwise_cosines(z)["uniformity"] == pytest.approx(1, abs=1e-6)
    assert pairwise_cosines(z.abs())["mean_cosine"] == pytest.approx(1, abs=1e-6)


def test_equal_rows_have_no_direction_after_centring() -> None:
    found = spectrum(torch.ones(5, 3))
    assert found.participation_ratio == 0
    assert found.stable_rank == 0
    assert not math.isnan(found.effective_rank)
