import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.seqtopk import patch
from methods.seqtopk.finetune import (
    IGNORED,
    TINY,
    Bytes,
    Problems,
    final_number,
    lr_factor,
    make_model,
    precision,
    target_loss,
)
from retable.cards import CardError
from retable.config import Config, Workspace
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.plan import recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, run_cell

ROOT = Path(__file__).resolve().parents[3]
ROWS = SentenceSet(
    "gsm8k",
    {
        "question": ("Two and two?", "A longer question: three times five is how many?", "One?"),
        "answer": ("2+2=<<2+2=4>>4\n#### 4", "#### 15", "#### 1,000"),
    },
    None,
    (),
    {},
)
SPLIT = SentenceSplit(np.array([0, 1]), np.arange(0), np.array([2]))
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2+2=<<2+2=4>>4\n#### 4", "4"),
        ("It costs $1,234,567 in all.", "1234567"),
        ("-3.5 degrees", "-3.5"),
        ("The answer is 18.", "18"),
        ("no number", ""),
    ],
)
def test_an_answer_is_its_last_number(text, number):
    assert final_number(text) == number


def test_bytes_come_back_and_marks_do_not():
    tokens = Bytes().encode("naïve 7")
    assert min(tokens) > Bytes.end
    assert Bytes().decode([Bytes.pad, *tokens, Bytes.end, Bytes.pad]) == "naïve 7"


def test_answers_begin_in_the_column_where_prompts_end():
    problems = Problems(ROWS, SPLIT, TINY, 200, CPU)
    tokens, mask, targets = problems.batch(np.array([0, 1]))
    left = problems.columns(np.array([0, 1]))
    assert (targets[:, :left] == IGNORED).all()
    assert (targets[:, left] != IGNORED).all()
    for row, answer in enumerate((" 2+2=<<2+2=4>>4\n#### 4", " #### 15")):
        kept = targets[row][targets[row] != IGNORED].tolist()
        assert problems.tokenizer.decode(kept) == answer
        assert kept[-1] == Bytes.end
        prompt = tokens[row, :left][mask[row, :left].bool()].tolist()
        assert problems.tokenizer.decode(prompt).endswith(ROWS.columns["question"][row] + "\n\nAnswer:")
    alone, alone_mask, none = problems.batch(np.array([0, 1]), answers=False)
    assert torch.equal(alone, tokens[:, :left])
    assert torch.equal(alone_mask, mask[:, :left])
    assert (none == IGNORED).all()


def test_overlong_rows_are_cut_and_keep_a_target():
    problems = Problems(ROWS, SPLIT, TINY, 20, CPU)
    tokens, _, targets = problems.batch(np.array([0, 1]))
    assert tokens.shape[1] == 21
    assert ((targets != IGNORED).sum(1) == 1).all()


def test_the_loss_is_the_sum_over_the_answers_tokens():
    torch.manual_seed(0)
    problems = Problems(ROWS, SPLIT, TINY, 200, CPU)
    model = make_model(TINY).eval()
    tokens, mask, targets = problems.batch(np.array([0, 1]))
    p = model(input_ids=tokens, attention_mask=mask).logits.log_softmax(-1)
    expected = sum(
        -p[row, column - 1, targets[row, column]]
        for row in range(2)
        for column in range(targets.shape[1])
        if targets[row, column] != IGNORED
    )
    torch.testing.assert_close(target_loss(model, tokens, mask, targets), expected)
    alone = [target_loss(model, *problems.batch(np.array([place]))) for place in (0, 1)]
    torch.testing.assert_close(sum(alone), expected, atol=1e-3, rtol=1e-5)  # padding changes nothing


def test_the_rate_rises_and_falls_to_nothing():
    for schedule in ("linear", "cosine"):
        rates = [lr_factor(step, 100, 0.1, schedule) for step in range(101)]
        assert rates[0] == pytest.approx(0.1)
        assert rates[9] == rates[10] == 1
        assert rates[100] == pytest.approx(0)
        assert rates[10:] == sorted(rates[10:], reverse=True)
    assert lr_factor(55, 100, 0.1, "linear") == pytest.approx(0.5)


def test_a_step_in_bfloat16_with_checkpointing_as_on_a_gpu_lowers_the_loss():
    torch.manual_seed(0)
    problems = Problems(ROWS, SPLIT, TINY, 200, CPU)
    model = make_model(TINY).train()
    model.activation_checkpointing_enable()
    patch(model)
    batch = problems.batch(np.array([0, 1]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        with precision("bfloat16", CPU):
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
