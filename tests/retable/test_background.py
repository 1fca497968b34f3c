import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from retable import background
from retable.background import Background, State, Worker, in_turn
from retable.cards import CardError
from retable.checkout import Tree, tree_of
from retable.cli import _parser, main
from retable.config import Config, Workspace
from retable.records import RunRecord, read_record, to_json, write_record

ROOT = Path(__file__).resolve().parents[2]
# In place of a run: says what it was given, and waits to be stopped.
STUB = """
import os, sys, time
print(sys.argv[1:], os.environ["RETABLE_TURN"], os.environ["OMP_NUM_THREADS"], os.getcwd(), os.nice(0), flush=True)
time.sleep(300)
"""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout as far as `retable background` looks; its first commit is older than that command."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "methods").mkdir()
    (tmp_path / "Snakefile").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "old")
    for name, text in {"__init__.py": "", "__main__.py": STUB, "background.py": ""}.items():
        (tmp_path / "retable").mkdir(exist_ok=True)
        (tmp_path / "retable" / name).write_text(text)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "card.yaml").touch()
    (tmp_path / ".gitignore").write_text("/datasets/raw/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "new")
    return tmp_path


@pytest.fixture
def sleeper():
    """A process with a group of its own."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def worker_of(process: subprocess.Popen) -> Worker:
    found = background._process(process.pid)
    return Worker(number=1, pid=process.pid, group=process.pid, started=found and found.started)


def note(measurement: Background, *workers: Worker) -> None:
    measurement.folder.mkdir(exist_ok=True)
    state = State(commit="a" * 40, arguments=["toy", "--scale", "full"], workers=list(workers))
    measurement._state_path.write_bytes(to_json(state.model_dump(mode="json")))


# Turns


def test_workers_begin_with_seeds_of_their_own_and_leave_none() -> None:
    pairs = list(range(7))
    assert in_turn(pairs, None) == pairs
    assert in_turn(pairs, "1/1") == pairs
    assert in_turn(pairs, "1/3") == [0, 3, 6, 1, 2, 4, 5]
    assert in_turn(pairs, "3/3") == [2, 5, 0, 1, 3, 4, 6]
    assert in_turn([], "2/2") == []
    assert in_turn([1], "2/2") == [1]


@pytest.mark.parametrize("turn", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_turn_gets_one_line(turn: str) -> None:
    with pytest.raises(CardError, match="expected k/N"):
        in_turn([1, 2], turn)


@pytest.fixture
def cell(tmp_path: Path):
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    workspace = Workspace(tmp_path, Config(device="cpu", papers=["contranorm"], recipes=["node-depth"]))
    first = workspace.cells[0]
    settings = first.settings | {"epochs": 2, "eval_every": 2}
    return workspace, dataclasses.replace(first, settings=settings, seeds=(0, 1))


def test_without_waiting_a_seed_of_another_process_is_left_out(cell) -> None:
    from retable.run import run_cell

    workspace, cell = cell
    place = workspace.results / ".state" / cell.identity / "seed-0"
    place.mkdir(parents=True)
    with FileLock(place / "run.lock"):
        assert list(run_cell(workspace, cell, wait=False).records) == [1]
    assert list(run_cell(workspace, cell, wait=False).records) == [0, 1]


@pytest.mark.parametrize("freed", [True, False])
def test_a_worker_comes_back_to_seeds_that_others_held(
    freed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import retable.run
    from retable.train.context import StopRequest

    asked: list[list[int]] = []

    def run_cell(workspace, cell, stop, seeds, wait):
        assert not wait
        asked.append(seeds)
        held = {0} if not freed or len(asked) == 1 else set()
        return retable.run.Outcome(Path(), {seed: None for seed in seeds if seed not in held})

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(background.TURN, "2/2")
    monkeypatch.setattr(StopRequest, "install", lambda _: None)
    monkeypatch.setattr(retable.run, "run_cell", run_cell)
    monkeypatch.setattr(retable.run.Outcome, "failed", [])
    identity = Workspace(ROOT, Config(papers=["contranorm"], recipes=["node-depth"])).cells[0].identity
    assert main(["run", "contranorm/node-depth", "--scale", "demo", "--cell", identity, "--no-wait"]) == 0
    # Seed 1 of 0 to 2 is this worker's; those that are left are asked for again while some come free.
    assert asked == [[1, 0, 2], [0]]
    assert capsys.readouterr().out == ("" if freed else "1 seeds are left out: other processes measure them\n")


# Refusals


def test_outside_of_a_repository_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="in no git repository, so there is no commit to measure"):
        Background(tmp_path).start([])
    assert not (tmp_path / ".background").exists()


def test_what_is_no_commit_gets_one_line(repository: Path) -> None:
    with pytest.raises(CardError, match="'nowhere' is no commit of"):
        Background(repository).start([], at="nowhere")
    with pytest.raises(CardError, match="is older than `retable background`; name a newer commit"):
        Background(repository).start([], at="HEAD~1")
    with pytest.raises(CardError, match="--jobs 0: needs at least 1"):
        Background(repository).start([], jobs=0)


def test_a_hook_of_git_is_no_place_to_start(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    with pytest.raises(CardError, match="GIT_DIR is set"):
        Background(repository).start([])


def test_one_measurement_at_a_time(repository: Path, sleeper) -> None:
    measurement = Background(repository)
    note(measurement, worker_of(sleeper))
    with pytest.raises(CardError, match=f"1 workers are there already .process {sleeper.pid}."):
        measurement.start([])
    with measurement._alone(), pytest.raises(CardError, match="another `retable background`"):
        measurement.collect()


def test_a_clone_that_is_none_is_never_checked_out_over(repository: Path) -> None:
    # git would take the repository around it.
    measurement = Background(repository)
    measurement.clone.mkdir(parents=True)
    head = git(repository, "rev-parse", "HEAD")
    with pytest.raises(CardError, match="is no git repository"):
        measurement._check_out(git(repository, "rev-parse", "HEAD~1"))
    assert git(repository, "rev-parse", "HEAD") == head


def test_an_edited_clone_is_refused(repository: Path) -> None:
    measurement = Background(repository)
    commit = git(repository, "rev-parse", "HEAD")
    with measurement._alone():
        assert measurement._check_out(commit) == []
    assert git(repository, "status", "--porcelain") == ""
    (measurement.clone / "retable" / "background.py").write_text("edited")
    with pytest.raises(CardError, match=r"retable/background.py differs from the commit"):
        measurement._check_out(commit)


def test_mistakes_on_the_command_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(SystemExit):
        main(["background", "start", "--", "contranorm", "--sclae", "full"])
    assert "--sclae" in capsys.readouterr().err
    assert not (repository / ".background").exists()
    inner = repository / ".background" / "clone"
    (inner / "methods").mkdir(parents=True)
    (inner / "Snakefile").touch()
    monkeypatch.chdir(inner)
    assert main(["background", "status"]) == 2
    assert capsys.readouterr().err == f"retable: {inner} is a background clone; give the command in {repository}\n"


def test_options_of_the_run_come_after_two_dashes() -> None:
    given = ["--jobs", "2", "--at", "abc", "--", "contranorm/node-depth", "--scale", "full", "--skip-published"]
    chosen = _parser().parse_args(["background", "start", *given])
    assert (chosen.jobs, chosen.at, chosen.arguments) == (2, "abc", given[5:])


# Processes


@pytest.mark.skipif(not background._has_proc(), reason="the system has no /proc")
def test_workers_are_started_paused_resumed_and_stopped(repository: Path) -> None:
    measurement = Background(repository)
    (repository / "new.txt").touch()
    head, raw = git(repository, "rev-parse", "HEAD"), measurement.clone / "datasets" / "raw"

    def until(condition: str) -> None:
        deadline = time.monotonic() + 60
        while {worker.condition for worker in measurement._state().workers} != {condition}:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def said() -> list[str]:
        deadline = time.monotonic() + 60
        while not all(" running: [" in line for line in measurement.status()[1:-1]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return [line.partition(": ")[2] for line in measurement.status()[:-1]]

    try:
        lines = measurement.start(["toy", "--scale", "full"], jobs=2)
        assert lines == [
            "not committed, so not as they are here in the clone: new.txt",
            f"2 workers measure {head[:12]} in {measurement.clone}; `retable background status` says how far",
        ]
        given = f"{['run', 'toy', '--scale', 'full', '--no-wait']} {{}}/2 1 {measurement.clone} 19"
        assert said() == ["retable run toy --scale full", given.format(1), given.format(2)]
        assert raw.readlink() == repository / "datasets" / "raw"
        assert tree_of(measurement.clone) == Tree(head)
        assert len({os.getsid(worker.pid) for worker in measurement.alive()} - {os.getsid(0)}) == 2
        for _ in range(2):
            assert measurement.pause() == ["2 processes are paused"]
            until("paused")
        assert measurement.resume() == ["2 processes are running"]
        until("running")
        measurement.pause()
        assert measurement.stop() == ["2 of 2 workers ended; the same `retable background start` goes on"]
        assert measurement.pause() == ["nothing is running"]

        kept = measurement.clone / "results" / ".state" / "state.pt"
        kept.parent.mkdir(parents=True)
        kept.touch()
        raw.unlink()
        raw.mkdir()
        git(repository, "commit", "--quiet", "--allow-empty", "--message", "newer")
        git(measurement.clone, "remote", "remove", "origin")
        measurement.start(["toy"])
        assert said() == ["retable run toy", f"{['run', 'toy', '--no-wait']} 1/1 1 {measurement.clone} 19"]
        assert tree_of(measurement.clone).commit == git(repository, "rev-parse", "HEAD") != head
        assert raw.is_symlink()
        assert kept.exists()
    finally:
        measurement.stop()


def test_with_nothing_running_every_command_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(repository)
    for action in ("pause", "resume", "stop"):
        assert main(["background", action]) == 0
        assert capsys.readouterr().out == "nothing is running\n"
    assert main(["background", "status"]) == 0
    said = "nothing was started\n0 seeds are finished in the clone, 0 of them not collected yet\n"
    assert capsys.readouterr().out == said
    assert main(["background", "collect"]) == 0
    assert capsys.readouterr().out == "0 seeds collected\n"


@pytest.mark.skipif(not background._has_proc(), reason="the system has no /proc")
def test_another_process_with_the_number_is_left_alone(repository: Path, sleeper) -> None:
    measurement, worker = Background(repository), worker_of(sleeper)
    note(measurement, worker.model_copy(update={"started": worker.started + 1}))
    assert measurement.alive() == []
    assert measurement.stop() == ["nothing is running"]
    assert sleeper.poll() is None
    note(measurement, worker)
    os.kill(sleeper.pid, signal.SIGKILL)
    # It stays a zombie until its parent asks.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert measurement.alive() == []


def test_what_does_not_end_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "STOP_SECONDS", 0.3)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE) as stubborn:
        try:
            assert stubborn.stdout
            stubborn.stdout.readline()
            measurement = Background(repository)
            note(measurement, worker_of(stubborn))
            first, last = measurement.stop()
        finally:
            stubborn.kill()
    assert first.startswith(f"worker 1 (process {stubborn.pid}) still runs")
    assert last.startswith("0 of 1 workers ended")


def test_a_damaged_state_gets_one_line(repository: Path) -> None:
    measurement = Background(repository)
    note(measurement)
    measurement._state_path.write_text("{")
    with pytest.raises(CardError, match=r"state.json is damaged"):
        measurement.status()


def test_it_is_free_of_torch() -> None:
    code = "import sys, retable.background; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Results


def put(root: Path, record: RunRecord, **change) -> Path:
    """Write a record, with changes, to its place below a checkout."""
    record = RunRecord.model_validate(record.model_dump() | change)
    path = record.cell.folder(root / "results") / f"seed-{record.seed}.json"
    write_record(path, record)
    return path


EARLIER, LATER = "2026-01-01T00:00:00+00:00", "2026-01-01T02:00:00+02:00"
MUCH_LATER = "2026-01-02T00:00:00+00:00"


def test_finished_seeds_are_collected_with_what_lies_beside_them(tmp_path: Path, world) -> None:
    measurement = Background(tmp_path)
    records = world.measure(world.cell("plain", depth=2), [1.0, 2.0])
    paths = [put(measurement.clone, record) for record in records]
    for name in ("seed-0.curve.jsonl", "seed-0.a-view.png", "seed-0.pictures.jsonl", "cell.json", ".seed-0.json.1.tmp"):
        (paths[0].parent / name).write_text(name)
    put(measurement.clone, world.measure(world.cell("plain", depth=4), [3.0])[0], state="failed", error="a bug")
    assert measurement.status()[-1] == "2 seeds are finished in the clone, 2 of them not collected yet; 1 failed"
    assert measurement.collect() == ["2 seeds collected; 1 that failed stay in the clone"]
    names = {path.name for path in (tmp_path / "results").rglob("*") if path.is_file()}
    assert names == {path.name for path in paths} | {"seed-0.curve.jsonl", "seed-0.a-view.png", "seed-0.pictures.jsonl"}
    for path in paths:
        assert (tmp_path / path.relative_to(measurement.clone)).read_bytes() == path.read_bytes()
    assert measurement.collect() == ["0 seeds collected; 1 that failed stay in the clone"]
    assert measurement.status()[-1] == "2 seeds are finished in the clone, 0 of them not collected yet; 1 failed"


def test_only_older_records_are_replaced(tmp_path: Path, world) -> None:
    measurement = Background(tmp_path)
    old, same, new = world.measure(world.cell("plain", depth=2), [1.0, 2.0, 3.0])
    for record in (old, same, new):
        put(measurement.clone, record, ended=LATER)
    places = [put(tmp_path, old, ended="2025-12-31T23:59:59Z"), put(tmp_path, same, ended=EARLIER)]
    places.append(put(tmp_path, new, ended=MUCH_LATER))
    (places[0].parent / "seed-0.gone.png").touch()
    assert measurement.collect() == ["1 seeds collected, 1 of them in place of older ones"]
    # Two ways to write one moment.
    assert [read_record(place).ended for place in places] == [LATER, EARLIER, MUCH_LATER]
    assert not (places[0].parent / "seed-0.gone.png").exists()


def test_a_record_under_an_older_name_is_replaced_too(tmp_path: Path, world) -> None:
    measurement = Background(tmp_path)
    (record,) = world.measure(world.cell("plain", depth=2), [1.0])
    older = dataclasses.replace(record.cell, variant="simple")
    before = put(tmp_path, record, variant="simple", identity=older.identity, ended=EARLIER)
    after = put(measurement.clone, record, ended=MUCH_LATER)
    (tmp_path / "results" / "renames.yaml").write_text("- {paper: toy, variants: {simple: plain}}\n")
    assert measurement.collect() == ["1 seeds collected, 1 of them in place of older ones"]
    assert not before.exists()
    assert (tmp_path / after.relative_to(measurement.clone)).exists()


def test_damaged_records_stay_where_they_are(tmp_path: Path, world) -> None:
    measurement = Background(tmp_path)
    here, there = world.measure(world.cell("plain", depth=2), [1.0, 2.0])
    whole = put(measurement.clone, here)
    put(tmp_path, here).write_text("{")
    put(measurement.clone, there).write_text(json.dumps({"seed": 1}))
    trouble, said = measurement.collect()
    assert "seed-1.json: not a run record" in trouble
    assert said == "1 seeds collected"
    assert (tmp_path / whole.relative_to(measurement.clone)).read_bytes() == whole.read_bytes()
