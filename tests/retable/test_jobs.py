"""What the job graph's scripts do with Snakemake's job: its log, its settings, its output."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from retable import children, jobs, report, wandb_sink
from retable.bundles import SECONDS, fix_bundles
from retable.cards import DataFile
from retable.currency import RecordStore

BEGIN = """
import json, os, sys
from types import SimpleNamespace
from retable.jobs import begin
given = SimpleNamespace(log=["logs/measure/a.log"], config=json.loads(sys.argv[1]))
workspace = begin(given)
print(f"{sys.argv[2]}: {workspace.config.scale} at {workspace.root.name}")
os.write(2, b"from below Python\\n")
os._exit(3)  # no buffer is emptied
"""


@pytest.fixture
def begin(root, tmp_path):
    """Begins a job in a process of its own and returns what that printed past its log."""

    def begin(word: str, **config: str) -> str:
        arguments = [sys.executable, "-c", BEGIN, json.dumps(config), word]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        environment |= {"PYTHONPATH": str(root)}
        done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    return begin


def test_both_names_of_the_log_show_all_tries_at_once_though_snakemake_deletes_one(begin, tmp_path):
    log, kept = tmp_path / "logs/measure/a.log", tmp_path / "logs/tries/measure/a.log"
    expected = ""
    for word in ("first", "second"):
        assert begin(word, scale="full") == ""
        expected += f"{word}: full at {tmp_path.name}\nfrom below Python\n"
        assert log.read_text() == kept.read_text() == expected
        log.unlink()


def test_a_setting_that_is_refused_is_told_in_the_log(begin, tmp_path):
    assert begin("never", scale="dmeo") == ""
    told = (tmp_path / "logs/measure/a.log").read_text()
    assert "did you mean 'demo'" in told
    assert "never" not in told


@pytest.fixture
def job(workspace, tmp_path, monkeypatch):
    """A job in a workspace, with an output; its log is left alone."""
    monkeypatch.setattr(jobs, "begin", lambda job: workspace)
    wildcards = SimpleNamespace(dataset="digits-knn")
    return SimpleNamespace(output=[str(tmp_path / "out.json")], wildcards=wildcards, threads=1)


def test_a_marker_of_a_download_holds_the_hashes_and_is_not_there_without_the_files(job, workspace, tmp_path, capfd):
    digest = hashlib.sha256(b"good").hexdigest()
    file = DataFile(path="a/b.bin", bytes=4, sha256=digest, derived="by hand")
    workspace.datasets["digits-knn"] = workspace.datasets["digits-knn"].model_copy(update={"files": [file]})
    workspace.__dict__["config"] = workspace.config.model_copy(update={"mirror": str(tmp_path / "mirror")})
    object.__setattr__(workspace, "root", tmp_path / "elsewhere")
    (tmp_path / "mirror" / "a").mkdir(parents=True)
    (tmp_path / "mirror" / "a" / "b.bin").write_bytes(b"evil")
    with pytest.raises(SystemExit):
        jobs.download(job)
    assert "has sha256" in capfd.readouterr().err
    assert not Path(job.output[0]).exists()
    (tmp_path / "mirror" / "a" / "b.bin").write_bytes(b"good")
    jobs.download(job)
    assert json.loads(Path(job.output[0]).read_text()) == {"a/b.bin": digest}
    assert (workspace.raw / "a" / "b.bin").read_bytes() == b"good"


@pytest.fixture
def handlers():
    """Handlers that do nothing, so that a job without its own fails and does not end the tests."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bundle_is_measured_with_its_threads_and_told_of_a_sigterm(threads, job, workspace, handlers, monkeypatch):
    measured = []

    def measure_bundle(place, bundle, stop, log):
        assert place is workspace
        os.kill(os.getpid(), signal.SIGTERM)
        measured.append((bundle, torch.get_num_threads(), stop.signal))
        cell = workspace.cells[0]
        assert log(cell) == Path(f"{cell.folder(Path('logs/measure'))}.log")

    monkeypatch.setattr(children, "measure_bundle", measure_bundle)
    monkeypatch.setitem(SECONDS, "demo", 20.0)
    first, second = fix_bundles(workspace, RecordStore.open(workspace))[:2]
    job.wildcards.bundle = second.name
    job.threads = threads
    jobs.measure(job)
    assert measured == [(second, threads, signal.SIGTERM)]
    assert first != second


def test_a_bundle_that_the_run_does_not_have_is_said_in_one_line(job, workspace, handlers, capfd):
    job.wildcards.bundle = "none_0"
    with pytest.raises(SystemExit):
        jobs.measure(job)
    assert "no list of bundles" in capfd.readouterr().err


def test_the_pages_are_drawn_of_the_workspace_and_a_replay_notes_how_many(job, workspace, monkeypatch, tmp_path):
    index = tmp_path / "index.html"
    pages = {id(workspace): index}
    monkeypatch.setattr(report, "build_site", lambda place: pages[id(place)])
    jobs.site(job)
    assert index.exists()
    monkeypatch.setattr(wandb_sink, "replay", lambda place: 3 if place is workspace else 0)
    jobs.wandb(job)
    assert json.loads(Path(job.output[0]).read_text()) == {"replayed": 3}
