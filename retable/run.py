"""Measure a cell: each seed runs, is timed, and leaves one record at once."""

import contextlib
import datetime
import hashlib
import json
import platform
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from retable.cards import CardError
from retable.checkout import described, running_tree
from retable.config import Workspace
from retable.currency import Provenance, RecordStore, provenance_of, write_index
from retable.data.containers import DataError
from retable.devices import claim_device
from retable.experiment import Experiment
from retable.outside import error_line, teach_readers
from retable.plan import Cell
from retable.records import (
    Cost,
    RunRecord,
    State,
    load_cell,
    write_atomically,
    write_record,
)
from retable.settings import Settings, load_paper_module
from retable.train.context import Context, Diverged, Picture, Result, StopRequest
from retable.train.determinism import make_deterministic
from retable.train.distributed import world_size
from retable.train.parallel import broadcast, is_main

# Distributions whose version can change a number.
COMPUTING = ("numpy", "scipy", "scikit-learn", "timm", "transformers", "torch-geometric")
LOCK_POLL_SECONDS = 1.0
# What torch says on a processor, where it raises a plain RuntimeError.
NO_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
ASKED_FOR = re.compile(r"(?:Tried to|you tried to) allocate ([\d.]+ ?[A-Za-z]+)")
# Settings that memory goes with: how much is computed at once.
SIZE = re.compile(r"batch_size$|^batch$|^chunk|^block$|_batch$")


@dataclass(frozen=True)
class Outcome:
    """What `run_cell` found or made of each seed it was asked for."""

    folder: Path
    records: dict[int, RunRecord]

    @property
    def failed(self) -> list[int]:
        return [seed for seed, record in self.records.items() if record.state == "failed"]


def run_cell(
    workspace: Workspace,
    cell: Cell,
    stop: StopRequest | None = None,
    seeds: Sequence[int] | None = None,
    wait: bool = True,
) -> Outcome:
    """Measure the seeds of `cell`, or those of them that are named, that have no current record.

    A seed that fails or diverges leaves a record that says so, and the others go on. A stop by signal saves the state
    and raises SystemExit; missing data raises DataError, a full disk OSError, and both leave no record. A seed that
    another process measures is waited for, or left out without `wait`. Of several processes that torchrun started the
    first one writes; CardError if the cell's experiment does not share its work.
    """
    if world_size() > 1 and not paper_module(workspace, cell).EXPERIMENT.parallel:
        raise CardError(
            f"{cell.paper}/{cell.recipe} does not share its work among processes: run it without torchrun, or cells "
            "side by side"
        )
    stop = stop or StopRequest()
    folder = cell.folder(workspace.results)
    provenance = provenance_of(workspace, cell)
    running_tree()  # before hours of work, not after: the files may change, and a stop may end git
    records = {}
    for seed in cell.seeds if seeds is None else seeds:
        with seed_lock(workspace, cell, seed, stop, wait) as held:
            if not broadcast(held):
                continue
            # One process decides, or another might see the record that the first has just written.
            record = broadcast(_finished(workspace, cell, seed))
            if record is None:
                if is_main():
                    print(f"{_name(cell)} seed {seed}: started", flush=True)
                record = run_seed(workspace, cell, seed, provenance, stop)
                if is_main():
                    write_record(folder / f"seed-{seed}.json", record)
                    print(summary_line(record), flush=True)
        records[seed] = record
    if is_main():
        _index(workspace, cell)
    return Outcome(folder, records)


@contextlib.contextmanager
def seed_lock(workspace: Workspace, cell: Cell, seed: int, stop: StopRequest, wait: bool = True) -> Iterator[bool]:
    """Hold a seed of a cell, and tell whether it is held; the lock ends with its process, however that ends.

    Waits while another process holds it, and says so once; without `wait` it is then not held. A stop by signal ends
    the wait with SystemExit.
    """
    if not is_main():
        yield True
        return
    folder = cell.state_folder(workspace.results, seed)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "run.lock", timeout=0)
    waited = False
    while True:
        try:
            lock.acquire()
            break
        except Timeout:
            if not wait:
                yield False
                return
            if not waited:
                print(f"{_name(cell)} seed {seed}: another process measures it; waiting", flush=True)
                waited = True
            if stop.wait(LOCK_POLL_SECONDS):
                raise SystemExit(128 + (stop.signal or signal.SIGTERM)) from None
    try:
        yield True
    finally:
        lock.release()


