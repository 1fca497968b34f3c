import os
import subprocess
import sys

import pytest

from retable.cards import CardError, DataError
from retable.output import one_line

SCRIPT = """
import os, sys
from pathlib import Path
from retable.cards import DataError
from retable.output import log_to, one_line
with one_line():
    log_to(Path(sys.argv[1]))
    print("said")
    os.write(2, b"from below Python\\n")
    raise DataError("cora: no network")
"""


def test_what_a_job_prints_is_in_its_log_and_why_it_ended_on_the_screen_too(root, tmp_path):
    log = tmp_path / "folder" / "job.log"
    for tries in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(log)],
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "retable: cora: no network\n")
        assert log.read_text() == tries * "said\nfrom below Python\nretable: cora: no network\n"


@pytest.mark.parametrize("problem", [CardError("x"), DataError("x"), OSError("x")])
def test_what_is_mistaken_or_missing_is_said_once(problem, capfd):
    with pytest.raises(SystemExit), one_line():
        raise problem
    assert capfd.readouterr().err == "retable: x\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_line():
        1 / 0  # noqa: B018
