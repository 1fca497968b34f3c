"""What is counted, on texts small enough to check by hand."""

import numpy as np
import pytest
import torch

from methods.seqtopk.model import MoELM
from methods.seqtopk.tasks import loss, majority, measure
from retable.data.text_batches import TextBatches
from retable.data.text_sets import TextSet, TextSplit

CPU = torch.device("cpu")


def sequences() -> TextBatches:
    rows = [b"ab" * 3 + bytes([97 + number % 3]) for number in range(12)]
    split = TextSplit((0, 56), (56, 56), (56, 84))
    return TextBatches(TextSet("rows", np.frombuffer(b"".join(rows), np.uint8), 7, b"c", {}), split, 99, 100, CPU)


def test_the_control_answers_with_shares_and_among_answers_for_answers():
    task = sequences()
    metrics = majority(task)
    assert metrics["hard_accuracy"] == 100
    assert metrics["hard_nll"] == pytest.approx(0.0)
    assert metrics["hard_largest_class_share"] == 100
    assert metrics["hard_test_items"] == int((task.rows[:, 1:] == 2).sum())
    assert metrics["nll"] > 0.5


def test_measures_are_the_losses_of_the_rows_and_leave_the_mode_alone():
    torch.manual_seed(0)
    task = sequences()
    model = MoELM(task.symbols, 6, d=8, heads=2, experts=4, width=4, K=2).train()
    metrics, masks = measure(model, task, causal=False)
    assert model.training
    with torch.no_grad():
        assert metrics["nll"] == pytest.approx(loss(model(task.rows[:, :-1]), task.rows).item(), rel=1e-5)
    assert metrics["experts_used"] == 2
    assert masks[0].shape == (4, 6, 4)
    assert 0 <= metrics["hard_accuracy"] <= 100
    # The only answer is one symbol: the share of it among the answers is the accuracy, unless another is given more.
    assert metrics["hard_largest_class_share"] >= max(metrics["hard_accuracy"], 100 / task.symbols)
    assert metrics["hard_test_items"] == int((task.rows[:, 1:] == 2).sum())
    assert metrics["experts_on_hard"] == pytest.approx(
        torch.stack(masks).sum(-1).double()[:, task.rows[:, 1:] == 2].mean().item()
    )
