"""Batches, windows and what is counted, on texts small enough to check by hand."""

import numpy as np
import pytest
import torch

from methods.seqtopk.model import MoELM
from methods.seqtopk.tasks import Task, loss, measure
from retable.data.text_sets import TextSet, TextSplit

CPU = torch.device("cpu")


def running(size: int = 200) -> Task:
    text = np.frombuffer((b"abcdefgh" * size)[:size], np.uint8)
    split = TextSplit((0, size // 2), (size // 2, size // 2), (size // 2, size))
    return Task(TextSet("letters", text, 0, b"", {}), split, 9, 5, CPU)


def sequences() -> Task:
    rows = [b"ab" * 3 + bytes([97 + number % 3]) for number in range(12)]
    split = TextSplit((0, 56), (56, 56), (56, 84))
    return Task(TextSet("rows", np.frombuffer(b"".join(rows), np.uint8), 7, b"c", {}), split, 99, 100, CPU)


def test_running_text_is_cut_anywhere_in_the_training_part():
    torch.manual_seed(0)
    task = running()
    rows = task.batch(64)
    assert rows.shape == (64, 10)
    assert ((rows[:, 1:] - rows[:, :-1]) % 8 == 1).all()
    assert len(rows[:, 0].unique()) == 8


def test_test_windows_are_evenly_spaced_and_do_not_overlap():
    task = running()
    assert task.rows.shape == (5, 10)
    assert torch.equal(task.rows[0], task.test[:10])
    assert torch.equal(task.rows[-1], task.test[90:])


def test_generated_sequences_stay_whole():
    task = sequences()
    assert task.rows.shape == (4, 7)
    assert torch.equal(task.batch(8)[:, :6], torch.tensor([0, 1] * 3).expand(8, 6))


def test_the_control_answers_with_shares_and_among_answers_for_answers():
    task = sequences()
    metrics = task.majority()
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
