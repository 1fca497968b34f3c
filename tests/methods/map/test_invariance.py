"""What survives a permutation."""

import torch

from methods.map.invariance import survives


def test_columns_that_are_zero_in_both_are_left_out_and_others_must_be_equal() -> None:
    plain = torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, 0.0, -0.5, 0.0]])
    moved = torch.tensor([[1.0, 0.0, -0.5, 1.0], [0.0, 0.0, 0.5, 0.0]])
    assert survives(plain, moved, 1e-6).tolist() == [True, False, False]
