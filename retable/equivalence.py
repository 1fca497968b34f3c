"""When two runs count as equal, and how a run is made short for the comparison: all of it is plain data."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from retable.cards import Scalar

EPOCHS = 2
# Lengths that are scaled along with the epochs they belong to.
SCALED = {"warmup", "patience", "every"}
# Endings of settings that are no lengths though a name above is part of theirs.
NO_LENGTHS = {"start", "share"}
# Evaluations that are repeated are done once.
ONCE = {"divisions"}


def cut(settings: Mapping[str, Scalar], epochs: int = EPOCHS) -> dict[str, Scalar]:
    """What to change in a cell's settings for a short run: each phase has at most `epochs`, schedules keep their shape.

    A setting is the length of a phase if its name is `epochs` or ends in `_epochs`. A warm-up, a patience and an
    interval shrink as the phase that their name begins with, else as `epochs`; what was at least 1 stays so.
    """
    lengths = {
        key: value
        for key, value in settings.items()
        if key.split("_")[-1] == "epochs" and not SCALED & set(key.split("_")) and _is_length(value)
    }
    ratios = {key.removesuffix("epochs"): min(1.0, epochs / value) for key, value in lengths.items()}
    main = ratios.get("", max(ratios.values(), default=1.0))
    changed: dict[str, Scalar] = {key: min(value, epochs) for key, value in lengths.items()}
    for key, value in settings.items():
        parts = key.split("_")
        if not _is_length(value):
            continue
        if ONCE & set(parts):
            changed[key] = 1
        elif SCALED & set(parts) and parts[-1] not in NO_LENGTHS:
            ratio = next((ratio for phase, ratio in ratios.items() if phase and key.startswith(phase)), main)
            changed[key] = max(1, round(value * ratio)) if isinstance(value, int) else value * ratio
    return {key: value for key, value in changed.items() if value != settings[key]}


def phases(settings: Mapping[str, Scalar], short: Mapping[str, Scalar]) -> dict[str, float]:
    """What `short` cuts of a cell's settings: how many times longer each phase is in a whole run."""
    return {
        key: value / cut_to
        for key, cut_to in short.items()
        if _is_length(value := settings[key]) and _is_length(cut_to) and key.split("_")[-1] == "epochs"
    }


def stretch(settings: Mapping[str, Scalar], short: Mapping[str, Scalar]) -> float:
    """How many times longer the longest phase of a whole run is than that of the run with `short` in its place."""
    return max(phases(settings, short).values(), default=1.0)


def _is_length(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def compare(base: dict[str, Any], tree: dict[str, Any]) -> tuple[list[str], list[str]]:
    """How a tree's answer differs from the base's, a line each, and what it has beyond it."""
    for side, answer in (("base", base), ("tree", tree)):
        if "error" in answer:
            return [f"the {side}'s run failed: {answer['error']}"], []
    differences, added = [], []
    if base["state"] != tree["state"]:
        differences.append(f"the base ended {base['state']}, the tree {tree['state']}")
    for kind in ("metrics", "series"):
        for name, value in base[kind].items():
            if name not in tree[kind]:
                differences.append(f"{kind} {name}: missing in the tree")
            elif tree[kind][name] != value:
                differences.append(f"{kind} {name}: {_shown(value)} became {_shown(tree[kind][name])}")
        added += [f"{kind} {name}" for name in tree[kind] if name not in base[kind]]
    if len(base["curve"]) != len(tree["curve"]):
        differences.append(f"curve: {len(base['curve'])} lines became {len(tree['curve'])}")
    for before, now in zip(base["curve"], tree["curve"], strict=False):
        wrong = [name for name, value in before.items() if now.get(name) != value]
        if wrong:
            where = f"curve at epoch {_shown(before.get('epoch', '0x0p0'))}"
            differences.append(f"{where}: {wrong[0]} {_shown(before[wrong[0]])} became {_shown(now.get(wrong[0]))}")
            break
        added += [f"curve {name}" for name in now if name not in before]
    rest = iter(tree["weights"])
    if lost := [number for number, tensor in enumerate(base["weights"]) if tensor not in rest]:
        differences.append(f"weights: tensor {lost[0] + 1} of {len(base['weights'])} differs")
    elif more := len(tree["weights"]) - len(base["weights"]):
        added.append(f"{more} tensors")
    return differences, list(dict.fromkeys(added))


def _shown(value: Any) -> str:
    if not isinstance(value, str):
        return "other values" if value else "nothing"
    try:
        return f"{float.fromhex(value):.9g}"
    except ValueError:
        return repr(value)


def digest(answer: dict[str, Any]) -> str:
    """SHA-256 over all that a run gave, names of weights apart."""
    kept = {name: answer[name] for name in ("state", "metrics", "series", "curve", "weights")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
