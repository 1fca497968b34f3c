"""Snakemake and its jobs are killed again and again, at random times: no seed is lost, and the bytes are those of a run
that nothing disturbed.

RETABLE_SOAK is the number of kills (25 unless it is set), RETABLE_SOAK_SEED draws the same times and targets again. A
kill counts only if it hit while a seed was being measured. `RETABLE_SOAK=200 pytest -m soak` by hand.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

KILLS = int(os.environ.get("RETABLE_SOAK", "25"))
SEED = int(os.environ.get("RETABLE_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
# A mark's limit is stronger than the command line's. On busy cores a kill takes half a minute.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(max(3600, 60 * KILLS))]

# Of which processes, how: all at once as by a power cut, Snakemake, a job, and the child that measures.
TARGETS = [("all", signal.SIGKILL), ("head", signal.SIGTERM), ("head", signal.SIGINT), ("head", signal.SIGKILL),
           ("job", signal.SIGKILL), ("job", signal.SIGTERM), ("child", signal.SIGKILL)]  # fmt: skip
LIFE_SECONDS = (0.1, 2.5)
WAIT_SECONDS = 300.0
VARYING = re.compile(rb'^  "(started|ended)": .*$|^    "(wall_s|cpu_s|peak_memory_bytes|resumed)": .*$', re.MULTILINE)


def outcome(folder: Path) -> dict[str, bytes]:
    found = [*(folder / "results/demo").rglob("seed-*"), *(folder / "results/.state").rglob("*.safetensors")]
    return {
        str(path.relative_to(folder)): VARYING.sub(b"", path.read_bytes())
        for path in sorted(found)
        if path.is_file() and not path.name.startswith(".")
    }


def below(pid: int) -> list[int]:
    """The processes that a process has started, and theirs, oldest first."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" ")
            parents.setdefault(int(rest.rpartition(")")[2].split()[1]), []).append(int(number))
        except OSError:
            continue  # it has ended
    found, waiting = [], [pid]
    while waiting:
        children = sorted(parents.get(waiting.pop(0), []))
        found += children
        waiting += children
    return found


@dataclass
class Soak:
    """The checkout, and what was done to it."""

    checkout: object
    draw: random.Random
    hits: dict[str, int] = field(default_factory=dict)
    missed: int = 0

    @property
    def kills(self) -> int:
        return sum(self.hits.values())

    def measuring(self) -> bool:
        """Whether a seed has begun that has no record."""
        done = {path.name for path in self.checkout.results("seed-*.json")}
        curves = (self.checkout.folder / "results/.state").glob("*/seed-*/curve.jsonl")
        return any(f"{path.parent.name}.json" not in done for path in curves)

    def live(self) -> bool:
        """Start Snakemake and let it live a while; whether it came to its end before it was killed."""
        command = self.checkout.command("--cores", "2", "--rerun-incomplete", "paper_tiny")
        with subprocess.Popen(
            command, cwd=self.checkout.folder, env=self.checkout.environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as head:  # fmt: skip
            deadline = time.monotonic() + WAIT_SECONDS
            before = self.progress()
            while head.poll() is None and self.progress() == before:
                assert time.monotonic() < deadline, "no seed was measured"
                time.sleep(0.05)
            time.sleep(self.draw.uniform(*LIFE_SECONDS))
            target, number = self.draw.choice(TARGETS)
            if self.kills < KILLS and head.poll() is None and self.measuring() and self.kill(head.pid, target, number):
                name = f"{target} {number.name}"
                self.hits[name] = self.hits.get(name, 0) + 1
            else:
                self.missed += 1
            while head.poll() is None:
                assert time.monotonic() < deadline, "Snakemake does not end"
                time.sleep(0.05)
            if head.returncode:
                # Nothing of this call may go on beside the next one.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(head.pid, signal.SIGKILL)
            return head.returncode == 0

    def progress(self) -> int:
        """Bytes of all curves."""
        return sum(path.stat().st_size for path in (self.checkout.folder / "results/.state").glob("*/*/curve.jsonl"))

    @staticmethod
    def kill(head: int, target: str, number: signal.Signals) -> bool:
        """Whether there was something to kill."""
        if target == "all":
            os.killpg(head, number)
            return True
        processes = below(head)
        chosen = {"head": head, "job": processes[0] if processes else 0, "child": processes[-1] if processes else 0}[
            target
        ]
        if not chosen:
            return False
        try:
            os.kill(chosen, number)
        except ProcessLookupError:
            return False
        return True


def test_killed_at_random_a_run_ends_in_the_same_bytes(tiny, record_property):
    tiny.edit("methods/tiny/card.yaml", "seeds: 1, cost: seconds", "seeds: 2, cost: seconds, seconds: 90")
    tiny.edit("methods/tiny/card.yaml", "epochs: {value: 3,", "epochs: {value: 1500,")
    tiny.edit("retable/train/context.py", "CHECKPOINT_SECONDS = 20.0", "CHECKPOINT_SECONDS = 0.3")
    undisturbed = type(tiny)(Path(shutil.copytree(tiny.folder, tiny.folder.with_name("undisturbed"))))
    done = undisturbed.retable("run", "tiny")
    assert done.returncode == 0, done.stderr
    expected = outcome(undisturbed.folder)
    assert len(expected) == 2 * 3  # record, curve, weights
    print(f"RETABLE_SOAK_SEED={SEED}")
    soak, rounds = Soak(tiny, random.Random(SEED)), 0
    while soak.kills < KILLS or not rounds:
        while not soak.live():
            tiny.snakemake("--unlock")
        assert outcome(tiny.folder) == expected, f"RETABLE_SOAK_SEED={SEED}"
        rounds += 1
        print(f"{soak.kills} kills survived in {rounds} rounds: {soak.hits}", flush=True)
        if soak.kills < KILLS:
            shutil.rmtree(tiny.folder / "results")
    targets = ", ".join(f"{name} {count}" for name, count in sorted(soak.hits.items()))
    record_property(
        "soak",
        f"soak: {soak.kills} kills survived in {rounds} rounds, 0 jobs lost, {soak.missed} not counted "
        f"(RETABLE_SOAK_SEED={SEED}): {targets}",
    )
