import warnings

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from retable.evaluate.svm import (
    COSTS,
    CrossValidated,
    linear_svc_cross_validation,
    majority_cross_validation,
    squared_hinge_path,
    svm_cross_validation,
)

TIGHT = {"dual": False, "tol": 1e-10, "max_iter": 100_000}


def blobs(graphs: int, features: int, classes: int = 2, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = np.arange(graphs) % classes
    centres = shift * generator.normal(size=(classes, features))
    return centres[y] + generator.normal(size=(graphs, features)), y


def validate(z: np.ndarray, y: np.ndarray, folds: np.ndarray, **settings) -> CrossValidated:
    """Of a single division."""
    (found,) = svm_cross_validation(z, y, folds[None], **settings)
    return found


@pytest.mark.parametrize(("rows", "features"), [(80, 6), (30, 50)])
def test_weights_equal_scikit_learns(rows, features):
    z, y = blobs(rows, features, shift=0.4)
    x = np.column_stack([z, np.ones(rows)])
    used = np.ones((2, rows), dtype=bool)
    used[1, ::3] = False
    costs = (0.01, 1.0, 100.0)
    weights, converged = squared_hinge_path(x, np.tile(2.0 * y - 1, (2, 1)), used, costs)
    assert converged.all()
    for number, cost in enumerate(costs):
        for problem in range(2):
            theirs = LinearSVC(C=cost, **TIGHT).fit(z[used[problem]], y[used[problem]])
            expected = np.append(theirs.coef_[0], theirs.intercept_)
            np.testing.assert_allclose(weights[number, problem], expected, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("standardise", [False, True])
def test_equals_scikit_learns_nested_cross_validation(standardise, classes):
    z, y = blobs(60, 4, classes, shift=0.7)
    folds = np.arange(60) // 2 % 5
    grid = GridSearchCV(LinearSVC(**TIGHT), {"C": [0.01, 1.0]}, cv=3)
    expected = []
    for fold in range(5):
        train, test = z[folds != fold], z[folds == fold]
        if standardise:
            scaler = StandardScaler().fit(train)
            train, test = scaler.transform(train), scaler.transform(test)
        expected.append(100 * grid.fit(train, y[folds != fold]).score(test, y[folds == fold]))
    got = validate(z, y, folds, standardise=standardise, costs=(0.01, 1.0), inner=3)
    np.testing.assert_allclose(got.accuracies, expected)
    assert got.unconverged == 0
    assert got.fits == 5 * 2 * (3 + 1) * (1 if classes == 2 else 3)
    hits = [(answers == y[folds == fold]).mean() for fold, answers in enumerate(got.answers)]
    np.testing.assert_allclose(hits, got.accuracies / 100)
    assert got.mean == pytest.approx(np.mean(expected))


def test_more_features_than_rows_equal_scikit_learns():
    z, y = blobs(24, 100, shift=0.3)
    folds = np.arange(24) // 2 % 3
    theirs = cross_val_score(LinearSVC(C=0.1, **TIGHT), z, y, cv=[(folds != k, folds == k) for k in range(3)])
    got = validate(z, y, folds, standardise=False, costs=(0.1,), inner=3)
    np.testing.assert_allclose(got.accuracies, 100 * theirs)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e7])
def test_fits_converge_whatever_the_size_of_features(size):
    z, y = blobs(50, 20, shift=0.5)
    got = validate(size * z * np.logspace(0, 3, 20), y, np.arange(50) // 2 % 5, standardise=False)
    # At 1e7 rounding hides the last step of one fit on processors without AVX-512.
    assert got.unconverged <= (1 if size > 1 else 0)


def test_standardising_saves_features_of_unlike_size():
    z, y = blobs(80, 2, shift=6.0)
    z = np.column_stack([z * 1e-6, 1e3 * np.random.default_rng(1).normal(size=80)])
    folds = np.arange(80) // 2 % 4
    raw = validate(z, y, folds, standardise=False, inner=3)
    standardised = validate(z, y, folds, standardise=True, inner=3)
    assert standardised.mean > raw.mean + 20


def test_a_constant_feature_does_no_harm():
    z, y = blobs(40, 3, shift=2.0)
    folds = np.arange(40) // 2 % 4
    wider = np.column_stack([z, np.full(40, 7.3)])
    for standardise in (False, True):
        plain = validate(z, y, folds, standardise=standardise)
        assert validate(wider, y, folds, standardise=standardise).mean == pytest.approx(plain.mean, abs=5)


def test_the_grid_is_the_papers():
    np.testing.assert_allclose(COSTS, [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000])


def test_the_majority_is_that_of_the_other_folds():
    y = np.array([0, 0, 0, 1, 1, 1, 1])
    folds = np.array([0, 0, 1, 0, 1, 1, 1])
    (got,) = majority_cross_validation(y, folds[None])
    np.testing.assert_allclose(got.accuracies, [100 / 3, 25.0])
    assert [part.tolist() for part in got.answers] == [[1, 1, 1], [0, 0, 0, 0]]
    assert got.fits == 0


def test_a_class_that_a_fold_lacks_is_fine_and_one_class_alone_is_not():
    z, y = blobs(40, 3, shift=4.0)
    y = np.where(np.arange(40) < 4, 2, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = validate(z, y, np.arange(40) // 4, standardise=True, costs=(1.0,), inner=5)
    assert got.accuracies[0] == 0  # the fold that holds all of class 2
    with pytest.raises(ValueError, match="fold 0 holds one class only"):
        validate(z, np.zeros(40), np.arange(40) // 4, standardise=True)


def test_embeddings_that_are_not_finite_are_counted():
    z, y = blobs(10, 3)
    z[[2, 5], 1] = np.nan
    with pytest.raises(ValueError, match="2 of 10 embeddings are not finite"):
        validate(z, y, np.arange(10) % 2, standardise=False)


@pytest.mark.parametrize("features", [4, 90])
def test_divisions_share_their_coordinates_and_are_judged_as_if_alone(features):
    z, y = blobs(60, features, shift=0.5)
    divisions = np.stack([np.arange(60) // 2 % 5, np.arange(60) // 6 % 5])
    settings = {"standardise": False, "costs": (0.1, 1.0), "inner": 3}
    both = svm_cross_validation(z, y, divisions, **settings)
    for together, folds in zip(both, divisions, strict=True):
        np.testing.assert_allclose(together.accuracies, validate(z, y, folds, **settings).accuracies)
    assert both[0].accuracies.tolist() != both[1].accuracies.tolist()


def test_scikit_learns_own_machine_agrees_where_it_converges_and_is_counted_where_it_does_not():
    z, y = blobs(60, 4, shift=0.7)
    folds = np.arange(60) // 2 % 5
    ours = validate(z, y, folds, standardise=False, costs=(0.01, 0.1), inner=3)
    (theirs,) = linear_svc_cross_validation(z, y, folds[None], 0, costs=(0.01, 0.1), inner=3)
    np.testing.assert_allclose(theirs.accuracies, ours.accuracies)
    assert (theirs.fits, theirs.unconverged) == (5 * (2 * 3 + 1), 0)
    (harder,) = linear_svc_cross_validation(1e3 * z, y, folds[None], 0, costs=(100.0,), inner=3)
    assert harder.fits == 5 * 4
    assert 0 < harder.unconverged <= harder.fits
