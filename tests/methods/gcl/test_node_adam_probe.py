"""The authors' probe beside ours, on a small planted graph."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.gcl import node, node_adam_probe
from retable.cards import load_paper
from retable.data.containers import NodeGraph
from retable.evaluate.probes import adam_probe
from retable.plan import Cell
from retable.run import evaluate, measure
from retable.train.context import Context

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
RECIPE = load_paper(ROOT / "methods" / "gcl" / "card.yaml").recipe("node-adam-probe")
HYPER = {key: sourced.value for key, sourced in RECIPE.hyper.items()}


def planted() -> NodeGraph:
    """Three blocks of 30 nodes with links and words of their own."""
    random, y = np.random.default_rng(0), np.arange(90) // 30
    upper = np.triu(random.random((90, 90)) < np.where(y[:, None] == y, 0.2, 0.03), 1)
    x = (random.random((90, 24)) < np.where(np.arange(24) // 8 == y[:, None], 0.3, 0.1)).astype(np.float32)
    return NodeGraph("planted", scipy.sparse.csr_matrix(x), np.stack(np.nonzero(upper | upper.T)), y, {})


class Small(Context):
    def data(self):
        return planted(), None


@pytest.fixture
def cell() -> Cell:
    settings = HYPER | RECIPE.variants["contrast"].settings | {"epochs": 2, "hidden": 8}
    return Cell("gcl", "node-adam-probe", "planted", "none", "contrast", {}, settings, "full", "p", (0,))


def test_it_adds_the_authors_probe_and_changes_nothing_else(cell, tmp_path, monkeypatch):
    given = []

    def short(x, y, train, val):
        given.append((x, train, val, adam_probe(x, y, train, val, steps=40)))
        return given[-1][-1]

    monkeypatch.setattr(node_adam_probe, "adam_probe", short)
    contexts = [Small(cell, 0, None, tmp_path / n, tmp_path / n, torch.device("cpu"), "f") for n in "ab"]
    both = measure(node_adam_probe, cell, contexts[0]).metrics
    ours = measure(node, cell, contexts[1]).metrics
    assert {name: both[name] for name in ours} == ours
    added = {f"adam_{part}_accuracy_{p}" for part in ("test", "val") for p in ("10_80_10", "10_10_80")}
    assert set(both) == set(ours) | added
    assert evaluate(node_adam_probe, cell, contexts[0]).metrics == both
    x, train, val, fit = given[0]
    y = torch.from_numpy(planted().y)
    right = (fit.predictions == y).double()
    for part, mask in (("val", val), ("test", ~(train | val))):
        expected = (right * mask).sum(1) / mask.sum(1)
        assert both[f"adam_{part}_accuracy_10_80_10"] == pytest.approx(100 * expected.mean().item())
    assert x.shape == (90, 8)
    assert both["adam_test_accuracy_10_80_10"] > 40  # a third is chance


def test_its_rows_are_those_of_the_recipe_node():
    """The same settings, so that the same seed gives the same encoder."""
    card = load_paper(ROOT / "methods" / "gcl" / "card.yaml")
    other = card.recipe("node")
    shared = {key: sourced.value for key, sourced in other.hyper.items()}
    for name, variant in RECIPE.variants.items():
        tuned = shared | other.variants[name].settings | other.variants[name].by_dataset["cora"]
        assert HYPER | variant.settings == tuned
