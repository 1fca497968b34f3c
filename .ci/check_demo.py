"""After `make demo`: few jobs measured every cell, all are on the pages, and a second call has nothing to do."""

import resource
import subprocess
import sys
from pathlib import Path

from retable.bundles import read_bundles
from retable.config import Workspace, find_root, load_config
from retable.currency import RecordStore

# Of the processor, not of the clock: a busy machine is no mistake. Two to three on a quiet one.
SECONDS = 10
JOBS = 12


def main() -> None:
    """Print what was found; the exit status is that of the first thing that is wrong."""
    root = find_root(Path.cwd())
    workspace = Workspace(root, load_config(root / "config" / "config.yaml", scale="demo"))
    site = workspace.reports / "site"
    index = (site / "index.html").read_text(encoding="utf-8")
    store, cells = RecordStore.open(workspace), workspace.cells
    for cell in cells:
        states = store.states(cell)
        assert {state for state, _ in states.values()} == {"ok"}, f"{cell.slug}: {states}"
        assert (site / "cells" / f"{cell.identity}.html").is_file(), f"{cell.slug} has no page"
    for paper in dict.fromkeys(cell.paper for cell in cells):
        assert f"papers/{paper}.html" in index, f"the leaderboard links no page of {paper}"
    bundles = read_bundles(workspace)
    assert len(bundles) <= JOBS, f"{len(bundles)} jobs measured the demo"
    command = [sys.executable, "-m", "snakemake", "--cores", "2"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = used.ru_utime + used.ru_stime
    assert "Nothing to be done" in done.stdout + done.stderr, done.stdout + done.stderr
    assert took < SECONDS, f"finding nothing to do took {took:.1f} s"
    print(f"{len(cells)} cells measured by {len(bundles)} jobs and shown; a second call: nothing to do, {took:.1f} s")


if __name__ == "__main__":
    main()
