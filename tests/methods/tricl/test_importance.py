import pytest
import torch
from scipy.optimize import linear_sum_assignment

from methods.tricl.importance import agreement, importance_order, purity, second_moment, selected, spread


def features(rows: int = 50, columns: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_order_is_descending_and_ties_keep_their_columns() -> None:
    assert importance_order(torch.tensor([0.2, 0.9, 0.2, 0.5])).tolist() == [1, 3, 0, 2]


def test_parts_of_the_order_are_the_papers_ranks() -> None:
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    columns = torch.arange(256)[None].double()
    for which, ranks in (("first", (1, 20)), ("middle", (119, 138)), ("last", (237, 256))):
        assert selected(columns, order, which, 20)[0].tolist() == order[ranks[0] - 1 : ranks[1]].tolist()


@pytest.mark.parametrize(("dims", "start"), [(512, 237), (8, 3)])
def test_middle_ranks_of_other_sizes(dims: int, start: int) -> None:
    k = 40 if dims == 512 else 4
    ranks = selected(torch.arange(dims)[None], torch.arange(dims), "middle", k)[0] + 1
    assert (ranks[0], ranks[-1]) == (start, start + k - 1)


def test_spread_counts_equal_features() -> None:
    even = spread(torch.ones(20))
    assert float(even.effective_number) == pytest.approx(20)
    assert float(even.share_of_top_tenth) == pytest.approx(0.1)
    single = spread(torch.tensor([1.0] + [0.0] * 19))
    assert float(single.effective_number) == pytest.approx(1)
    assert float(single.share_of_top_tenth) == pytest.approx(1)


def test_purity_follows_the_order_and_knows_pure_features() -> None:
    labels = torch.arange(40) % 4
    z = torch.stack([(labels == 2).double(), torch.arange(40).double()], dim=1)
    assert purity(z, labels, torch.tensor([0, 1]), 10).tolist() == [1.0, 0.3]
    assert purity(z, labels, torch.tensor([1, 0]), 10).tolist() == [0.3, 1.0]


def test_second_moment_is_that_of_columns() -> None:
    z = features()
    torch.testing.assert_close(second_moment(z), torch.stack([column @ column / len(z) for column in z.T]))


def test_agreement_forgives_signs_lengths_and_when_matched_the_order() -> None:
    z = features()
    changed = z * torch.tensor([1.0, -2, 3, -1, 0.1, 5]).double() + 7
    same = agreement(z, changed)
    assert float(same.at_equal_ranks) == pytest.approx(1)
    moved = agreement(z, changed[:, [1, 0, 2, 5, 3, 4]])
    assert float(moved.at_equal_ranks) < 0.6
    assert float(moved.matched) == pytest.approx(1)


def test_agreement_is_the_mean_correlation() -> None:
    z, other = features(), features(seed=1)
    table = torch.corrcoef(torch.cat([z, other], dim=1).T)[:6, 6:].abs()
    found = agreement(z, other)
    assert float(found.at_equal_ranks) == pytest.approx(float(table.diagonal().mean()))
    rows, columns = linear_sum_assignment(-table.numpy())
    assert float(found.matched) == pytest.approx(float(table.numpy()[rows, columns].mean()))
    assert found.matched >= found.at_equal_ranks


def test_constant_features_agree_with_nothing() -> None:
    z = features()
    z[:, 0] = 3.0
    assert float(agreement(z[:, :1], z[:, :1]).at_equal_ranks) == 0.0


def test_bad_input_is_named() -> None:
    z, order = features(), torch.arange(6)
    with pytest.raises(ValueError, match="7 of 6 features were asked for; choose 1 to 6"):
        selected(z, order, "first", 7)
    with pytest.raises(ValueError, match="unknown part of the order 'top'; valid: first, middle, last"):
        selected(z, order, "top", 2)
    with pytest.raises(ValueError, match="purity of the 51 largest of 50 samples"):
        purity(z, torch.zeros(50, dtype=torch.int64), order, 51)
    with pytest.raises(ValueError, match=r"two \(N, r\) of the same samples"):
        agreement(z, z[:, :3])
