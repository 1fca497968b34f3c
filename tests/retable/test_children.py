"""Cells in forked children. Whole measurements run in processes of their own: a fork of pytest's would be of another
size and state than a job's.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retable import stopping
from retable.cards import DataError
from retable.children import End, Relay, import_too, in_child
from retable.records import Cost
from retable.run import record_crash

# arguments: root, how ("here" or "children"), and what is done to seed 0 before it trains
MEASURE = """
import dataclasses, os, signal, sys
from pathlib import Path
import torch
from retable import run
from retable.bundles import Bundle
from retable.children import Relay, measure_bundle
from retable.config import Config, Workspace
from retable.train.context import StopRequest
from retable.train.determinism import threads

root, how, fate = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
workspace = Workspace(root, Config(device="cpu", papers=["contranorm", "tricl"]))
short = {"epochs": 6, "eval_every": 2}
wanted = [("node-depth", "contranorm", short), ("identifiability", "three-factor", {"epochs": 3})]
cells = []
for recipe, variant, settings in wanted:
    cell = next(cell for cell in workspace.cells if (cell.recipe, cell.variant) == (recipe, variant))
    cells.append(dataclasses.replace(cell, settings=cell.settings | settings, seeds=(0, 1)))
workspace.__dict__["cells"] = cells
measure = run.measure

def fated(module, cell, context):
    if (cell.recipe, context.seed) == ("node-depth", 0):
        if fate == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if fate == "bug": raise ValueError("a bug")
        if fate == "full": raise OSError(28, "No space left on device")
        if fate == "stop": os.kill(os.getppid(), signal.SIGTERM)
    return measure(module, cell, context)

run.measure = fated
with threads(1):
    if how == "here":
        for cell in cells:
            run.run_cell(workspace, cell, StopRequest())
    else:
        stop = Relay()
        stop.install()
        bundle = Bundle("contranorm", "a_0", {cell.identity: [0, 1] for cell in cells}, 1.0)
        measure_bundle(workspace, bundle, stop, lambda cell: root / "logs" / f"{cell.identity}.log")
