"""Replay measured runs to Weights & Biases. Runs themselves only write their own files; this is a sink."""

import contextlib
import io
import json
import os
from pathlib import Path

from retable.cards import CardError
from retable.config import Wandb, Workspace
from retable.currency import RecordStore
from retable.records import RunRecord, to_json, write_atomically


def run_id(record: RunRecord) -> str:
    """Derived from the cell, seed and sources, so that a replay or a sync overwrites instead of doubling."""
    return f"{record.identity}-{record.seed}-{record.source_sha256[:8]}"


def replay(workspace: Workspace) -> int:
    """Log each record of the selection with its curve; returns how many.

    Mode `offline` writes below `results/wandb/`, for `wandb sync`. A run that was replayed since it was measured is
    left out. Raises CardError when the mode is `disabled`, or `online` without a key.
    """
    settings = workspace.config.wandb
    if settings.mode == "disabled":
        raise CardError("wandb.mode is disabled; set it to offline or online in config/config.yaml")
    check_key(settings)
    import wandb

    cells = {cell.identity: cell for cell in workspace.cells}
    done_path = workspace.results / "wandb" / f"replayed-{settings.mode}.json"
    done = set(json.loads(done_path.read_text(encoding="utf-8"))) if done_path.exists() else set()
    fresh = [
        record
        for record in RecordStore.open(workspace).own.records
        if record.identity in cells and f"{run_id(record)} {record.ended}" not in done
    ]
    for record in fresh:
        curve = cells[record.identity].folder(workspace.results) / f"seed-{record.seed}.curve.jsonl"
        _replay_one(wandb, record, curve, workspace)
        done.add(f"{run_id(record)} {record.ended}")
        write_atomically(done_path, to_json(sorted(done)))
    return len(fresh)


def check_key(settings: Wandb) -> None:
    """Raises CardError where runs are to be uploaded and no key is set."""
    if settings.mode != "online" or os.environ.get("WANDB_API_KEY"):
        return
    import wandb

    with contextlib.redirect_stderr(io.StringIO()):  # it warns that it would have to ask
        key = wandb.api.api_key
    if not key:
        raise CardError("wandb.mode is online, but no key is set; run `wandb login` or set WANDB_API_KEY")


def _replay_one(wandb, record: RunRecord, curve: Path, workspace: Workspace) -> None:
    folder = workspace.results / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    settings = workspace.config.wandb
    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        mode=settings.mode,
        id=run_id(record),
        name=f"{record.dataset} {record.variant} seed {record.seed}",
        group=f"{record.paper}/{record.recipe}/{record.scale}",
        config=dict(record.settings) | {"seed": record.seed, "dataset": record.dataset, "variant": record.variant},
        dir=folder,
        resume="allow" if settings.mode == "online" else None,
        settings=wandb.Settings(console="off", silent=True),
    )
    if curve.exists():
        for line in curve.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            run.log(row, step=row["epoch"])
    run.summary.update({**record.metrics, "state": record.state})
    run.finish()
