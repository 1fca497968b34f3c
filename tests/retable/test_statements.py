"""Headline statements: each state from parts whose truth is known, at each scale."""

import pytest

from retable.cards import PaperCard

CLOSE = [80.0, 80.1, 79.9, 80.05, 79.95]
HIGHER = [83.0, 83.2, 82.8, 83.1, 82.9]
LOWER = [77.0, 77.2, 76.8, 77.1, 76.9]
NOISY = [70.0, 91.0, 78.0, 86.0, 76.0]


def change_card(world, change):
    data = world.paper.model_dump()
    change(data)
    world.paper = PaperCard.model_validate(data)


def measure_ours(world, depth, values, scale="full"):
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", scale, depth=depth, s=s), values, validation=[s] * len(values))


def judged(world, at_2, at_4, *scales):
    """The statement "ours is better at any depth" by scale; plain has 80 %."""
    for depth, values in ((2, at_2), (4, at_4)):
        world.measure(world.cell("plain", depth=depth), CLOSE)
        if values:
            measure_ours(world, depth, values)
    return {verdict.scale: verdict for verdict in world.assess(*scales or ("full",)).statements}


def test_it_holds_if_every_part_does(world):
    verdict = judged(world, HIGHER, HIGHER)["full"]
    assert (verdict.state, verdict.note) == ("holds", "parts: 2 of 2 shown, each at 5 %")
    assert [part.finding for part in verdict.parts] == ["supported", "supported"]


def test_every_part_is_asked_at_5_percent_without_adjustment(world):
    """Two parts with a p of 0.042: neither survives Holm, together they show the statement."""
    above = [value + gap for value, gap in zip(CLOSE, [0.1, 2.4, 1.0, 2.6, 0.9], strict=True)]
    verdict = judged(world, above, above)["full"]
    assert all(0.025 < part.p_for < 0.05 < part.p for part in verdict.parts)
    assert verdict.state == "holds"
    assert [part.state for part in verdict.parts] == ["inconclusive"] * 2
    assert all("in its own family of 2 (Holm)" in part.note for part in verdict.parts)


@pytest.mark.parametrize("other", [LOWER, NOISY, []])
def test_it_holds_in_part_if_some_part_does(world, other):
    verdict = judged(world, HIGHER, other)["full"]
    assert verdict.state == "holds in part"
    assert len(verdict.of("supported")) == 1


def test_contradicted_parts_are_named(world):
    verdict = judged(world, HIGHER, LOWER)["full"]
    (part,) = verdict.of("contradicted")
    assert (part.name, part.axes) == ("depth/ours-over-plain", {"depth": 4})
    assert "1 contradicted" in verdict.note


@pytest.mark.parametrize("other", [LOWER, NOISY, []])
def test_it_is_reversed_if_a_part_is_contradicted_and_none_supported(world, other):
    assert judged(world, LOWER, other)["full"].state == "reversed"


def test_a_small_effect_is_adjusted_over_the_parts(world):
    """One part at 3 %, one-sided, beside an undecided one: in part is what Holm supports."""
    above = [value + gap for value, gap in zip(CLOSE, [0.1, 3.1, 1.0, 3.3, 0.6], strict=True)]
    assert judged(world, above, NOISY)["full"].state == "undecided"


@pytest.mark.parametrize("most", [None, 5])
def test_no_look_asks_for_more_seeds_than_the_protocol_has(world, most):
    """A number, an ordering and a statement alike: seeds beyond a fixed set of splits would repeat them."""
    change_card(world, lambda data: data["recipes"][0]["protocol"].update(most_seeds=most))
    world.claim("plain", 2, 80.0)
    spread = [78.0, 82.0, 80.5, 79.0, 80.0]
    world.measure(world.cell("plain", depth=2), spread)
    measure_ours(world, 2, [value + gap for value, gap in zip(spread, [2.0, -1.0, 2.5, 0.0, 1.0], strict=True)])
    found = world.assess()
    (number,) = found.values
    orders = [order for order in found.orderings if order.state == "inconclusive"]
    assert orders
    for verdict in (number, *orders, *found.statements):
        assert (verdict.look_two is None) == (most == 5), verdict
    if most:
        assert all("a look two of up to 5 seeds would not" in verdict.note for verdict in (number, *orders))
        assert all("up to 5 seeds would not decide every part" in verdict.note for verdict in found.statements)


