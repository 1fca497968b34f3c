"""Resume states: written to a temporary name, flushed, renamed, hashed; a damaged one gives way to the one before."""

import hashlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from retable.records import write_atomically

KEPT = 2
DIGEST_BYTES = 64


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state-<step>.pt`, and delete those before the last but one. Raises OSError."""
    path = _write(folder / f"state-{step:09d}.pt", state)
    for old in sorted(folder.glob("state-*.pt"))[:-KEPT]:
        old.unlink()
    return path


def save_phase(folder: Path, phase: str, state: dict[str, Any]) -> Path:
    """Write `phase-<name>.pt`: the state at the end of a phase, kept while later ones run. Raises OSError."""
    return _write(folder / f"phase-{phase}.pt", state)


def _write(path: Path, state: dict[str, Any]) -> Path:
    """64 hexadecimal digits of SHA-256, then the bytes of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_atomically(path, hashlib.sha256(payload).hexdigest().encode() + payload)
    return path


def load_states(folder: Path, owner: Mapping[str, Any], phase: str = "") -> Iterator[tuple[Path, dict[str, Any]]]:
    """States of a phase that are whole and whose fields `owner` have these values: of its end, then newest first.

    Nothing is unpickled before its hash matched. What is passed over is named on stderr with the reason.
    """
    ended = [path for path in [folder / f"phase-{phase}.pt"] if phase and path.exists()]
    for path in [*ended, *sorted(folder.glob("state-*.pt"), reverse=True)]:
        data = path.read_bytes()
        digest, payload = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            _pass_over(path, "it is damaged")
            continue
        try:
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except Exception as problem:  # torch names no exceptions that it raises here
            _pass_over(path, f"torch cannot read it ({type(problem).__name__})")
            continue
        if not isinstance(state, dict):
            _pass_over(path, "it holds no state")
            continue
        foreign = [name for name, value in owner.items() if state.get(name) != value]
        if foreign:
            what = (
                "code or data" if foreign == ["fingerprint"] else " and ".join(n for n in foreign if n != "fingerprint")
            )
            _pass_over(path, f"it is of another {what}")
            continue
        if state.get("phase", "") == phase:
            yield path, state


def _pass_over(path: Path, why: str) -> None:
    print(f"{path}: not resumed from, {why}", file=sys.stderr, flush=True)
