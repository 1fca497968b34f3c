"""The command line for people. The job graph calls the same functions."""

import argparse
import errno
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from retable import __version__
from retable.cards import MOST_SEEDS, CardError, DataError, unknown
from retable.config import Workspace, find_root, load_config
from retable.extras import remedy
from retable.plan import Cell, find_cell, names_of, plan, vars_of
from retable.whatif import parse_values

if TYPE_CHECKING:
    from retable.currency import RecordStore


# Errors of a full disk, after which the same command goes on once there is room.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The most that an option may ask for: each is a number of processes, threads or steps.
BOUNDS = {"jobs": 1000, "threads": 1024, "steps": 10**6}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `retable`. Returns the exit status: 0, 2 for unusable input, else what went wrong."""
    chosen = _parser().parse_args(arguments)
    try:
        for name, most in BOUNDS.items():
            if (getattr(chosen, name, None) or 0) > most:
                raise CardError(f"--{name} {getattr(chosen, name)}: the most is {most}")
        status = chosen.function(chosen) or 0
        # The rest is done; a folder that the user named and that cannot be used is an error all the same.
        return max(status, int(_tell_troubles(chosen)))
    except (CardError, DataError) as error:
        _tell_troubles(chosen)
        print(f"retable: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not (line := remedy(error)):
            raise
        print(f"retable: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        print("retable: interrupted; the same command goes on", file=sys.stderr)
        return 130
    except OSError as error:
        advice = "; make room, the same command goes on" if error.errno in FULL else ""
        print(f"retable: {error}{advice}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="retable", description="Rebuild the tables of a paper.")
    parser.add_argument("--version", action="version", version=f"retable {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    selection = argparse.ArgumentParser(add_help=False)
    selection.add_argument("--scale", help="demo, reduced or full (default: config/config.yaml)")
    selection.add_argument("--papers", help="comma-separated, default all")
    selection.add_argument("--papers-from", help="folders with papers or data cards from elsewhere, comma-separated")
    selection.add_argument("--datasets", help="comma-separated, default all")
    selection.add_argument("--recipes", help="comma-separated, default all")
    selection.add_argument("--variants", help="comma-separated, default all")
    selection.add_argument("--axes", action="append", default=[], metavar="NAME=VALUE[,VALUE]", help="of the grid")
    selection.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE[,VALUE]", help="what if: settings that no card lists"
    )
    selection.add_argument("--device", help="auto, cpu or cuda (default: config/config.yaml)")
    selection.add_argument("--seeds", type=int, help="number of seeds instead of the card's")

    def command(name: str, function, text: str, *, select: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[selection] if select else [])
        made.set_defaults(function=function)
        return made

    planned = command("plan", _plan, "list the cells of a scale")
    run = command("run", _run, "measure cells: those of the selection that have no current record")
    run.add_argument("recipe", nargs="?", help="<paper> or <paper>/<recipe>")
    run.add_argument("--cell", help="only the cell whose identity begins so (see `retable plan`)")
    run.add_argument("--seed", type=int, help="only this seed")
    run.add_argument("--skip-published", action="store_true", help="leave out seeds whose published record is current")
    run.add_argument("--threads", type=int, default=1, help="CPU threads (default 1; run cells side by side instead)")
    run.add_argument("--evaluate-only", action="store_true", help="evaluate kept weights without training")
    run.add_argument("--list", type=Path, help="only the cells and seeds of this file, which `retable campaign` writes")
    run.add_argument("--runs-per-gpu", type=int, help="how many runs share a GPU (default: config/config.yaml)")
    run.add_argument("--no-wait", action="store_true", help="leave out seeds that another process is measuring")
    status = command(
        "status", _status, "how many seeds of each cell were measured here, failed, are stale or missing, and why"
    )
    status.add_argument("--watch", action="store_true", help="then how far a run of the selection is, until it ends")
    estimate = command("estimate", _estimate, "what would run: time, disk, memory, licences")
    command("doctor", _doctor, "what is wrong with this workstation or cluster; exit 1 when something is")
    verify = command(
        "verify", _verify, "check records against the tree; exit 1 when some are stale, failed, damaged or missing"
    )
    for made in (planned, status, estimate, verify):
        made.add_argument("--json", action="store_true", help="for programs")
    data = command(
        "data",
        _data,
        "list, fetch or check data sets, print what a card must pin, or adopt your download",
        select=False,
    )
    data.add_argument("action", choices=["list", "fetch", "check", "pin", "adopt"])
    data.add_argument("names", nargs="*", help="data sets, default all; for adopt: a name, and an archive or folder")
    data.add_argument("--papers-from", help="folders with data cards from elsewhere, comma-separated")
    data.add_argument("--mirror", help="a directory or a URL that has the files under the cards' paths")
    command("report", _report, "draw the pages from what is measured")
    publish = command("publish", _publish, "copy finished records into results/published/")
    publish.add_argument("recipe", help="<paper>/<recipe>")
    publish.add_argument("--to", type=Path, metavar="FOLDER", help="a new folder to be sent to somebody instead")
    publish.add_argument("--sender", help="your name in it (default: the login)")
    command("probe", _probe, "score what encoders of all papers keep by one linear probe, beside their own")
    taken = command("import", _import, "check a folder that somebody sent and keep its results apart")
    taken.add_argument("folder", type=Path)
    prove = command("prove", _prove, "run another commit's code beside this one's and compare bytes", select=False)
    prove.add_argument("selection", nargs="?", help="<paper> or <paper>/<recipe>, default all")
    prove.add_argument("--datasets", help="comma-separated, default all: a part of what takes long")
    prove.add_argument("--variants", help="comma-separated, default all")
    prove.add_argument("--base", required=True, help="the commit whose records stay current where nothing differs")
    prove.add_argument(
        "--whole", action="store_true", help="a whole seed of each cell: cells that differ do not hold up the others"
    )
    campaign = command("campaign", _campaign, "measure what is not decided, by value per hour", select=False)
    campaign.add_argument("--papers", help="comma-separated, default all")
    campaign.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default cpu")
    campaign.add_argument("--hours", type=float, default=math.inf, help="how long it may take (default: without end)")
    campaign.add_argument("--minutes", dest="hours", type=lambda text: float(text) / 60, help="the same in minutes")
    campaign.add_argument("--jobs", type=int, default=1, help="runs side by side, on one GPU with --device cuda")
    campaign.add_argument("--at", default="HEAD", metavar="COMMIT", help="the commit to measure (default HEAD)")
    campaign.add_argument("--dry-run", action="store_true", help="say what it would measure, and end")
    campaign.add_argument(
        "--steps", type=int, help="rehearse: each cell once on the processor, every phase cut to this"
    )
    crate = command("crate", _crate, "the results as a folder for data portals: RO-Crate and Croissant", select=False)
    crate.add_argument("folder", type=Path)
    command("tensorboard", _tensorboard, "write measured runs as TensorBoard's event files")
    command("wandb", _wandb, "replay measured runs to Weights & Biases")
    new = command("new", _new, "lay out a paper's or a data set's folder that runs at once", select=False)
    new.add_argument("kind", choices=["paper", "dataset"])
    new.add_argument("place", type=Path, metavar="ID", help="its id, or a folder to be made that is named so")
    init = command("init", _init, "lay out a folder for runs, where there is no clone", select=False)
    init.add_argument("folder", type=Path)
    check = command(
        "check", _check, "check a paper's or a data set's folder, wherever it lies, or results that were sent"
    )
    check.add_argument("folder", type=Path)
    compare = command("compare", _compare, "two cells, two commits' records or two machines, side by side")
    compare.add_argument("sides", nargs=2, metavar="SIDE", help="CELL, CELL@WHERE or @WHERE")
    background = command("background", _background, "measure in a clone, at the lowest priority", select=False)
    actions = background.add_subparsers(required=True, metavar="action", dest="action")
    start = actions.add_parser("start", help="measure what `retable run ARGUMENTS` would; say `--` before them")
    start.add_argument("--jobs", type=int, default=1, help="workers that share the seeds (default 1)")
    start.add_argument("--at", default="HEAD", metavar="COMMIT", help="the commit to measure (default HEAD)")
    start.add_argument("arguments", nargs="*", help="what follows `retable run`")
    actions.add_parser("status", help="what is measured, and how far it is")
    actions.add_parser("pause", help="halt the workers until `resume`")
    actions.add_parser("resume", help="let paused workers go on")
    actions.add_parser("stop", help="end the workers once their state is saved; the same `start` goes on")
    actions.add_parser("collect", help="copy finished seeds into this checkout's results/")
    return parser


def open_workspace(chosen: argparse.Namespace) -> Workspace:
    """The checkout around the current folder, with the command line's selection over its config file."""
    root = find_root(Path.cwd())
    names = ("scale", "papers", "datasets", "recipes", "seeds", "device", "mirror", "runs_per_gpu")
    overrides = {name: getattr(chosen, name, None) for name in names}
    if (named := getattr(chosen, "recipe", None)) is not None:
        paper, recipe = names_of(named)
        overrides |= {"papers": paper} | ({"recipes": recipe} if recipe else {})
    overrides["variants"] = getattr(chosen, "variants", None)
    for name in ("axes", "set"):
        overrides[name] = parse_values(getattr(chosen, name, None) or [], f"--{name}") or None
    if places := getattr(chosen, "papers_from", None):
        overrides["papers_from"] = [str(Path(place).absolute()) for place in places.split(",") if place]
    chosen.workspace = Workspace(root, load_config(root / "config" / "config.yaml", **overrides))
    return chosen.workspace


