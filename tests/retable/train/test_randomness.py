"""The numbers below are what published records were measured with: they may never change."""

from pathlib import Path

import pytest
import torch

from retable.cards import load_dataset
from retable.plan import Cell
from retable.train.context import Context
from retable.train.randomness import derive, seed_torch, start_epoch

WEIGHTS = [0.624100923538208, 0.03948312997817993]
SECOND_EPOCH_OF_SEED_1 = [0.7069987654685974, 0.3476935625076294]


@pytest.mark.parametrize(
    ("names", "number"),
    [
        ((0, "weights"), 8024434045395729576),
        ((3, "epoch", 7), 8292396594845999613),
        ((0,), 2510552039103545425),
    ],
)
def test_derived_numbers_are_pinned(names: tuple, number: int) -> None:
    assert derive(*names) == number


def test_streams_are_pinned_whatever_was_drawn_before() -> None:
    torch.rand(3)
    seed_torch(0, "weights")
    assert torch.rand(2).tolist() == WEIGHTS
    start_epoch(1, 2)
    assert torch.rand(2).tolist() == SECOND_EPOCH_OF_SEED_1
    seed_torch(0, "weights")
    assert torch.rand(2).tolist() == WEIGHTS


def test_a_context_draws_from_the_streams_of_its_seed(root: Path, tmp_path: Path) -> None:
    cell = Cell("toy", "walk", "digits-knn", "default", "plain", {}, {}, "demo", "last v1", (3,))
    card = load_dataset(root / "datasets" / "digits-knn.yaml")

    def context(seed: int) -> Context:
        return Context(cell, seed, card, tmp_path, tmp_path / f"seed-{seed}", torch.device("cpu"), "fingerprint")

    assert context(3).derive("epoch", 7) == 8292396594845999613
    context(0).seed_torch("weights")
    assert torch.rand(2).tolist() == WEIGHTS
    drawn = {epoch: torch.rand(2).tolist() for epoch in context(1).epochs(2)}
    assert drawn[2] == SECOND_EPOCH_OF_SEED_1
