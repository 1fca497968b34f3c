"""Several phases in one run: each resumes by itself, finished ones are skipped, streams are named after them."""

import json
import signal
from pathlib import Path

import pytest
import torch

from retable.config import Config, Workspace
from retable.plan import Cell
from retable.run import make_context
from retable.train import randomness
from retable.train.context import Context, StopRequest

ROOT = Path(__file__).resolve().parents[3]
PHASES = {"pretrain": 3, "linear-probe": 2, "fine-tune": 3}


class Walk:
    """A number that each epoch moves by a draw."""

    def __init__(self) -> None:
        self.place = torch.zeros((), dtype=torch.float64)

    def step(self) -> None:
        self.place = self.place * 0.9 + torch.rand((), dtype=torch.float64)

    def state_dict(self) -> dict:
        return {"place": self.place.clone()}

    def load_state_dict(self, state: dict) -> None:
        self.place = state["place"]


@pytest.fixture
def cell() -> Cell:
    return Workspace(ROOT, Config(papers=["contranorm"], recipes=["node-depth"])).cells[0]


def context_in(folder: Path, cell: Cell, stop: StopRequest | None = None) -> Context:
    for name in ("methods", "datasets", "retable"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return make_context(Workspace(folder, Config(device="cpu")), cell, 0, torch.device("cpu"), stop=stop)


def run(
    context: Context, stop_after: tuple[str, int] | None = None, ran: list[tuple[str, int]] | None = None
) -> list[float]:
    """Three walks, each from where the one before ended; `ran` gets the epochs."""
    ends: list[float] = []
    ran = [] if ran is None else ran
    for phase, epochs in PHASES.items():
        walk = Walk()
        walk.place = torch.tensor(ends[-1] if ends else 0.0, dtype=torch.float64)
        for epoch in context.epochs(epochs, phase=phase, walk=walk):
            walk.step()
            ran.append((phase, epoch))
            context.log(epoch, place=float(walk.place))
            if (phase, epoch) == stop_after:
                context._stop.signal = signal.SIGTERM
        ends.append(float(walk.place))
    return ends


@pytest.mark.parametrize("stop_after", [(phase, epoch) for phase, n in PHASES.items() for epoch in range(1, n + 1)])
def test_a_run_stopped_in_any_phase_ends_in_the_same_numbers(tmp_path: Path, cell: Cell, stop_after) -> None:
    (tmp_path / "whole").mkdir()
    whole = context_in(tmp_path / "whole", cell)
    expected = run(whole)
    (tmp_path / "stopped").mkdir()
    with pytest.raises(SystemExit):
        run(context_in(tmp_path / "stopped", cell, StopRequest()), stop_after)
    again, ran = context_in(tmp_path / "stopped", cell), []
    assert run(again, ran=ran) == expected
    epochs = [(phase, epoch) for phase, n in PHASES.items() for epoch in range(1, n + 1)]
    assert ran == epochs[epochs.index(stop_after) + 1 :]
    assert again.resumed == 1
    assert again.curve.read_bytes() == whole.curve.read_bytes()


def test_what_a_kill_left_in_the_curve_of_a_phase_that_never_saved_is_cut(tmp_path: Path, cell: Cell) -> None:
    expected = context_in(tmp_path, cell)
    run(expected)
    lines = expected.curve.read_text()
    killed = context_in(tmp_path, cell)
    for state in killed.folder.glob("state-*.pt"):
        state.unlink()
    (killed.folder / "phase-fine-tune.pt").unlink()
    killed.curve.write_text(lines + "half a li")
    run(killed)
    assert killed.curve.read_text() == lines


def test_the_curve_counts_on_and_names_the_phase(tmp_path: Path, cell: Cell) -> None:
    context = context_in(tmp_path, cell)
    run(context)
    rows = [json.loads(line) for line in context.curve.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert [row["phase"] for row in rows] == [phase for phase, n in PHASES.items() for _ in range(n)]


def test_a_damaged_end_of_a_phase_is_run_again_to_the_same_number(tmp_path: Path, cell: Cell, capfd) -> None:
    expected = run(context_in(tmp_path, cell))
    end = context_in(tmp_path, cell).folder / "phase-linear-probe.pt"
    end.write_bytes(end.read_bytes()[:-1])
    assert run(context_in(tmp_path, cell)) == expected
    assert f"{end}: not resumed from, it is damaged" in capfd.readouterr().err


def test_streams_are_named_after_the_phase_and_the_only_phase_keeps_its_own(tmp_path: Path, cell: Cell) -> None:
    def draws(phase: str) -> list[float]:
        context = context_in(tmp_path, cell)
        return [float(torch.rand(())) for _ in context.epochs(2, phase=phase)]

    found = {phase: draws(phase) for phase in ("", "pretrain", "fine-tune")}
    assert len({tuple(values) for values in found.values()}) == 3
    torch.manual_seed(randomness.derive(0, "epoch", 1))
    assert found[""][0] == float(torch.rand(()))
    torch.manual_seed(randomness.derive(0, "epoch", "pretrain", 1))
    assert found["pretrain"][0] == float(torch.rand(()))


@pytest.mark.parametrize("phase", ["", "pretrain"])
def test_a_second_loop_of_the_same_name_is_refused(tmp_path: Path, cell: Cell, phase: str) -> None:
    context = context_in(tmp_path, cell)
    list(context.epochs(1, phase=phase))
    with pytest.raises(ValueError, match="a run with several loops names each"):
        list(context.epochs(1, phase=phase))


def test_a_phase_is_no_path(tmp_path: Path, cell: Cell) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        list(context_in(tmp_path, cell).epochs(1, phase="../up"))
