"""What is wrong with this workstation or cluster, found in seconds before it costs an hour."""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from retable.cards import CardError, DataError, read_text
from retable.checkout import git, tree_of
from retable.cluster import configuration, keeps_accounts
from retable.config import Workspace
from retable.preflight import check_reachable
from retable.report.render import limited

# Snakemake decides by times of files what is out of date.
CLOCK_SECONDS = 5.0
ROOM_GB = 2.0
FILES = 512
NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `good` is None where it is only worth knowing."""

    good: bool | None
    text: str

    def __str__(self) -> str:
        return f"{ {True: 'good', None: 'note', False: 'BAD'}[self.good]:5} {self.text}"


def examine(workspace: Workspace) -> Iterator[Finding]:
    """Look at one thing after the other; a look that fails is itself a finding."""
    looks: list[Callable[[Workspace], Iterator[Finding]]] = [
        _python, _checkout, _folders, _limits, _data, _gpus, _slurm
    ]  # fmt: skip
    for look in looks:
        try:
            yield from look(workspace)
        except (CardError, DataError, OSError) as problem:
            yield Finding(False, str(problem))


def _python(workspace: Workspace) -> Iterator[Finding]:
    here = f"Python {sys.version.split()[0]} at {sys.executable}"
    yield Finding((3, 11) <= sys.version_info < (3, 14), f"{here}; retable needs 3.11 to 3.13")
    lock = workspace.root / "requirements.lock"
    if not lock.exists():
        return
    pins = (line.partition(";")[0].strip() for line in read_text(lock).splitlines() if not line.startswith("#"))
    other = []
    for name, _, pinned in (pin.partition("==") for pin in pins):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue  # of an extra, or of another platform
        if found.partition("+")[0] != pinned and name not in ("torch", "torchvision"):
            other.append(f"{name} {found} (tested: {pinned})")
    more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
    yield Finding(
        None if other else True,
        f"other versions than the tested ones: {', '.join(other[:NAMED])}{more}" if other else "packages as tested",
    )


def _checkout(workspace: Workspace) -> Iterator[Finding]:
    git(workspace.root, "--version")
    tree = tree_of(workspace.root)
    if tree.commit is None:
        yield Finding(None, f"{workspace.root} is in no git repository: records will name no commit")
    elif tree.changed:
        yield Finding(None, f"{len(tree.changed)} files differ from the commit: such runs cannot be published")
    else:
        yield Finding(True, f"commit {tree.commit[:12]}, nothing changed")
    yield Finding(True, f"{len(workspace.cells)} cells at scale {workspace.config.scale}")


def _folders(workspace: Workspace) -> Iterator[Finding]:
    for folder in (workspace.results, workspace.raw, workspace.root / "logs", Path(tempfile.gettempdir())):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as name:
            path = Path(name) / "lock"
            path.touch()
            if abs(ahead := path.stat().st_mtime - time.time()) > CLOCK_SECONDS:
                yield Finding(False, f"{folder}: its clock is {ahead:+.0f} s off; Snakemake would run the wrong jobs")
            with FileLock(path):
                try:
                    FileLock(path, timeout=0, is_singleton=False).acquire()
                    yield Finding(False, f"{folder}: two processes get the same lock; use another file system")
                except Timeout:
                    pass
        free = shutil.disk_usage(folder).free / 1e9
        yield Finding(free >= ROOM_GB, f"{folder}: can be written, {free:,.1f} GB free")


def _limits(workspace: Workspace) -> Iterator[Finding]:
    if why := limited():
        yield Finding(False, why)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES:
        yield Finding(False, f"ulimit -n is {files}: loaders of images need more; say `ulimit -n 4096`")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding(None, f"{cores} processor cores for this process")
    if (threads := os.environ.get("OMP_NUM_THREADS")) not in (None, "1"):
        yield Finding(None, f"OMP_NUM_THREADS={threads}: runs use one thread each, whatever it says")


def _data(workspace: Workspace) -> Iterator[Finding]:
    check_reachable(workspace)
    wanted = [workspace.datasets[name] for name in dict.fromkeys(cell.dataset for cell in workspace.cells)]
    for card in wanted:
        if card.local and not (workspace.raw / card.local).is_dir():
            yield Finding(False, f"{card.name}: put your own copy, or a link to it, at {workspace.raw / card.local}")
    left = [card for card in wanted if any(not (workspace.raw / file.path).exists() for file in card.files)]
    if left:
        room, needed = shutil.disk_usage(workspace.raw).free, sum(card.bytes for card in left)
        origin = workspace.mirror or "upstream"
        yield Finding(
            None if needed < room else False,
            f"{needed / 1e6:,.0f} MB of {len(left)} data sets are to be fetched from {origin}",
        )
    else:
        yield Finding(True, "all files of data sets are here")


def _gpus(workspace: Workspace) -> Iterator[Finding]:
    if workspace.config.device == "cpu":
        return
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = (each / 1e9 for each in torch.cuda.mem_get_info(index))
            name = torch.cuda.get_device_name(index)
            yield Finding(None if free < total / 2 else True, f"GPU {index}: {name}, {free:.0f} of {total:.0f} GB free")
    elif workspace.config.device == "cuda":
        yield Finding(False, "device=cuda was asked for, but torch sees no GPU here; on a cluster its jobs may")
    elif Path("/dev/nvidiactl").exists():
        yield Finding(
            False, "there is an NVIDIA driver, but torch cannot use it: `nvidia-smi` and torch's build say why"
        )
    else:
        yield Finding(None, "no GPU: runs use the processor")


def _slurm(workspace: Workspace) -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        return
    settings = configuration()
    if settings is None:
        yield Finding(False, "sbatch is here, but no Slurm controller answers: `scontrol ping`")
        return
    yield Finding(True, f"Slurm {settings.get('SLURM_VERSION', 'of unknown version')} answers")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        yield Finding(False, 'the Slurm plugin is missing: pip install -e ".[slurm]" -c requirements.lock')
    if not keeps_accounts(settings):
        yield Finding(None, "it keeps no accounts of ended jobs: squeue is asked for them")
    if Path(tempfile.gettempdir()) in (workspace.root, *workspace.root.parents):
        yield Finding(False, f"{workspace.root} is below the temporary folder: jobs on other machines do not see it")
