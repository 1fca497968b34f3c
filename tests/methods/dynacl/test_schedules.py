import itertools

import pytest
import torch

from methods.dynacl.schedules import Augmentation, adversarial_weight, augmentation_strength, schedule_weighted


@pytest.mark.parametrize(("epochs", "period"), [(1000, 50), (20, 1), (10, 3), (7, 7)])
def test_strength_falls_from_one_in_plateaus_and_never_reaches_zero(epochs, period):
    s = [augmentation_strength(e, epochs, period) for e in range(1, epochs + 1)]
    assert s[0] == 1
    assert all(a >= b > 0 for a, b in itertools.pairwise(s))
    assert len(set(s)) == -(-epochs // period)
    assert all(len(set(s[start : start + period])) == 1 for start in range(0, epochs, period))


def test_the_papers_values():
    assert augmentation_strength(50, 1000, 50) == 1
    assert augmentation_strength(51, 1000, 50) == pytest.approx(0.95)
    assert augmentation_strength(1000, 1000, 50) == pytest.approx(0.05)
    assert adversarial_weight(49, 1000, 50, 2 / 3) == 1
    assert adversarial_weight(1000, 1000, 50, 2 / 3) == pytest.approx(5 / 3)


def test_the_codes_weight_moves_one_epoch_before_the_strength_does():
    code = [adversarial_weight(e, 100, 10, 0.5) for e in range(1, 100)]
    other = [adversarial_weight(e + 1, 100, 10, 0.5, "one-minus-strength") for e in range(1, 100)]
    assert code == pytest.approx(other)


def test_weight_stays_within_its_bounds():
    weights = [adversarial_weight(e, 4, 1, 1.0) for e in range(1, 5)]
    assert weights == [1.25, 1.5, 1.75, 2.0]
    for rule in ("code", "one-minus-strength"):
        assert max(adversarial_weight(e, 4, 1, 3.0, rule) for e in range(1, 5)) == 2


def test_a_period_longer_than_training_changes_nothing_which_is_acl():
    assert [augmentation_strength(e, 5, 50) for e in range(1, 6)] == [1] * 5
    assert [adversarial_weight(e, 5, 50, 2 / 3) for e in range(1, 6)] == [1] * 5


def test_weights_move_the_loss_from_clean_to_adversarial():
    clean, adversarial = torch.tensor(3.0), torch.tensor(5.0)
    assert [float(schedule_weighted(clean, adversarial, w)) for w in (0, 1, 2)] == [3, 4, 5]


def test_augmentation_shrinks_to_nothing():
    none, full = Augmentation.of_strength(0.0), Augmentation.of_strength(1.0)
    assert (none.smallest_crop, none.jitter_probability, none.grayscale_probability) == (1, 0, 0)
    assert full.smallest_crop == pytest.approx(0.1)
    assert none.flip_probability == full.flip_probability == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augmentation_strength(0, 10, 1), "epoch is 0"),
        (lambda: augmentation_strength(11, 10, 1), "epoch is 11"),
        (lambda: augmentation_strength(1, 10, 0), r"period \(K\) is 0"),
        (lambda: adversarial_weight(1, 10, 0, 0.5), r"period \(K\) is 0"),
        (lambda: adversarial_weight(1, 10, 1, -0.5), r"swap \(lambda\) is -0.5"),
        (lambda: Augmentation.of_strength(1.2), "strength is 1.2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
