import pytest
import torch

from methods.dynacl.losses import nt_xent, schedule_weighted


def slowly(z, t):
    """The loss row by row, as the formula reads."""
    terms = []
    for j in range(len(z)):
        s = torch.cosine_similarity(z[j], z, dim=1) / t
        others = torch.cat((s[:j], s[j + 1 :])).exp().sum()
        terms.append(-(s[j ^ 1].exp() / others).log())
    return torch.stack(terms).mean()


@pytest.mark.parametrize(("rows", "width", "t"), [(2, 3, 0.5), (12, 5, 0.5), (8, 16, 0.07)])
def test_equals_the_formula(rows, width, t):
    torch.manual_seed(0)
    z = torch.randn(rows, width, dtype=torch.float64, requires_grad=True)
    ours, theirs = nt_xent(z, t), slowly(z, t)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (ours, theirs)))


def test_does_not_depend_on_the_order_of_images_or_on_the_length_of_rows():
    torch.manual_seed(1)
    z = torch.randn(5, 2, 7, dtype=torch.float64)
    lengths = torch.rand(10, 1, dtype=torch.float64) + 0.1
    moved = z[torch.randperm(5)].flip(1)
    assert nt_xent(z.flatten(0, 1), 0.5).item() == pytest.approx(nt_xent(moved.flatten(0, 1) * lengths, 0.5).item())


def test_equal_views_far_from_others_cost_almost_nothing_and_swapped_ones_a_lot():
    views = torch.eye(4).repeat_interleave(2, 0)
    assert nt_xent(views, 0.05) < 1e-6
    assert nt_xent(views.roll(1, 0), 0.05) > 10


def test_finite_where_exponentials_overflow():
    assert nt_xent(torch.eye(4).repeat_interleave(2, 0), 0.005).isfinite()


@pytest.mark.parametrize(
    ("rows", "t", "message"), [(3, 0.5, "two rows for each image"), (0, 0.5, "two rows"), (4, 0.0, "above 0")]
)
def test_bad_input(rows, t, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(torch.ones(rows, 2), t)


def test_weights_move_the_loss_from_clean_to_adversarial():
    clean, adversarial = torch.tensor(3.0), torch.tensor(5.0)
    assert [float(schedule_weighted(clean, adversarial, w)) for w in (0, 1, 2)] == [3, 4, 5]
