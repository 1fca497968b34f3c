"""Linear probes on frozen features: multinomial logistic regression, all splits and penalties solved at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.evaluate.answers import beside, unconverged

# Strongest first, so that of penalties with equal validation accuracy the strongest is taken. Per mean loss, for
# features of variance 1; scikit-learn's C is 1 / (penalty * training rows).
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_HISTORY = 10


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """``weight`` (S, R, d, C) and ``bias`` (S, R, C) for S splits and R penalties, for features of width d.

    ``converged`` bool (S, R): false where the last iteration still moved and left a gradient above the tolerance.
    """

    weight: Tensor
    bias: Tensor
    converged: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """Most likely class of each row of ``x`` (N, d): int64 (S, R, N)."""
        return (x.to(self.weight.dtype) @ self.weight + self.bias[..., None, :]).argmax(-1)


def fit_logistic(
    x: Tensor,
    y: Tensor,
    train: Tensor,
    penalties: Sequence[float],
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
) -> LogisticFit:
    """Minimise ``mean cross-entropy + penalty / 2 ||W||^2`` (bias free) for each split and penalty.

    ``x`` (N, d), ``y`` int64 (N,), ``train`` bool (S, N). All S x R problems take L-BFGS steps side by side, each with
    its own curvature history, step length and end: when no entry of its gradient exceeds ``tolerance``. Classes
    without training rows get a probability near 0. ``ValueError`` for a split without training rows.
    """
    rows, target, share = _side_by_side(x, y, train)
    rows = torch.cat([rows, rows.new_ones(*target.shape, 1)], dim=2)  # (S, n, d + 1)
    columns = rows.transpose(1, 2).contiguous()
    classes = int(y.max()) + 1
    target = F.one_hot(target, classes).to(x.dtype)[:, :, None]  # (S, n, 1, C)
    splits, width, number = len(train), rows.shape[2], len(penalties)
    ridge = x.new_tensor(penalties)[None, None, :, None].expand(1, width, number, 1).clone()
    ridge[:, -1] = 0

    def objective(theta: Tensor) -> tuple[Tensor, Tensor]:
        """Values (S, R) and gradients (S, d + 1, R, C)."""
        logits = torch.bmm(rows, theta.flatten(2)).view(splits, -1, number, classes)
        log_p = logits.log_softmax(-1)
        value = -((log_p * target).sum(-1) * share[..., None]).sum(1)
        error = (log_p.exp() - target) * share[..., None, None]
        gradient = torch.bmm(columns, error.flatten(2)).view_as(theta) + ridge * theta
        return value + (ridge * theta.square()).sum((1, 3)) / 2, gradient

    start = x.new_zeros(splits, width, number, classes)
    theta, converged = _minimise(objective, start, tolerance, max_iterations)
    return LogisticFit(theta[:, :-1].transpose(1, 2).contiguous(), theta[:, -1].contiguous(), converged)


@dataclass(frozen=True, eq=False)
class Probed:
    """Classes that S x R probes give to all rows, ``answers`` int64 (S, R, N), and whether these are ``right``.

    ``converged`` bool (S, R), of each fit.
    """

    answers: Tensor
    right: Tensor
    converged: Tensor


def probe(x: Tensor, y: Tensor, train: Tensor, penalties: Sequence[float] = PENALTIES) -> Probed:
    """Classes of all rows by logistic regression on each split's training rows, at each penalty.

    The mean row is taken off and all features share one factor that makes their variance 1: neither changes what a
    linear classifier can do, and penalties mean the same for every encoder.
    """
    x = x.detach().float()
    x = x - x.mean(0)
    deviation = x.square().mean().sqrt()
    x = x / torch.where(deviation > 0, deviation, 1.0)
    fit = fit_logistic(x, y, train, penalties)
    answers = fit.predict(x)
    return Probed(answers, answers == y, fit.converged)


def chosen_accuracy(right: Tensor, val: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Test and validation accuracy (S,) in percent, at the penalty with the best validation accuracy of each split.

    ``right`` bool (S, R, N) of :func:`probe`; ``val``, ``test`` bool (S, N). Of equals the first penalty is taken.
    """
    right = right.double()
    on_val = (right * val[:, None]).sum(2) / val.sum(1, keepdim=True)
    on_test = (right * test[:, None]).sum(2) / test.sum(1, keepdim=True)
    best = on_val.argmax(1, keepdim=True)
    return 100 * on_test.gather(1, best)[:, 0], 100 * on_val.gather(1, best)[:, 0]


def chosen_answers(metric: str, probed: Probed, val: Tensor, test: Tensor) -> dict[str, float]:
    """What is recorded beside the accuracy ``metric`` of :func:`chosen_accuracy`: see :mod:`retable.evaluate.answers`.

    ``val``, ``test`` bool (S, N). Of the fits only those at the chosen penalties count, one a split.
    """
    on_val = (probed.right.double() * val[:, None]).sum(2) / val.sum(1, keepdim=True)
    chosen = list(enumerate(on_val.argmax(1).tolist()))
    answers = [probed.answers[split, penalty][test[split]] for split, penalty in chosen]
    stopped_early = [not probed.converged[place] for place in chosen]
    return beside(metric, *answers) | unconverged(metric, stopped_early)


