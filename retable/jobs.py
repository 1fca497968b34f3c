"""What the job graph's scripts do: each takes Snakemake's job, logs to its file and writes its output."""

import os
import sys
from pathlib import Path
from typing import Any

from retable.config import Workspace, parse_config
from retable.records import to_json, write_atomically


def begin(job: Any) -> Workspace:
    """Direct what the job prints, libraries included, to its log file and open its workspace.

    Snakemake deletes a job's log before it tries again, so the log's file has a second name below `logs/tries/`: both
    names show all tries.
    """
    path = Path(job.log[0])
    kept = Path("logs/tries") / path.relative_to("logs")
    for place in (path, kept):
        place.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    path.unlink(missing_ok=True)
    os.link(kept, path)
    # What is printed is in the log at once, not when a buffer is full.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return Workspace(Path.cwd(), parse_config(job.config))


def download(job: Any) -> None:
    """Fetch a data set's files; the marker with their hashes comes last. Raises DataError."""
    from retable.data.fetch import fetch

    workspace = begin(job)
    card = workspace.datasets[job.wildcards.dataset]
    fetch(card, workspace.raw, workspace.mirror, progress=False)
    hashes = {file.path: file.sha256 for file in card.files}
    write_atomically(Path(job.output[0]), to_json(hashes))


def measure(job: Any) -> None:
    """Measure a cell's seeds that have no current record; a SIGTERM saves the state and ends the job."""
    from retable.run import find_cell, run_cell
    from retable.train.context import StopRequest
    from retable.train.determinism import threads

    workspace = begin(job)
    stop = StopRequest()
    stop.install()
    with threads(job.threads):
        run_cell(workspace, find_cell(workspace.cells, job.params.identity), stop)


def site(job: Any) -> None:
    """Draw the tables, figures and pages from all records."""
    from retable.report import build_site

    build_site(begin(job))


def wandb(job: Any) -> None:
    """Replay what was measured since the last time to Weights & Biases."""
    from retable.wandb_sink import replay

    count = replay(begin(job))
    write_atomically(Path(job.output[0]), to_json({"replayed": count}))
