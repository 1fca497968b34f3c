from pathlib import Path

import pytest

from retable import doctor
from retable.cli import main
from retable.config import Config, Workspace
from retable.doctor import Finding, examine

ROOT = Path(__file__).resolve().parents[2]


def findings_text(workspace: Workspace) -> str:
    return "\n".join(str(finding) for finding in examine(workspace))


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)


def test_a_sound_workstation_has_nothing_bad(workspace):
    text = findings_text(workspace)
    assert "BAD" not in text
    for words in ("Python 3", "cells at scale demo", "GB free", "processor cores", "all files of data sets are here"):
        assert words in text
    assert not list(workspace.results.glob(".doctor-*"))


def test_what_is_wrong_is_said_and_is_the_exit_status(monkeypatch, capsys, workspace):
    monkeypatch.setattr("retable.cli.open_workspace", lambda chosen: workspace)
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "examine", lambda workspace: iter([Finding(False, "this"), Finding(True, "that")]))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "BAD   this\ngood  that\n1 thing to mend\n" in out


def test_a_clock_that_is_off_a_full_disk_and_locks_that_do_not_lock(monkeypatch, workspace):
    now = doctor.time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now - 60)
    assert "its clock is +" in findings_text(workspace)
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "ROOM_GB", 1e9)
    assert "BAD   " + str(workspace.results) in findings_text(workspace)
    monkeypatch.setattr(doctor.FileLock, "acquire", lambda *_, **__: None)
    assert "two processes get the same lock" in findings_text(workspace)


def test_folders_that_cannot_be_written_are_a_finding(monkeypatch, workspace):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(workspace.results))

    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", refuse)
    assert f"BAD   [Errno 13] Permission denied: '{workspace.results}'" in findings_text(workspace)


def test_limits_are_named_with_what_to_say(monkeypatch, workspace):
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda kind: (100, 100))
    text = findings_text(workspace)
    assert "ulimit -v unlimited" in text
    assert "ulimit -n 4096" in text


def test_missing_data_and_missing_gpus_are_named(workspace, monkeypatch):
    monkeypatch.delenv("RETABLE_MIRROR", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    chosen = Config(scale="full", papers=["umae"], device="cuda")
    text = findings_text(Workspace(workspace.root, chosen))
    assert "torch sees no GPU here" in text
    # The raw folder of the checkout may hold anything; a name that cannot be there is missing.
    monkeypatch.setattr(Workspace, "raw", property(lambda self: self.results / "raw"))
    assert "put your own copy, or a link to it, at" in findings_text(Workspace(workspace.root, chosen))
    chosen = Config(scale="full", papers=["contranorm"], device="cpu")
    assert "MB of" in findings_text(Workspace(workspace.root, chosen))


def test_a_cluster_without_answers_plugin_or_accounts(monkeypatch, workspace):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/sbatch")
    monkeypatch.setattr(doctor, "configuration", lambda: None)
    assert "no Slurm controller answers" in findings_text(workspace)
    settings = {"SLURM_VERSION": "22.05.8", "AccountingStorageType": "accounting_storage/none"}
    monkeypatch.setattr(doctor, "configuration", lambda: settings)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(workspace.root))
    text = findings_text(workspace)
    for words in ("Slurm 22.05.8 answers", 'pip install -e ".[slurm]"', "keeps no accounts", "jobs on other machines"):
        assert words in text
