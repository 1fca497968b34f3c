"""The training story of graph classification on sets of graphs made up here; demo cells are in test_contract.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

from methods.gcl import graph
from methods.gcl.graph import Graph
from methods.gcl.graphs.graphcl import GraphCL
from methods.gcl.graphs.learners import LEARNERS
from methods.gcl.losses import TERMS
from methods.gcl.settings import GraphSettings
from retable.cards import CardError, Hyper, Recipe, Variant, load_dataset, load_datasets, load_papers
from retable.data.graph_sets import Folds, GraphSet
from retable.data.readers.splits import stratified_folds
from retable.plan import Cell, recipe_cells
from retable.run import evaluate, fixed_batch, make_deterministic, measure
from retable.train.context import Context, Diverged

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARD = load_dataset(ROOT / "datasets" / "digits-grid.yaml")
SETTINGS = {
    "method": "graphcl",
    "loss": "contrast",
    "encoder": "gin",
    "trained": True,
    "augmentation": "drop-nodes",
    "ratio": 0.2,
    "noise_variance": 1e-4,
    "official_quirks": False,
    "node_attributes": False,
    "hidden": 6,
    "layers": 2,
    "tau": 0.5,
    "lr": 0.01,
    "view_lr": 0.01,
    "penalty": 2.0,
    "gamma": 0.1,
    "batch_size": 8,
    "epochs": 2,
    "svm_inner_folds": 3,
    "svm_lowest_cost": 0.1,
    "svm_highest_cost": 1.0,
    "svm_divisions": 2,
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph_set):
    """A cell and its context over a set of graphs."""
    make_deterministic(torch.device("cpu"))

    def start(graphs: GraphSet | None = None, seed: int = 0, **settings) -> tuple[Cell, Context]:
        graphs = graphs or graph_set()
        folds = stratified_folds("made-up", "folds", graphs.y, 3) if len(graphs.y) > 1 else Folds(np.zeros(1, int))
        cell = Cell(
            paper="gcl",
            recipe="graph",
            dataset="digits-grid",
            split="folds-10",
            variant=settings.get("method", "v"),  # rows without an encoder are controls by this name
            axes={},
            settings=SETTINGS | settings,
            scale="demo",
            protocol="p v1",
            seeds=(0,),
        )
        folder = tmp_path / f"{cell.identity}-{seed}"
        context = Context(cell, seed, CARD, tmp_path, folder, torch.device("cpu"), "test")
        monkeypatch.setattr(Context, "data", lambda self: (graphs, folds))
        return cell, context

    return start


def experiment(cell: Cell, context: Context) -> Graph:
    return Graph(GraphSettings.parse(cell.settings, "gcl/graph"), context)


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize("method", list(LEARNERS))
def test_every_method_runs_with_every_half_and_can_be_evaluated_alone(method, loss, start):
    cell, context = start(method=method, loss=loss)
    measured = measure(graph, cell, context)
    assert all(np.isfinite(value) for value in measured.metrics.values())
    assert 0 <= measured.metrics["svm_accuracy"] <= 100
    assert evaluate(graph, cell, context).metrics == measured.metrics
    assert len(context.curve.read_text().splitlines()) == 2


@pytest.mark.parametrize("method", list(LEARNERS))
def test_the_same_seed_gives_the_same_curve_and_another_does_not(method, start, tmp_path):
    curves = []
    for seed, place in ((0, "a"), (0, "b"), (1, "c")):
        cell, context = start(method=method, seed=seed)
        context.folder = tmp_path / place
        context.folder.mkdir()
        context.curve = context.folder / "curve.jsonl"
        measure(graph, cell, context)
        curves.append(context.curve.read_text())
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("method", list(LEARNERS))
def test_one_step_lowers_the_loss_on_a_fixed_batch(method, start):
    learner, loss = fixed_batch(graph, *start(method=method))
    before = loss()
    before.backward()
    trained = [p for p in learner.parameters() if p.grad is not None and p.grad.any()]
    size = sum(p.grad.square().sum() for p in trained).sqrt()
    with torch.no_grad():
        for parameter in trained:
            parameter -= 1e-3 * parameter.grad / size
    assert loss().item() < before.item()


@pytest.mark.parametrize("method", list(LEARNERS))
def test_graphs_without_edges_isolated_nodes_and_loops_are_digested(method, start, graph_set):
    measured = measure(graph, *start(graph_set(hard=True), method=method))
    assert all(np.isfinite(value) for value in measured.metrics.values())


@pytest.mark.parametrize("method", list(LEARNERS))
def test_a_last_batch_of_one_graph_joins_the_one_before(method, start, graph_set):
    cell, context = start(graph_set(25), method=method)
    assert np.isfinite(measure(graph, cell, context).metrics["svm_accuracy"])


def test_a_set_of_one_graph_is_refused_in_one_line(start, graph_set):
    with pytest.raises(ValueError, match="contrasting graphs needs two of them, this set has 1"):
        measure(graph, *start(graph_set(1)))


def test_without_training_the_weights_are_the_first_ones(start):
    cell, context = start(trained=False)
    measure(graph, cell, context)
    learner = experiment(cell, context).model
    kept = context.load_weights("encoder")
    assert all(torch.equal(kept[name], value) for name, value in learner.encoder.state_dict().items())
    assert not context.curve.exists()


def test_training_separates_rings_from_stars(start, graph_set):
    cell, context = start(graph_set(40), method="infograph", epochs=20)
    assert measure(graph, cell, context).metrics["svm_standardised_accuracy"] > 95


def test_controls_need_no_encoder(start, graph_set):
    majority = measure(graph, *start(graph_set(30), method="majority")).metrics
    assert majority["svm_accuracy"] == majority["svm_standardised_accuracy"] == pytest.approx(50, abs=10)
    cell, context = start(graph_set(30), method="raw-features")
    sums = measure(graph, cell, context).metrics
    assert sums["svm_standardised_accuracy"] > 90  # degrees tell rings from stars
    assert evaluate(graph, cell, context).metrics == sums
    unlabelled = graph_set(30, labels=False)
    rows = ("labels-and-degrees", "raw-features")
    counts, sizes = (measure(graph, *start(unlabelled, method=row)).metrics["svm_accuracy"] for row in rows)
    assert counts == 100 > sizes


def test_rows_share_the_divisions_of_their_seed(start):
    rows = [experiment(*start(**change)).task.divisions for change in ({}, {"method": "infograph", "hidden": 8})]
    assert np.array_equal(*rows)
    assert not np.array_equal(rows[0], experiment(*start(seed=1)).task.divisions)


def test_joao_has_a_new_order_in_each_epoch(start, monkeypatch):
    orders = []
    cut = graph.batches
    monkeypatch.setattr(graph, "batches", lambda *parts: orders.append(parts[1].tolist()) or cut(*parts))
    experiment(*start(method="joao", epochs=3)).train()
    assert len(orders) == 3 * (1 + 5)  # its own, and one for each augmentation's loss
    assert len(set(map(tuple, orders))) == len(orders)


def test_the_rows_beside_linear_svc_are_those_of_the_graph_table():
    card, datasets = load_papers(ROOT)["gcl"], load_datasets(ROOT)
    table, beside = (recipe_cells("gcl", card.recipe(name), datasets, "full") for name in ("graph", "graph-linear-svc"))
    asked = {(cell.dataset, cell.variant): cell.settings for cell in table}
    changed = {"svm_divisions": 1, "linear_svc": True}
    assert len(beside) == 8
    assert all(cell.settings == asked[cell.dataset, cell.variant] | changed for cell in beside)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "graphlc"}, "setting 'method' is 'graphlc': Input should be 'graphcl', 'infograph'"),
        ({"encoder": "gnn"}, "setting 'encoder' is 'gnn': Input should be 'gin' or 'mlp'"),
    ],
)
def test_unknown_names_are_one_line(settings, message, start):
    with pytest.raises(CardError, match=message):
        measure(graph, *start(**settings))
    assert "majority" in Graph.controls


def test_a_loss_that_is_no_number_stops_the_run(start, monkeypatch):
    monkeypatch.setattr(GraphCL, "loss", lambda learner, _: sum(p.sum() for p in learner.parameters()) * np.nan)
    with pytest.raises(Diverged, match="loss is nan at epoch 1"):
        measure(graph, *start())


def test_collab_joins_the_full_table_once_it_has_a_card():
    recipe, cards = load_papers(ROOT)["gcl"].recipe("graph"), load_datasets(ROOT)
    cards.pop("collab", None)
    before = recipe_cells("gcl", recipe, cards, "full")
    made = cards | {"collab": cards["imdb-multi"].model_copy(update={"name": "collab"})}
    after = recipe_cells("gcl", recipe, made, "full")
    assert [cell for cell in after if cell.dataset != "collab"] == before
    assert {cell.variant for cell in after if cell.dataset == "collab"} == set(recipe.variants)


def test_a_variant_may_be_tuned_per_data_set():
    hyper = {name: Hyper(value=value, source="ours") for name, value in (("lr", 0.1), ("tau", 1.0))}
    variant = Variant(label="x", settings={"lr": 0.2}, by_dataset={"mutag": {"lr": 0.3}})
    fields = {
        "name": "graph",
        "title": "t",
        "task": "t",
        "protocol": {"name": "p", "version": 1, "description": "d", "spread": "seeds"},
        "metric": "m",
        "unit": "%",
        "variants": {"x": variant},
        "hyper": hyper,
        "scales": {"full": {"datasets": {"mutag": "folds-10", "ptc-mr": "folds-10"}, "seeds": 1, "cost": "c"}},
    }
    cells = recipe_cells("gcl", Recipe.model_validate(fields), load_datasets(ROOT), "full")
    assert [(cell.dataset, cell.settings) for cell in cells] == [
        ("mutag", {"lr": 0.3, "tau": 1.0}),
        ("ptc-mr", {"lr": 0.2, "tau": 1.0}),
    ]
    stray = fields | {"variants": {"x": Variant(label="x", by_dataset={"mutga": {"lr": 0.3}})}}
    with pytest.raises(ValueError, match=r"'x' tunes \['mutga'\], data sets that no scale runs"):
        Recipe.model_validate(stray)