@dataclass(frozen=True, eq=False)
class AdamFit:
    """Last ``weight`` (S, C, d) and ``bias`` (S, C), and the ``predictions`` (S, N) at the best validation."""

    weight: Tensor
    bias: Tensor
    predictions: Tensor


def adam_probe(
    x: Tensor,
    y: Tensor,
    train: Tensor,
    val: Tensor,
    *,
    steps: int = 5000,
    lr: float = 0.01,
    every: int = 20,
    start: tuple[Tensor, Tensor] | None = None,
) -> AdamFit:
    """The usual probe of graph contrastive learning: full-batch Adam, the best validation checkpoint of each split.

    ``x`` (N, d), ``train`` and ``val`` bool (S, N); ``start``: weight (S, C, d) and bias (S, C), by default a linear
    layer's with Glorot uniform weights. Kept as the reference that :func:`probe` is measured against.
    """
    splits, classes = len(train), int(y.max()) + 1
    if start is None:
        layers = [torch.nn.Linear(x.shape[1], classes) for _ in range(splits)]
        for layer in layers:
            torch.nn.init.xavier_uniform_(layer.weight)
        start = torch.stack([la.weight.data for la in layers]), torch.stack([la.bias.data for la in layers])
    weight, bias = (tensor.to(x).clone().requires_grad_() for tensor in start)
    optimiser = torch.optim.Adam([weight, bias], lr=lr)
    rows, target, share = _side_by_side(x, y, train)
    best, predictions = x.new_full((splits,), -1.0), y.expand(splits, -1).clone()
    for step in range(1, steps + 1):
        log_p = (rows @ weight.mT + bias[:, None]).log_softmax(-1)
        loss = -(log_p.gather(2, target[..., None])[..., 0] * share).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % every == 0:
            with torch.no_grad():
                answers = (x @ weight.mT + bias[:, None]).argmax(-1)
            score = ((answers == y) & val).sum(1) / val.sum(1)
            better = score > best
            best = torch.where(better, score, best)
            predictions = torch.where(better[:, None], answers, predictions)
    return AdamFit(weight.detach(), bias.detach(), predictions)


def _side_by_side(x: Tensor, y: Tensor, train: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Training rows (S, n, d), their classes (S, n) and their share in the mean loss (S, n), 0 for what fills up."""
    counts = train.sum(1)
    if not bool((counts > 0).all()):
        raise ValueError("linear probe: a split has no training rows; check the masks")
    order = torch.argsort((~train).to(torch.int8), dim=1, stable=True)[:, : int(counts.max())]
    return x[order], y[order], torch.gather(train, 1, order).to(x.dtype) / counts[:, None]


def _minimise(objective, theta: Tensor, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """L-BFGS for convex problems side by side: ``theta`` (S, k, R, C) holds one problem for each (S, R).

    Step lengths are halved until the value falls enough (Armijo); each problem stops by itself. Also returns which
    problems (S, R) did, before the iterations ran out.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 3), keepdim=True)

    value, gradient = objective(theta)
    active = torch.ones_like(value, dtype=torch.bool)[:, None, :, None]
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    for iteration in range(max_iterations):
        active = active & (gradient.abs().amax((1, 3), keepdim=True) > tolerance)
        if not bool(active.any()):
            break
        direction = -_inverse_hessian_times(gradient, history, dot) * active
        slope = dot(gradient, direction)
        step = torch.ones_like(slope)
        if iteration == 0:
            step = step / gradient.abs().sum((1, 3), keepdim=True).clamp(min=1.0)
        searching = active
        for _ in range(20):
            trial, trial_gradient = objective(theta + step * direction)
            fell = (trial <= value + 1e-4 * (step * slope)[:, 0, :, 0])[:, None, :, None]
            searching = active & ~fell
            if not bool(searching.any()):
                break
            step = torch.where(searching, step / 2, step)
        # A problem whose value cannot fall any more has met the rounding error.
        active = active & ~searching
        moved = torch.where(active, step * direction, 0.0)
        change = torch.where(active, trial_gradient - gradient, 0.0)
        theta = theta + moved
        value = torch.where(active[:, 0, :, 0], trial, value)
        gradient = torch.where(active, trial_gradient, gradient)
        curvature = dot(moved, change)
        useful = curvature > 1e-10 * dot(change, change).clamp(min=1e-30)
        inverse = torch.where(useful, 1 / torch.where(useful, curvature, 1.0), 0.0)
        history = [*history[-_HISTORY + 1 :], (moved, change, inverse)]
    open_ = active & (gradient.abs().amax((1, 3), keepdim=True) > tolerance)
    return theta, ~open_[:, 0, :, 0]


def _inverse_hessian_times(gradient: Tensor, history: list[tuple[Tensor, Tensor, Tensor]], dot) -> Tensor:
    """The two-loop recursion; pairs of ``inverse`` 0 (no curvature, or a problem at rest) change nothing."""
    q, factors = gradient, []
    for moved, change, inverse in reversed(history):
        factor = inverse * dot(moved, q)
        factors.append(factor)
        q = q - factor * change
    if history:
        _, change, inverse = history[-1]
        q = q * torch.where(inverse > 0, 1 / (inverse * dot(change, change)).clamp(min=1e-30), 1.0)
    for (moved, change, inverse), factor in zip(history, reversed(factors), strict=True):
        q = q + moved * (factor - inverse * dot(change, q))
    return q
