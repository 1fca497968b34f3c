"""The toy mask graph against the slow, obvious construction, and its laws."""

import itertools

import numpy as np
import pytest

from methods.umae.mask_graph import MaskGraph

TOKENS = np.random.default_rng(0).integers(0, 2, (6, 5))
LABELS = np.array([0, 0, 1, 1, 2, 2])


def slow_adjacency(tokens: np.ndarray, visible: int) -> dict[tuple, float]:
    """Weights of pairs of visible views, image by image and mask by mask."""
    joint: dict[tuple, float] = {}
    masks = list(itertools.combinations(range(tokens.shape[1]), visible))
    for row in tokens.tolist():
        for kept in masks:
            first = frozenset((i, row[i]) for i in kept)
            second = frozenset((i, row[i]) for i in range(len(row)) if i not in kept)
            joint[first, second] = joint.get((first, second), 0) + 1 / (len(masks) * len(tokens))
    of_second: dict = {}
    for (_, second), weight in joint.items():
        of_second[second] = of_second.get(second, 0) + weight
    found: dict[tuple, float] = {}
    for ((one, middle), a), ((other, same), b) in itertools.product(joint.items(), repeat=2):
        if middle == same:
            found[one, other] = found.get((one, other), 0) + a * b / of_second[middle]
    return found


@pytest.mark.parametrize("visible", [1, 2, 4])
def test_adjacency_is_that_of_the_definition(visible: int) -> None:
    graph = MaskGraph.of(TOKENS, LABELS, visible)
    slow = slow_adjacency(TOKENS, visible)
    assert sorted(weight for weight in graph.adjacency().ravel() if weight > 0) == pytest.approx(sorted(slow.values()))
    assert graph.adjacency().sum(1) == pytest.approx(graph.joint.sum(1))


def test_hiding_the_other_share_has_the_same_spectrum() -> None:
    one, other = (MaskGraph.of(TOKENS, LABELS, visible).eigenvalues() for visible in (2, 3))
    assert one[one > 1e-12] == pytest.approx(other[other > 1e-12])
    assert one[0] == pytest.approx(1)


def test_the_tail_falls_with_the_number_of_features() -> None:
    graph = MaskGraph.of(TOKENS, LABELS, 2)
    tails = [graph.tail(k) for k in range(5)]
    assert all(more > less for more, less in itertools.pairwise(tails))


def test_images_of_one_class_have_no_label_error() -> None:
    graph = MaskGraph.of(TOKENS, np.zeros(6, dtype=int), 2)
    assert graph.label_error() == 0
    assert graph.soft_label_error() == pytest.approx(0)
    assert graph.bayes_error() == pytest.approx(0)


@pytest.mark.parametrize("visible", [0, 5])
def test_masks_that_hide_all_or_nothing_are_refused(visible: int) -> None:
    with pytest.raises(ValueError, match=f"leaves 1 to 4 of 5 positions visible, got {visible}"):
        MaskGraph.of(TOKENS, LABELS, visible)
