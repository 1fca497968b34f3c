"""Programs that pass, fail, hang, cheat or take too much; and that none runs without permission."""

import gzip
import json
import time

import pytest

from retable.data.containers import DataError
from retable.evaluate.programs import PERMISSION, passes


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv(PERMISSION, "1")


def test_nothing_runs_without_permission(monkeypatch, tmp_path):
    monkeypatch.delenv(PERMISSION, raising=False)
    with pytest.raises(DataError, match=rf"set {PERMISSION}=1") as raised:
        passes(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("program", "right"),
    [
        ("def f(x):\n    return x + 1\nassert f(1) == 2", True),
        ("assert 1 == 2", False),
        ("def f(:", False),
        ("raise SystemExit(0)", False),
        ("import os\nos._exit(0)", False),
        ("open('passed', 'w').write('guessed')\nraise SystemExit", False),
        ("x = bytearray(3 << 30)", False),
        ("open('large', 'wb').write(bytes(2 << 20))", False),
        (
            "import os\nassert 'RETABLE_RUN_GENERATED_CODE' not in os.environ\nassert os.listdir() == ['program.py']",
            True,
        ),
        ("print('x' * 10**6)\ninput", True),
    ],
)
@pytest.mark.usefixtures("allowed")
def test_a_program_passes_if_it_runs_to_its_end(program, right):
    assert passes(program) is right


@pytest.mark.usefixtures("allowed")
def test_a_program_that_hangs_is_stopped_with_what_it_started():
    begun = time.monotonic()
    assert not passes("while True: pass", seconds=1)
    assert not passes("import subprocess\nsubprocess.run(['sleep', '60'])", seconds=1)
    assert time.monotonic() - begun < 20


@pytest.mark.mirror
@pytest.mark.usefixtures("allowed")
def test_the_first_solutions_of_humaneval_pass_and_empty_ones_do_not(mirror):
    lines = gzip.decompress((mirror / "human-eval" / "HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
    for row in map(json.loads, lines[:10]):
        for body, right in ((row["canonical_solution"], True), ("    return None\n", False)):
            assert passes(f"{row['prompt']}{body}\n{row['test']}\ncheck({row['entry_point']})") is right, row["task_id"]
