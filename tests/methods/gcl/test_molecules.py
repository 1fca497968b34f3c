"""Molecules: from an archive in OGB's format to records, an atom's columns, divisions that mean nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from methods.gcl import molecules
from methods.gcl.graphs.learners import LEARNERS
from methods.gcl.graphs.molecules import PENALTIES, MoleculeTask, one_hot
from retable.data.containers import DataError, NodeSplit
from retable.data.molecules import MoleculeSet
from retable.plan import plan
from retable.records import read_record
from retable.run import evaluate_cell, fixed_batch, make_context, make_deterministic, measure, run_cell

SMALL = {"hidden": 6, "layers": 2, "epochs": 2, "batch_size": 8}


def csv(rows) -> str:
    return "".join(",".join(str(value) for value in np.atleast_1d(row)) + "\n" for row in rows)


def tables(graphs: int = 36) -> dict[str, str]:
    """Rings (inactive) and stars (active) of 4 to 6 atoms of two elements; one molecule is a single atom."""
    sizes, bonds, labels = [], [], []
    for number in range(graphs):
        size, star = 4 + number % 3, number % 2
        links = [(0, k) for k in range(1, size)] if star else [(k, (k + 1) % size) for k in range(size)]
        size, links = (1, []) if number == 5 else (size, links)
        sizes, labels = [*sizes, size], [*labels, star]
        bonds.append(links)
    atoms = np.random.default_rng(0).integers(0, 2, (sum(sizes), 1)) + 5
    ends = [link for links in bonds for link in links]
    places = np.arange(graphs)
    return {
        "raw/num-node-list": csv(sizes),
        "raw/num-edge-list": csv([len(links) for links in bonds]),
        "raw/edge": csv(ends),
        "raw/edge-feat": csv([(0, 0)] * len(ends)),
        "raw/node-feat": csv(np.concatenate([atoms, atoms % 2], axis=1)),
        "raw/graph-label": csv(labels),
        "split/scaffold/train": csv(places[:20]),
        "split/scaffold/valid": csv(places[20:28]),
        "split/scaffold/test": csv(places[28:]),
    }


@pytest.fixture
def cells(own):
    """The workspace of an archive of one's own and its recipe's cells, small, by variant."""
    workspace = own("ogbg-molhiv", tables())
    planned = plan(workspace.papers, workspace.datasets, "full", ["gcl"], ["ogbg-molhiv"])
    small = [dataclasses.replace(cell, settings=cell.settings | SMALL, seeds=(0,)) for cell in planned]
    return workspace, {cell.variant: cell for cell in small}


def test_an_archive_of_ones_own_is_planned_run_and_evaluated_in_every_variant(cells):
    workspace, by_variant = cells
    assert set(by_variant) == set(workspace.papers["gcl"].recipe("graph-molecules").variants)
    found = {}
    for variant, cell in by_variant.items():
        run_cell(workspace, cell)
        record = read_record(cell.folder(workspace.results) / "seed-0.json")
        assert record.state == "ok", record.error
        found[variant] = record.metrics
        assert evaluate_cell(workspace, cell, 0).metrics == record.metrics
    assert found["majority"] == {"ogb_test_auc": 50, "ogb_val_auc": 50}
    assert all(0 <= metrics["ogb_test_auc"] <= 100 for metrics in found.values())
    assert found["graphcl-contrast"]["ogb_test_auc"] > 80  # GIN tells rings from stars


@pytest.mark.parametrize("method", list(LEARNERS))
def test_every_method_takes_molecules(method, cells):
    workspace, by_variant = cells
    extra = {"method": method, "view_lr": 0.01, "penalty": 1.0, "gamma": 0.1}
    cell = dataclasses.replace(by_variant["graphcl-contrast"], settings=by_variant["graphcl-contrast"].settings | extra)
    measured = measure(molecules, cell, make_context(workspace, cell, 0, torch.device("cpu")))
    assert all(np.isfinite(value) for value in measured.metrics.values())


def test_one_step_lowers_the_loss_on_a_fixed_batch(cells):
    workspace, by_variant = cells
    make_deterministic(torch.device("cpu"))
    cell = by_variant["graphcl-contrast"]
    learner, loss = fixed_batch(molecules, cell, make_context(workspace, cell, 0, torch.device("cpu")))
    before = loss()
    before.backward()
    trained = [p for p in learner.parameters() if p.grad is not None]
    size = sum(p.grad.square().sum() for p in trained).sqrt()
    with torch.no_grad():
        for p in trained:
            p -= 1e-3 * p.grad / size
    assert loss().item() < before.item()


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
    assert got == pytest.approx({"ogb_val_auc": theirs[best][0], "ogb_test_auc": theirs[best][1]}, abs=0.5)
