import dataclasses
import hashlib
import io
import json
import math
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from methods.contranorm import run as method
from retable.cards import load_dataset
from retable.config import Workspace
from retable.plan import Cell
from retable.records import read_record
from retable.run import run_cell
from retable.train import context as module
from retable.train.checkpoint import DIGEST_BYTES, save_state
from retable.train.context import Context, Result, StopRequest

ROOT = Path(__file__).resolve().parents[3]
CELL = Cell("toy", "walk", "digits-knn", "default", "plain", {}, {"epochs": 10}, "demo", "last v1", (0,))


def make_context(folder: Path, cell: Cell = CELL, seed: int = 0, fingerprint: str = "fingerprint") -> Context:
    card = load_dataset(ROOT / "datasets" / "digits-knn.yaml")
    return Context(cell, seed, card, folder, folder / "state", torch.device("cpu"), fingerprint)


class Clock:
    """A clock that stands still until it is told how long something took."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("saving", "saved"), [(0.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (10.0, [1, 5, 9])])
def test_saving_takes_a_tenth_of_the_time_at_most(
    saving: float, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, epochs = Clock(), []

    def save(folder: Path, step: int, state: dict) -> None:
        clock.now += saving
        epochs.append(step)

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "save_state", save)
    for _ in make_context(tmp_path).epochs(10, model=nn.Linear(1, 1)):
        clock.now += 30.0
    assert epochs == saved


# Resuming -------------------------------------------------------------------------------------------------------------


class Counter:
    """A part of a run that takes no state of some epochs."""

    def __init__(self, refused: tuple[int, ...]) -> None:
        self.count, self.refused = 0, refused

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state: dict) -> None:
        if state["count"] in self.refused:
            raise ValueError("no such\ncount")
        self.count = state["count"]


class Parts(dict):
    """A layer and, after it, a counter; both hold the epoch that they were trained for."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        super().__init__(layer=nn.Linear(1, 1), counter=Counter(refused))
        self.train(0)

    def train(self, epoch: int) -> None:
        nn.init.constant_(self["layer"].weight, epoch)
        self["counter"].count = epoch

    @property
    def epochs(self) -> tuple[float, int]:
        return self["layer"].weight.item(), self["counter"].count


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of four epochs that was killed in the last one: it holds the states of epochs 2 and 3."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
        context, parts = make_context(tmp_path), Parts()
        for epoch in context.epochs(4, **parts):
            parts.train(epoch)
            context.log(epoch, loss=1.0)
    assert [path.name[-4:-3] for path in sorted(context.folder.glob("state-*.pt"))] == ["2", "3"]
    return tmp_path


def done_before(context: Context, parts: Parts) -> int:
    """How many of the four epochs a resumed run does not do again, asked before the first that it does."""
    epochs = context.epochs(4, **parts)
    first = next(epochs)
    epochs.close()
    return first - 1


def newest_of(folder: Path) -> Path:
    return max(folder.rglob("state-*.pt"))


def change_newest(folder: Path, **change) -> Path:
    path = newest_of(folder)
    state = torch.load(io.BytesIO(path.read_bytes()[DIGEST_BYTES:]), weights_only=True)
    return save_state(path.parent, int(path.stem.removeprefix("state-")), state | change)


