import pytest
import torch

from methods.tricl import agreement
from retable.cards import CardError


def test_runs_differ_and_come_back_from_kept_weights(make) -> None:
    cell, context = make("agreement", "tri-scl-learned", epochs=3)
    found = agreement.run(cell, context)
    assert all(0 <= value <= 1 for value in found.metrics.values())
    assert found.metrics["agreement"] <= found.metrics["matched_agreement"] < 1
    assert found.metrics["agreement"] == pytest.approx(sum(found.series["agreement_by_rank"]) / 8)
    assert agreement.evaluate(cell, context).metrics == pytest.approx(found.metrics)


def test_a_run_agrees_with_itself_turned_and_not_with_another(make) -> None:
    cell, context = make("agreement", "scl")
    task, learners = agreement.build(cell, context)
    other = agreement.measure(task, learners, 8).metrics
    last = learners[0].projector[2]
    with torch.no_grad():
        learners[1].load_state_dict(learners[0].state_dict())
        learners[1].projector[2].weight.copy_(-last.weight.flip(0))
        learners[1].projector[2].bias.copy_(-last.bias.flip(0))
    same = agreement.measure(task, learners, 8).metrics
    # The order is by second moment, which turning a feature's sign and moving it leave as they were.
    assert same["agreement"] == pytest.approx(1, abs=1e-5)
    assert same["agreement_all"] == pytest.approx(1, abs=1e-5)
    assert other["agreement"] < 0.8


def test_one_run_alone_is_refused(make) -> None:
    with pytest.raises(CardError, match="runs is 1; two or more can agree"):
        agreement.build(*make("agreement", "scl", runs=1))