def _tell_troubles(chosen: argparse.Namespace) -> bool:
    """Print what cannot be used of the folders from outside; tells whether there is something."""
    workspace = getattr(chosen, "workspace", None)
    troubles = workspace.__dict__["outside"].troubles if workspace and "outside" in workspace.__dict__ else []
    for line in troubles:
        print(f"retable: {line}", file=sys.stderr)
    return bool(troubles)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=1, sort_keys=True))


def _plan(chosen: argparse.Namespace) -> None:
    cells = open_workspace(chosen).cells
    if chosen.json:
        return _print_json([vars_of(cell) | {"identity": cell.identity, "command": cell.command} for cell in cells])
    for cell in cells:
        axes = " ".join(f"{key}={value}" for key, value in cell.axes.items())
        print(
            f"{cell.identity}  {cell.paper}/{cell.recipe}  {cell.dataset}  {cell.variant}  {axes}  x{len(cell.seeds)}"
        )


def _run(chosen: argparse.Namespace) -> int:
    from retable.tasks import read_list

    # A slip is answered before torch is imported.
    if chosen.seed is not None and not 0 <= chosen.seed < MOST_SEEDS:
        raise CardError(f"--seed {chosen.seed}: seeds are counted from 0 to {MOST_SEEDS - 1}")
    if chosen.threads < 1:
        raise CardError(f"--threads {chosen.threads}: needs at least 1")
    workspace = open_workspace(chosen)
    if chosen.list:
        cells = read_list(workspace, chosen.list)
    else:
        cells = workspace.cells if chosen.cell is None else [find_cell(workspace.cells, chosen.cell)]

    from retable.background import TURN, in_turn
    from retable.data.fetch import fetch
    from retable.run import evaluate_cell, run_cell
    from retable.stopping import PromptStop
    from retable.train.determinism import threads
    from retable.train.distributed import process_group

    known = _published_seeds(workspace) if chosen.skip_published else set()
    wanted = {
        cell.identity: [
            seed
            for seed in (cell.seeds if chosen.seed is None else (chosen.seed,))
            if (cell.identity, seed) not in known
        ]
        for cell in cells
    }
    cells = [cell for cell in cells if wanted[cell.identity]]
    left = in_turn([(cell, seed) for cell in cells for seed in wanted[cell.identity]], os.environ.get(TURN))
    failed = 0
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        fetch(workspace.datasets[dataset], workspace.raw, workspace.mirror, progress=sys.stderr.isatty())
    stop = PromptStop()
    stop.install()
    # A process of torchrun's joins the others, any other stays alone.
    with process_group(), threads(chosen.threads):
        if chosen.evaluate_only:
            for cell, seed in left:
                for name, value in evaluate_cell(workspace, cell, seed).metrics.items():
                    print(f"{cell.slug} seed {seed}: {name} {value!r}")
            return 0
        # Without waiting, seeds of other processes are asked for again as long as some come free.
        waiting: list[tuple[Cell, int]] = []
        while left and left != waiting:
            waiting, left = left, []
            for cell, pairs in groupby(waiting, key=lambda pair: pair[0]):
                seeds = [seed for _, seed in pairs]
                outcome = run_cell(workspace, cell, stop, seeds, wait=not chosen.no_wait)
                failed += len(outcome.failed)
                left += [(cell, seed) for seed in seeds if seed not in outcome.records]
    if left:
        print(f"{len(left)} seeds are left out: other processes measure them")
    if failed:
        print(
            f"retable: {failed} seeds failed; `retable status` says why, the same command tries again", file=sys.stderr
        )
    return 1 if failed else 0


