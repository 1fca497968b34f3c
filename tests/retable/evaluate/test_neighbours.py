import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from retable.evaluate import neighbours
from retable.evaluate.neighbours import largest, retrieval, vote_accuracy, voted, weighted_knn


def features(rows: int = 40, columns: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, dtype=torch.float64, generator=generator)
    return x, torch.randint(4, (rows,), generator=generator)


def scores_pair_by_pair(x: np.ndarray, y: np.ndarray, depth: int) -> tuple[float, float]:
    """Precision and average precision by a loop over queries with a full sort."""
    precision, average = [], []
    for i in range(len(x)):
        ranking = sorted((float(((x[i] - x[j]) ** 2).sum()), j) for j in range(len(x)) if j != i)
        hits = np.array([y[j] == y[i] for _, j in ranking[:depth]])
        precision.append(hits.mean())
        scores = -np.arange(depth, dtype=float)
        average.append(average_precision_score(hits, scores) if hits.any() else 0.0)
    return float(np.mean(precision)), float(np.mean(average))


# k-NN


def test_votes_are_those_of_a_loop() -> None:
    (x, y), (queries, _) = features(), features(9, seed=1)
    votes = weighted_knn(x, y, queries, k=5, temperature=0.3)
    for query, row in zip(queries, votes, strict=True):
        similarity = torch.nn.functional.cosine_similarity(query[None], x)
        expected = torch.zeros(4, dtype=torch.float64)
        for index in sorted(range(len(x)), key=lambda i: -similarity[i])[:5]:
            expected[y[index]] += (similarity[index] / 0.3).exp()
        torch.testing.assert_close(row, expected)


def test_euclidean_votes_are_those_of_scikit_learn() -> None:
    x, y = load_digits(return_X_y=True)
    x = x + np.random.default_rng(0).normal(scale=0.01, size=x.shape)  # without it distances tie
    reference = KNeighborsClassifier(7, weights=lambda distance: 1 / (distance + 1e-5), algorithm="brute")
    expected = reference.fit(x[:1000], y[:1000]).predict_proba(x[1000:])
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    votes = weighted_knn(x[:1000], y[:1000], x[1000:], k=7, metric="euclidean")
    np.testing.assert_allclose((votes / votes.sum(1, keepdim=True)).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_cosine_takes_no_note_of_length_and_euclidean_does() -> None:
    (x, y), (queries, _) = features(), features(9, seed=1)
    length = torch.linspace(0.5, 2, len(x), dtype=x.dtype)[:, None]
    torch.testing.assert_close(weighted_knn(x * length, y, queries), weighted_knn(x, y, queries))
    euclidean = [weighted_knn(rows, y, queries, metric="euclidean") for rows in (x, x * length)]
    assert not torch.allclose(*euclidean)


def test_more_neighbours_than_rows_are_all_rows() -> None:
    (x, y), (queries, _) = features(), features(9, seed=1)
    assert torch.equal(weighted_knn(x, y, queries, k=1000), weighted_knn(x, y, queries, k=len(x)))


def test_nearest_of_one_answers_its_own_class() -> None:
    x, y = features()
    assert vote_accuracy(weighted_knn(x, y, x, k=1), y) == 100.0


def test_accuracy_counts_the_first_classes_and_breaks_ties_by_class() -> None:
    votes = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    labels = torch.tensor([2, 1, 0])
    assert vote_accuracy(votes, labels) == pytest.approx(100 / 3)
    assert vote_accuracy(votes, voted(votes)) == 100
    assert vote_accuracy(votes, labels, top=2) == 100.0


# Retrieval


@pytest.mark.parametrize("dims", [[1, 2, 6], [3], [1, 2, 3, 4, 5, 6]])
def test_scores_are_those_of_a_sorted_loop(dims: list[int]) -> None:
    x, y = features()
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    found = retrieval(x, y, order, dims, neighbours=7)
    for number, k in enumerate(dims):
        expected = scores_pair_by_pair(x[:, order[:k]].numpy(), y.numpy(), 7)
        assert (found.precision[number].item(), found.average_precision[number].item()) == pytest.approx(expected)


def test_equal_rows_are_ranked_by_index_and_the_query_is_no_answer() -> None:
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    found = retrieval(torch.ones(6, 2), y, torch.arange(2), [1, 2], neighbours=2)
    # Queries 0 to 2 find two of the first three, queries 3 to 5 find the images 0 and 1.
    assert found.precision.tolist() == [(1 + 1 + 1 + 0 + 0 + 0) / 6] * 2
    classes = torch.arange(6)
    alone = retrieval(torch.randn(6, 3), classes, torch.arange(3), [3], neighbours=5)
    assert alone.precision.item() == alone.average_precision.item() == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 200), st.booleans())
