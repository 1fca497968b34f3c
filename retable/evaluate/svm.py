"""How well a linear support vector machine tells classes apart on frozen embeddings, by nested cross-validation."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

COSTS = tuple(10.0**power for power in range(-3, 4))
INNER_FOLDS = 5
TOLERANCE = 1e-6
MAX_STEPS = 100
HALVINGS = 30


@dataclass(frozen=True)
class CrossValidated:
    """One division into folds: accuracy in percent and answers on each fold, and how many of the `fits` of machines
    stopped before they had converged.
    """

    accuracies: np.ndarray
    answers: list[np.ndarray]
    fits: int
    unconverged: int

    @property
    def mean(self) -> float:
        return float(self.accuracies.mean())


def svm_cross_validation(
    z: np.ndarray,
    y: np.ndarray,
    divisions: np.ndarray,
    *,
    standardise: bool,
    costs: tuple[float, ...] = COSTS,
    inner: int = INNER_FOLDS,
) -> list[CrossValidated]:
    """A linear SVM on each fold's complement, its cost chosen by `inner` stratified folds in there.

    z: (G, D) embeddings, y: (G,) classes, divisions: (V, G) the fold of each graph in each division, which is judged by
    itself. The protocol of InfoGraph and GraphCL, which the graph-contrastive papers share, takes z as it is;
    `standardise` brings each feature to mean 0 and deviation 1 on the fold's complement first. The machine is that of
    scikit-learn's LinearSVC: squared hinge, L2 penalty on weights and intercept, one class against the rest. Ties go to
    the lower cost.

    Raises ValueError for values that are not finite, and where a complement holds one class only.
    """
    z = _finite(z)
    if not standardise:
        # All divisions share the coordinates; standardised features are others on each complement.
        z = _reduced(_with_intercept(z))

    def fit(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, int, int]:
        x, other = _standardised(z[train], z[test]) if standardise else (z[train], z[test])
        return _choose_and_predict(x, y[train], other, costs, inner)

    return [_cross_validated(fit, y, folds) for folds in divisions]


def linear_svc_cross_validation(
    z: np.ndarray,
    y: np.ndarray,
    divisions: np.ndarray,
    seed: int,
    *,
    costs: tuple[float, ...] = COSTS,
    inner: int = INNER_FOLDS,
) -> list[CrossValidated]:
    """`svm_cross_validation` of z as it is by scikit-learn's LinearSVC, as the authors call it.

    Its coordinate descent in the dual (1,000 passes at most, in an order that `seed` decides) often ends before it has
    converged.
    """
    z = _finite(z)

    def fit(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, int, int]:
        machine = LinearSVC(dual=True, random_state=seed % 2**32)
        grid = GridSearchCV(machine, {"C": list(costs)}, cv=inner)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            answers = grid.fit(z[train], y[train]).predict(z[test])
        early = sum(issubclass(warning.category, ConvergenceWarning) for warning in told)
        return answers, len(costs) * inner + 1, early

    return [_cross_validated(fit, y, folds) for folds in divisions]


def majority_cross_validation(y: np.ndarray, divisions: np.ndarray) -> list[CrossValidated]:
    """The most frequent class of each fold's complement as the answer for the fold."""

    def fit(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, int, int]:
        return np.full(int(test.sum()), np.bincount(y[train]).argmax()), 0, 0

    return [_cross_validated(fit, y, folds) for folds in divisions]


def _finite(z: np.ndarray) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    if not np.isfinite(z).all():
        raise ValueError(f"{int((~np.isfinite(z)).any(axis=1).sum())} of {len(z)} embeddings are not finite")
    return z


def _cross_validated(
    fit: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, int, int]], y: np.ndarray, folds: np.ndarray
) -> CrossValidated:
    """`fit` gets the masks of complement and fold; it gives answers for the fold, the number of fits, and of those that
    stopped early.
    """
    accuracies, answers, fits, unconverged = [], [], 0, 0
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if len(np.unique(y[train])) < 2:
            raise ValueError(f"the complement of fold {fold} holds one class only: nothing to tell apart")
        answer, number, stopped_early = fit(train, test)
        answers.append(answer)
        accuracies.append(100 * float((answer == y[test]).mean()))
        fits += number
        unconverged += stopped_early
    return CrossValidated(np.array(accuracies), answers, fits, unconverged)


