"""ogbn-arxiv's recipe on a small planted graph, from an archive in OGB's format to records."""

from pathlib import Path

import torch
from torch import nn

from methods.gcl import node_ogb
from methods.gcl.nodes.encoders import BatchNormGCN
from retable.cards import load_datasets, load_papers
from retable.plan import recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, fixed_batch, make_context, make_deterministic, run_cell

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())


def test_without_the_users_card_the_plan_leaves_it_out():
    recipe = load_papers(ROOT)["gcl"].recipe("node-ogb")
    cards = {name: card for name, card in load_datasets(ROOT).items() if name != "ogbn-arxiv"}
    assert recipe_cells("gcl", recipe, cards, "full") == []


def test_an_archive_of_ones_own_is_planned_run_and_evaluated_in_every_variant(arxiv):
    workspace, cells = arxiv
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


def test_one_step_lowers_the_loss_on_a_fixed_batch(arxiv):
    workspace, cells = arxiv
    make_deterministic(torch.device("cpu"))
    cell = cells["contrast"]
    learner, loss = fixed_batch(node_ogb, cell, make_context(workspace, cell, 0, torch.device("cpu")))
    before = loss()
    before.backward()
    size = sum(p.grad.square().sum() for p in learner.parameters()).sqrt()
    with torch.no_grad():
        for p in learner.parameters():
            p -= 0.01 * p.grad / size
    assert loss().item() < before.item()


def test_a_step_of_the_authors_network_at_its_full_size(arxiv):
    """Settings as the card gives them, on the small graph."""
    workspace, _ = arxiv
    recipe = workspace.papers["gcl"].recipe("node-ogb")
    cell = next(c for c in recipe_cells("gcl", recipe, workspace.datasets, "full") if c.variant == "contrast")
    assert (cell.settings["epochs"], cell.settings["tau"]) == (1500, 1.0)
    learner, loss = fixed_batch(node_ogb, cell, make_context(workspace, cell, 0, torch.device("cpu")))
    assert isinstance(learner.encoder, BatchNormGCN)
    assert [tuple(w.shape) for w in learner.encoder.weights] == [(8, 256), (256, 256), (256, 128)]
    assert {m.p for m in learner.modules() if isinstance(m, nn.Dropout)} == {0.5}
    optimiser = learner.optimiser()
    before = loss()
    before.backward()
    optimiser.step()
    assert torch.isfinite(before)
    assert loss().isfinite()
    assert learner.eval().embed().shape == (90, 128)
