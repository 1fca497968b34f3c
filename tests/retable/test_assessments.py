"""The papers of a checkout, assessed."""

import pytest

from retable.assessments import assessments, inputs, planned
from retable.cards import CardError


def test_a_paper_is_assessed_at_all_scales_without_a_record(workspace):
    (found,) = assessments(workspace, ["contranorm"])
    assert found.assessment.paper.id == "contranorm"
    assert {row.scale for row in found.assessment.rows} == {"full", "reduced", "demo"}
    assert found.records == []


def test_a_paper_without_a_card_is_named(workspace):
    with pytest.raises(CardError, match="unknown paper 'contranrom'; did you mean 'contranorm'"):
        list(assessments(workspace, ["contranrom"]))


def test_inputs_plan_all_papers_from_the_largest_scale_down(workspace):
    papers, claims, cells, store = inputs(workspace)
    assert list(cells) == ["full", "reduced", "demo"]
    assert papers.keys() == claims.keys() >= {"contranorm", "gcl"}
    assert store.records == []
    assert [cell for cell in cells["demo"] if cell.paper == "gcl"] == planned(workspace, "gcl", "demo")