def _published_seeds(workspace: Workspace) -> set[tuple[str, int]]:
    from retable.currency import FINISHED

    store = _open_store(workspace)
    return {(record.identity, record.seed) for record in store.published.records if store.state(record)[0] in FINISHED}


def _open_store(workspace: Workspace) -> "RecordStore":
    from retable.currency import RecordStore

    return RecordStore.open(workspace)


def _print_troubles(store: "RecordStore") -> int:
    """Print what cannot be used; how many there are."""
    for trouble in store.troubles:
        print(f"retable: {trouble}", file=sys.stderr)
    return len(store.troubles)


def _status(chosen: argparse.Namespace) -> None:
    workspace = open_workspace(chosen)
    store = _open_store(workspace)
    _print_troubles(store)
    if chosen.json:
        seeds = {
            cell.identity: {seed: {"state": state, "reason": why} for seed, (state, why) in store.states(cell).items()}
            for cell in workspace.cells
        }
        return _print_json(
            [{"identity": cell.identity, "name": cell.name, "seeds": seeds[cell.identity]} for cell in workspace.cells]
        )
    for cell in workspace.cells:
        states = store.states(cell)
        counts = Counter(state for state, _ in states.values())
        print(f"{cell.identity}  {cell.name}  " + ", ".join(f"{number} {state}" for state, number in counts.items()))
        for seed, (state, reason) in states.items():
            if reason:
                print(f"    seed {seed} {state}: {reason}")
    if chosen.watch:
        from retable.bundles import make_bundles
        from retable.progress import Progress

        Progress(workspace, store, make_bundles(workspace, store)).watch()


