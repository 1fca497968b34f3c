"""Molecules, from an archive in OGB's format to records."""

import dataclasses

import numpy as np
import pytest
import torch

from methods.gcl import molecules
from methods.gcl.graphs.learners import LEARNERS
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
