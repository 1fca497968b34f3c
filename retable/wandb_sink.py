"""Replay measured runs to Weights & Biases. Runs themselves only write their own files; this is a sink."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

from retable.cards import CardError, read_text
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
    done = _done(done_path)
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


def _done(path: Path) -> set[str]:
    """What was replayed; nothing where the list is lost or damaged: an id that comes again overwrites."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return set()
    return {each for each in found if isinstance(each, str)} if isinstance(found, list) else set()


def sync_line(workspace: Workspace) -> str:
    """The command that uploads what mode `offline` has written."""
    folder = (workspace.results / "wandb" / "wandb").relative_to(workspace.root)
    return f"wandb sync {folder}/offline-run-*"


def check_key(settings: Wandb) -> None:
    """Raises CardError where runs are to be uploaded and no key is set."""
    if settings.mode != "online" or os.environ.get("WANDB_API_KEY"):
        return
    import wandb

    with contextlib.redirect_stderr(io.StringIO()):  # it warns that it would have to ask
        key = wandb.api.api_key
    if not key:
        raise CardError("wandb.mode is online, but no key is set; run `wandb login` or set WANDB_API_KEY")


def config_of(record: RunRecord) -> dict[str, Any]:
    """What decided a run's numbers and what it cost. A setting that has the name of a field is `setting/<name>`."""
    fields = record.model_dump(
        mode="json", exclude={"settings", "axes", "metrics", "series", "error", "schema_version"}
    )
    fields |= {f"cost/{name}": value for name, value in fields.pop("cost").items()}
    fields |= {f"environment/{name}": value for name, value in fields.pop("environment").items()}
    return fields | {f"setting/{name}" if name in fields else name: value for name, value in record.settings.items()}


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
        job_type=record.recipe,
        tags=[record.paper, record.scale],
        config=config_of(record),
        dir=folder,
        resume="allow" if settings.mode == "online" else None,
        # The commit is the record's, in the config; that of the replay says nothing.
        settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True),
    )
    for row in _rows(curve):
        # Under names of their own: the client makes the last row of a curve the summary's value of its name.
        run.log({f"curve/{name}": value for name, value in row.items()}, step=row["epoch"])
    run.summary.update({**record.metrics, "state": record.state, **({"error": record.error} if record.error else {})})
    run.finish(exit_code=0 if record.state == "ok" else 1)


def _rows(curve: Path) -> list[dict[str, Any]]:
    """A curve's lines. Raises CardError for one that is none."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(curve).splitlines() if curve.exists() else [], start=1):
        try:
            row = json.loads(line)
            rows.append(row | {"epoch": int(row["epoch"])})
        except (ValueError, TypeError, KeyError):
            raise CardError(
                f"{curve}:{number}: no line of a curve; delete it and its record to measure again"
            ) from None
    return rows
