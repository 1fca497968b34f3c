"""ogbn-arxiv's recipe on a small planted graph, from an archive in OGB's format to records."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.gcl import node_ogb
from methods.gcl.nodes import ogb
from methods.gcl.nodes.learner import Learner
from methods.gcl.nodes.task import NodeTask
from methods.gcl.settings import NodeSettings
from retable.cards import load_datasets, load_papers
from retable.evaluate.probes import chosen_accuracy, probe
from retable.plan import plan, recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, fixed_batch, make_context, make_deterministic, run_cell

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
SMALL = {"hidden": 16, "projection": 16, "sample": 20, "epochs": 5, "lr": 0.01}


def csv(rows) -> str:
    return "".join(",".join(f"{value:g}" for value in np.atleast_1d(row)) + "\n" for row in rows)


def tables(size: int = 30, blocks: int = 3) -> dict[str, str]:
    """Blocks that cite themselves five times as often as others; signed features, a little apart by block."""
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(blocks), size)
    cites = np.argwhere(random.random((len(y),) * 2) < np.where(y[:, None] == y, 0.15, 0.03))
    x = random.normal(size=(len(y), 8)) + np.eye(8)[y]
    order = random.permutation(len(y))
    parts = {"train": order[:45], "valid": order[45:65], "test": order[65:]}
    return {
        "raw/edge": csv(cites),
        "raw/node-feat": csv(x),
        "raw/node-label": csv(y),
        **{f"split/time/{part}": csv(nodes) for part, nodes in parts.items()},
    }


def small_cells(workspace) -> dict:
    cells = plan(workspace.papers, workspace.datasets, "full", ["gcl"], ["ogbn-arxiv"])
    return {
        cell.variant: dataclasses.replace(cell, settings=cell.settings | SMALL, seeds=(0,))
        for cell in cells
        if cell.recipe == "node-ogb"
    }


def untrained(workspace, cell) -> tuple[ogb.OgbTask, Learner]:
    settings = NodeSettings.parse(cell.settings, "gcl/node-ogb")
    experiment = node_ogb.NodeOgb(settings, make_context(workspace, cell, 0, torch.device("cpu")))
    return experiment.task, experiment.model


def test_without_the_users_card_the_plan_leaves_it_out():
    recipe = load_papers(ROOT)["gcl"].recipe("node-ogb")
    cards = {name: card for name, card in load_datasets(ROOT).items() if name != "ogbn-arxiv"}
    assert recipe_cells("gcl", recipe, cards, "full") == []


def test_an_archive_of_ones_own_is_planned_run_and_evaluated_in_every_variant(own):
    workspace = own("ogbn-arxiv", tables())
    cells = small_cells(workspace)
    assert set(cells) == set(workspace.papers["gcl"].recipe("node-ogb").variants)
    found = {}
    for variant, cell in cells.items():
        run_cell(workspace, cell)
        record = read_record(cell.folder(workspace.results) / "seed-0.json")
        assert record.state == "ok", record.error
        found[variant] = record.metrics
        assert evaluate_cell(workspace, cell, 0).metrics == record.metrics
    assert all("mean_cosine" in found[variant] for variant in found if variant != "majority")
    assert found["contrast"]["ogb_test_accuracy"] > found["majority"]["ogb_test_accuracy"] + 20


def test_one_step_lowers_the_loss_on_a_fixed_batch(own):
    workspace = own("ogbn-arxiv", tables())
    make_deterministic(torch.device("cpu"))
    cell = small_cells(workspace)["contrast"]
    learner, loss = fixed_batch(node_ogb, cell, make_context(workspace, cell, 0, torch.device("cpu")))
    before = loss()
    before.backward()
    size = sum(p.grad.square().sum() for p in learner.parameters()).sqrt()
    with torch.no_grad():
        for p in learner.parameters():
            p -= 0.01 * p.grad / size
    assert loss().item() < before.item()


def test_ogbs_score_is_the_accuracy_of_the_probe(own):
    workspace = own("ogbn-arxiv", tables())
    cell = small_cells(workspace)["untrained"]
    task, learner = untrained(workspace, cell)
    z = learner.embed().detach()
    ((val, test),) = task.protocols.values()
    on_test, on_val = chosen_accuracy(probe(z, task.y, task.train), val, test)
    got = task.scores(z)
    assert got == pytest.approx({"ogb_test_accuracy": on_test.item(), "ogb_val_accuracy": on_val.item()})


def test_geometry_in_parts_is_that_of_the_other_recipes(own, monkeypatch):
    workspace = own("ogbn-arxiv", tables())
    cell = small_cells(workspace)["untrained"]
    task, learner = untrained(workspace, cell)
    z = learner.embed().detach()
    monkeypatch.setattr(ogb, "EDGES_AT_ONCE", 7)
    assert task.geometry(z) == pytest.approx(NodeTask.geometry(task, z), rel=1e-5)