"""


@pytest.fixture
def measure(root, tmp_path):
    """Measures two cells of two seeds in a workspace below tmp_path; returns it and how that ended."""

    def measure(name: str, how: str, fate: str = "") -> tuple[Path, subprocess.CompletedProcess[str]]:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        for part in ("methods", "datasets", "retable"):
            if not (place / part).exists():
                (place / part).symlink_to(root / part)
        command = [sys.executable, "-c", MEASURE, str(place), how, fate]
        environment = os.environ | {"PYTHONPATH": str(root)}
        return place, subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return measure


def records(place: Path) -> dict[tuple[str, int], dict]:
    found = [json.loads(path.read_text()) for path in place.glob("results/demo/*/*/*/*/seed-?.json")]
    return {(record["recipe"], record["seed"]): record for record in found}


def kept(place: Path) -> dict[str, bytes]:
    """The bytes of curves and weights, by where they lie."""
    paths = [*place.glob("results/demo/**/*.curve.jsonl"), *place.glob("results/.state/**/*.safetensors")]
    return {str(path.relative_to(place)): path.read_bytes() for path in paths}


SEEDS = [("identifiability", 0), ("identifiability", 1), ("node-depth", 0), ("node-depth", 1)]


@pytest.mark.slow
def test_children_give_the_bytes_that_one_process_gives(measure):
    (here, first), (there, second) = measure("here", "here"), measure("there", "children")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    one, other = records(here), records(there)
    assert sorted(one) == sorted(other) == SEEDS
    varying = {"cost", "started", "ended"}
    for key in SEEDS:
        assert {k: v for k, v in one[key].items() if k not in varying} == {
            k: v for k, v in other[key].items() if k not in varying
        }
    assert kept(here) == kept(there)
    assert len(kept(here)) >= 8
    # The bundle's output has a line a seed, the rest is in the cell's own log.
    assert second.stdout.count("seed 0: ok, ") == second.stdout.count("seed 1: ok, ") == 2
    logs = [path.read_text() for path in (there / "logs").glob("*.log")]
    assert len(logs) == 2
    assert all("seed 0: started" in log and "seed 1: ok" in log for log in logs)


def test_a_crash_costs_its_own_seed_and_has_a_record_that_says_so(measure):
    place, done = measure("place", "children", "kill")
    assert done.returncode == 0, done.stderr
    found = records(place)
    assert sorted(found) == SEEDS
    crashed = found[("node-depth", 0)]
    assert crashed["state"] == "failed"
    assert crashed["error"].startswith("the run's process was ended by SIGKILL: out of memory, if nobody killed it; ")
    assert crashed["cost"]["peak_memory_bytes"] > 2**24
    assert [found[key]["state"] for key in SEEDS if key != ("node-depth", 0)] == ["ok", "ok", "ok"]
    states = sorted(json.loads(path.read_text())["seeds"]["0"] for path in place.glob("results/demo/**/cell.json"))
    assert states == ["failed", "ok"]
    # The next try measures the one that is missing.
    before = {key: record for key, record in found.items() if key != ("node-depth", 0)}
    place, done = measure("place", "children")
    assert done.returncode == 0, done.stderr
    after = records(place)
    assert after[("node-depth", 0)]["state"] == "ok"
    assert {key: after[key] for key in before} == before


def test_a_bug_fails_its_seed_and_the_others_go_on(measure):
    place, done = measure("place", "children", "bug")
    assert done.returncode == 0, done.stderr
    assert {key: record["state"] for key, record in records(place).items()} == dict.fromkeys(SEEDS, "ok") | {
        ("node-depth", 0): "failed"
    }
    assert "node-depth digits-knn contranorm seed 0: failed, ValueError: a bug" in done.stdout


def test_a_full_disk_leaves_no_record_and_no_marker_and_the_other_cells_are_measured(measure):
    place, done = measure("place", "children", "full")
    assert done.returncode == 1
    assert "retable: [Errno 28] No space left on device" in done.stderr
    assert "1 of 2 cells of contranorm/a_0 could not be measured" in done.stderr
    assert sorted(records(place)) == SEEDS[:2]
    assert not list(place.glob("results/bundles/**/*.json"))


@pytest.mark.slow
def test_a_stop_is_passed_on_and_saved_and_the_same_call_goes_on_to_the_same_numbers(measure):
    place, done = measure("place", "children", "stop")
    assert done.returncode == 128 + signal.SIGTERM
    assert not records(place)
    (log,) = (place / "logs").glob("*.log")
    assert "stopped at epoch 1 of 6, state saved" in log.read_text()
    place, done = measure("place", "children")
    assert done.returncode == 0, done.stderr
    found = records(place)
    assert found[("node-depth", 0)]["cost"]["resumed"] == 1
    here, _ = measure("here", "here")
    assert {key: record["metrics"] for key, record in found.items()} == {
        key: record["metrics"] for key, record in records(here).items()
    }


# One child


@pytest.fixture
def relay():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    made = Relay()
    made.install()
    yield made
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ended(status: int) -> End:
    return End(status, Cost(wall_s=1.0, cpu_s=1.0, peak_memory_bytes=1), [])


@pytest.mark.parametrize(
    ("work", "status"),
    [
        (lambda: None, 0),
        (lambda: sys.exit(7), 7),
        (lambda: sys.exit("no"), 1),
        (lambda: 1 / 0, 1),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
    ],
    ids=["well", "status", "words", "error", "signal"],
)
def test_a_child_ends_as_its_work_does(relay, work, status):
    assert in_child(relay, work).status == status
    assert relay.child is None


def test_what_is_missing_is_said_in_one_line(relay, capfd):
    def work() -> None:
        raise DataError("cora: no network")

    assert in_child(relay, work).status == 1
    assert capfd.readouterr().err == "retable: cora: no network\n"


def test_the_memory_of_a_child_is_its_own(relay):
    small = in_child(relay, lambda: None).cost.peak_memory_bytes
    large = in_child(relay, lambda: bytearray(300 * 2**20).count(1)).cost.peak_memory_bytes
    assert large > small + 250 * 2**20
    assert in_child(relay, lambda: None).cost.peak_memory_bytes < small + 50 * 2**20


def test_what_a_child_imported_is_imported_for_the_next(relay):
    assert "wave" not in sys.modules
    end = in_child(relay, lambda: __import__("wave"))
    assert "wave" in end.imported
    assert "wave" not in sys.modules
    import_too([*end.imported, "no.such.module"])
    assert "wave" in sys.modules
    assert "wave" not in in_child(relay, lambda: __import__("wave")).imported
    del sys.modules["wave"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_child_is_told_of_a_stop_once_though_it_had_the_signal_too(relay, number):
    def work() -> None:
        os.kill(os.getppid(), number)
        if number == signal.SIGTERM:
            os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while relay.signal is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        sys.exit(0 if relay.signal == signal.SIGTERM else 3)

    assert in_child(relay, work).status == 0
    assert relay.signal == signal.SIGTERM


def test_a_second_signal_ends_the_child_at_once(relay):
    def work() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(SystemExit):
        in_child(relay, work)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("before", [False, True], ids=["while it runs", "before it started"])
def test_a_child_in_a_long_epoch_gives_it_up_after_the_grace(relay, before, monkeypatch, capfd):
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.5)
    if before:
        relay.signal = signal.SIGTERM

    def work() -> None:
        if not before:
            os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    assert in_child(relay, work).status == 128 + signal.SIGTERM
    assert "goes on from the last saved one" in capfd.readouterr().err


def test_a_crash_is_told_by_its_signal():
    assert ended(1).crash is None
    assert ended(-signal.SIGSEGV).crash == "the run's process was ended by SIGSEGV"
    assert ended(-signal.SIGKILL).crash.endswith("SIGKILL: out of memory, if nobody killed it")


def test_a_crash_does_not_replace_a_record_that_another_process_wrote(workspace, cell, relay):
    first = record_crash(workspace, cell, 0, "ended", ended(-9).cost, relay)
    assert (first.state, first.error, first.seed) == ("failed", "ended", 0)
    path = cell.folder(workspace.results) / "seed-0.json"
    fields = json.loads(path.read_text()) | {"state": "ok", "error": None}
    path.write_text(json.dumps(fields))
    assert record_crash(workspace, cell, 0, "ended again", ended(-9).cost, relay).state == "ok"
    assert dataclasses.asdict(first.cell) == dataclasses.asdict(dataclasses.replace(cell, seeds=(0,)))
