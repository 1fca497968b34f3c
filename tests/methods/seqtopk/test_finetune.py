import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.seqtopk import patch
from methods.seqtopk.finetune import TINY, FineTune, make_model, target_loss
from retable.cards import CardError
from retable.config import Config, Workspace
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.sentence_batches import IGNORED, PromptBatches
from retable.data.sentence_sets import SentenceSet
from retable.data.tokenizers import Bytes
from retable.plan import recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, run_cell
from retable.train.precision import autocast

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
ROWS = SentenceSet(
    "gsm8k",
    {
        "question": ("Two and two?", "A longer question: three times five is how many?"),
        "answer": ("2+2=<<2+2=4>>4\n#### 4", "#### 15"),
    },
    None,
    (),
    {},
)


def problems() -> PromptBatches:
    return PromptBatches({index: FineTune.texts(ROWS, index) for index in range(2)}, Bytes(), 200, CPU)


def test_the_model_is_asked_and_adds_the_answer_after_a_space():
    assert FineTune.texts(ROWS, 1) == (
        "Answer the following question.\n\nA longer question: three times five is how many?\n\nAnswer:",
        " #### 15",
    )


def test_the_loss_is_the_sum_over_the_answers_tokens():
    torch.manual_seed(0)
    model = make_model(TINY).eval()
    tokens, mask, targets = problems().batch(np.array([0, 1]))
    p = model(input_ids=tokens, attention_mask=mask).logits.log_softmax(-1)
    expected = sum(
        -p[row, column - 1, targets[row, column]]
        for row in range(2)
        for column in range(targets.shape[1])
        if targets[row, column] != IGNORED
    )
    torch.testing.assert_close(target_loss(model, tokens, mask, targets), expected)
    alone = [target_loss(model, *problems().batch(np.array([place]))) for place in (0, 1)]
    torch.testing.assert_close(sum(alone), expected, atol=1e-3, rtol=1e-5)  # padding changes nothing


def test_a_step_in_bfloat16_with_checkpointing_as_on_a_gpu_lowers_the_loss():
    torch.manual_seed(0)
    model = make_model(TINY).train()
    model.activation_checkpointing_enable()
    patch(model)
    batch = problems().batch(np.array([0, 1]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        with autocast(CPU, "bfloat16"):
            loss = target_loss(model, *batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_what_is_missing_or_unknown_is_said_in_one_line(monkeypatch):
    monkeypatch.delenv("RETABLE_WEIGHTS", raising=False)
    with pytest.raises(DataError, match=r"no pretrained weights of OLMoE-1B-7B-0125: set RETABLE_WEIGHTS"):
        make_model("OLMoE-1B-7B-0125")
    with pytest.raises(CardError, match="unknown backbone 'olmoe'"):
        make_model("olmoe")


def test_full_cells_ask_for_pretrained_weights_only():
    workspace = Workspace(ROOT, Config())
    for recipe, number in (("finetune", 9), ("finetune-qwen", 2)):
        cells = recipe_cells("seqtopk", workspace.papers["seqtopk"].recipe(recipe), workspace.datasets, "full")
        assert len(cells) == number
        assert not any("tiny" in str(cell.settings["backbone"]) + cell.variant for cell in cells)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name in ("methods", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "datasets").mkdir()  # the real one would receive the files
    for card in (ROOT / "datasets").glob("*.yaml"):
        (tmp_path / "datasets" / card.name).symlink_to(card)
    return Workspace(tmp_path, Config(device="cpu"))


@pytest.mark.mirror
@pytest.mark.parametrize("variant", ["tiny-topk", "tiny-seqtopk"])
def test_the_reduced_recipe_runs_on_real_problems_and_evaluates_alone(variant, mirror, workspace):
    recipe = workspace.papers["seqtopk"].recipe("finetune")
    (cell,) = [
        cell for cell in recipe_cells("seqtopk", recipe, workspace.datasets, "reduced") if cell.variant == variant
    ]
    short = {"epochs": 1, "max_length": 160, "new_tokens": 4}
    cell = dataclasses.replace(cell, seeds=(0,), settings=cell.settings | short)
    fetch(workspace.datasets["gsm8k"], workspace.raw, str(mirror))
    folder = run_cell(workspace, cell).folder
    record = read_record(folder / "seed-0.json")
    assert record.state == "ok", record.error
    assert record.metrics["experts_used"] == pytest.approx(2, abs=0 if variant == "tiny-topk" else 0.2)
    if variant == "tiny-topk":
        assert record.metrics["online_nll"] == record.metrics["offline_nll"]
    assert evaluate_cell(workspace, cell, 0).metrics == record.metrics
