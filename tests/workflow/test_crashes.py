"""Killed with -9 at each named point of the engine, with a damaged newest state, on a full or read-only disk, with a
clock set back: the same command goes on and ends in the same bytes.

What each paper must keep over a step is asked by tests/methods/test_contract.py; kills at random are in test_soak.py.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retable.records import read_record

pytestmark = pytest.mark.slow

# Imports everything once, then forks a child for each command that it reads; the child dies at the point it is told.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
import retable.data.fetch, retable.report, retable.run, retable.train.context as context
import retable.train.randomness as randomness
from retable.cli import main

context.CHECKPOINT_SECONDS = 0.0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dies(owner, name, when, matches, number):
    original, calls = getattr(owner, name), []
    def wrapped(*args, **kwargs):
        hit = matches(*args)
        if hit:
            calls.append(1)
        if hit and len(calls) == number and when == "before":
            die()
        done = original(*args, **kwargs)
        if hit and len(calls) == number and when == "after":
            die()
        return done
    setattr(owner, name, wrapped)

class Half:
    # Writes one half and dies.
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *problem): self.file.close()
    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        die()

def half_written(part, number):
    original, calls = Path.open, []
    def wrapped(self, mode="r", *args, **kwargs):
        file = original(self, mode, *args, **kwargs)
        if part in self.name and set(mode) & set("wx"):
            calls.append(1)
            if len(calls) == number:
                return Half(file)
        return file
    Path.open = wrapped

def prepare(verb, when, part, number):
    if verb == "step":
        if when == "before":
            dies(randomness, "start_epoch", "before", lambda *_: True, number)
        else:
            dies(context.Context, "check_finite", "after", lambda *_: True, number)
    elif verb == "write":
        half_written(part, number)
    elif verb == "rename":
        dies(os, "replace", when, lambda old, new: part in str(new), number)
        for name in ("replace", "rename"):
            dies(Path, name, when, lambda old, new: part in str(new), number)

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(asked["folder"])
        status = 1
        try:
            if asked["point"]:
                prepare(*asked["point"])
            status = main(asked["arguments"])
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            import traceback; traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

# Verb, before or after, a part of the file's name, which of them.
POINTS = {
    "run": [
        ("step", "before", "", 4),
        ("step", "after", "", 4),
        ("write", "in", "state-", 3),
        ("rename", "before", "state-", 3),
        ("rename", "after", "state-", 3),
        ("write", "in", "last.safetensors", 1),
        ("rename", "before", "last.safetensors", 1),
        ("rename", "after", "last.safetensors", 1),
        ("rename", "before", "curve.jsonl", 1),
        ("rename", "after", "curve.jsonl", 1),
        ("write", "in", "seed-0.json", 1),
        ("rename", "before", "seed-0.json", 1),
        ("rename", "after", "seed-0.json", 1),
        ("write", "in", "cell.json", 1),
        ("rename", "before", "cell.json", 1),
        ("rename", "after", "cell.json", 1),
    ],
    "data fetch made-up": [
        ("write", "in", "text.txt.part", 1),
        ("rename", "before", "text.txt", 1),
        ("rename", "after", "text.txt", 1),
        ("write", "in", "other.txt.part", 1),
    ],
}
DRAWING = [
    ("write", "in", "index.html", 1),
    ("rename", "before", "/old", 1),
    ("rename", "after", "/old", 1),
    ("rename", "after", "reports/site", 1),
]
PLACES = ("results", "reports", "datasets/raw")
VARYING = re.compile(rb'^  "(started|ended)": .*$|^    "(wall_s|cpu_s|peak_memory_bytes|resumed)": .*$', re.MULTILINE)


class Ground:
    """A tiny checkout that every test finds empty, and a process that runs commands in it."""

    def __init__(self, checkout, log: Path) -> None:
        self.folder, self.checkout, self.log = checkout.folder, checkout, log
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", DRIVER], cwd=self.folder, env=checkout.environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, arguments: str, point: tuple | None = None) -> int:
        """The exit status of `retable ARGUMENTS`, negative for a signal."""
        asked = {"arguments": arguments.split(), "point": point, "folder": str(self.folder), "log": str(self.log)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def touch(self) -> None:
        """A redraw takes the records for changed ones."""
        for path in (self.folder / "results").rglob("seed-*.json"):
            os.utime(path)

    def empty(self) -> None:
        for name in PLACES:
            for path in (self.folder / name).glob("*") if (self.folder / name).is_dir() else []:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def outcome(self) -> dict[str, bytes]:
        """What must not depend on what happened: records, curves, weights, index; pages; data."""
        kept = ("seed-0.json", "seed-0.curve.jsonl", "cell.json", "last.safetensors", ".txt", ".html", ".csv", ".svg")
        files = [path for name in PLACES for path in sorted((self.folder / name).rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(self.folder)): VARYING.sub(b"", path.read_bytes())
            for path in files
            if path.name.endswith(kept) and not path.name.startswith(".") and ".verified" not in path.parts
        }

    def states(self) -> list[Path]:
        return sorted((self.folder / "results/.state").glob("*/seed-0/state-*.pt"))


@pytest.fixture(scope="module")
def place(tiny_source, tmp_path_factory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("crashes")
    made = type(tiny_source)(Path(shutil.copytree(tiny_source.folder, folder / "retable")))
    made.edit("methods/tiny/card.yaml", "epochs: {value: 3,", "epochs: {value: 8,")
    card = {
        "name": "made-up", "title": "Made up", "task": "text", "homepage": "h", "licence": "l", "citation": "c",
        "reader": "plain_text", "counts": {}, "content_sha256": "0" * 64, "splits": {}, "files": [],
    }  # fmt: skip
    for name, content in {"text.txt": b"a" * 5000, "other.txt": b"b" * 5000}.items():
        (folder / "mirror" / "made").mkdir(parents=True, exist_ok=True)
        (folder / "mirror" / "made" / name).write_bytes(content)
        card["files"].append(
            {"path": f"made/{name}", "bytes": 5000, "sha256": hashlib.sha256(content).hexdigest(), "derived": "here"}
        )
    (made.folder / "datasets" / "made-up.yaml").write_text(json.dumps(card))
    (made.folder / "config" / "config.yaml").write_text(f"scale: demo\nmirror: {folder / 'mirror'}\n")
    ground = Ground(made, folder / "log")
    yield ground
    ground.process.communicate()


@pytest.fixture
def ground(place) -> Ground:
    place.empty()
    return place


@pytest.fixture(scope="module")
def undisturbed(place) -> Callable[[str], dict[str, bytes]]:
    """What a command leaves behind that nothing stopped."""
    known: dict[str, dict[str, bytes]] = {}

    def of(command: str) -> dict[str, bytes]:
        if command not in known:
            place.empty()
            assert place.ask(command) == 0, place.said
            known[command] = place.outcome()
            assert known[command]
        return known[command]

    return of


def name_of(case: tuple) -> str:
    command, (verb, when, part, number) = case
    return f"{command}: {when} {verb} {part}{'' if number == 1 else f' {number}'}".replace("/", "")


CASES = [(command, point) for command, points in POINTS.items() for point in points]


@pytest.mark.parametrize(("command", "point"), CASES, ids=map(name_of, CASES))
def test_killed_at_a_point_the_same_command_ends_in_the_same_bytes(command, point, ground, undisturbed):
    expected = undisturbed(command)
    ground.empty()
    assert ground.ask(command, point) == -signal.SIGKILL, ground.said
    assert ground.ask(command) == 0, ground.said
    assert ground.outcome() == expected


def test_killed_while_pages_are_drawn_the_next_drawing_is_the_same(ground):
    assert ground.ask("run") == 0
    assert ground.ask("report") == 0
    expected = ground.outcome()
    for point in DRAWING:
        ground.touch()
        assert ground.ask("report", point) == -signal.SIGKILL, ground.said
        assert ground.ask("report") == 0, ground.said
        assert ground.outcome() == expected, point
        assert not list((ground.folder / "reports").glob(".site.*/"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "removed"])
def test_a_damaged_newest_state_gives_way_to_the_one_before(damage, ground, undisturbed):
    expected = undisturbed("run")
    ground.empty()
    assert ground.ask("run", ("step", "after", "", 6)) == -signal.SIGKILL
    *_, before, newest = ground.states()
    data = newest.read_bytes()
    if damage == "removed":
        newest.unlink()
    else:
        flipped = bytes([*data[:200], data[200] ^ 1, *data[201:]])
        newest.write_bytes({"cut": data[: len(data) // 2], "flipped": flipped, "empty": b""}[damage])
    assert ground.ask("run") == 0
    assert ground.outcome() == expected
    assert (f"{newest}: not resumed from, it is damaged" in ground.said) is (damage != "removed")
    assert before.exists() or ground.states()


# Disks


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small file system of its own at a folder; skips where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(["size=3m", *options]), "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """Leave so many bytes free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(b"0" * 4096)
        os.truncate(filler, max(file.tell() - left, 0))
    return filler


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("pages", [0, 2, 4, 6, 9, 12, 16, 20])
def test_a_disk_that_is_full_at_any_point_loses_nothing(pages, ground, undisturbed):
    expected = undisturbed("run")
    ground.empty()
    with mounted(ground.folder / "results"):
        (ground.folder / "results" / ".state").mkdir()
        filler = fill(ground.folder / "results", 4096 * pages)
        status, said = ground.ask("run"), ground.said
        filler.unlink()
        if status:  # it does not fit
            assert status == 1
            assert "Traceback" not in said
            assert said.splitlines()[-1].startswith("retable: ")
            assert "No space left on device" in said.splitlines()[-1]
            assert "make room, the same command goes on" in said.splitlines()[-1]
            for path in (ground.folder / "results").rglob("seed-0.json"):
                read_record(path)  # whole, if the disk was full only after it
        assert ground.ask("run") == 0, ground.said
        assert ground.outcome() == expected


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_full_while_pages_are_drawn_keeps_the_pages_of_before(ground):
    assert ground.ask("run") == 0
    with mounted(ground.folder / "reports"):
        assert ground.ask("report") == 0, ground.said
        before = ground.outcome()
        filler = fill(ground.folder / "reports", 4096 * 20)
        ground.touch()
        assert ground.ask("report") == 1
        assert "Traceback" not in ground.said
        assert "No space left on device" in ground.said.splitlines()[-1]
        assert ground.outcome() == before
        filler.unlink()
        assert ground.ask("report") == 0
        assert ground.outcome() == before


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize(
    ("name", "command"), [("results", "run"), ("reports", "report"), ("datasets/raw", "data fetch made-up")]
)
def test_a_folder_that_cannot_be_written_is_one_line(name, command, ground):
    if command == "report":
        assert ground.ask("run") == 0
    with mounted(ground.folder / name, "ro"):
        assert ground.ask(command) in (1, 2)
        assert "Traceback" not in ground.said
        assert "Read-only file system" in ground.said.splitlines()[-1]
        assert "same command goes on" not in ground.said
    assert ground.ask(command) == 0, ground.said


# Clocks


def test_a_clock_set_back_loses_nothing_and_the_page_follows(measured):
    # As if all of it had been written a day ahead.
    ahead = time.time() + 86400
    for folder in ("results", "reports"):
        for path in (measured.folder / folder).rglob("*"):
            if path.is_file():
                os.utime(path, (ahead, ahead))
    (record,) = measured.results("seed-0.json")
    number = json.loads(record.read_text())["metrics"]
    record.unlink()
    done = measured.snakemake("--cores", "1")
    assert done.returncode == 0, done.stderr
    assert "the clock was set back" in done.stderr
    assert json.loads(record.read_text())["metrics"] == number
    page = measured.folder / "reports/site/index.html"
    assert page.stat().st_mtime < ahead - 3600
    assert "Nothing to be done" in measured.snakemake("--dry-run").stdout
