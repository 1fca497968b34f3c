"""Measure a cell: each seed runs, is timed, and leaves one record at once."""

import contextlib
import datetime
import hashlib
import importlib
import json
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from retable.cards import CardError
from retable.config import Workspace
from retable.data.containers import DataError
from retable.plan import Cell
from retable.records import (
    Cost,
    RunRecord,
    State,
    read_record,
    to_json,
    write_atomically,
    write_record,
)
from retable.train.context import Context, Diverged, Measured, Picture, StopRequest
from retable.train.device import claim_device
from retable.train.distributed import world_size
from retable.train.parallel import agreed, leads
from retable.verify import Provenance


def load_method(paper: str, story: str) -> ModuleType:
    """The module `methods.<paper>.<story>`; the one place where the engine reaches for a method."""
    return importlib.import_module(f"methods.{paper}.{story}")


def run_cell(workspace: Workspace, cell: Cell, stop: StopRequest | None = None) -> Path:
    """Measure the seeds of `cell` that have no current record; returns the path of its index, `cell.json`.

    A seed that fails or diverges leaves a record that says so, and the others go on. A stop by signal saves the state
    and raises SystemExit; missing data raises DataError, a full disk OSError, and both leave no record. Of several
    processes that torchrun started the first one writes; CardError if the cell's story does not share its work.
    """
    if world_size() > 1 and not getattr(load_method(cell.paper, workspace.story(cell)), "PARALLEL", False):
        raise CardError(
            f"{cell.paper}/{cell.recipe} does not share its work among processes: run it without torchrun, or cells "
            "side by side"
        )
    folder = cell.folder(workspace.results)
    provenance = Provenance.of(workspace, cell)
    states = {}
    for seed in cell.seeds:
        path = folder / f"seed-{seed}.json"
        # One process decides, or another might see the record that the first has just written.
        record = agreed(_current(path, provenance))
        if record is None:
            record = run_seed(workspace, cell, seed, provenance, stop)
            if leads():
                write_record(path, record)
                print(_said(record), flush=True)
        states[str(seed)] = record.state
    index = folder / "cell.json"
    if leads():
        write_atomically(index, to_json({"identity": cell.identity, "command": cell.command, "seeds": states}))
    return index


def run_seed(
    workspace: Workspace, cell: Cell, seed: int, provenance: Provenance, stop: StopRequest | None = None
) -> RunRecord:
    """Train and evaluate one seed; the curve lands beside the record as `seed-<n>.curve.jsonl`, pictures as
    `seed-<n>.<name>.png` with their captions in `seed-<n>.pictures.jsonl`.
    """
    started = _now()
    cpu = time.process_time()
    measured, error = Measured({}), None
    state: State = "ok"
    with claimed_device(workspace) as device:
        context = make_context(workspace, cell, seed, device, provenance, stop)
        determinism = make_deterministic(device)
        try:
            measured = load_method(cell.paper, workspace.story(cell)).run(cell, context)
            for name, value in measured.metrics.items():
                context.check_finite(value, name, 0)
        except Diverged as problem:
            state, error = "diverged", str(problem)
        except (OSError, CardError, DataError):
            raise
        except Exception as problem:
            if world_size() > 1:
                raise  # the others wait for this process: only its end ends them
            traceback.print_exc()
            state, error = "failed", f"{type(problem).__name__}: {' '.join(str(problem).split())}"
        gpu_memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    if leads():
        if context.curve.exists():
            write_atomically(cell.folder(workspace.results) / f"seed-{seed}.curve.jsonl", context.curve.read_bytes())
        _write_pictures(cell.folder(workspace.results), seed, context.pictures if state == "ok" else {})
    wall = context.seconds()
    return RunRecord(
        identity=cell.identity,
        paper=cell.paper,
        recipe=cell.recipe,
        dataset=cell.dataset,
        split=cell.split,
        variant=cell.variant,
        axes=cell.axes,
        settings=cell.settings,
        scale=cell.scale,
        protocol=cell.protocol,
        seed=seed,
        state=state,
        error=error,
        metrics=measured.metrics if state == "ok" else {},
        series=measured.series if state == "ok" else {},
        source_sha256=provenance.source_sha256,
        data_sha256=provenance.data_sha256,
        split_sha256=provenance.split_sha256,
        cost=Cost(
            wall_s=wall,
            cpu_s=time.process_time() - cpu,
            gpu_s=wall * world_size() if device.type == "cuda" else 0.0,
            peak_memory_bytes=gpu_memory or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            resumed=context.resumed,
        ),
        environment=environment(device) | {"determinism": determinism},
        started=started,
        ended=_now(),
    )


