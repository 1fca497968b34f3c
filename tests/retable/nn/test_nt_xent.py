"""The three forms of NT-Xent, each against its formula row by row, and against each other."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retable.nn.nt_xent import FLOOR, floored_terms, nt_xent_interleaved, nt_xent_stacked, other_view


def slowly(z: Tensor, t: float) -> Tensor:
    """The loss row by row, as the formula reads; partners lie next to each other."""
    terms = []
    for j in range(len(z)):
        s = torch.cosine_similarity(z[j], z, dim=1) / t
        others = torch.cat((s[:j], s[j + 1 :])).exp().sum()
        terms.append(-(s[j ^ 1].exp() / others).log())
    return torch.stack(terms).mean()


def stacked(z: Tensor) -> Tensor:
    """Interleaved views one after the other."""
    return torch.cat([z[0::2], z[1::2]])


@pytest.mark.parametrize(("rows", "width", "t"), [(2, 3, 0.5), (12, 5, 0.5), (8, 16, 0.07)])
def test_equals_the_formula(rows, width, t):
    torch.manual_seed(0)
    z = torch.randn(rows, width, dtype=torch.float64, requires_grad=True)
    u = F.normalize(stacked(z))
    theirs = slowly(z, t)
    for ours in (nt_xent_interleaved(z, t), nt_xent_stacked(u, u, t)):
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(*(torch.autograd.grad(x, z, retain_graph=True)[0] for x in (ours, theirs)))


def test_does_not_depend_on_the_order_of_images_or_on_the_length_of_rows():
    torch.manual_seed(1)
    z = torch.randn(5, 2, 7, dtype=torch.float64)
    lengths = torch.rand(10, 1, dtype=torch.float64) + 0.1
    moved = z[torch.randperm(5)].flip(1)
    losses = (nt_xent_interleaved(x, 0.5).item() for x in (z.flatten(0, 1), moved.flatten(0, 1) * lengths))
    assert next(losses) == pytest.approx(next(losses))


def test_equal_views_far_from_others_cost_almost_nothing_and_swapped_ones_a_lot():
    views = torch.eye(4).repeat_interleave(2, 0)
    assert nt_xent_interleaved(views, 0.05) < 1e-6
    assert nt_xent_interleaved(views.roll(1, 0), 0.05) > 10
    assert nt_xent_stacked(stacked(views), stacked(views), 0.05) < 1e-6


def test_finite_where_exponentials_overflow():
    views = torch.eye(4).repeat_interleave(2, 0)
    assert nt_xent_interleaved(views, 0.005).isfinite()
    assert nt_xent_stacked(stacked(views), stacked(views), 0.005).isfinite()


@pytest.mark.parametrize(
    ("rows", "t", "message"), [(3, 0.5, "two rows for each image"), (0, 0.5, "two rows"), (4, 0.0, "above 0")]
)
def test_bad_input(rows, t, message):
    with pytest.raises(ValueError, match=message):
        nt_xent_interleaved(torch.ones(rows, 2), t)


def test_ids_that_all_differ_name_the_other_views():
    q, z = torch.randn(2, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ids = torch.arange(5).repeat(2)
    torch.testing.assert_close(nt_xent_stacked(q, z, 0.3, ids), nt_xent_stacked(q, z, 0.3))
    assert torch.equal(ids[other_view(10, z.device)], ids)
    assert not (other_view(10, z.device) == torch.arange(10)).any()


def test_several_positives_are_summed_inside_the_logarithm():
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    ids = torch.tensor([0, 1, 0, 0, 1, 0])
    e = (z @ z.T / 0.7).exp() * (1 - torch.eye(6, dtype=z.dtype))
    expected = -((e * (ids[:, None] == ids)).sum(1) / e.sum(1)).log().mean()
    torch.testing.assert_close(nt_xent_stacked(z, z, 0.7, ids), expected)


def test_floored_terms_are_the_loss_where_no_cosine_is_below_the_floor():
    z = torch.rand(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 0.1
    pull, push = floored_terms(z, 0.5)
    torch.testing.assert_close(push - pull, nt_xent_interleaved(z, 0.5))


def test_a_floored_cosine_counts_as_the_floor_and_has_no_gradient():
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.1]], requires_grad=True)
    pull, _ = floored_terms(z, 0.5)
    assert pull.item() == pytest.approx(FLOOR / 0.5)
    (gradient,) = torch.autograd.grad(pull, z)
    assert not gradient.any()
