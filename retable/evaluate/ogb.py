"""OGB's own evaluators, without what importing their package does besides."""

import sys
from typing import Any

import numpy as np


def ogb_score(name: str, y: np.ndarray, predicted: np.ndarray) -> float:
    """The data set's official metric in percent: accuracy on ogbn-*, what OGB lists on ogbg-*.

    y: (N,) labels, or (N, T) with NaN where one is not known. predicted: as many labels where the metric is accuracy,
    scores where it is ROC-AUC or the average precision. Raises ValueError for a name that OGB does not know.
    """
    _stay_offline()
    if name.startswith("ogbn-"):
        from ogb.nodeproppred import Evaluator
    else:
        from ogb.graphproppred import Evaluator
    tables = {"y_true": np.asarray(y), "y_pred": np.asarray(predicted)}
    answers = Evaluator(name).eval({key: table.reshape(len(table), -1) for key, table in tables.items()})
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
