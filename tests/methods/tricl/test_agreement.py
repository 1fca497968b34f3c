import pytest
import torch

from methods.tricl import agreement
from retable.cards import CardError


def test_runs_differ_and_come_back_from_kept_weights(make, run, evaluated) -> None:
    cell, context = make("agreement", "tri-scl-learned", epochs=3)
    found = run(cell, context)
    assert all(0 <= value <= 1 for value in found.metrics.values())
    assert found.metrics["agreement"] <= found.metrics["matched_agreement"] < 1
    assert found.metrics["agreement"] == pytest.approx(sum(found.series["agreement_by_rank"]) / 8)
    assert evaluated(cell, context).metrics == pytest.approx(found.metrics)


def test_a_run_agrees_with_itself_turned_and_not_with_another(build) -> None:
    experiment = build(agreement, "agreement", "scl")
    one, other = experiment.encoders
    different = experiment.measure().metrics
    last = one.projector[2]
    with torch.no_grad():
        other.load_state_dict(one.state_dict())
        other.projector[2].weight.copy_(-last.weight.flip(0))
        other.projector[2].bias.copy_(-last.bias.flip(0))
    same = experiment.measure().metrics
    # The order is by second moment, which turning a feature's sign and moving it leave as they were.
    assert same["agreement"] == pytest.approx(1, abs=1e-5)
    assert same["agreement_all"] == pytest.approx(1, abs=1e-5)
    assert different["agreement"] < 0.8


def test_one_run_alone_is_refused(build) -> None:
    with pytest.raises(CardError, match="setting 'runs' is 1: Input should be greater than or equal to 2"):
        build(agreement, "agreement", "scl", runs=1)