def run_seed(
    workspace: Workspace, cell: Cell, seed: int, provenance: Provenance, stop: StopRequest | None = None
) -> RunRecord:
    """Train and evaluate one seed; the curve lands beside the record as `seed-<n>.curve.jsonl`, pictures as
    `seed-<n>.<name>.png` with their captions in `seed-<n>.pictures.jsonl`.
    """
    started = _now()
    folder = workspace.outside.folders.get(cell.paper)
    paper = {"paper": described(folder)} if folder else {}
    measured, error = Result({}), None
    state: State = "ok"
    with claimed_device(workspace, stop) as device:
        context = make_context(workspace, cell, seed, device, provenance, stop)
        determinism = make_deterministic(device)
        try:
            measured = measure(paper_module(workspace, cell), cell, context)
            context.check_measured(measured)
        except Diverged as problem:
            state, error = "diverged", str(problem)
        except (OSError, CardError, DataError):
            raise
        except Exception as problem:
            if world_size() > 1:
                raise  # the others wait for this process: only its end ends them
            traceback.print_exc()
            lacked = out_of_memory(problem, cell, workspace.config.runs_per_gpu if device.type == "cuda" else 1)
            state, error = "failed", lacked or f"{type(problem).__name__}: {' '.join(str(problem).split())}"
        gpu_memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    if is_main():
        if context.curve.exists():
            write_atomically(cell.folder(workspace.results) / f"seed-{seed}.curve.jsonl", context.curve.read_bytes())
        _write_pictures(cell.folder(workspace.results), seed, context.pictures if state == "ok" else {})
    wall = context.seconds()
    cost = Cost(
        wall_s=wall,
        cpu_s=context.cpu_seconds(),
        gpu_s=wall * world_size() if device.type == "cuda" else 0.0,
        peak_memory_bytes=gpu_memory or peak_bytes(resource.getrusage(resource.RUSAGE_SELF)),
        resumed=context.resumed,
    )
    where = environment(device) | {"determinism": determinism} | paper
    return _record(cell, seed, provenance, measured, state, error, cost, where, started, _now())


def out_of_memory(problem: Exception, cell: Cell, runs: int = 1) -> str | None:
    """In one line, if that is the problem: what was asked for and what to lower. `runs` share the device."""
    said = " ".join(str(problem).split())
    on_gpu = isinstance(problem, torch.OutOfMemoryError)
    if not (on_gpu or isinstance(problem, MemoryError) or any(words in said for words in NO_MEMORY)):
        return None
    found = ASKED_FOR.search(said)
    asked = f" when {found[1]} more were asked for" if found else ""
    return f"out of {'GPU ' * on_gpu}memory{asked}; {what_to_lower(cell, runs)}"


def what_to_lower(cell: Cell, runs: int = 1) -> str:
    """Which settings make a run smaller, the one that changes no number first."""
    sizes = [f"{name} (now {value})" for name, value in cell.settings.items() if SIZE.search(name) and value]
    sharing = [f"runs_per_gpu (now {runs})"] if runs > 1 else []
    if not sharing + sizes:
        return "take a machine that has more"
    return f"lower {' or '.join([*sharing, *sizes])}, or take a machine that has more"


def peak_bytes(used: resource.struct_rusage) -> int:
    """The most memory that a process held: macOS counts bytes, Linux kilobytes."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _record(
    cell: Cell,
    seed: int,
    provenance: Provenance,
    measured: Result,
    state: State,
    error: str | None,
    cost: Cost,
    environment: dict[str, str],
    started: str,
    ended: str,
) -> RunRecord:
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
        commit=running_tree().commit,
        clean=running_tree().clean,
        cost=cost,
        environment=environment,
        started=started,
        ended=ended,
    )


def record_crash(workspace: Workspace, cell: Cell, seed: int, error: str, cost: Cost, stop: StopRequest) -> RunRecord:
    """Write the record of a seed whose process ended without one; returns the seed's record.

    That is another process's where one has finished it.
    """
    if "out of memory" in error:
        error = f"{error}; {what_to_lower(cell)}"
    with seed_lock(workspace, cell, seed, stop):
        if record := _finished(workspace, cell, seed):
            return record
        now = _now()
        record = _record(
            cell, seed, provenance_of(workspace, cell), Result({}), "failed", error, cost, _versions(), now, now
        )
        write_record(cell.folder(workspace.results) / f"seed-{seed}.json", record)
    _index(workspace, cell)
    return record


def _index(workspace: Workspace, cell: Cell) -> None:
    with FileLock(workspace.results / ".state" / cell.identity / "index.lock"):
        write_index(RecordStore.open(workspace), cell)


def paper_module(workspace: Workspace, cell: Cell) -> ModuleType:
    """The module that runs a cell. Raises ImportError, in a line, for code from outside that cannot be imported."""
    name = workspace.experiment(cell)
    try:
        return load_paper_module(cell.paper, name)
    except (Exception, SystemExit) as error:
        if folder := workspace.outside.folders.get(cell.paper):
            raise ImportError(error_line(error, folder)) from error
        raise


def measure(module: ModuleType, cell: Cell, context: Context) -> Result:
    """Train and evaluate one seed by the experiment in a paper's module."""
    kind, settings = _experiment(module, cell)
    if cell.variant in kind.controls:
        return kind.controls[cell.variant](settings, context)
    experiment = kind(settings, context)
    experiment.train()
    for name, weights in experiment.weights().items():
        context.save_weights(name, weights)
    return experiment.measure()


