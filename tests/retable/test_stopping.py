"""A stop that does not wait for a long epoch."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def stopped(actions: str) -> subprocess.CompletedProcess[str]:
    script = (
        "import os, signal, time, retable.stopping as stopping;"
        "stopping.GRACE_SECONDS = 0.5;"
        "stop = stopping.PromptStop(); stop.install();"
        f"os.kill(os.getpid(), signal.SIGTERM); {actions}"
    )
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_second_stop_signal_ends_at_once() -> None:
    done = stopped("os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.3); print('alive')")
    assert done.returncode == 128 + signal.SIGTERM
    assert "stopping after this epoch" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("epoch", ["time.sleep(60)", "[n for n in iter(int, 1)]"])
def test_an_epoch_that_lasts_longer_than_the_grace_is_given_up(epoch: str) -> None:
    done = stopped(epoch)
    assert done.returncode == 128 + signal.SIGTERM
    assert "the same command goes on from the last saved one" in done.stderr


def test_an_epoch_that_ends_in_time_ends_the_usual_way() -> None:
    done = stopped("time.sleep(0.1); print(stop.signal == signal.SIGTERM)")
    assert (done.returncode, done.stdout) == (0, "True\n")
