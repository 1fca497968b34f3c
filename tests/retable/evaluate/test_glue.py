import numpy as np
import pytest

from retable.evaluate.glue import glue_scores, task_score


def test_each_task_has_the_metric_of_glues_table():
    right, answers = np.array([1, 1, 1, 0]), np.array([1, 1, 0, 0])
    assert task_score("glue-rte", right, answers) == 75
    assert task_score("glue-cola", right, answers) == pytest.approx(100 / 3**0.5)  # (2*1 - 0*1) / sqrt(3*2*1*2)
    assert task_score("glue-mrpc", right, answers) == pytest.approx(80)
    assert task_score("glue-qqp", right, answers) == pytest.approx(80)
    assert task_score("glue-sts-b", np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.2, 9.0])) == pytest.approx(100)
    assert task_score("glue-sts-b", np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0


def test_scores_are_judged_by_both_correlations_and_classes_by_accuracy_too():
    labels, predictions = np.array([0.5, 4.0, 2.0]), np.array([1.0, 9.0, 2.0])
    pearson = np.corrcoef(labels, predictions)[0, 1]
    scores = glue_scores("glue-sts-b", labels, predictions)
    assert scores == {"score": pytest.approx(100), "pearson": pytest.approx(100 * pearson)}
    found = glue_scores("glue-mrpc", np.array([1, 1, 0]), np.ones(3, int))
    assert found == {"score": pytest.approx(80), "accuracy": pytest.approx(200 / 3)}