def test_an_undecided_one_says_which_seeds_and_hours_would_decide(world):
    above = [value + gap for value, gap in zip(CLOSE, [0.1, 3.1, 1.0, 3.3, -0.6], strict=True)]
    verdict = judged(world, above, above)["full"]
    assert verdict.state == "undecided"
    assert verdict.look_two > 5
    # A seed of plain is one run of 1.5 s of the processor, one of ours two, at each of two depths.
    assert verdict.hours.processor == pytest.approx((verdict.look_two - 5) * 6 * 1.5 / 3600)
    assert f"look two at {verdict.look_two} seeds would decide what is measured, {verdict.hours} on" in verdict.note


def test_parts_that_were_not_run_are_not_measured(world):
    verdict = {v.scale: v for v in world.assess("full").statements}["full"]
    assert (verdict.state, verdict.note) == ("not measured", "2 not run")


def test_each_scale_has_its_own_verdict(world):
    world.measure(world.cell("plain", "demo", depth=2), [80.0, 80.1])
    measure_ours(world, 2, [83.0, 83.2], "demo")
    found = judged(world, LOWER, LOWER, "full", "demo")
    assert {scale: verdict.state for scale, verdict in found.items()} == {"full": "reversed", "demo": "holds"}


def test_a_part_that_a_scale_does_not_ask_keeps_the_statement_from_holding(world):
    def change(data):
        trend = {"id": "grows", "variant": "plain", "along": "depth", "direction": "rises", "source": "T1"}
        data["recipes"][0]["trends"] = [trend]
        data["statements"][0]["parts"].append("depth/grows")

    change_card(world, change)
    world.measure(world.cell("plain", "demo", depth=2), [80.0, 80.1])
    measure_ours(world, 2, [83.0, 83.2], "demo")
    verdict = {v.scale: v for v in world.assess("full", "demo").statements}["demo"]
    assert (verdict.state, len(verdict.of("supported"))) == ("holds in part", 1)
    assert ("depth/grows", "not covered") in [(part.name, part.state) for part in verdict.parts]


def rest_on(world, *numbers):
    change_card(world, lambda data: data["statements"][0].update(parts=[], numbers=list(numbers)))


@pytest.mark.parametrize(("claimed", "state"), [(80.1, "holds"), (60.0, "reversed"), (81.0, "undecided")])
def test_a_number_is_a_part_at_full_scale(world, claimed, state):
    claim = world.claim("plain", 2, claimed, runs=5, varied="seeds", std=1.0)
    rest_on(world, claim.id)
    world.measure(world.cell("plain", depth=2), CLOSE)
    (verdict,) = world.assess("full", "demo").statements
    assert (verdict.scale, verdict.state) == ("full", state)


def test_a_number_that_most_rows_pass_shows_nothing(world):
    claim = world.claim("plain", 2, 80.1)
    rest_on(world, claim.id)
    world.measure(world.cell("plain", depth=2), CLOSE)
    measure_ours(world, 2, CLOSE)
    (verdict,) = world.assess().statements
    assert (verdict.state, verdict.note) == ("not measured", "1 within the margin, not distinctive")


def test_a_number_that_no_recipe_answers_is_not_measured(world):
    claim = world.claim("Other", 2, 60.0)
    rest_on(world, claim.id)
    (verdict,) = world.assess().statements
    assert (verdict.scale, verdict.state, verdict.note) == ("full", "not measured", "1 not covered")


def test_an_equivalence_asks_for_the_seeds_that_show_the_margin(world):
    def change(data):
        same = {"id": "same", "first": "plain", "second": "ours", "within": 1.0, "reason": "ours", "source": "T1"}
        data["recipes"][0]["equivalences"] = [same | {"axes": {"depth": [2]}}]
        data["statements"][0]["parts"] = ["depth/same"]

    change_card(world, change)
    above = [value + gap for value, gap in zip(CLOSE, [-1.0, 1.2, 0.9, -1.1, 0.2], strict=True)]
    verdict = judged(world, above, [])["full"]
    assert verdict.state == "undecided"
    assert 5 < verdict.look_two < 40
