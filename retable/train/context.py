"""What a method's `run(cell, context)` is handed: data, device, named randomness, a curve log and resumable epochs."""

import copy
import io
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save

from retable.cards import DatasetCard
from retable.data.load import load
from retable.plan import Cell
from retable.records import write_atomically
from retable.train import randomness
from retable.train.checkpoint import load_states, save_phase, save_state
from retable.train.parallel import any_rank, is_main

CHECKPOINT_SECONDS = 20.0
PROGRESS_SECONDS = 30.0
NAME = r"[a-z0-9]+(-[a-z0-9]+)*"


class Diverged(RuntimeError):
    """The loss is no longer a finite number; the run stops and its record says where."""


@dataclass(frozen=True)
class Result:
    """What a method's `run` returns: numbers in the recipe's unit, and lists of numbers (by layer, say)."""

    metrics: dict[str, float]
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture that a run shows beside its record, and what a reader is told about it."""

    png: bytes
    caption: str
    width: int
    height: int


class Stateful(Protocol):
    """What can be saved in a resume state."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class StopRequest:
    """SIGTERM and SIGINT end a run at the next epoch's end, after its state is saved."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def install(self) -> None:
        """Take over both signals (main thread only)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        if self.signal is not None:
            raise SystemExit(128 + number)
        self.signal = number
        print("stopping after this epoch; once more to stop at once", file=sys.stderr)

    def wait(self, seconds: float) -> bool:
        """Sleep, and tell whether a stop was asked for."""
        time.sleep(seconds)
        return self.signal is not None


