"""Replay measured runs to TensorBoard's event files, as `retable.wandb_sink` does to Weights & Biases."""

import json
from pathlib import Path

from retable.config import Workspace
from retable.currency import RecordStore
from retable.records import RunRecord
from retable.wandb_sink import run_id


def replay(workspace: Workspace) -> int:
    """Write an event file for each record of the selection below `results/tensorboard/`, its curve and its metrics;
    returns how many. A run whose file is there is left out.
    """
    cells = {cell.identity: cell for cell in workspace.cells}
    count = 0
    store = RecordStore.open(workspace)
    for record in (*store.own.records, *store.explorations.records):
        folder = _folder(workspace, record)
        if record.identity in cells and not any(folder.glob("events.*")):
            curve = cells[record.identity].folder(workspace.results) / f"seed-{record.seed}.curve.jsonl"
            _write(folder, record, curve)
            count += 1
    return count


def _folder(workspace: Workspace, record: RunRecord) -> Path:
    """By cell and seed; a run that was measured again has another one."""
    when = record.ended.replace(":", "")
    path = Path(record.paper, record.recipe, record.scale, record.dataset, record.cell.slug, f"seed-{record.seed}")
    return workspace.results / "tensorboard" / path / f"{run_id(record)}-{when}"


def _write(folder: Path, record: RunRecord, curve: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        lines = curve.read_text(encoding="utf-8").splitlines() if curve.exists() else []
        epoch = 0
        for line in map(json.loads, lines):
            epoch = line.pop("epoch")
            phase = line.pop("phase", "")
            for name, value in line.items():
                writer.add_scalar(f"{phase}/{name}" if phase else name, value, epoch)
        for name, value in record.metrics.items():
            writer.add_scalar(f"metrics/{name}", value, epoch)
        writer.add_text("settings", json.dumps(record.settings, sort_keys=True))
