"""Which seeds one job measures: bundles of about the same cost, fixed when a run starts and read by its jobs.

A job costs some seconds before it measures anything, so it gets many short seeds or one long one. Which seeds are
together is decided once for a plan and kept in `results/bundles/`: when a job of a cluster, or a later call, reads the
plan again, other seeds are measured already, and other costs are known.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from retable.cards import CardError
from retable.config import Workspace
from retable.currency import FINISHED, RecordStore
from retable.plan import Cell
from retable.preflight import History, device_of, seconds_of_seed
from retable.records import to_json, write_atomically

# Clocks of machines that share a disk differ by seconds.
FUTURE_SECONDS = 60.0
# The most for a bundle. Starting one costs four to seven: of the demo's about a tenth.
SECONDS = {"demo": 90.0, "reduced": 600.0, "full": 3600.0}


@dataclass(frozen=True)
class Bundle:
    """Seeds of one paper at one scale, by the identities of their cells, and the seconds that they should take."""

    paper: str
    name: str
    seeds: Mapping[str, list[int]]
    seconds: float

    @classmethod
    def of(cls, paper: str, pairs: Iterable[tuple[Cell, int]], seconds: float) -> "Bundle":
        """Its name is that of its recipes and a hash of its seeds: equal ones of two selections are one."""
        seeds: dict[str, list[int]] = defaultdict(list)
        recipes: dict[str, None] = {}
        for cell, seed in pairs:
            seeds[cell.identity].append(seed)
            recipes[cell.recipe] = None
        return cls(paper, f"{'+'.join(recipes)}_{_digest(seeds)}", dict(seeds), seconds)


def make_bundles(workspace: Workspace, store: RecordStore) -> list[Bundle]:
    """Split each paper's seeds, in the order of the plan, into as few bundles as the scale's time allows.

    A seed of unknown cost fills a bundle. Seeds of a data set that must be fetched are by themselves: without it the
    others are measured all the same.
    """
    history = History(store.records, device_of(workspace))
    limit = SECONDS[workspace.config.scale]
    together: dict[tuple[str, str], list[tuple[Cell, int, float]]] = defaultdict(list)
    for cell in workspace.cells:
        needs = "" if workspace.datasets[cell.dataset].embedded else cell.dataset
        cost = seconds_of_seed(workspace, cell, history)
        together[cell.paper, needs] += [(cell, seed, limit if cost is None else cost) for seed in cell.seeds]
    bundles = []
    for (paper, _), entries in together.items():
        for part in split([cost for _, _, cost in entries], limit):
            pairs = [entries[place][:2] for place in part]
            bundles.append(Bundle.of(paper, pairs, round(sum(entries[place][2] for place in part), 1)))
    return bundles


# What a job may take where no card says how long a seed does.
HOURS = {"demo": 0.5, "reduced": 4.0, "full": 24.0}
SPARE = 1.5


@dataclass(frozen=True)
class Needs:
    """What a job that measures a bundle needs of a machine."""

    memory_mb: int
    processors: int
    hours: float


def needs_of(workspace: Workspace, bundle: Bundle) -> Needs:
    """From the cards: the memory of the largest seed, processors for what loads its images, hours of all seeds.

    torch computes with one thread whatever the processors are: their number is in no record.
    """
    cells = [(cell, len(bundle.seeds[cell.identity])) for cell in workspace.cells if cell.identity in bundle.seeds]
    memory, processors, hours = 0.0, 1, bundle.seconds / 900
    for cell, seeds in cells:
        at_scale = workspace.papers[cell.paper].recipe(cell.recipe).scales[cell.scale]
        memory = max(memory, at_scale.memory_gb)
        # Machines differ; a job whose time ends goes on from its state, but has to queue again.
        hours += SPARE * (at_scale.hours or 0.0) * seeds
        if at_scale.hours is None:
            hours = max(hours, HOURS[cell.scale])
        # Images in memory are turned where the model computes; only folders of them are decoded by others.
        if workspace.datasets[cell.dataset].local:
            processors = max(processors, 1 + int(cell.settings.get("workers", 0)))
    return Needs(round(1000 * memory), processors, max(hours, 0.5))


def split(costs: list[float], limit: float) -> list[list[int]]:
    """The places of `costs` in parts of about the same sum, as few as keep the mean of the sums below `limit`."""
    number = math.ceil(sum(costs) / limit) or 1
    share = sum(costs) / number
    parts: dict[int, list[int]] = defaultdict(list)
    before = 0.0
    for place, cost in enumerate(costs):
        # By its middle, so that a cost on the border of two parts is in the one that has more of it.
        parts[min(int((before + cost / 2) / share), number - 1) if share else 0].append(place)
        before += cost
    return list(parts.values())


def fix_bundles(workspace: Workspace, store: RecordStore) -> list[Bundle]:
    """The bundles of the workspace's plan: those that were made for it before, else new ones, which are kept."""
    try:
        return read_bundles(workspace)
    except CardError:
        bundles = make_bundles(workspace, store)
        content = [asdict(bundle) for bundle in bundles]
        write_atomically(list_path(workspace), to_json({"scale": workspace.config.scale, "bundles": content}))
        return bundles