def _estimate(chosen: argparse.Namespace) -> None:
    from retable.preflight import estimate, estimated

    if chosen.json:
        return _print_json(estimated(open_workspace(chosen)))
    print(estimate(open_workspace(chosen)))


def _doctor(chosen: argparse.Namespace) -> int:
    from retable import doctor

    bad = 0
    for finding in doctor.examine(open_workspace(chosen)):
        print(finding, flush=True)
        bad += finding.good is False
    print(f"{bad} thing{'s' * (bad != 1)} to mend" if bad else "nothing to mend")
    return 1 if bad else 0


def _verify(chosen: argparse.Namespace) -> int:
    from retable.looks import seeds_held

    workspace = open_workspace(chosen)
    store = _open_store(workspace)
    said: list[str] = []
    tell = said.append if chosen.json else print
    bad = _print_troubles(store)
    here = Counter[str]()
    for cell in workspace.cells:
        for seed, (state, reason) in store.states(cell).items():
            here[state] += 1
            if state not in ("ok", "not run"):
                bad += 1
                tell(f"{cell.name} seed {seed}: {state}{f' ({reason})' if reason else ''}; measure: {cell.command}")
    cells = {cell.identity: cell for cell in workspace.cells}
    published = Counter[str]()
    for record in store.published.records:
        if record.identity in cells:
            state, reason = store.state(record)
            published[state] += 1
            if state in ("stale", "failed"):
                bad += 1
                cell = cells[record.identity]
                tell(f"published {cell.name} seed {record.seed}: {state} ({reason}); measure: {cell.command}")
    held = seeds_held(store.published.records)
    for identity, cell in cells.items():
        if refused := store.looks.refusal(cell, max(held[identity], len(cell.seeds))):
            bad += 1
            tell(refused)
        elif held[identity] and identity not in store.looks.stored:
            bad += 1
            tell(f"{cell.name}: published, but its look is not stored; `retable publish {cell.paper}/{cell.recipe}`")
    missing, scale = here["not run"], workspace.config.scale
    tell(f"{here['ok']} of {here.total()} seeds are measured and current at scale {scale}, {missing} were not run here")
    if published:
        tell("published: " + ", ".join(f"{number} {state}" for state, number in sorted(published.items())))
    planned = {cell.identity for cell in plan(workspace.papers, workspace.datasets, scale)}
    earlier = [
        record
        for record in store.published.records
        if record.scale == scale and record.paper in workspace.papers and record.identity not in planned
    ]
    if earlier:
        recipes = ", ".join(sorted({f"{record.paper}/{record.recipe}" for record in earlier}))
        tell(
            f"{len(earlier)} published records ({recipes}) are of cells that no card plans any more, by an earlier "
            "protocol or setting: they stand in no table"
        )
    if chosen.json:
        counts = {"measured": dict(here), "published": dict(published), "earlier": len(earlier)}
        _print_json({"good": not (bad or missing), "scale": scale, **counts, "said": said})
    return 1 if bad or missing else 0