class Context:
    """One seed of one cell while it runs.

    Every random number is drawn from a stream that a name decides (`derive`), so what happened before does not matter
    and a resumed run equals an uninterrupted one. Of several processes that share a run, all read its state and only
    the first one writes.
    """

    def __init__(
        self,
        cell: Cell,
        seed: int,
        card: DatasetCard,
        raw: Path,
        folder: Path,
        device: torch.device,
        fingerprint: str,
        stop: StopRequest | None = None,
    ) -> None:
        self.cell = cell
        self.seed = seed
        self.device = device
        self.folder = folder
        self.curve = folder / "curve.jsonl"
        self.pictures: dict[str, Picture] = {}
        self.resumed = 0
        self.seconds_before = 0.0
        self.cpu_before = 0.0
        self._card = card
        self._raw = raw
        self._fingerprint = fingerprint
        self._stop = stop or StopRequest()
        self._started = time.monotonic()
        self._cpu_started = _cpu_clock()
        self._saved = self._told = self._started
        self._saving = 0.0
        self._phases: list[str] = []
        self._done = 0
        self._epochs_before = 0
        self._curve_before = 0
        folder.mkdir(parents=True, exist_ok=True)

    # Data and randomness

    def data(self) -> tuple[Any, Any]:
        """The cell's data set and split as the card's reader returns them; hashes checked. Raises DataError."""
        return load(self._card, self.cell.split, self._raw)

    def derive(self, *names: str | int) -> int:
        """A 63-bit number that only the run's seed and `names` decide."""
        return randomness.derive(self.seed, *names)

    def seed_torch(self, *names: str | int) -> None:
        """Set torch's global streams (all devices) to the one that `names` decide."""
        randomness.seed_torch(self.seed, *names)

    # The loop

    def epochs(self, total: int, phase: str = "", **parts: Stateful) -> Iterator[int]:
        """Yield the epochs that are still to do, 1 to `total`, resuming `parts` from the last saved state.

        An algorithm of several phases calls this once for each, under a name: what is finished is not done again, its
        `parts` are then as they were at its end. Torch's streams are set for each epoch by its name and the phase's.
        The state is saved every 20 seconds at an epoch's end (less often where saving takes longer than 2 seconds: at
        most a tenth of the time goes into it), at the end of a named phase, and when a stop was asked for, after which
        SystemExit is raised. An OSError (a full disk) passes through: the previous state stays. Raises ValueError for
        a phase that was there already.
        """
        if phase in self._phases:
            raise ValueError(
                f"the run had the phase {phase!r} already; a run with several loops names each: epochs(n, phase=...)"
            )
        if phase and not re.fullmatch(NAME, phase):
            raise ValueError(f"phase {phase!r}: the name must be of lower-case letters, digits and hyphens")
        self._phases.append(phase)
        self._epochs_before += self._done
        self._done = self._resume(parts, total)
        if phase and self._done == total:
            return
        with self._bar() as bar:
            name = f"{self.cell.slug} seed {self.seed}{phase and f', {phase}'}"
            task = bar.add_task(name, total=total, completed=self._done)
            for epoch in range(self._done + 1, total + 1):
                randomness.start_epoch(self.seed, epoch, phase)
                yield epoch
                self._done = epoch
                bar.update(task, completed=epoch)
                now = time.monotonic()
                if any_rank(self._stop.signal is not None):
                    self._save(epoch, parts, finished=bool(phase) and epoch == total)
                    number = self._stop.signal or signal.SIGTERM
                    print(
                        f"stopped at epoch {epoch} of {total}, state saved; the same command resumes",
                        file=sys.stderr,
                    )
                    raise SystemExit(128 + number)
                if now - self._told >= PROGRESS_SECONDS and is_main():
                    self._told = now
                    print(f"{name}: epoch {epoch} of {total} after {self.seconds():.0f} s", file=sys.stderr, flush=True)
                pause = CHECKPOINT_SECONDS * max(1.0, self._saving / 2)
                if now - self._saved >= pause and epoch < total:
                    self._save(epoch, parts)
        if phase:
            self._save(total, parts, finished=True)

    def log(self, epoch: int, **scalars: float) -> None:
        """Append one line to the run's curve, which counts the epochs of its phases on. Values must be finite or the

        run counts as diverged.
        """
        for name, value in scalars.items():
            self.check_finite(value, name, epoch)
        if not is_main():
            return
        with self.curve.open("a", encoding="utf-8") as file:
            named = {"phase": self._phases[-1]} if self._phases and self._phases[-1] else {}
            file.write(json.dumps({"epoch": self._epochs_before + epoch, **named, **scalars}) + "\n")

    def check_finite(self, value: float, name: str, epoch: int) -> None:
        """Raises Diverged with the epoch and the settings that led there."""
        if not math.isfinite(value):
            rate = self.cell.settings.get("lr")
            raise Diverged(f"{name} is {value} at epoch {epoch} (lr {rate}, seed {self.seed})")

    def check_measured(self, measured: Result) -> None:
        """Raises Diverged for a metric or a value of a series that is no finite number."""
        for name, value in measured.metrics.items():
            self.check_finite(value, name, 0)
        for name, values in measured.series.items():
            for value in values:
                self.check_finite(value, name, 0)

    # Weights that outlive the run, for evaluation alone

    def save_weights(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        """Store tensors as `<name>.safetensors` in the run's state folder."""
        if not is_main():
            return
        # One storage per tensor: shared modules (one LayerNorm in all layers) appear under several names.
        own = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
        write_atomically(self.folder / f"{name}.safetensors", save(own))

    def load_weights(self, name: str) -> dict[str, torch.Tensor]:
        """Tensors stored by `save_weights`. Raises FileNotFoundError that names the command to run first."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            raise FileNotFoundError(f"{path}: no weights here; measure first: {self.cell.command}")
        return load_file(path)

    # Pictures that the pages show

    def picture(self, name: str, pixels: np.ndarray, caption: str) -> None:
        """Show an RGB picture, uint8 (H, W, 3), beside the record and on the pages; call it after training.

        `name` is of lower-case letters, digits and hyphens, and is the same in all variants that are to be compared.
        Raises ValueError for another name, shape or type.
        """
        if not re.fullmatch(NAME, name):
            raise ValueError(f"picture {name!r}: the name must be of lower-case letters, digits and hyphens")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"picture {name!r}: expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, format="PNG")
        height, width = pixels.shape[:2]
        self.pictures[name] = Picture(png.getvalue(), caption, width, height)

    def seconds(self) -> float:
        """Wall time of this run, the parts before an interruption included."""
        return self.seconds_before + time.monotonic() - self._started

    def cpu_seconds(self) -> float:
        """Processor time of this run in all threads and in child processes that ended, earlier parts included."""
        return self.cpu_before + _cpu_clock() - self._cpu_started

    # Inside

    def _save(self, epoch: int, parts: dict[str, Stateful], *, finished: bool = False) -> None:
        if not is_main():
            return
        begun = time.monotonic()
        if self.curve.exists():
            with self.curve.open("rb") as file:
                os.fsync(file.fileno())
        state = {
            **self._owner(),
            "phase": self._phases[-1],
            "epoch": epoch,
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "curve_bytes": self.curve.stat().st_size if self.curve.exists() else 0,
            "seconds": self.seconds(),
            "cpu_seconds": self.cpu_seconds(),
            "resumed": self.resumed,
        }
        if finished:
            save_phase(self.folder, self._phases[-1], state)
            self._curve_before = state["curve_bytes"]
        else:
            save_state(self.folder, self._epochs_before + epoch, state)
        self._saved = time.monotonic()
        self._saving = self._saved - begun

    def _owner(self) -> dict[str, Any]:
        """Whose a saved state is; one of another cell, seed, code or data is not taken."""
        return {"cell": self.cell.identity, "seed": self.seed, "fingerprint": self._fingerprint}

    def _resume(self, parts: dict[str, Stateful], total: int) -> int:
        """Epochs of the phase done in the newest state that can be loaded; says why newer ones cannot."""
        written = self.curve.stat().st_size if self.curve.exists() else 0
        phase, fresh = self._phases[-1], None
        for path, state in load_states(self.folder, self._owner(), phase):
            fresh = fresh or {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
            try:
                self._check(state, parts, total, written)
                for name, part in parts.items():
                    part.load_state_dict(state["parts"][name])
            except Exception as problem:  # whatever a part makes of a foreign state
                reason = " ".join(str(problem).split())
                print(f"{path}: not resumed from ({type(problem).__name__}: {reason})", file=sys.stderr, flush=True)
                for name, part in parts.items():
                    part.load_state_dict(fresh[name])
                continue
            if phase and state["epoch"] == total:
                # Ended: what follows in the curve is of later phases, which cut it themselves.
                self._curve_before = state["curve_bytes"]
            else:
                self._cut_curve(state["curve_bytes"])
            self.resumed = state["resumed"] + 1
            self.seconds_before, self.cpu_before = state["seconds"], state["cpu_seconds"]
            return state["epoch"]
        self._cut_curve(self._curve_before)
        return 0

    def _cut_curve(self, size: int) -> None:
        """Leave the curve as it was when a state was saved or a phase ended; later lines come again."""
        self._curve_before = size
        if is_main() and self.curve.exists():
            if size:
                os.truncate(self.curve, size)
            else:
                self.curve.unlink()

    @staticmethod
    def _check(state: dict[str, Any], parts: dict[str, Stateful], total: int, written: int) -> None:
        """Raises ValueError or KeyError for a state that is not of this loop."""
        if set(state["parts"]) != set(parts):
            raise ValueError(f"it holds {sorted(state['parts'])}, the run has {sorted(parts)}")
        if type(state["epoch"]) is not int or not 0 < state["epoch"] <= total:
            raise ValueError(f"it is of epoch {state['epoch']}, the run has {total}")
        if written < state["curve_bytes"]:
            raise ValueError("the curve beside it is shorter than it was")
        for name in ("seconds", "cpu_seconds", "resumed"):
            if not math.isfinite(state[name]) or state[name] < 0:
                raise ValueError(f"its {name} is {state[name]}")

    def _bar(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, disable=not (sys.stderr.isatty() and is_main()), transient=True)


def _cpu_clock() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
