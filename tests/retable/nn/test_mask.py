import pytest
import torch

from retable.nn.mask import NeighbourMask

PAIRS = torch.tensor([[0, 1, 1, 3, 0], [0, 0, 2, 1, 0]])  # (0, 0) twice


def test_the_pairs_are_kept_once_and_as_a_dense_array() -> None:
    blocked = NeighbourMask(PAIRS, 4).dense()
    assert {tuple(pair) for pair in blocked.nonzero().tolist()} == {(0, 0), (1, 0), (1, 2), (3, 1)}


def test_symmetry_and_empty_rows_are_found_by_counting() -> None:
    directed = NeighbourMask(PAIRS, 4)
    assert not directed.symmetric
    assert not directed.empty.any()
    both = NeighbourMask(torch.cat([PAIRS, PAIRS.flip(0)], 1), 4)
    assert both.symmetric
    all_of_two = NeighbourMask(torch.stack([torch.full((4,), 2), torch.arange(4)]), 4)
    assert all_of_two.empty.tolist() == [False, False, True, False]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_blocks_put_together_are_the_dense_array(size: int) -> None:
    n = 11
    mask = NeighbourMask(torch.randint(n, (2, 40), generator=torch.Generator().manual_seed(0)), n)
    whole = torch.zeros(n, n, dtype=torch.bool)
    for (i, j), places in mask.in_blocks(size).items():
        part = whole[i * size : (i + 1) * size, j * size : (j + 1) * size]
        block = torch.zeros(part.numel(), dtype=torch.bool)
        block[places] = True
        part.copy_(block.view(part.shape))
    assert torch.equal(whole, mask.dense())


def test_pairs_of_another_shape_or_graph_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pairs of shape \(2, E\), got \(5, 2\)"):
        NeighbourMask(PAIRS.T, 4)
    with pytest.raises(ValueError, match=r"outside 0 \.\. 2"):
        NeighbourMask(PAIRS, 3)
