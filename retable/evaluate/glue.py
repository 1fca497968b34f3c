"""The metrics of GLUE's tasks, in percent."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef


def glue_scores(task: str, labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """`score`, the task's own metric, and `accuracy`, or `pearson` where scores are predicted (`glue-sts-b`)."""
    scores = {"score": task_score(task, labels, predictions)}
    if task == "glue-sts-b":
        return scores | {"pearson": correlation(pearsonr, labels, predictions)}
    return scores | {"accuracy": 100 * float((labels == predictions).mean())}


def task_score(task: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """The metric of a data set `glue-<task>`.

    Matthews correlation for CoLA, F1 of the second class for MRPC and QQP, Spearman correlation for STS-B, accuracy for
    all others. 0 for the undefined correlation of a constant prediction.
    """
    if task == "glue-cola":
        return 100 * float(matthews_corrcoef(labels, predictions))
    if task in ("glue-mrpc", "glue-qqp"):
        return 100 * float(f1_score(labels, predictions))
    if task == "glue-sts-b":
        return correlation(spearmanr, labels, predictions)
    return 100 * float((labels == predictions).mean())


def correlation(kind: Callable[..., Any], labels: np.ndarray, predictions: np.ndarray) -> float:
    """One of scipy's correlations; 0 for a constant prediction."""
    return 100 * float(kind(labels, predictions).statistic) if np.ptp(predictions) > 0 else 0.0
