"""Inputs that nobody wrote: from whole files, by edits that a disk, an editor or an attacker makes.

Each target is first shown to find a planted fault with the budget that it has. `-m fuzz` runs all of it, with atheris
where that is installed; the terminal's last lines count the inputs.
"""

import contextlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
EXAMPLES = 400
SECONDS = 4
# Of files that libraries in C read, and of the formats that people write most.
LED_BY_COVERAGE = ("claims", "paper card", "pickle", "record", "resume state")
# What tells readers apart from each other: numbers beyond measure, other types, other places, other encodings.
TOKENS = [
    *(b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"\r", b"\n", b"\n\n", b"\t", b"\xc3\xa9"),
    *(b",", b";", b"'", b'"', b":", b"{", b"}", b"[", b"]", b"-", b"# ", b"'x'", b"[" * 2000, b"{" * 2000),
    *(b"null", b"~", b"[]", b"{}", b"true", b"nan", b".nan", b"inf", b"-1", b"0", b"1e999", b"10" * 20, b"1e-3"),
    *(b"2020-13-45", b"../../../x", b"/etc/passwd", b"a/b", b"{scale}"),
    *(b"!!python/object:os.system", b"&a [*a]", b"<<: *a", b"PK\x05\x06", b"cos\nsystem\n(S'x'\ntR."),
]
EDIT = st.tuples(
    st.sampled_from(["insert", "replace", "cut", "repeat", "truncate", "bytes", "value"]),
    st.floats(0, 1),
    st.integers(0, 40),
    st.sampled_from(TOKENS),
    st.binary(max_size=4),
)
VALUE = re.compile(rb"[A-Za-z0-9_.%-]+")


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


targets = load("targets")


def edited(data: bytes, edits: list[tuple]) -> bytes:
    """The bytes after some edits, each at a place given as a share of the length."""
    for kind, share, length, token, raw in edits:
        at = int(share * len(data))
        if kind == "insert":
            data = data[:at] + token + data[at:]
        elif kind == "replace":
            data = data[:at] + token + data[at + length :]
        elif kind == "cut":
            data = data[:at] + data[at + length :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + length] * 3 + data[at + length :]
        elif kind == "truncate":
            data = data[:at]
        elif kind == "bytes":
            data = data[:at] + raw + data[at + len(raw) :]
        elif words := list(VALUE.finditer(data)):  # a whole word, which a key or a value is
            word = words[min(int(share * len(words)), len(words) - 1)]
            data = data[: word.start()] + token + data[word.end() :]
    return data


def attack(target, folder: Path, examples: int = EXAMPLES) -> tuple[int, int]:
    """Feed a target with edited examples: how many, and how many of them it took."""
    count = [0, 0]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(target.examples), st.lists(EDIT, min_size=1, max_size=4))
    def one(example, edits):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        count[0] += 1
        # What is passed over is said on stderr, thousands of times here.
        with contextlib.redirect_stderr(io.StringIO()):
            count[1] += targets.feed(target, edited(example, edits), folder)

    one()
    return count[0], count[1]


def fault_of(target, folder: Path) -> BaseException | None:
    """What an attack brings to light, if it does."""
    try:
        attack(target, folder)
    except (Exception, BaseExceptionGroup) as fault:
        return fault
    return None


@pytest.mark.parametrize("name", targets.TARGETS)
def test_whole_examples_are_taken(name, tmp_path):
    target = targets.TARGETS[name]
    for example in target.examples:
        assert targets.feed(target, example, tmp_path)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_input_is_answered_by_a_traceback_or_a_write_elsewhere(name, tmp_path, record_property):
    target = targets.TARGETS[name]
    take_out = target.plant()
    try:
        found = fault_of(target, tmp_path / "planted")
    finally:
        take_out()
    assert found is not None, "the planted fault was not found"
    tried, taken = attack(target, tmp_path / "tried")
    assert tried >= EXAMPLES * 0.9
    record_property("fuzz", f"{name}: {tried} inputs by hypothesis, {taken} of them taken; the planted fault found")


@pytest.mark.fuzz
@pytest.mark.parametrize("name", LED_BY_COVERAGE)
def test_no_input_that_coverage_leads_to_is_answered_by_a_traceback(name, tmp_path, record_property):
    pytest.importorskip("atheris", reason='atheris is not installed: pip install -e ".[fuzz]" -c requirements.lock')

    def drive(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HERE / "drive.py"), name, str(SECONDS), str(tmp_path), *options]
        return subprocess.run(command, cwd=targets.ROOT, capture_output=True, text=True, check=False, errors="replace")

    planted = drive("--plant")
    assert planted.returncode != 0, "the planted fault was not found"
    done = drive()
    assert done.returncode == 0, done.stderr[-3000:]
    (runs,) = re.findall(r"Done (\d+) runs", done.stderr)
    record_property("fuzz", f"{name}: {runs} inputs by atheris in {SECONDS} s; the planted fault found")
