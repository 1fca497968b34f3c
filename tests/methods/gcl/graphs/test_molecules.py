import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from methods.gcl.graphs.molecules import PENALTIES, MoleculeTask, one_hot
from retable.data.containers import DataError, NodeSplit
from retable.data.molecules import MoleculeSet


def small_set(y: list[int]) -> tuple[MoleculeSet, NodeSplit]:
    """One molecule of a single atom for each label; thirds of them are the parts."""
    labels = np.array(y)
    part = np.arange(len(y)) % 3
    split = NodeSplit(part == 0, part == 1, part == 2)
    atoms = np.stack([labels, 1 - labels], axis=1)
    bare = (np.empty((2, 0), dtype=np.int64), np.empty((0, 3), dtype=np.int64))
    return MoleculeSet("few", *bare, atoms, np.arange(len(y)), labels, {"scaffold": split}), split


def test_categories_become_columns_of_their_own():
    x = one_hot(np.array([[0, 2], [1, 0]]))
    assert x.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
    assert one_hot(np.array([[0, 2], [1, 0]]), bare=True).tolist() == [[1], [1]]


def test_a_part_without_active_molecules_is_refused_in_one_line(graph_settings):
    with pytest.raises(DataError, match="few: the test part does not hold both classes"):
        MoleculeTask(*small_set([0, 0, 0, 1, 1, 0]), graph_settings(), torch.device("cpu"))


def test_the_area_is_that_of_scikit_learn_at_the_penalty_of_the_validation_part(graph_settings):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 90)
    task = MoleculeTask(*small_set(y.tolist()), graph_settings(method="infograph"), torch.device("cpu"))
    z = torch.from_numpy(draw.normal(size=(90, 3)) + y[:, None]).float()
    got = task.scores(z)
    mean, deviation = z[task.split.train].mean(0), z[task.split.train].std(0, correction=0)
    x = ((z - mean) / deviation).numpy()
    theirs = []
    for penalty in PENALTIES:
        fit = LogisticRegression(C=2 / (penalty * task.split.train.sum()), tol=1e-8, max_iter=1000)
        score = fit.fit(x[task.split.train], y[task.split.train]).decision_function(x)
        theirs.append([100 * roc_auc_score(y[part], score[part]) for part in (task.split.val, task.split.test)])
    best = int(np.argmax([val for val, _ in theirs]))
    assert got.pop("ogb_test_auc_unconverged") == 0
    assert got == pytest.approx({"ogb_val_auc": theirs[best][0], "ogb_test_auc": theirs[best][1]}, abs=0.5)
