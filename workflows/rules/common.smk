"""The workspace of this run and what the rules ask of it."""

import json
import sys
from pathlib import Path

from retable.cards import CardError
from retable.checkout import pass_on
from retable.config import Workspace, parse_config
from retable.currency import RecordStore, mend_indices

CELL = "{scale}/{paper}/{recipe}/{dataset}/{cell}"
MINUTES = {"demo": 30, "reduced": 240, "full": 1440}

# Jobs run the code beside this Snakefile, as this process does, whichever checkout the environment has installed.
pass_on(Path(workflow.basedir))

try:
    WORKSPACE = Workspace(Path(workflow.basedir), parse_config(config))
    CELLS = {cell.identity: cell for cell in WORKSPACE.cells}
    # An index is there while all planned seeds have finished, current records: Snakemake measures what has none.
    if workflow.is_main_process:
        mend_indices(RecordStore.open(WORKSPACE), CELLS.values())
except CardError as error:
    print(f"retable: {error}", file=sys.stderr)
    sys.exit(2)

PAPERS = list(dict.fromkeys(cell.paper for cell in CELLS.values()))


wildcard_constraints:
    scale="demo|reduced|full",
    paper="[a-z0-9][a-z0-9._-]*",
    recipe="[a-z0-9][a-z0-9._-]*",
    dataset="[a-z0-9][a-z0-9._-]*",
    cell="[^/]+_[0-9a-f]{12}",


# Cells


def index_of(cell):
    """The file that is there once a cell's seeds are measured."""
    return str(cell.folder(Path("results")) / "cell.json")


def indices(*papers):
    """Indices of the cells of these papers, of all papers if none is named."""
    return [index_of(cell) for cell in CELLS.values() if not papers or cell.paper in papers]


def cell_of(wildcards):
    """The planned cell that a path names."""
    identity = wildcards.cell.rpartition("_")[2]
    if identity not in CELLS:
        raise WorkflowError(f"no planned cell has the identity {identity}; `retable plan` lists them")
    return CELLS[identity]


def identity(wildcards):
    return cell_of(wildcards).identity


def seeds(wildcards):
    return list(cell_of(wildcards).seeds)


def seed_states(index):
    """Seed -> state from a cell's index; empty where there is none."""
    try:
        return json.loads(Path(index).read_text(encoding="utf-8"))["seeds"]
    except (OSError, ValueError, KeyError):
        return {}


def memory_mb(wildcards, attempt):
    return 4000 * attempt


def minutes(wildcards, attempt):
    return MINUTES[wildcards.scale] * attempt


# Data sets


def marker_of(dataset):
    """The file that says that a data set's files are here with the card's hashes; none for derived data."""
    return [] if WORKSPACE.datasets[dataset].embedded else [f"datasets/raw/.complete/{dataset}.json"]


def data_of(wildcards):
    return marker_of(cell_of(wildcards).dataset)


def all_markers():
    return sorted({marker for cell in CELLS.values() for marker in marker_of(cell.dataset)})


def card_hashes(wildcards):
    return {file.path: file.sha256 for file in WORKSPACE.datasets[wildcards.dataset].files}


def download_mb(wildcards):
    return 1 + WORKSPACE.datasets[wildcards.dataset].bytes // 2**20


# Pages


def from_tree(*patterns):
    """Files of the checkout that match, in a stable order."""
    found = (path for pattern in patterns for path in WORKSPACE.root.glob(pattern) if path.is_file())
    return sorted(str(path.relative_to(WORKSPACE.root)) for path in found if "__pycache__" not in path.parts)


def selection():
    """The run's selection as options of the `retable` command."""
    chosen = WORKSPACE.config
    options = [("--scale", chosen.scale), ("--seeds", chosen.seeds), ("--device", chosen.device)]
    options += [(f"--{key}", ",".join(getattr(chosen, key) or [])) for key in ("papers", "datasets", "recipes")]
    return " ".join(f"{option} {value}" for option, value in options if value)


def wandb_marker():
    """The file that says that the measured runs are replayed to Weights & Biases; none if that is disabled."""
    chosen = WORKSPACE.config
    return [] if chosen.wandb.mode == "disabled" else [f"results/wandb/{chosen.scale}.json"]


def closing_line():
    """How many seeds are results, and where the page is if it shows them."""
    known = [Path(index) for index in indices() if Path(index).exists()]
    states = [state for index in known for state in seed_states(index).values()]
    wanted = sum(len(cell.seeds) for cell in CELLS.values())
    line = f"retable: {states.count('ok')} of {wanted} seeds are measured at scale {WORKSPACE.config.scale}"
    if bad := len(states) - states.count("ok"):
        line += f", {bad} failed or diverged (`retable status`)"
    page = Path(rules.site.output.page)
    if page.exists() and all(page.stat().st_mtime >= index.stat().st_mtime for index in known):
        line += f"; the page: {page.resolve().as_uri()}"
    return line


def end_with_failures():
    """Jobs with failed seeds end well, so that pages are drawn; the call itself ends with an error."""
    known = [Path(index) for index in indices() if Path(index).exists()]
    failed = sum(state == "failed" for index in known for state in seed_states(index).values())
    if failed:
        raise WorkflowError(f"{failed} seeds failed; `retable status` says why, the same call tries them again")


def failing_line():
    """How much is missing, and where to read why."""
    missing = [index for index in indices() if not Path(index).exists()]
    return f"retable: {len(missing)} of {len(CELLS)} cells are not measured; why is in logs/, the same call goes on"