def evaluate(module: ModuleType, cell: Cell, context: Context) -> Result:
    """Evaluate the weights that a finished run kept, without training."""
    kind, settings = _experiment(module, cell)
    if cell.variant in kind.controls:
        return kind.controls[cell.variant](settings, context)
    return restored(module, cell, context).measure()


def restored(module: ModuleType, cell: Cell, context: Context) -> Experiment:
    """A finished run's experiment with the weights that it kept."""
    kind, settings = _experiment(module, cell)
    experiment = kind(settings, context)
    experiment.load_weights({name: context.load_weights(name) for name in experiment.weights()})
    return experiment


def fixed_batch(module: ModuleType, cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The untrained model of a cell and its loss on one batch, with the same chance in it each time."""
    kind, settings = _experiment(module, cell)
    experiment = kind(settings, context)
    context.seed_torch("fixed batch")
    loss = experiment.fixed_batch()

    def seeded_loss() -> Tensor:
        context.seed_torch("fixed batch")
        return loss()

    return experiment.model, seeded_loss


def _experiment(module: ModuleType, cell: Cell) -> tuple[type[Experiment], Settings]:
    kind: type[Experiment] = module.EXPERIMENT
    return kind, kind.settings_class.parse(cell.settings, f"{cell.paper}/{cell.recipe} {cell.dataset} {cell.variant}")


def claimed_device(
    workspace: Workspace, stop: StopRequest | None = None
) -> contextlib.AbstractContextManager[torch.device]:
    """The device that the settings give a run."""
    return claim_device(workspace.config.device, workspace.config.runs_per_gpu, stop)


def make_context(
    workspace: Workspace,
    cell: Cell,
    seed: int,
    device: torch.device,
    provenance: Provenance | None = None,
    stop: StopRequest | None = None,
) -> Context:
    """What a method is handed for one seed; its resume state lies in `results/.state/<identity>/seed-<n>`."""
    provenance = provenance or provenance_of(workspace, cell)
    teach_readers(workspace.outside.readers)
    return Context(
        cell=cell,
        seed=seed,
        card=workspace.datasets[cell.dataset],
        raw=workspace.raw,
        folder=cell.state_folder(workspace.results, seed),
        device=device,
        fingerprint=hashlib.sha256(repr(provenance).encode()).hexdigest(),
        stop=stop,
    )


def evaluate_cell(workspace: Workspace, cell: Cell, seed: int) -> Result:
    """Evaluate the weights that a finished run kept, without training."""
    with claimed_device(workspace) as device:
        make_deterministic(device)
        return evaluate(paper_module(workspace, cell), cell, make_context(workspace, cell, seed, device))


def environment(device: torch.device) -> dict[str, str]:
    """Versions of everything that computes, device, instruction set and threads, for the record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        **_versions(),
        "device": f"{device.type}: {name}",
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        **({"processes": str(world_size())} if world_size() > 1 else {}),
    }


def _versions() -> dict[str, str]:
    """What is known of the environment without asking for a device."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{distribution: _version(distribution) for distribution in COMPUTING},
        "cuda": torch.version.cuda or "none",
        "system": f"{platform.system()} {platform.machine()}",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"


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


def _finished(workspace: Workspace, cell: Cell, seed: int) -> RunRecord | None:
    """The finished record of a seed that was run here and speaks of this tree; a failed one is measured again."""
    if not is_main():
        return None
    store = RecordStore.open(workspace)
    loaded = load_cell(workspace.results, cell, store.renames, seed)
    for trouble in loaded.troubles:
        print(f"{trouble} (measured again now)", flush=True)
    usable = [r for r in loaded.records if r.state != "failed" and store.currency.reason(r) is None]
    return usable[0] if usable else None


def _name(cell: Cell) -> str:
    return f"{cell.paper}/{cell.recipe} {cell.dataset} {cell.variant}"


def summary_line(record: RunRecord) -> str:
    """A seed's result in a line."""
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items()) or record.error
    return f"{_name(record.cell)} seed {record.seed}: {record.state}, {numbers}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class _Callable(ModuleType):
    """`retable.run(...)` from a notebook, beside the module of the same name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from retable.library import run

        return run(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
