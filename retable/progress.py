"""How far a run is, how long it still takes, and why jobs ended without a result."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from retable.bundles import Bundle
from retable.config import Workspace
from retable.currency import RecordStore

SECONDS = 30.0
# The share of the work after which there is a pace: before, most of the time went into starting.
PACED = 0.05


class Progress:
    """The seeds that a run has to measure, and those of them whose records came since."""

    def __init__(self, workspace: Workspace, store: RecordStore, bundles: Iterable[Bundle]) -> None:
        self.started = time.time()
        cells = {cell.identity: cell for cell in workspace.cells}
        unfinished = {identity: set(store.unfinished(cell)) for identity, cell in cells.items()}
        self.costs: dict[Path, float] = {}
        for bundle in bundles:
            mean = bundle.seconds / sum(len(seeds) for seeds in bundle.seeds.values())
            for identity, seeds in bundle.seeds.items():
                folder = cells[identity].folder(workspace.results)
                self.costs |= {folder / f"seed-{seed}.json": mean for seed in seeds if seed in unfinished[identity]}

    def line(self) -> str:
        """Seeds measured of those to measure, and the time left by the pace so far."""
        done = [path for path in self.costs if _written_since(path, self.started)]
        text = f"retable: {len(done)} of {len(self.costs)} seeds"
        spent, total = sum(self.costs[path] for path in done), sum(self.costs.values())
        if spent <= PACED * total or len(done) == len(self.costs):
            return text
        left = (total - spent) * (time.time() - self.started) / spent
        return f"{text}, about {duration(left)} left"

    def tell_now_and_then(self) -> None:
        """Print the line twice a minute from now on, while it changes, until the process ends."""
        threading.Thread(target=self._tell, daemon=True).start()

    def watch(self) -> None:
        """Print the line as `tell_now_and_then` does, until no seed is left or somebody interrupts."""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                print(self.line(), flush=True)
                if all(_written_since(path, self.started) for path in self.costs):
                    return
                time.sleep(SECONDS)

    def _tell(self) -> None:
        before = ""
        while True:
            time.sleep(SECONDS)
            counts = (line := self.line()).partition(",")[0]
            if counts != before and self.costs:
                print(line, file=sys.stderr, flush=True)
            before = counts


def duration(seconds: float, digits: str = ".0f") -> str:
    """For people: seconds below two minutes, minutes below two hours, then hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:{digits}} {unit}"
    return f"{seconds:{digits}} s"


def reasons(logs: Path, since: float) -> list[str]:
    """The lines by which jobs since then said why they ended without a result."""
    found: dict[str, None] = {}
    for path in sorted(logs.rglob("*.log")):
        if "tries" not in path.parts and _written_since(path, since):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found |= dict.fromkeys(line for line in lines if line.startswith("retable: "))
    return list(found)


def _written_since(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime >= moment
    except FileNotFoundError:
        return False
