"""Real measurements in a clone of a tiny paper's repository: shared, paused, stopped, resumed, collected."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the states of processes are read from /proc"),
]
SEEDS = 6


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tiny, root):
    """The tiny project with seeds that take a while, committed."""
    tiny.edit("methods/tiny/card.yaml", "seeds: 1", f"seeds: {SEEDS}")
    tiny.edit("methods/tiny/card.yaml", "epochs: {value: 3,", "epochs: {value: 120,")
    shutil.copy(root / ".gitignore", tiny.folder)
    git(tiny.folder, "init", "--quiet")
    git(tiny.folder, "add", ".")
    git(tiny.folder, "commit", "--quiet", "--message", "tiny")
    yield tiny
    tiny.retable("background", "stop")


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_measurement_is_shared_paused_stopped_resumed_and_collected(repository):
    clone = repository.folder / ".background" / "clone"
    start = ("background", "start", "--jobs", "2", "--", "tiny/numbers")

    def said(*arguments: str) -> str:
        done = repository.retable(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def workers() -> list[str]:
        return [line for line in said("background", "status").splitlines() if line.startswith("worker")]

    def states() -> set[str]:
        noted = json.loads((repository.folder / ".background" / "state.json").read_text())
        texts = [Path(f"/proc/{worker['pid']}/stat").read_text() for worker in noted["workers"]]
        return {text[text.rindex(")") + 2] for text in texts}

    def records() -> list[Path]:
        return sorted((clone / "results").glob("*/*/*/*/*/seed-?.json"))

    def logs() -> list[str]:
        return [(repository.folder / ".background" / f"worker-{number}.log").read_text() for number in (1, 2)]

    (repository.folder / "note.txt").touch()
    first = said(*start)
    commit = git(repository.folder, "rev-parse", "HEAD")
    assert "not committed, so not as they are here in the clone: note.txt\n" in first
    assert f"2 workers measure {commit[:12]} in {clone}" in first
    refused = repository.retable(*start)
    assert refused.returncode == 2
    assert "2 workers are there already" in refused.stderr
    until(lambda: all("seed" in log for log in logs()))

    for _ in range(2):
        assert said("background", "pause") == "2 processes are paused\n"
        until(lambda: states() == {"T"})
    assert all(" paused: tiny/numbers digits-knn plain seed " in line for line in workers())
    before = len(records())
    assert said("background", "resume") == "2 processes are running\n"
    until(lambda: len(records()) > before)
    assert "2 of 2 workers ended" in said("background", "stop")
    assert len(records()) < SEEDS
    assert all(" ended (its exit status is unknown): " in line for line in workers())

    said(*start)
    until(lambda: all(" ended " in line for line in workers()))
    found = [json.loads(path.read_text()) for path in records()]
    assert [record["seed"] for record in found] == list(range(SEEDS))
    assert {(record["commit"], record["clean"]) for record in found} == {(commit, True)}
    assert any(record["cost"]["resumed"] for record in found)
    for seed in range(SEEDS):
        assert "".join(logs()).count(f"seed {seed}: ok") == 1
    assert all(": ok" in log for log in logs())

    # At another commit, what is there is collected before the clone moves.
    repository.edit("methods/tiny/run.py", '"""A walk."""', '"""A random walk."""')
    git(repository.folder, "commit", "--quiet", "--all", "--message", "other words")
    assert f"{SEEDS} seeds collected\n" in said(*start)
    assert git(clone, "rev-parse", "HEAD") == git(repository.folder, "rev-parse", "HEAD")
    assert said("background", "collect") == "0 seeds collected\n"
    assert f"{SEEDS} ok" in said("status")
    assert git(repository.folder, "status", "--porcelain") == "?? note.txt"
    (repository.folder / "note.txt").unlink()
    assert f"{SEEDS} records published" in said("publish", "tiny/numbers")
