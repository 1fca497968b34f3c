"""Collapsed in k of n seeds: from records that say it, that deny it, and that say nothing."""

import pytest

from retable.cards import PaperCard


def judged(world, potentials, kind="collapsed"):
    """The verdict on the state of `plain` at depth 2, with a seed for each log potential (None: not recorded)."""
    data = world.paper.model_dump()
    state = {"id": "asked", "variant": "plain", "kind": kind, "axes": {"depth": [2]}, "source": "Table 1"}
    data["recipes"][0]["states"] = [state]
    data["recipes"][0]["scales"]["full"]["seeds"] = 8
    world.paper = PaperCard.model_validate(data)
    for seed, potential in enumerate(potentials):
        metrics = {"accuracy": 30.0 + seed} | ({} if potential is None else {"uniformity": potential})
        world.measure(world.cell("plain", depth=2), [0.0], first_seed=seed, metrics=metrics)
    (verdict,) = world.assess().states
    return verdict


def test_a_row_that_collapsed_in_all_of_many_seeds_has_the_state(world):
    verdict = judged(world, [0.0] * 8)
    assert (verdict.kind, verdict.state, verdict.hits, verdict.n) == ("state", "holds", 8, 8)
    assert verdict.p_for == pytest.approx(2**-7)
    assert verdict.p == pytest.approx(2**-6)
    assert verdict.note == "collapsed in 8 of 8 seeds (95 % interval of the share: 63 to 100 %)"


def test_a_row_that_never_collapsed_is_reversed(world):
    assert judged(world, [-2.0] * 8).state == "reversed"


def test_five_seeds_decide_nothing_after_adjustment_and_a_mixture_neither(world):
    verdict = judged(world, [0.0] * 6)
    assert (verdict.state, verdict.look_two) == ("inconclusive", 7)
    assert "look two at 7 seeds would settle it" in verdict.note
    world.records.clear()
    verdict = judged(world, [0.0, 0.0, -2.0, -2.0, -2.0, 0.0])
    assert (verdict.state, verdict.hits) == ("inconclusive", 3)


def test_a_record_that_does_not_say_leaves_the_state_unknown(world):
    verdict = judged(world, [0.0, 0.0, None])
    assert (verdict.state, verdict.p_for, verdict.note) == (
        "not known",
        None,
        "1 of 3 records do not say whether it is collapsed",
    )


def test_a_constant_answer_is_asked_of_predictions(world):
    assert judged(world, [0.0] * 8, kind="constant answer").state == "not known"


def test_what_was_not_run_has_no_state(world):
    assert judged(world, []).state == "not run"
