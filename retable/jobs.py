"""What the job graph's scripts do: each takes Snakemake's job, logs to its file and writes its output."""

import os
from pathlib import Path
from typing import Any

from retable.config import Workspace, parse_config
from retable.output import log_to, one_line
from retable.plan import Cell
from retable.records import to_json, write_atomically


def begin(job: Any) -> Workspace:
    """Direct what the job prints, libraries included, to its log file and open its workspace.

    Snakemake deletes a job's log before it tries again, so the log's file has a second name below `logs/tries/`: both
    names show all tries.
    """
    path = Path(job.log[0])
    kept = Path("logs/tries") / path.relative_to("logs")
    log_to(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.link(kept, path)
    return Workspace(Path.cwd(), parse_config(job.config))


def download(job: Any) -> None:
    """Fetch a data set's files; the marker with their hashes comes last. SystemExit, with one line, if it cannot."""
    from retable.data.fetch import fetch

    with one_line():
        workspace = begin(job)
        card = workspace.datasets[job.wildcards.dataset]
        fetch(card, workspace.raw, workspace.mirror, progress=False)
        hashes = {file.path: file.sha256 for file in card.files}
        write_atomically(Path(job.output[0]), to_json(hashes))


def measure(job: Any) -> None:
    """Measure a bundle's seeds that have no current record; a SIGTERM saves the state and ends the job."""
    from retable.bundles import read_bundles
    from retable.children import Relay, measure_bundle
    from retable.train.determinism import threads

    with one_line():
        workspace = begin(job)
        (bundle,) = (one for one in read_bundles(workspace) if one.name == job.wildcards.bundle)
        stop = Relay()
        stop.install()
        with threads(job.threads):
            measure_bundle(workspace, bundle, stop, cell_log)


def cell_log(cell: Cell) -> Path:
    """Where what a cell prints is kept, of all tries."""
    return Path(f"{cell.folder(Path('logs/measure'))}.log")


def site(job: Any) -> None:
    """Draw the tables, figures and pages from all records."""
    from retable.report import build_site

    with one_line():
        # A site that nothing changed of stays, and is newer than what it was drawn from all the same.
        build_site(begin(job)).touch()


def wandb(job: Any) -> None:
    """Replay what was measured since the last time to Weights & Biases."""
    from retable.wandb_sink import replay

    with one_line():
        count = replay(begin(job))
        write_atomically(Path(job.output[0]), to_json({"replayed": count}))
