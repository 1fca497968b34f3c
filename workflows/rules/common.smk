"""The workspace of this run and what the rules ask of it."""

import os
import shlex
import sys
from pathlib import Path

from retable.bundles import fix_bundles, marker_path, mend_markers, mend_times, needs_of, read_bundles
from retable.cards import CardError, DataError, as_text
from retable.checkout import pass_on
from retable.cluster import ask_by_what_there_is
from retable.config import Workspace, parse_config
from retable.currency import RecordStore, mend_indices
from retable.preflight import check_reachable
from retable.progress import Progress, reasons

# Jobs run the code beside this Snakefile, as this process does, whichever checkout the environment has installed.
pass_on(Path(workflow.basedir))


def tell_of_the_future():
    """After a clock was set back what was written before is newer than what is written now: the page is drawn again."""
    pages = [WORKSPACE.reports / "site" / name for name in ("index.html", "tables", "figures")]
    if mend_times([*pages, *(marker_path(WORKSPACE, bundle) for bundle in BUNDLES)]):
        for page in pages:
            if page.exists():
                os.utime(page, (0, 0))
        print(
            "retable: the clock was set back: times of results are set to now, pages are drawn again", file=sys.stderr
        )


try:
    WORKSPACE = Workspace(Path(workflow.basedir), parse_config(config))
    CELLS = {cell.identity: cell for cell in WORKSPACE.cells}
    # Papers from outside that cannot be used: the others go on without them, and the call ends with an error.
    TROUBLES = WORKSPACE.outside.troubles
    if workflow.is_main_process:
        print("".join(f"retable: {line}\n" for line in TROUBLES), end="", file=sys.stderr)
    # A job of a cluster reads this file again, when other seeds are measured already: the bundles stay as they are.
    if workflow.is_main_process:
        check_reachable(WORKSPACE)
        STORE = RecordStore.open(WORKSPACE)
        BUNDLES = fix_bundles(WORKSPACE, STORE)
        tell_of_the_future()
        # A marker is there while all its seeds have finished, current records: Snakemake measures what has none.
        mend_markers(WORKSPACE, STORE, BUNDLES)
        mend_indices(STORE, CELLS.values())
        PROGRESS = Progress(WORKSPACE, STORE, BUNDLES)
    else:
        BUNDLES = read_bundles(WORKSPACE)
except (CardError, DataError, OSError) as error:
    print(f"retable: {error}", file=sys.stderr)
    sys.exit(2)

PAPERS = list(dict.fromkeys(cell.paper for cell in CELLS.values()))


wildcard_constraints:
    scale="demo|reduced|full",
    paper="[a-z0-9][a-z0-9._-]*",
    recipe="[a-z0-9][a-z0-9._-]*",
    dataset="[a-z0-9][a-z0-9._-]*",
    bundle="[a-z0-9+._-]+_[0-9a-f]{12}",


# Bundles of seeds


def markers(*papers):
    """What is there once the seeds of these papers are measured, of all papers if none is named."""
    return [marker_of_bundle(bundle) for bundle in BUNDLES if not papers or bundle.paper in papers]


def marker_of_bundle(bundle):
    return str(marker_path(WORKSPACE, bundle).relative_to(WORKSPACE.root))


def bundle_of(wildcards):
    """The bundle that a path names."""
    for bundle in BUNDLES:
        if (bundle.paper, bundle.name) == (wildcards.paper, wildcards.bundle):
            return bundle
    raise WorkflowError(f"no bundle of this run has the name {wildcards.paper}/{wildcards.bundle}")


def long_first(wildcards):
    return round(bundle_of(wildcards).seconds)


def needs(wildcards):
    return needs_of(WORKSPACE, bundle_of(wildcards))


def memory_mb(wildcards, attempt):
    return needs(wildcards).memory_mb * attempt


def processors(wildcards):
    return needs(wildcards).processors


def minutes(wildcards, attempt):
    return round(60 * needs(wildcards).hours) * attempt


# Data sets


def marker_of(dataset):
    """The file that says that a data set's files are here with the card's hashes; none for derived data."""
    return [] if WORKSPACE.datasets[dataset].embedded else [f"datasets/raw/.complete/{dataset}.json"]


def data_of(wildcards):
    datasets = {CELLS[identity].dataset for identity in bundle_of(wildcards).seeds}
    return sorted({marker for dataset in datasets for marker in marker_of(dataset)})


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


def from_outside():
    """Cards and claims of papers from outside."""
    folders = WORKSPACE.outside.folders.values()
    found = [folder / name for folder in folders for name in ("card.yaml", "claims.csv")]
    return [str(path) for path in found if path.is_file()]


def selection():
    """The run's selection as options of the `retable` command."""
    chosen = WORKSPACE.config
    options = [("--scale", chosen.scale), ("--seeds", chosen.seeds), ("--device", chosen.device)]
    options += [
        (f"--{key}", setting(name, values)) for key in ("axes", "set") for name, values in getattr(chosen, key).items()
    ]
    keys = ("papers", "papers_from", "datasets", "recipes", "variants")
    options += [(f"--{key.replace('_', '-')}", ",".join(getattr(chosen, key) or [])) for key in keys]
    return " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options if value)


def setting(name, values):
    return f"{name}={','.join(map(as_text, values))}"


def wandb_marker():
    """The file that says that the measured runs are replayed to Weights & Biases; none if that is disabled."""
    chosen = WORKSPACE.config
    return [] if chosen.wandb.mode == "disabled" else [f"results/wandb/{chosen.scale}.json"]


def closing_line():
    """How many seeds are results, and where the page is if it shows them."""
    states = states_now()
    line = f"retable: {states.count('ok')} of {len(states)} seeds are measured at scale {WORKSPACE.config.scale}"
    if bad := states.count("failed") + states.count("diverged"):
        line += f", {bad} failed or diverged (`retable status`)"
    page = Path(rules.site.output.page)
    known = [Path(marker) for marker in markers() if Path(marker).exists()]
    if page.exists() and all(page.stat().st_mtime >= marker.stat().st_mtime for marker in known):
        line += f"; the page: {page.resolve().as_uri()}"
    return line


def states_now():
    """The state of every planned seed."""
    store = RecordStore.open(WORKSPACE)
    return [state for cell in CELLS.values() for state, _ in store.states(cell).values()]


def end_with_failures():
    """Jobs with failed seeds end well, so that pages are drawn; the call itself ends with an error. So it does where a
    paper from outside was left out.
    """
    if failed := states_now().count("failed"):
        raise WorkflowError(f"{failed} seeds failed; `retable status` says why, the same call tries them again")
    if TROUBLES:
        raise WorkflowError(f"left out: {'; '.join(TROUBLES)}")


def failing_line():
    """How much is missing, and why."""
    states = states_now()
    left = len(states) - states.count("ok") - states.count("diverged")
    why = "".join(f"{line}\n" for line in reasons(Path("logs"), PROGRESS.started))
    return f"{why}retable: {left} of {len(states)} seeds are not measured; more is in logs/, the same call goes on"