def _data(chosen: argparse.Namespace) -> int:
    from retable.data.fetch import fetch
    from retable.data.overview import check_lines, listing
    from retable.data.pin import pin
    from retable.outside import teach_readers

    if chosen.action == "adopt":
        return _adopt(chosen.names)
    workspace = open_workspace(chosen)
    teach_readers(workspace.outside.readers)
    for name in chosen.names:
        if name not in workspace.datasets:
            raise CardError(unknown("data set", name, list(workspace.datasets)))
    # Data that only the user can provide is fetched and checked on request.
    every = [name for name, card in workspace.datasets.items() if chosen.action == "list" or not card.local]
    cards = {name: workspace.datasets[name] for name in chosen.names or every}
    fine = True
    if chosen.action == "list":
        for row in listing(cards, workspace.raw):
            print(f"{row['name']:20} {row['state']:12} {row['download']:>9}  {row['holds']}; licence: {row['licence']}")
    elif chosen.action == "check":
        for good, line in check_lines(cards, workspace.raw):
            fine &= good
            print(line)
    else:
        for name, card in cards.items():
            paths = fetch(card, workspace.raw, workspace.mirror, progress=sys.stderr.isatty())
            print(f"{name}: {len(paths)} files, hashes match")
            if chosen.action == "pin":
                print(pin(card, workspace.raw))
    return 0 if fine else 1


def _adopt(arguments: list[str]) -> int:
    from retable.cards import load_unpinned, unpinned_folder
    from retable.data.adopt import write_card

    root = find_root(Path.cwd())
    if len(arguments) != 2:
        names = ", ".join(sorted(path.stem for path in unpinned_folder(root).glob("*.yaml")))
        raise CardError(f"retable data adopt NAME PATH: a name ({names}) and your archive, or a folder with the files")
    print(write_card(load_unpinned(root, arguments[0]), Path(arguments[1]), root))
    return 0


def _report(chosen: argparse.Namespace) -> None:
    from retable.report import build_site

    print(build_site(open_workspace(chosen)).as_uri())


def _publish(chosen: argparse.Namespace) -> None:
    from retable.publishing import publish_finished

    workspace = open_workspace(chosen)
    store = _open_store(workspace)
    _print_troubles(store)
    if chosen.to:
        from retable.sending import send

        for line in send(store, workspace.cells, chosen.to, chosen.sender):
            print(line)
        return
    for line in publish_finished(store, workspace.cells):
        print(line)


def _probe(chosen: argparse.Namespace) -> None:
    from retable.probing import probe_kept

    for line in probe_kept(open_workspace(chosen)):
        print(line, flush=True)


