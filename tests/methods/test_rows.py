"""Two rows of a recipe are two experiments: what the card tells them apart by changes the loss or its gradient.

Rows that no demo lists are asked too, at the demo's size. `SAME_STEP` has those that differ after the first step only.
"""

from collections import defaultdict
from pathlib import Path

import pytest
import torch

from retable.cards import load_papers
from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.run import make_context
from retable.settings import load_paper_module

ROOT = Path(__file__).resolve().parents[2]
# Settings that no step of the first phase reads.
LATER = {"dynacl": {"lp_aft"}, "lagnn": {"epochs"}, "umae": {"evaluation"}, "map": {"encoding"}}
SAME_STEP = {
    # A level starts at that of the first batch, which is the batch's own choice.
    ("seqtopk", "facts"): [{"batchtopk", "threshold"}],
    # The demo's start of the weights is the one that these rows ask for.
    ("lagnn", "nodes"): [{"lagcn", "lagcn-xavier"}, {"gcn", "gcn-xavier", "gcn-long"}],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def step_of(workspace: Workspace, cell: Cell) -> bytes:
    """The loss on the first batch, and the sum of its absolute gradients by parameter."""
    experiment = load_paper_module(cell.paper, workspace.experiment(cell)).EXPERIMENT
    context = make_context(workspace, cell, 0, torch.device("cpu"))
    made = experiment(experiment.settings_class.parse(cell.settings, "test"), context)
    loss_of = made.fixed_batch()
    context.seed_torch("the batch")
    loss = loss_of()
    loss.backward()
    sums = [p.grad.abs().sum() for p in made.model.parameters() if p.grad is not None]
    return torch.stack([loss.detach(), *sums]).double().numpy().tobytes()


@pytest.mark.parametrize("paper", sorted(load_papers(ROOT)))
def test_no_row_is_another_one_under_a_second_name(paper, tmp_path):
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    workspace = Workspace(tmp_path, Config(device="cpu"))
    for recipe in workspace.papers[paper].recipes:
        if "demo" not in recipe.scales:
            continue
        demo = recipe.scales["demo"].model_copy(update={"variants": None, "restrict": {}})
        whole = recipe.model_copy(update={"scales": {"demo": demo}})
        steps: dict[tuple[str, bytes], list[Cell]] = defaultdict(list)
        for cell in recipe_cells(paper, whole, workspace.datasets, "demo"):
            experiment = load_paper_module(paper, workspace.experiment(cell)).EXPERIMENT
            if cell.variant in experiment.controls or recipe.variants[cell.variant].control:
                continue
            if (paper, cell.settings.get("loss"), cell.settings.get("sample")) == ("gcl", "neighbours", 512):
                cell.settings["sample"] = 0  # that loss takes all nodes
            steps[cell.dataset, step_of(workspace, cell)].append(cell)
        for cells in steps.values():
            names = {cell.variant for cell in cells}
            if any(names <= expected for expected in SAME_STEP.get((paper, recipe.name), [])):
                continue
            differ = {key for key in cells[0].settings if len({repr(cell.settings.get(key)) for cell in cells}) > 1}
            assert len(cells) == 1 or differ & LATER.get(paper, set()), f"{recipe.name}: {sorted(names)} by {differ}"
