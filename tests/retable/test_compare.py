"""Sides and intervals; with measured cells: tests/retable/test_whatif.py."""

from scipy.stats import t as student

from retable.compare import _difference, _differing
from retable.significance import gap_of_order


def test_the_interval_is_that_of_the_tests_and_pairs_equal_seeds(world) -> None:
    cell, other = world.cell("plain", depth=2), world.cell("plain", depth=4)
    a = {r.seed: r for r in world.measure(cell, [80.0, 82.0, 81.0])}
    b = {r.seed: r for r in world.measure(other, [70.0, 75.0, 71.0])}
    text = _difference(a, b, "accuracy")
    gap = gap_of_order({0: 70.0, 1: 75.0, 2: 71.0}, {0: 80.0, 1: 82.0, 2: 81.0}, 0.0, False)
    half = student.ppf(0.975, 2) * gap.error
    assert f"B - A = -9, 95 % interval {-9 - half:+.4g} to {-9 + half:+.4g}" in text
    assert "A 81 ± 1 (n = 3), B 72 ± 2.6 (n = 3)" in text
    assert "paired" not in text
    later = {r.seed: r for r in world.measure(cell, [80.5, 82.4, 81.6], commit="1" * 40)}
    assert "paired by seeds" in _difference(a, later, "accuracy")
    assert ("commit", "none", "111111111111") in list(_differing(list(a.values()), list(later.values())))
    assert "equal to the last bit" in _difference(a, a, "accuracy")
    assert "too few seeds" in _difference({0: a[0]}, {0: b[0]}, "accuracy")


def test_what_differs_is_told_by_name(world) -> None:
    a = world.measure(world.cell("plain", depth=2), [80.0])
    b = world.measure(world.cell("plain", depth=4), [80.0], source_sha256="d" * 64, environment={"torch": "3"})
    assert list(_differing(a, b)) == [
        ("setting depth", "2", "4"),
        ("code", "a" * 12, "d" * 12),
        ("torch", "2.14.1", "3"),
    ]