def _campaign(chosen: argparse.Namespace) -> int:
    from retable.campaign import Campaign

    # It looks at all scales, and narrows to papers only.
    campaign = Campaign(open_workspace(chosen), chosen.jobs, chosen.hours, print)
    if chosen.steps is not None:
        return campaign.rehearse(chosen.steps)
    campaign.announce()
    return 0 if chosen.dry_run else campaign.measure(chosen.at)


def _prove(chosen: argparse.Namespace) -> int:
    from retable.prove import prove

    # Here they narrow the proof, not the workspace.
    datasets, variants = ([] if names is None else names.split(",") for names in (chosen.datasets, chosen.variants))
    if "" in [*datasets, *variants]:
        raise CardError("an empty name selects nothing; leave it out to prove all")
    chosen.datasets = chosen.variants = None
    workspace = open_workspace(chosen)
    differing = prove(
        workspace, chosen.base, chosen.selection, datasets=datasets, variants=variants, whole=chosen.whole
    )
    return 1 if differing else 0


def _background(chosen: argparse.Namespace) -> int:
    from retable.background import Background

    background = Background.around(Path.cwd())
    if chosen.action == "start":
        # A mistake is said here, not in a worker's log.
        _parser().parse_args(["run", *chosen.arguments])
        lines = background.start(chosen.arguments, chosen.jobs, chosen.at)
    else:
        lines = getattr(background, chosen.action)()
    for line in lines:
        print(line)
    return 1 if chosen.action == "stop" and background.alive() else 0


def _new(chosen: argparse.Namespace) -> None:
    from retable.scaffold import new_dataset, new_paper

    for path in (new_paper if chosen.kind == "paper" else new_dataset)(chosen.place):
        print(path)
    print(f"next: retable check {chosen.place}")


def _init(chosen: argparse.Namespace) -> None:
    from retable.scaffold import lay_out

    for path in lay_out(chosen.folder):
        print(path)
    print(f"next: cd {chosen.folder}, then `retable plan`, or `retable new paper papers/ID`")


def _import(chosen: argparse.Namespace) -> None:
    from retable.sending import take_in

    for line in take_in(open_workspace(chosen), chosen.folder):
        print(line)


def _check(chosen: argparse.Namespace) -> int:
    from retable.checking import Failed, check
    from retable.sending import MANIFEST, verify

    if (chosen.folder / MANIFEST).is_file():
        submission, records, doubts = verify(_open_store(open_workspace(chosen)), chosen.folder)
        for line in doubts:
            print(f"wrong {line}", file=sys.stderr)
        print(f"{len(records)} records of {submission.sender}, retable {submission.retable}, {submission.system}")
        return 1 if doubts else 0
    try:
        for line in check(chosen.folder):
            print(f"ok    {line}", flush=True)
    except Failed as error:
        print(f"wrong {error}", file=sys.stderr)
        return 1
    return 0


def _compare(chosen: argparse.Namespace) -> None:
    from retable.compare import compare

    for line in compare(open_workspace(chosen), *chosen.sides):
        print(line)


def _crate(chosen: argparse.Namespace) -> None:
    from retable.describe import write_crate

    print(write_crate(open_workspace(chosen), chosen.folder))


def _tensorboard(chosen: argparse.Namespace) -> None:
    from retable.tensorboard_sink import replay

    print(f"{replay(open_workspace(chosen))} runs written; tensorboard --logdir results/tensorboard")


def _wandb(chosen: argparse.Namespace) -> None:
    from retable.wandb_sink import replay, sync_line

    workspace = open_workspace(chosen)
    wandb = workspace.config.wandb
    if "mode" not in wandb.model_fields_set:  # asked for by the command itself
        offline = workspace.config.model_copy(update={"wandb": wandb.model_copy(update={"mode": "offline"})})
        workspace = Workspace(workspace.root, offline)
    count, mode = replay(workspace), workspace.config.wandb.mode
    upload = f"; to upload them: {sync_line(workspace)}" if count and mode == "offline" else ""
    print(f"{count} runs replayed, mode {mode}{upload}")
