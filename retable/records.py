"""Run records: one honest JSON file for each finished seed, written in one step or not at all."""

import json
import os
import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from retable.cards import CardError, Model, Scalar, Scale

State = Literal["ok", "failed", "diverged"]


class Cost(Model):
    """What a run used. Times in seconds, memory in bytes; a resumed run adds up its parts."""

    wall_s: float
    cpu_s: float
    gpu_s: float = 0.0
    peak_memory_bytes: int
    resumed: int = 0


class RunRecord(Model):
    """What one seed of one cell measured. Metrics are in the unit that the recipe names, at full precision."""

    schema_version: Literal[1] = 1
    identity: str
    paper: str
    recipe: str
    dataset: str
    split: str
    variant: str
    axes: dict[str, Scalar]
    settings: dict[str, Scalar]
    scale: Scale
    protocol: str
    seed: int
    state: State
    error: str | None = None
    metrics: dict[str, float] = {}
    series: dict[str, list[float]] = {}
    source_sha256: str
    data_sha256: str
    split_sha256: str
    cost: Cost
    environment: dict[str, str]
    started: str
    ended: str


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, rename: a reader sees the old file or the whole new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile's: its files are for their owner alone, and results are shared.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_json(data: Any) -> bytes:
    """Stable bytes: sorted keys, two spaces, a newline at the end."""
    return (json.dumps(data, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def write_record(path: Path, record: RunRecord) -> None:
    """Write one record as `seed-<n>.json`."""
    write_atomically(path, to_json(record.model_dump(mode="json")))


def parse_record(text: str | bytes, where: str) -> RunRecord:
    """Raises CardError, naming `where`, when the text is no record of this schema version."""
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "file"
        raise CardError(f"{where}: not a run record ({place}: {problem['msg']}); delete it to measure again") from None


def read_record(path: Path) -> RunRecord:
    """Read one record file. Raises CardError that says what to do."""
    return parse_record(path.read_bytes(), str(path))


def load_records(results: Path) -> list[RunRecord]:
    """All records below `results`: what was run here, and the published ones (`published/<paper>/*.jsonl`).

    Where both have the same cell and seed, the one that was run here counts.
    """
    found: dict[tuple[str, int], RunRecord] = {}
    for path in sorted((results / "published").glob("*/*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            record = parse_record(line, f"{path}:{number}")
            found[record.identity, record.seed] = record
    for scale in ("demo", "reduced", "full"):
        for path in sorted((results / scale).glob("*/*/*/*/seed-*.json")):
            record = read_record(path)
            found[record.identity, record.seed] = record
    return list(found.values())


def publish(records: list[RunRecord], results: Path) -> list[Path]:
    """Merge finished records into `results/published/<paper>/<recipe>-<scale>-<dataset>.jsonl`, sorted and stable."""
    groups: dict[Path, dict[tuple, RunRecord]] = {}
    for record in records:
        name = f"{record.recipe}-{record.scale}-{record.dataset}.jsonl"
        path = results / "published" / record.paper / name
        if path not in groups:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            known = [parse_record(line, str(path)) for line in lines]
            groups[path] = {(old.variant, json.dumps(old.axes, sort_keys=True), old.seed): old for old in known}
        groups[path][record.variant, json.dumps(record.axes, sort_keys=True), record.seed] = record
    for path, group in groups.items():
        rows = [json.dumps(group[key].model_dump(mode="json"), sort_keys=True) for key in sorted(group)]
        write_atomically(path, ("\n".join(rows) + "\n").encode())
    return sorted(groups)
