import os
import types
from pathlib import Path

import pytest

from retable.cluster import ask, ask_by_what_there_is, configuration, keeps_accounts


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a `scontrol` that prints these lines on the path."""

    def make(*lines: str, status: int = 0) -> None:
        program = tmp_path / "scontrol"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return make


def plugin(command: str = "sacct") -> types.SimpleNamespace:
    return types.SimpleNamespace(status_command=command)


NONE = "AccountingStorageType   = accounting_storage/none"


@pytest.mark.parametrize("value", ["accounting_storage/none", "(null)", ""])
def test_where_no_accounts_are_kept_squeue_is_asked(scontrol, value, capsys):
    scontrol("Configuration data as of 2026", f"AccountingStorageType   = {value}", "MinJobAge = 300 sec")
    settings = plugin()
    ask_by_what_there_is(settings)
    assert settings.status_command == "squeue"
    assert capsys.readouterr().err.count("\n") == 1


def test_where_they_are_kept_and_where_nothing_answers_all_is_left_as_it_is(scontrol, capsys):
    scontrol("AccountingStorageType   = accounting_storage/slurmdbd")
    settings = plugin()
    ask_by_what_there_is(settings)
    assert settings.status_command == "sacct"
    scontrol(NONE, status=1)
    ask_by_what_there_is(settings)
    assert settings.status_command == "sacct"
    assert configuration() is None


def test_what_the_user_chose_and_other_executors_are_left_as_they_are(scontrol):
    scontrol(NONE)
    settings = plugin("squeue")
    ask_by_what_there_is(settings)
    assert settings.status_command == "squeue"
    ask_by_what_there_is(None)


def test_settings_are_read_by_name(scontrol):
    scontrol("AccountingStorageType   = accounting_storage/slurmdbd", "MinJobAge = 300 sec", "no pair")
    found = configuration()
    assert found == {"AccountingStorageType": "accounting_storage/slurmdbd", "MinJobAge": "300 sec"}
    assert keeps_accounts(found)
    assert ask("/no/such/program") is None
