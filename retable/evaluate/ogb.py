"""OGB's own evaluators, without what importing their package does besides."""

import sys
from typing import Any

import numpy as np


def ogb_score(name: str, y: np.ndarray, predicted: np.ndarray) -> float:
    """The data set's official metric in percent: accuracy on ogbn-*, ROC-AUC or what OGB lists on ogbg-*.

    y: (N,) labels. predicted: (N,) labels where the metric is accuracy, scores where it is ROC-AUC. Raises ValueError
    for a name that OGB does not know.
    """
    _stay_offline()
    if name.startswith("ogbn-"):
        from ogb.nodeproppred import Evaluator
    else:
        from ogb.graphproppred import Evaluator
    answers = Evaluator(name).eval({"y_true": np.asarray(y)[:, None], "y_pred": np.asarray(predicted)[:, None]})
    (value,) = answers.values()
    return 100 * float(value)


def link_evaluator() -> Any:
    """OGB's evaluator of Hits@K for links; its `K` may be set."""
    _stay_offline()
    from ogb.linkproppred import Evaluator

    return Evaluator("ogbl-ppa")


def _stay_offline() -> None:
    """The package starts a thread that asks a package index for its newest version, if it finds this library."""
    sys.modules.setdefault("outdated", None)  # type: ignore[arg-type]
