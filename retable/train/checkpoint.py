"""Resume states: written to a temporary name, flushed, renamed, hashed; a damaged one gives way to the one before."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from retable.records import write_atomically

KEPT = 2
DIGEST_BYTES = 64


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state-<step>.pt`: 64 hexadecimal digits of SHA-256, then the bytes of `torch.save`. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / f"state-{step:09d}.pt"
    write_atomically(path, hashlib.sha256(payload).hexdigest().encode() + payload)
    for old in sorted(folder.glob("state-*.pt"))[:-KEPT]:
        old.unlink()
    return path


def load_state(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The newest undamaged state that carries `fingerprint`, or None. Nothing is unpickled before its hash matched."""
    for path in sorted(folder.glob("state-*.pt"), reverse=True):
        data = path.read_bytes()
        digest, payload = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            continue
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        if state["fingerprint"] == fingerprint:
            return state
    return None
