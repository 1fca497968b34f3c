"""A bundle's cells, each measured in a child of the job's process.

The child is forked after everything is imported and before CUDA starts, so a cell costs no start of Python, and its
peak memory, a crash and running out of memory are its own.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from retable.bundles import Bundle, write_marker
from retable.cards import CardError
from retable.checkout import running_tree
from retable.config import Workspace
from retable.currency import RecordStore, mend_indices, provenance_of
from retable.output import log_to, one_line
from retable.plan import Cell
from retable.records import Cost
from retable.run import peak_bytes, record_crash, run_cell, summary_line
from retable.settings import load_paper_module
from retable.stopping import PromptStop
from retable.train.determinism import make_deterministic

PR_SET_PDEATHSIG = 1


class Relay(PromptStop):
    """A stop request that is passed on to a child.

    As SIGUSR1, which asks once more without harm: the child may have had the same SIGTERM or SIGINT, and a second one
    of these would end it at once. SIGUSR1 from outside is a request too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.child: int | None = None
        self._direct = False

    def install(self) -> None:
        super().install()
        signal.signal(signal.SIGUSR1, self._ask)

    def limit(self) -> None:
        if self.child is None:  # a child has its own limit, and this process waits for its end
            super().limit()

    def pass_on(self) -> None:
        if self.child is not None and self.signal is not None:
            os.kill(self.child, signal.SIGUSR1)

    def _note(self, number: int, frame: object) -> None:
        if self.signal is None or self._direct:
            self._direct = True
            super()._note(number, frame)
        self._direct = True
        self.pass_on()

    def _ask(self, number: int, frame: object) -> None:
        if self.signal is None:
            self.signal = signal.SIGTERM
        self.limit()
        self.pass_on()


@dataclass(frozen=True)
class End:
    """How a child ended: its exit status, negative for the signal that ended it, what it used and imported."""

    status: int
    cost: Cost
    imported: list[str]

    @property
    def crash(self) -> str | None:
        """In words, if it was ended by a signal."""
        if self.status >= 0:
            return None
        hint = ": out of memory, if nobody killed it" if self.status == -signal.SIGKILL else ""
        return f"the run's process was ended by {signal.Signals(-self.status).name}{hint}"


def in_child(stop: Relay, work: Callable[[], None]) -> End:
    """Do `work` in a forked child and wait for its end. An exception there is printed there and is status 1."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent, started = os.getpid(), time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work_and_exit(stop, work, parent, writer)
    os.close(writer)
    stop.child = child
    try:
        stop.pass_on()  # one that came before the child was known
        with os.fdopen(reader, encoding="utf-8") as pipe:
            imported = pipe.read().split()
        _, status, used = os.wait4(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        stop.child = None
    cost = Cost(
        wall_s=time.monotonic() - started,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_memory_bytes=peak_bytes(used),
    )
    return End(os.waitstatus_to_exitcode(status), cost, imported)


def _work_and_exit(stop: Relay, work: Callable[[], None], parent: int, writer: int) -> NoReturn:
    status: object = 1
    try:
        stop.child = None
        if stop.signal is not None:
            stop.limit()  # Python forgets what comes while it forks
        # Linux only: who kills the job's process means this one too. Elsewhere it ends with its cell.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        known = set(sys.modules)
        if os.getppid() == parent:
            with one_line():
                work()
            status = 0
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            pipe.write("\n".join(sorted(set(sys.modules) - known)))
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status if isinstance(status, int) else 1)


def prepare(workspace: Workspace, cells: list[Cell]) -> None:
    """Import, hash and ask git once for all children. Nothing here may start CUDA or threads."""
    for experiment in dict.fromkeys((cell.paper, workspace.experiment(cell)) for cell in cells):
        try:
            load_paper_module(*experiment)
        except (Exception, SystemExit):
            if experiment[0] not in workspace.outside.folders:
                raise  # code from outside fails in the child in the same way, and its records say so
    for cell in cells:
        provenance_of(workspace, cell)
    running_tree()
    make_deterministic(torch.device("cpu"))  # imports torch's compiler
    gc.freeze()  # a collection in a child would visit, and so copy, all that it shares with this process


def import_too(names: list[str]) -> None:
    """Import what a child imported on its way, so that the next ones need not; torch's own parts might start CUDA."""
    for name in names:
        if name.partition(".")[0] not in ("torch", "triton"):
            with contextlib.suppress(Exception):  # whatever it is: the next child imports it itself, and says so
                importlib.import_module(name)
    gc.freeze()


def measure_bundle(workspace: Workspace, bundle: Bundle, stop: Relay, log: Callable[[Cell], Path]) -> None:
    """Measure a bundle's seeds that have no current record and write its marker; what a cell prints goes to its log.

    A seed that fails, diverges or crashes leaves a record that says so. A cell that cannot leave one (its data are
    missing, the disk is full) does not hold up the others, but the bundle then has no marker and CardError is raised.
    A stop by signal raises SystemExit once the child has saved its state.
    """
    cells = [cell for cell in workspace.cells if cell.identity in bundle.seeds]
    prepare(workspace, cells)
    unable = 0
    for cell in cells:
        store = RecordStore.open(workspace)
        unfinished = set(store.unfinished(cell))
        pending = [seed for seed in bundle.seeds[cell.identity] if seed in unfinished]
        if not pending:
            mend_indices(store, [cell])
            continue
        while pending:
            pending, able = _measure_in_child(workspace, cell, pending, stop, log(cell))
            unable += not able
    if unable:
        raise CardError(f"{unable} of {len(cells)} cells of {bundle.paper}/{bundle.name} could not be measured")
    write_marker(workspace, RecordStore.open(workspace), bundle)


def _measure_in_child(
    workspace: Workspace, cell: Cell, seeds: list[int], stop: Relay, log: Path
) -> tuple[list[int], bool]:
    """The seeds that are left after a child has done what it could, and whether it could leave records."""

    def work() -> None:
        log_to(log)
        run_cell(workspace, cell, stop, seeds)

    before = RecordStore.open(workspace).of_cell(cell)
    end = in_child(stop, work)
    import_too(end.imported)
    if stop.signal is not None or end.status >= 128:
        raise SystemExit(end.status or 128 + signal.SIGTERM)
    after = RecordStore.open(workspace).of_cell(cell)
    left = [seed for seed in seeds if after.get(seed) == before.get(seed)]
    if end.crash and left:
        after[left[0]] = record_crash(workspace, cell, left[0], end.crash, end.cost, stop)
        left = left[1:]
    for seed in seeds:
        if after.get(seed) != before.get(seed):
            print(summary_line(after[seed]), flush=True)
    return (left, True) if end.crash else ([], end.status == 0)
