import math

import pytest
import torch

from methods.dynacl.models import make_encoder
from methods.dynacl.robustness import CURVE_SHARES, LearningCurve, counted, representations


@pytest.mark.parametrize("epochs", [1, 3, 6, 1000])
def test_the_curve_is_measured_once_at_each_point_and_complete_at_the_end(epochs):
    curve, calls = LearningCurve(), []
    curve.values.fill_(math.nan)
    for epoch in range(1, epochs + 1):
        if curve.is_due(epoch, epochs):
            calls.append(epoch)
            curve.add(epoch, epochs, 2.0 * epoch, 1.0 * epoch)
    clean, attacked = curve.series().values()
    assert len(calls) == min(epochs, len(CURVE_SHARES))
    assert clean[-1] == 2 * epochs
    assert all(a == 2 * b for a, b in zip(clean, attacked, strict=True))


def test_the_curve_is_part_of_a_saved_state():
    curve, other = LearningCurve(), LearningCurve()
    curve.add(1, 5, 30.0, 10.0)
    other.load_state_dict(curve.state_dict())
    assert torch.equal(curve.values, other.values)
    assert other.series()["probe_accuracy_by_epoch"][0] == 30


def test_beside_an_accuracy_stand_the_largest_share_of_one_class_and_the_number_of_images():
    y = torch.tensor([0, 1, 1, 3])
    found = counted("pgd_accuracy", torch.tensor([1, 1, 1, 3]), y)
    assert found == {"pgd_accuracy": 75, "pgd_largest_class_share": 75, "pgd_test_items": 4}
    twice = counted("corruption_accuracy", torch.tensor([[1, 1, 1, 3], [1, 1, 1, 1]]), y)
    expected = {"corruption_accuracy": 62.5, "corruption_largest_class_share": 87.5, "corruption_test_items": 4}
    assert twice == expected


def test_representations_are_those_of_eval_mode():
    torch.manual_seed(0)
    x = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)
    encoder = make_encoder("tiny")
    encoder(x / 255, "clean")
    features = representations(encoder, x, "clean")
    assert encoder.training
    torch.testing.assert_close(features, encoder.eval()(x / 255, "clean").detach(), rtol=1e-4, atol=1e-5)
