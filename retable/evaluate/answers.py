"""What every classifier records of its answers to the test items, beside their accuracy."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def largest_class_share(answers: np.ndarray | Tensor) -> float:
    """Percent of the answers, class numbers (N,), that are the most frequent one: 100 for a constant answer."""
    answers = answers.cpu().numpy() if isinstance(answers, Tensor) else answers
    counts = np.unique(answers, return_counts=True)[1]
    return 100 * float(counts.max() / len(answers))


def beside(metric: str, *answers: np.ndarray | Tensor, items: int | None = None) -> dict[str, float]:
    """The largest share of one class, and the number of test items, under the names that go with an accuracy.

    `answers`: one classifier's (N,) or several ones', on splits, folds or versions of the items; the share is then
    their mean, which is 100 where each answers with one class. `items`: how many different ones a single evaluation
    has, by default those of the smallest of `answers`.
    """
    return {
        companion(metric, "largest_class_share"): float(np.mean([largest_class_share(part) for part in answers])),
        companion(metric, "test_items"): float(min(map(len, answers)) if items is None else items),
    }


def companion(metric: str, name: str) -> str:
    """`test_largest_class_share_fixed` for `test_accuracy_fixed`, `probe_first_test_items` for `probe_first`."""
    found = metric.replace("accuracy", name) if "accuracy" in metric else f"{metric}_{name}"
    return found.replace("test_test_", "test_")


def unconverged(metric: str, stopped_early: int | Sequence[bool] | Tensor) -> dict[str, float]:
    """Under its name: how many of the fits behind an accuracy ended before they had converged."""
    count = stopped_early if isinstance(stopped_early, int) else int(sum(map(bool, stopped_early)))
    return {companion(metric, "unconverged"): float(count)}
