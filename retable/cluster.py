"""What a Slurm cluster says of itself. Standard library only: the job graph asks at every start."""

import shutil
import subprocess
import sys
from typing import Any

ANSWER_SECONDS = 10.0
# What `scontrol` calls a cluster that keeps no account of ended jobs, older and newer.
NO_ACCOUNTS = ("accounting_storage/none", "(null)", "")


def ask(*command: str) -> str | None:
    """What a command of Slurm's prints; None where it is not there, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def configuration() -> dict[str, str] | None:
    """Slurm's settings by name; None where no controller answers."""
    said = ask("scontrol", "show", "config") if shutil.which("scontrol") else None
    if said is None:
        return None
    pairs = (line.partition("=") for line in said.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def keeps_accounts(settings: dict[str, str]) -> bool:
    """Whether `sacct` knows of jobs that have ended."""
    return settings.get("AccountingStorageType", "") not in NO_ACCOUNTS


def ask_by_what_there_is(executor_settings: Any) -> None:
    """Have Snakemake's Slurm plugin ask `squeue` where `sacct` answers nothing: it would wait for ever.

    Settings of other executors, and a Slurm that answers nothing at all, are left to say so themselves.
    """
    if getattr(executor_settings, "status_command", None) != "sacct":
        return
    settings = configuration()
    if settings is None or keeps_accounts(settings):
        return
    executor_settings.status_command = "squeue"
    print("retable: this Slurm keeps no accounts of ended jobs: squeue is asked for them", file=sys.stderr)
