import itertools
from pathlib import Path

import numpy as np
import pytest

from retable.cards import DatasetCard, load_dataset
from retable.data.containers import DataError
from retable.data.load import load, parse


def card(root: Path, name: str, **options) -> DatasetCard:
    found = load_dataset(root / "datasets" / f"{name}.yaml")
    return found.model_copy(update={"options": found.options | options})


@pytest.mark.parametrize(("name", "agreement"), [("word-pairs-distinct", "764222"), ("word-pairs-equal", "664422")])
def test_eigenvalues_are_products_of_agreements(root: Path, tmp_path: Path, name: str, agreement: str) -> None:
    graph, split = load(card(root, name), "whole", tmp_path)
    a = graph.x.toarray().astype(np.float64)
    np.testing.assert_array_equal(a, a.T)
    np.testing.assert_array_equal(a.sum(0), 1.0)  # probabilities, exact in binary fractions
    assert a.min() >= 0
    assert split.train.all()
    factors = [int(digit) / 8 for digit in agreement]
    subsets = itertools.product((0, 1), repeat=len(factors))
    expected = sorted(np.prod([r for r, taken in zip(factors, subset, strict=True) if taken]) for subset in subsets)
    np.testing.assert_allclose(np.linalg.eigvalsh(a), expected, atol=1e-12)


def test_pairs_are_those_of_a_simulation(root: Path, tmp_path: Path) -> None:
    graph = parse(card(root, "word-pairs-distinct", agreement="6 2"), tmp_path)
    generator = np.random.default_rng(0)
    same = generator.random((200_000, 2)) < (1 + np.array([6, 2]) / 8) / 2
    observed = [np.mean((~same == pair).all(1)) for pair in itertools.product((False, True), repeat=2)]
    np.testing.assert_allclose(graph.x.toarray()[0], observed, atol=0.005)


@pytest.mark.parametrize("agreement", ["", "9 1", "-1 2", "a"])
def test_agreement_out_of_range_is_an_error(root: Path, tmp_path: Path, agreement: str) -> None:
    with pytest.raises(DataError, match="word-pairs-distinct: the reader 'word_pairs' cannot use"):
        parse(card(root, "word-pairs-distinct", agreement=agreement), tmp_path)
