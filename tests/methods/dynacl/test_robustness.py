import math

import pytest
import torch
from methods.dynacl.measure import PLACES, LearningCurve


@pytest.mark.parametrize("epochs", [1, 3, 6, 1000])
def test_the_curve_is_measured_once_at_each_place_and_complete_at_the_end(epochs):
    curve, calls = LearningCurve(), []
    curve.values.fill_(math.nan)
    for epoch in range(1, epochs + 1):
        curve.note(epoch, epochs, lambda: calls.append(1) or (2.0 * epoch, 1.0 * epoch))  # noqa: B023
    clean, attacked = curve.series().values()
    assert len(calls) == min(epochs, len(PLACES))
    assert clean[-1] == 2 * epochs
    assert all(a == 2 * b for a, b in zip(clean, attacked, strict=True))


def test_the_curve_is_part_of_a_saved_state():
    curve, other = LearningCurve(), LearningCurve()
    curve.note(1, 5, lambda: (30.0, 10.0))
    other.load_state_dict(curve.state_dict())
    assert torch.equal(curve.values, other.values)
    assert other.series()["probe_accuracy_by_epoch"][0] == 30
