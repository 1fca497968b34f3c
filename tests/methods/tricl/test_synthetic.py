import math

import pytest
import torch

from methods.tricl import synthetic
from retable.cards import CardError


def test_three_factors_find_the_same_features_and_two_do_not(make, run) -> None:
    three = run(*make("identifiability", "three-factor", dataset="word-pairs-distinct"))
    two = run(*make("identifiability", "two-factor", dataset="word-pairs-distinct"))
    free = run(*make("identifiability", "three-factor-no-penalty", dataset="word-pairs-distinct"))
    assert three.metrics["similarity"] >= 0.99
    assert three.metrics["eigenvector_similarity"] >= 0.99
    assert two.metrics["similarity"] <= 0.6
    assert free.metrics["similarity"] <= 0.6
    # All three reach the optimum: what differs is which of its solutions.
    assert all(abs(found.metrics["excess_loss"]) < 1e-3 for found in (three, two, free))
    expected = [1, 7 / 8, 3 / 4, 21 / 32, 1 / 2, 7 / 16]
    assert three.series["importance"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
def test_equal_eigenvalues_leave_a_rotation(make, run) -> None:
    distinct, equal = (
        run(*make("identifiability", "three-factor", dataset=name)).metrics
        for name in ("word-pairs-distinct", "word-pairs-equal")
    )
    assert equal["similarity"] < distinct["similarity"] - 0.05
    assert equal["penalty"] < 1e-2


def test_starts_are_no_features(make, run) -> None:
    metrics = run(*make("identifiability", "untrained", dataset="word-pairs-distinct")).metrics
    # The mean absolute cosine of random directions in 64 dimensions.
    assert metrics["similarity"] == pytest.approx(math.sqrt(2 / (math.pi * 64)), abs=0.05)


def test_unknown_form_is_named(make, run) -> None:
    cell, context = make("identifiability", "three-factor", factors="four")
    with pytest.raises(CardError, match="setting 'factors' is 'four': Input should be 'two', 'three' or "):
        run(cell, context)


def test_objective_is_one_number_a_run(build) -> None:
    loss, penalty = build(synthetic, "identifiability", "three-factor", runs=3).objective()
    assert loss.shape == penalty.shape == torch.Size([3])
