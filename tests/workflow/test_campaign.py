"""A campaign on a tiny paper's repository: rehearsed, announced, measured in a clone, published, concluded."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PART = "parts: [numbers/constant]"
STATE = "states: [{id: constant, variant: plain, kind: constant answer, source: ours}]"
ORDERING = "orderings: [{id: high-over-plain, better: high, worse: plain, source: ours}]"


def git(folder, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(tiny) -> None:
    git(tiny.folder, "add", ".")
    git(tiny.folder, "commit", "--quiet", "--message", "tiny")


@pytest.fixture
def repository(tiny, root):
    """The tiny project with an ordering that holds and a statement on it, at reduced scale."""
    card = "methods/tiny/card.yaml"
    tiny.edit(card, PART, "parts: [numbers/high-over-plain]")
    tiny.edit(card, STATE, ORDERING)
    high = "variants: {plain: {label: plain, settings: {high: 0.0}}, high: {label: high, settings: {high: 9.0}}}"
    tiny.edit(card, "variants: {plain: {label: plain}}", high)
    demo = "demo: {datasets: {digits-knn: default}, seeds: 1, cost: seconds}"
    tiny.edit(card, demo, f"{demo}\n      reduced: {{datasets: {{digits-knn: default}}, seeds: 5, cost: seconds}}")
    tiny.edit("methods/tiny/settings.py", "epochs: int", "epochs: int\n    high: float")
    tiny.edit("methods/tiny/run.py", "float(walk.place)})", "float(walk.place) + self.settings.high})")
    shutil.copy(root / ".gitignore", tiny.folder)
    git(tiny.folder, "init", "--quiet")
    commit(tiny)
    return tiny


def test_a_campaign_decides_what_is_open_and_publishes_it(repository):
    def said(*arguments: str) -> str:
        done = repository.retable(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "0 seeds, 0.00 processor-hours" in said("campaign", "--dry-run")
    assert "2 of 2 cells ran, 0 had before" in said("campaign", "--steps", "1")
    assert "0 of 0 cells ran, 2 had before" in said("campaign", "--steps", "1")
    assert not repository.results("seed-*.json")
    refused = repository.retable("campaign")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "cannot begin a campaign: benchmarks/rehearsal.csv" in refused.stderr
    commit(repository)

    announced = said("campaign", "--dry-run", "--minutes", "10")
    assert "tiny: constant at reduced scale: “high” better than “plain” on digits-knn" in announced
    assert "10 seeds" in announced
    text = said("campaign", "--minutes", "60", "--jobs", "2")  # it ends when all is measured
    assert "2 workers in " in text
    assert "tiny statement constant reduced: not measured -> holds" in text
    assert "10 of 10 seeds are measured" in text
    (path,) = (repository.folder / "results" / "published" / "tiny").glob("*.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(record["variant"], record["seed"]) for record in records} == {
        (variant, seed) for variant in ("plain", "high") for seed in range(5)
    }
    assert {record["clean"] for record in records} == {True}
    looks = (repository.folder / "results" / "published" / "looks.csv").read_text().splitlines()[1:]
    assert [line.split(",")[-2:] for line in looks] == [["5", ""]] * 2
    assert "nothing is left to measure" in said("campaign", "--minutes", "10")


def test_a_campaign_that_is_terminated_takes_its_workers_along_and_goes_on(repository):
    repository.edit("methods/tiny/run.py", "time.sleep(0.01)", "time.sleep(1.0)")
    commit(repository)
    assert repository.retable("campaign", "--steps", "1").returncode == 0
    commit(repository)
    running = subprocess.Popen(
        [sys.executable, "-m", "retable", "campaign", "--minutes", "60"],
        cwd=repository.folder,
        env=repository.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    state = repository.folder / ".background" / "campaign" / "state.json"
    end = time.monotonic() + 300
    while time.monotonic() < end and not list(state.parent.glob("clone/results/reduced/*/*/*/*/seed-*.json")):
        time.sleep(0.2)
    (worker,) = json.loads(state.read_text())["workers"]
    running.send_signal(signal.SIGTERM)
    text, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "interrupted; the same command goes on" in text
    assert "of 10 seeds are measured; commit results/published" in text
    stat = Path(f"/proc/{worker['pid']}/stat")
    # It has ended, whether or not somebody has taken note of it.
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
