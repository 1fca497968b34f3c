from pathlib import Path

import pytest
import torch

from retable.cards import load_dataset
from retable.plan import Cell
from retable.train import context as module
from retable.train.context import Context

ROOT = Path(__file__).resolve().parents[3]
CELL = Cell("toy", "walk", "digits-knn", "default", "plain", {}, {"epochs": 10}, "demo", "last v1", (0,))


class Clock:
    """A clock that stands still until it is told how long something took."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("saving", "saved"), [(0.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (10.0, [1, 5, 9])])
def test_saving_takes_a_tenth_of_the_time_at_most(
    saving: float, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, epochs = Clock(), []

    def save(folder: Path, step: int, state: dict) -> None:
        clock.now += saving
        epochs.append(step)

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "save_state", save)
    card = load_dataset(ROOT / "datasets" / "digits-knn.yaml")
    context = Context(CELL, 0, card, tmp_path, tmp_path / "state", torch.device("cpu"), "fingerprint")
    for _ in context.epochs(10, model=torch.nn.Linear(1, 1)):
        clock.now += 30.0
    assert epochs == saved
