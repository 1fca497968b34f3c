"""The story's parts: schedule, routers' losses, fine-tuning from the pretrained weights."""

import dataclasses
from pathlib import Path

import pytest
import torch

from methods.seqtopk.model import MoELM
from methods.seqtopk.run import FIRST_L1_WEIGHT, Router
from retable.cards import load_dataset, load_paper
from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.records import read_record
from retable.run import run_cell

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())


def cells(recipe: str) -> dict[str, Cell]:
    card = load_paper(ROOT / "methods" / "seqtopk" / "card.yaml").recipe(recipe)
    datasets = {"facts-64": load_dataset(ROOT / "datasets" / "facts-64.yaml")}
    return {cell.variant: cell for cell in recipe_cells("seqtopk", card, datasets, "demo")}


def measured(cell: Cell, folder: Path, **settings) -> dict[str, float]:
    for name in ("methods", "datasets", "retable"):
        (folder / name).symlink_to(ROOT / name)
    cell = dataclasses.replace(cell, settings=cell.settings | settings, seeds=(0,))
    record = read_record(run_cell(Workspace(folder, Config(device="cpu")), cell).folder / "seed-0.json")
    assert record.state == "ok", record.error
    return record.metrics


def small_model(router: str = "topk", K: int = 2) -> MoELM:
    torch.manual_seed(0)
    return MoELM(5, 6, d=8, heads=2, experts=8, width=4, K=K, router=router)


def variant(name: str, K: int) -> Router:
    return Router(name, K, lower=1, extra=2, balance=0.01)


def test_mrl_trains_nested_budgets_and_ends_at_its_own():
    model, rows = small_model(K=4), torch.randint(5, (3, 7))
    router = variant("mrl", 4)
    router.install(model)
    value = router.loss(model, rows)
    assert {layer.K for layer in model.moe_layers()} == {4}
    each = []
    for K in (1, 2, 4):
        single = variant("topk", K)
        single.install(model)
        each.append(single.loss(model, rows))
    torch.testing.assert_close(value, torch.stack(each).mean())


def test_remoes_penalty_rises_while_too_many_experts_run_and_is_part_of_a_saved_state():
    model = small_model("relu")
    router = variant("relu", 2)
    router.loss(model, torch.randint(5, (3, 7)))
    used = router.after_step(model)
    assert used > 2
    assert router.l1_weight == pytest.approx(1.2 * FIRST_L1_WEIGHT)
    other = variant("relu", 2)
    other.load_state_dict(router.state_dict())
    assert other.l1_weight == router.l1_weight


def test_dense_means_all_experts():
    model = small_model()
    router = variant("dense", 8)
    router.install(model)
    router.loss(model, torch.randint(5, (3, 7)))
    assert router.after_step(model) == 8


def test_fine_tuning_starts_from_the_same_topk_model_for_all_routers(tmp_path):
    found = {}
    for name in ("topk", "seqtopk", "batchtopk"):
        (tmp_path / name).mkdir()
        found[name] = measured(cells("facts-finetune")[name], tmp_path / name, epochs=1, pretraining_epochs=2)
    # By causal routing SeqTopK and BatchTopK are one rule, so that untuned they are one model.
    assert found["seqtopk"]["untuned_nll"] == found["batchtopk"]["untuned_nll"]
    assert found["seqtopk"]["untuned_offline_nll"] != found["batchtopk"]["untuned_offline_nll"]
    assert found["topk"]["untuned_nll"] == found["topk"]["untuned_offline_nll"] != found["seqtopk"]["untuned_nll"]
    assert found["topk"]["experts_used"] == 2


def test_at_k_1_bounded_seqtopk_is_topk_to_the_last_bit(tmp_path):
    found = []
    for name in ("topk", "seqtopk", "threshold"):
        (tmp_path / name).mkdir()
        found.append(measured(cells("facts")[name], tmp_path / name, epochs=2, k=1))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_a_trained_model_knows_facts_by_heart(tmp_path):
    metrics = measured(cells("facts")["seqtopk"], tmp_path, epochs=60)
    assert metrics["hard_accuracy"] > 90
    assert metrics["offline_experts_used"] == 2
    assert metrics["experts_on_hard"] > 2