def read_bundles(workspace: Workspace) -> list[Bundle]:
    """The bundles that were fixed for this plan. Raises CardError where there are none, or damaged ones."""
    path = list_path(workspace)
    try:
        bundles = [Bundle(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))["bundles"]]
        found = sorted((cell, seed) for bundle in bundles for cell, seeds in bundle.seeds.items() for seed in seeds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardError(f"{path}: no list of bundles ({error}); start the run again") from None
    if found != sorted((cell.identity, seed) for cell in workspace.cells for seed in cell.seeds):
        raise CardError(f"{path}: not the seeds of this plan; delete it and start the run again")
    return bundles


def list_path(workspace: Workspace) -> Path:
    """Where the list of the plan's bundles is; the name is a hash of the plan."""
    plan = {cell.identity: list(cell.seeds) for cell in workspace.cells}
    return workspace.results / "bundles" / f"{_digest(plan)}.json"


def marker_path(workspace: Workspace, bundle: Bundle) -> Path:
    """The file that is there once a bundle's seeds are measured; the job graph looks for it."""
    return workspace.results / "bundles" / workspace.config.scale / bundle.paper / f"{bundle.name}.json"


def write_marker(workspace: Workspace, store: RecordStore, bundle: Bundle) -> None:
    """Make a bundle's marker what its records say, the states of its seeds; its time changes with its content."""
    states = _states(workspace, store, bundle)
    content = to_json({cell: {str(seed): state for seed, state in seeds.items()} for cell, seeds in states.items()})
    path = marker_path(workspace, bundle)
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def mend_markers(workspace: Workspace, store: RecordStore, bundles: Iterable[Bundle]) -> None:
    """Before a graph is made: a marker stays or is written where nothing is left to measure, and goes elsewhere."""
    for bundle in bundles:
        states = _states(workspace, store, bundle)
        if all(state in FINISHED for seeds in states.values() for state in seeds.values()):
            write_marker(workspace, store, bundle)
        else:
            marker_path(workspace, bundle).unlink(missing_ok=True)


def mend_times(paths: Iterable[Path]) -> list[Path]:
    """Give files from the future the time of now, and return them: whoever compares times would trust them for ever."""
    now, mended = time.time(), []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime > now + FUTURE_SECONDS:
                os.utime(path, (now, now))
                mended.append(path)
    return mended


def _states(workspace: Workspace, store: RecordStore, bundle: Bundle) -> dict[str, dict[int, str]]:
    cells = {cell.identity: cell for cell in workspace.cells}
    states = {identity: store.states(cells[identity]) for identity in bundle.seeds}
    return {cell: {seed: states[cell][seed][0] for seed in seeds} for cell, seeds in bundle.seeds.items()}


def _digest(seeds: Mapping[str, list[int]]) -> str:
    text = json.dumps(sorted(seeds.items()), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