def test_block_size_does_not_matter(seed: int, block: int, coarse: bool) -> None:
    x, y = features(23, 5, seed)
    votes = weighted_knn(x[:15], y[:15], x[15:], k=3)
    rows = x.round() if coarse else x  # whole numbers tie, and are added without rounding
    order, dims = torch.arange(5), [1, 3, 5]
    whole = retrieval(rows, y, order, dims, neighbours=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK", block)
        again = retrieval(rows, y, order, dims, neighbours=4)
        torch.testing.assert_close(weighted_knn(x[:15], y[:15], x[15:], k=3), votes)
    torch.testing.assert_close(again.precision, whole.precision)
    torch.testing.assert_close(again.average_precision, whole.average_precision)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_largest_equals_a_stable_sort(seed: int, k: int) -> None:
    score = torch.randint(4, (9, 12), generator=torch.Generator().manual_seed(seed)).double()
    value, index = largest(score, k)
    expected = score.argsort(dim=1, descending=True, stable=True)[:, :k]
    assert torch.equal(index, expected)
    assert torch.equal(value, score.gather(1, expected))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_rotations_and_the_order_of_images_do_not_matter(seed: int) -> None:
    x, y = features(20, 4, seed)
    rotation, _ = torch.linalg.qr(features(4, 4, seed + 1)[0])
    order, shuffle = torch.arange(4), torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    whole = retrieval(x, y, order, [4], neighbours=5)
    torch.testing.assert_close(retrieval(x @ rotation, y, order, [4], neighbours=5).precision, whole.precision)
    torch.testing.assert_close(retrieval(x[shuffle], y[shuffle], order, [4], neighbours=5).precision, whole.precision)
    assert 0 <= whole.precision.item() <= 1
    assert 0 <= whole.average_precision.item() <= 1


# What cannot be used


def test_bad_input_is_named() -> None:
    x, y = features()
    order = torch.arange(6)
    with pytest.raises(ValueError, match="dims must increase within 1 to 6"):
        retrieval(x, y, order, [2, 7])
    with pytest.raises(ValueError, match="dims must increase"):
        retrieval(x, y, order, [])
    with pytest.raises(ValueError, match="dims must increase"):
        retrieval(x, y, order, [3, 2])
    with pytest.raises(ValueError, match="10 neighbours of each of 5 rows; need 1 to 4"):
        retrieval(x[:5], y[:5], order, [2])
    with pytest.raises(ValueError, match="a label is negative"):
        retrieval(x, y - 1, order, [2])
    with pytest.raises(ValueError, match="a label each"):
        retrieval(x, y[:3], order, [2])
    with pytest.raises(ValueError, match="unknown metric 'manhattan'; valid: cosine, euclidean"):
        weighted_knn(x, y, x, metric="manhattan")
    with pytest.raises(ValueError, match=r"train \(N, d\) and test \(M, d\)"):
        weighted_knn(x, y, x[:, :2])
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        weighted_knn(x, y, x, k=0)
    with pytest.raises(ValueError, match="a label is negative"):
        weighted_knn(x, y - 1, x)
