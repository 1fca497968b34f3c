"""Batches and windows, on texts small enough to check by hand."""

import numpy as np
import torch

from retable.data.text_batches import TextBatches
from retable.data.text_sets import TextSet, TextSplit

CPU = torch.device("cpu")


def running(size: int = 200) -> TextBatches:
    text = np.frombuffer((b"abcdefgh" * size)[:size], np.uint8)
    split = TextSplit((0, size // 2), (size // 2, size // 2), (size // 2, size))
    return TextBatches(TextSet("letters", text, 0, b"", {}), split, 9, 5, CPU)


def sequences() -> TextBatches:
    rows = [b"ab" * 3 + bytes([97 + number % 3]) for number in range(12)]
    split = TextSplit((0, 56), (56, 56), (56, 84))
    return TextBatches(TextSet("rows", np.frombuffer(b"".join(rows), np.uint8), 7, b"c", {}), split, 99, 100, CPU)


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
