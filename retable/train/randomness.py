"""The random streams of a run: every random number comes from a stream that the run's seed and a name decide.

What happened before a draw does not matter, so a resumed run equals an uninterrupted one.
"""

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit number that only `seed` and `names` decide."""
    text = "/".join(str(name) for name in ("retable", seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_torch(seed: int, *names: str | int) -> None:
    """Set torch's global streams (all devices) to the one that `seed` and `names` decide."""
    torch.manual_seed(derive(seed, *names))


def start_epoch(seed: int, epoch: int, phase: str = "") -> None:
    """Set torch's global streams for one epoch, counted from 1, of the run's only phase or of the named one."""
    seed_torch(seed, "epoch", *([phase] if phase else []), epoch)
