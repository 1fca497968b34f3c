"""Cells cut short: what they cost whole, which are left out, what fails."""

from dataclasses import replace

import pytest

from retable.cards import CardError
from retable.rehearsal import load_rehearsal, rehearse


class Tree:
    """In place of the process that runs cells: a second for a start, three for an epoch, fifty for a generator's."""

    asked: list[dict] = []
    speed = 1.0

    def __init__(self, *_):
        Tree.asked = []

    def ask(self, what, **request):
        assert what == "run"
        self.asked.append(request)
        if request["identity"] in self.broken:
            return {"error": "OSError: no weights"}
        seconds = 1.0 + 3.0 * request["settings"]["epochs"] + 50.0 * request["settings"].get("generator_epochs", 0)
        return {"state": "ok", "cpu_s": seconds / self.speed}

    def close(self):
        pass


@pytest.fixture
def cells(workspace, monkeypatch):
    Tree.broken = ()
    monkeypatch.setattr("retable.rehearsal.Tree", Tree)
    monkeypatch.setattr("retable.data.fetch.fetch", lambda *_, **__: [])
    return [cell for cell in workspace.cells if cell.recipe == "node-depth"][:2]


def test_two_short_runs_tell_what_a_whole_one_takes_and_leave_no_record(workspace, cells):
    said = []
    assert rehearse(workspace, cells[:1], 1, 60.0, said.append) == 0
    assert [request["settings"]["epochs"] for request in Tree.asked] == [1, 2]
    found = load_rehearsal(workspace.root)[cells[0].identity]
    assert (found.state, found.seconds) == ("ok", 4.0)
    assert found.whole_seconds == pytest.approx(1.0 + 3.0 * cells[0].settings["epochs"])
    assert "1 of 1 cells ran, 0 had before" in said[-1]
    assert not (workspace.root / "results").exists()


def test_what_takes_a_moment_has_a_longer_second_run(workspace, cells, monkeypatch):
    monkeypatch.setattr(Tree, "speed", 10.0)
    rehearse(workspace, cells[:1], 1, 60.0, print)
    assert [request["settings"]["epochs"] for request in Tree.asked] == [1, 10]
    found = load_rehearsal(workspace.root)[cells[0].identity]
    assert found.whole_seconds == pytest.approx((1.0 + 3.0 * cells[0].settings["epochs"]) / 10)


def test_each_phase_has_a_price_of_its_own(workspace, cells):
    cell = replace(cells[0], settings={**cells[0].settings, "epochs": 2000, "generator_epochs": 10})
    rehearse(workspace, [cell], 1, 60.0, print)
    lengths = [(request["settings"]["epochs"], request["settings"]["generator_epochs"]) for request in Tree.asked]
    assert lengths == [(1, 1), (2, 1), (1, 2)]
    assert load_rehearsal(workspace.root)[cell.identity].whole_seconds == pytest.approx(1.0 + 3.0 * 2000 + 50.0 * 10)


def test_what_ran_well_is_not_run_again_and_what_failed_is(workspace, cells):
    Tree.broken = (cells[1].identity,)
    said = []
    assert rehearse(workspace, cells, 1, 60.0, said.append) == 1
    assert "OSError: no weights" in said[1]
    assert load_rehearsal(workspace.root)[cells[1].identity].whole_seconds is None
    assert rehearse(workspace, cells, 1, 60.0, said.append) == 1
    assert [request["identity"] for request in Tree.asked] == [cells[1].identity]


def test_nothing_is_begun_after_its_time(workspace, cells):
    said = []
    assert rehearse(workspace, cells, 1, -1.0, said.append) == 0
    assert not Tree.asked
    assert "0 of 0 cells ran" in said[-1]


def test_what_is_too_long_though_it_is_cut_is_left_out(workspace, cells, monkeypatch):
    monkeypatch.setattr("retable.rehearsal.operations", lambda *_: 1e18)
    said = []
    assert rehearse(workspace, cells[:1], 1, 60.0, said.append) == 0
    assert not Tree.asked
    assert "too long for a processor" in said[0]


def test_bad_input_gets_one_line(workspace, cells):
    with pytest.raises(CardError, match="--steps 0: needs at least 1"):
        rehearse(workspace, cells, 0, 60.0, print)
    (workspace.root / "benchmarks").mkdir()
    (workspace.root / "benchmarks" / "rehearsal.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CardError, match="no column 'cell'"):
        load_rehearsal(workspace.root)