def test_a_run_goes_on_from_its_newest_state(folder: Path) -> None:
    context, parts = make_context(folder), Parts()
    assert done_before(context, parts) == 3
    assert parts.epochs == (3, 3)
    assert context.resumed == 1
    assert [json.loads(line)["epoch"] for line in context.curve.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": dataclasses.replace(CELL, variant="other")}, "another cell"),
        ({"seed": 1}, "another seed"),
        ({"fingerprint": "then"}, "another code or data"),
    ],
    ids=["cell", "seed", "code"],
)
def test_a_state_of_another_run_is_not_taken(
    change: dict, words: str, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    context, parts = make_context(folder, **change), Parts()
    assert done_before(context, parts) == 0
    assert parts.epochs == (0, 0)
    assert not context.curve.exists()
    assert capsys.readouterr().err.count(f"not resumed from, it is of {words}\n") == 2


def test_a_state_beyond_the_last_epoch_gives_way(folder: Path, capsys: pytest.CaptureFixture) -> None:
    newest, parts = change_newest(folder, epoch=5), Parts()
    assert done_before(make_context(folder), parts) == 2
    assert parts.epochs == (2, 2)
    assert f"{newest}: not resumed from (ValueError: it is of epoch 5, the run has 4)\n" in capsys.readouterr().err


def test_a_state_with_other_parts_gives_way(folder: Path, capsys: pytest.CaptureFixture) -> None:
    change_newest(folder, parts={"layer": Parts()["layer"].state_dict()})
    parts = Parts()
    assert done_before(make_context(folder), parts) == 2
    assert parts.epochs == (2, 2)
    assert "it holds ['layer'], the run has ['counter', 'layer']" in capsys.readouterr().err


def test_a_state_that_torch_cannot_read_gives_way(folder: Path) -> None:
    newest_of(folder).write_bytes(hashlib.sha256(b"no state").hexdigest().encode() + b"no state")
    context, parts = make_context(folder), Parts()
    assert done_before(context, parts) == 2
    assert parts.epochs == (2, 2)
    assert len(context.curve.read_text().splitlines()) == 2


def test_a_state_whose_curve_is_lost_is_not_taken(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (context := make_context(folder)).curve.unlink()
    assert done_before(context, Parts()) == 0
    assert "the curve beside it is shorter than it was" in capsys.readouterr().err


def test_a_state_that_only_some_parts_take_gives_way(folder: Path, capsys: pytest.CaptureFixture) -> None:
    context, parts = make_context(folder), Parts(refused=(3,))
    assert done_before(context, parts) == 2
    assert parts.epochs == (2, 2)
    assert context.resumed == 1
    assert f"{newest_of(folder)}: not resumed from (ValueError: no such count)\n" in capsys.readouterr().err


def test_parts_are_fresh_where_no_state_is_good(folder: Path) -> None:
    context, parts = make_context(folder), Parts(refused=(2, 3))
    assert done_before(context, parts) == 0
    assert parts.epochs == (0, 0)
    assert (context.resumed, context.curve.exists()) == (0, False)


def test_processor_time_adds_up_over_a_resumption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(module, "_cpu_clock", lambda: clock[0])
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    for epoch in make_context(tmp_path).epochs(4, **Parts()):
        clock[0] += epoch
    clock[0] = 100.0
    context = make_context(tmp_path)
    assert done_before(context, Parts()) == 3
    clock[0] += 5
    assert context.cpu_seconds() == 1 + 2 + 3 + 5


def test_the_record_of_a_resumed_run_counts_the_time_before(workspace: Workspace, cell: Cell) -> None:
    (stop := StopRequest()).signal = signal.SIGTERM
    with pytest.raises(SystemExit):
        run_cell(workspace, cell, stop)
    change_newest(workspace.results, seconds=2000.0, cpu_seconds=1000.0)
    cost = run_cell(workspace, cell).records[0].cost
    assert cost.resumed == 1
    assert 1000 < cost.cpu_s < 1900
    assert 2000 < cost.wall_s < 2900


# Numbers that are none ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "error"),
    [
        (Result({"accuracy": 1.0}, {"rank": [2.0, math.nan]}), "rank is nan"),
        (Result({"accuracy": math.inf}), "accuracy is inf"),
    ],
    ids=["series", "metric"],
)
def test_a_measured_number_that_is_none_makes_a_diverged_record(
    measured: Result, error: str, workspace: Workspace, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method.NodeClassification, "measure", lambda *_: measured)
    record = read_record(run_cell(workspace, cell).folder / "seed-0.json")
    assert record.state == "diverged"
    assert record.error is not None
    assert record.error.startswith(error)
    assert (record.metrics, record.series) == ({}, {})