def claimed_device(workspace: Workspace) -> contextlib.AbstractContextManager[torch.device]:
    """The device that the settings give a run; locks lie beside the saved states."""
    chosen = workspace.config
    return claim_device(chosen.device, workspace.results / ".state" / "locks", chosen.runs_per_gpu)


def make_context(
    workspace: Workspace,
    cell: Cell,
    seed: int,
    device: torch.device,
    provenance: Provenance | None = None,
    stop: StopRequest | None = None,
) -> Context:
    """What a method is handed for one seed; its resume state lies in `results/.state/<identity>/seed-<n>`."""
    provenance = provenance or Provenance.of(workspace, cell)
    return Context(
        cell=cell,
        seed=seed,
        card=workspace.datasets[cell.dataset],
        raw=workspace.raw,
        folder=workspace.results / ".state" / cell.identity / f"seed-{seed}",
        device=device,
        fingerprint=hashlib.sha256(repr(provenance).encode()).hexdigest(),
        stop=stop,
    )


def evaluate_cell(workspace: Workspace, cell: Cell, seed: int) -> Measured:
    """Evaluate the weights that a finished run kept, without training."""
    with claimed_device(workspace) as device:
        make_deterministic(device)
        method = load_method(cell.paper, workspace.story(cell))
        return method.evaluate(cell, make_context(workspace, cell, seed, device))


def find_cell(cells: list[Cell], identity: str) -> Cell:
    """The planned cell whose identity begins with `identity`. Raises CardError when none or several do."""
    found = [cell for cell in cells if cell.identity.startswith(identity)]
    if len(found) != 1:
        raise CardError(
            f"{len(found)} planned cells have an identity that begins with {identity!r}; see `retable plan`"
        )
    return found[0]


def make_deterministic(device: torch.device) -> str:
    """Ask torch for deterministic operations, before any layer is built; returns the level for the record.

    On a GPU operations without a deterministic form only warn, so the level says so.
    """
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        return "bitwise: same machine, versions and thread count give the same bytes"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return "best effort: some GPU operations have no deterministic form"


def environment(device: torch.device) -> dict[str, str]:
    """Versions, device and threads, for the record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type}: {name}",
        "threads": str(torch.get_num_threads()),
        **({"processes": str(world_size())} if world_size() > 1 else {}),
        "system": f"{platform.system()} {platform.machine()}",
    }


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with `number` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_pictures(folder: Path, seed: int, pictures: dict[str, Picture]) -> None:
    """Replace a seed's pictures; their list is written last and is missing where there are none."""
    listing = folder / f"seed-{seed}.pictures.jsonl"
    listing.unlink(missing_ok=True)
    for path in folder.glob(f"seed-{seed}.*.png"):
        path.unlink()
    for name, picture in pictures.items():
        write_atomically(folder / f"seed-{seed}.{name}.png", picture.png)
    if pictures:
        lines = [
            json.dumps({"name": name, "caption": picture.caption, "width": picture.width, "height": picture.height})
            for name, picture in pictures.items()
        ]
        write_atomically(listing, ("\n".join(lines) + "\n").encode())


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _current(path: Path, provenance: Provenance) -> RunRecord | None:
    """The finished record at `path` if it speaks of this tree; a failed one is measured again."""
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except CardError as error:
        print(error, file=sys.stderr)
        return None
    return record if record.state != "failed" and provenance.matches(record) else None


def _said(record: RunRecord) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items()) or record.error
    name = f"{record.paper}/{record.recipe} {record.dataset} {record.variant}"
    return f"{name} seed {record.seed}: {record.state}, {numbers}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
