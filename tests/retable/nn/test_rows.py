import torch

from retable.nn.rows import normalize_rows


def test_rows_get_length_one_and_zero_rows_stay_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(normalize_rows(x), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert normalize_rows(x[None]).shape == (1, 2, 2)
