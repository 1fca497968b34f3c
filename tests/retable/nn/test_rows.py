import torch

from retable.nn.rows import unit


def test_rows_get_length_one_and_zero_rows_stay_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert unit(x[None]).shape == (1, 2, 2)