def squared_hinge_path(
    x: np.ndarray, signs: np.ndarray, used: np.ndarray, costs: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights that minimise ``|w|^2 / 2 + C sum_i max(0, 1 - s_i x_i w)^2`` for P problems at each cost C.

    x: (n, d), shared. signs: (P, n), +1 or -1. used: (P, n), the rows that count in each problem. costs:
    ascending; each starts where the one before ended. Returns weights (costs, P, d), and whether the gradient
    vanished (costs, P).

    Newton steps with halving: the objective is piecewise quadratic, so a handful reach its minimum (Keerthi and
    DeCoste, JMLR 6, 2005).
    """
    w = np.zeros((len(signs), x.shape[1]))
    gram = x @ x.T if len(x) <= x.shape[1] else None
    path, converged = [], []
    for cost in costs:
        w, done = _minimise(x, gram, signs, used, cost, w)
        path.append(w)
        converged.append(done)
    return np.stack(path), np.stack(converged)


def _minimise(
    x: np.ndarray, gram: np.ndarray | None, signs: np.ndarray, used: np.ndarray, cost: float, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    w = w.copy()
    # The size of the gradient at w = 0, which tells what is small.
    size = 1e-300 + np.linalg.norm(2 * cost * (signs * used) @ x, axis=1)
    done = np.zeros(len(w), dtype=bool)
    open_ = np.arange(len(w))
    for _ in range(MAX_STEPS):
        s, u, now = signs[open_], used[open_], w[open_]
        slack = 1 - s * (now @ x.T)
        active = u & (slack > 0)
        gradient = now - 2 * cost * (s * np.where(active, slack, 0)) @ x
        finished = np.linalg.norm(gradient, axis=1) <= TOLERANCE * size[open_]
        done[open_[finished]] = True
        rest = ~finished
        if not rest.any():
            break
        step = -_solve(x, gram, active[rest], cost, gradient[rest])
        length = _line_search(x, s[rest], u[rest], cost, now[rest], step, gradient[rest])
        w[open_[rest]] += length[:, None] * step
        open_ = open_[rest][length > 0]
        if not len(open_):
            break
    return w, done


def _solve(x: np.ndarray, gram: np.ndarray | None, active: np.ndarray, cost: float, gradient: np.ndarray) -> np.ndarray:
    """Newton's directions: ``(I + 2 C X_a^T X_a)^-1 gradient`` with the active rows of each problem: (P, d).

    With `gram` (n, n), the rows' inner products, by ``I - X_a^T (I / 2C + X_a X_a^T)^-1 X_a`` (Woodbury), which is
    cheaper where rows are no more than features.
    """
    result = np.empty_like(gradient)
    for problem, rows in enumerate(active):
        held = x[rows]
        if gram is None:
            hessian = 2 * cost * (held.T @ held)
            hessian[np.diag_indices_from(hessian)] += 1
            result[problem] = np.linalg.solve(hessian, gradient[problem])
        else:
            inner = gram[np.ix_(rows, rows)]
            inner[np.diag_indices_from(inner)] += 1 / (2 * cost)
            result[problem] = gradient[problem] - held.T @ np.linalg.solve(inner, held @ gradient[problem])
    return result


def _line_search(
    x: np.ndarray,
    signs: np.ndarray,
    used: np.ndarray,
    cost: float,
    w: np.ndarray,
    step: np.ndarray,
    gradient: np.ndarray,
) -> np.ndarray:
    """The longest of 1, 1/2, 1/4, ... that lowers each objective enough, 0 where none does: (P,)."""
    slack, change = 1 - signs * (w @ x.T), signs * (step @ x.T)
    slope = (gradient * step).sum(axis=1)

    def objective(length: np.ndarray) -> np.ndarray:
        at = w + length[:, None] * step
        hinge = np.where(used, np.maximum(slack - length[:, None] * change, 0), 0)
        return (at**2).sum(axis=1) / 2 + cost * (hinge**2).sum(axis=1)

    start = objective(np.zeros(len(w)))
    length, found = np.ones(len(w)), np.zeros(len(w))
    for _ in range(HALVINGS):
        better = (objective(length) <= start + 1e-4 * length * slope) & (found == 0)
        found[better] = length[better]
        if (found > 0).all():
            break
        length = length / 2
    return found


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts with each feature's mean 0 and deviation 1 on the first, and an intercept."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation <= 1e-12 * (1 + np.abs(mean))] = 1
    rows = _reduced(_with_intercept((np.concatenate([train, test]) - mean) / deviation))
    return rows[: len(train)], rows[len(train) :]


def _with_intercept(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([rows, np.ones(len(rows))])


def _reduced(rows: np.ndarray) -> np.ndarray:
    """The rows (n, d) in as few coordinates as lose nothing: (n, min(n, d)).

    The machine's weights are a sum of training rows, so where there are fewer rows than features an orthonormal basis
    of the rows gives the same answers.
    """
    return rows if rows.shape[0] >= rows.shape[1] else rows @ np.linalg.qr(rows.T)[0]


def _choose_and_predict(
    x: np.ndarray, y: np.ndarray, test: np.ndarray, costs: tuple[float, ...], inner: int
) -> tuple[np.ndarray, int, int]:
    """Answers for the test rows at the cost with the best inner accuracy, how many fits that took, and how many of them
    stopped early.
    """
    classes = np.unique(y)
    # Two classes need one machine, whose sign decides.
    targets = classes[1:] if len(classes) == 2 else classes
    parts = [np.ones(len(y), dtype=bool)]
    for rows, _ in _stratified(y, inner):
        parts.append(np.isin(np.arange(len(y)), rows))
    signs = np.where(y == targets[:, None], 1.0, -1.0)
    weights, converged = squared_hinge_path(
        x, np.tile(signs, (len(parts), 1)), np.repeat(parts, len(targets), axis=0), costs
    )
    weights = weights.reshape(len(costs), len(parts), len(targets), -1)

    def answers(machine: np.ndarray, rows: np.ndarray) -> np.ndarray:
        scores = rows @ machine.T
        return classes[(scores[:, 0] > 0).astype(int) if len(targets) == 1 else scores.argmax(axis=1)]

    accuracy = [
        np.mean([(answers(w, x[~part]) == y[~part]).mean() for w, part in zip(fits[1:], parts[1:], strict=True)])
        for fits in weights
    ]
    return answers(weights[int(np.argmax(accuracy)), 0], test), converged.size, int((~converged).sum())


def _stratified(y: np.ndarray, inner: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """scikit-learn's folds in the order of the rows, fewer where no class has `inner` members."""
    largest = int(np.unique(y, return_counts=True)[1].max())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        yield from StratifiedKFold(min(inner, largest)).split(np.zeros(len(y)), y)
