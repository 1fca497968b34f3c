"""The command line for people. The job graph calls the same functions."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from retable import __version__
from retable.cards import CardError, unknown
from retable.config import Workspace, find_root, load_config
from retable.data.containers import DataError
from retable.plan import Cell


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `retable`. Returns the exit status: 0, 2 for unusable input, else what went wrong."""
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.function(chosen) or 0
    except (CardError, DataError) as error:
        print(f"retable: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 141
    except OSError as error:
        print(f"retable: {error}; nothing half-written is left, the same command goes on", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="retable", description="Rebuild the tables of a paper.")
    parser.add_argument("--version", action="version", version=f"retable {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    selection = argparse.ArgumentParser(add_help=False)
    selection.add_argument("--scale", help="demo, reduced or full (default: config/config.yaml)")
    selection.add_argument("--papers", help="comma-separated, default all")
    selection.add_argument("--datasets", help="comma-separated, default all")
    selection.add_argument("--recipes", help="comma-separated, default all")
    selection.add_argument("--seeds", type=int, help="number of seeds instead of the card's")

    def command(name: str, function, text: str, *, select: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[selection] if select else [])
        made.set_defaults(function=function)
        return made

    command("plan", _plan, "list the cells of a scale")
    run = command("run", _run, "measure cells: those of the selection that have no current record")
    run.add_argument("recipe", nargs="?", help="<paper> or <paper>/<recipe>")
    run.add_argument("--cell", help="only the cell whose identity begins so (see `retable plan`)")
    run.add_argument("--seed", type=int, help="only this seed")
    run.add_argument("--threads", type=int, default=1, help="CPU threads (default 1; run cells side by side instead)")
    run.add_argument("--evaluate-only", action="store_true", help="evaluate kept weights without training")
    command("status", _status, "how many seeds of each cell are measured, failed, stale or missing")
    command("estimate", _estimate, "what would run: time, disk, licences")
    command("verify", _verify, "check records against the tree; exit 1 when some are stale, failed or missing")
    data = command("data", _data, "list, fetch or check data sets, or print what a card must pin", select=False)
    data.add_argument("action", choices=["list", "fetch", "check", "pin"])
    data.add_argument("names", nargs="*", help="data sets, default all")
    data.add_argument("--mirror", help="a directory or a URL that has the files under the cards' paths")
    command("report", _report, "draw the pages from what is measured")
    publish = command("publish", _publish, "copy finished records into results/published/")
    publish.add_argument("recipe", help="<paper>/<recipe>")
    command("wandb", _wandb, "replay measured runs to Weights & Biases")
    return parser


def open_workspace(chosen: argparse.Namespace) -> Workspace:
    """The checkout around the current folder, with the command line's selection over its config file."""
    root = find_root(Path.cwd())
    names = ("scale", "papers", "datasets", "recipes", "seeds", "mirror")
    overrides = {name: getattr(chosen, name, None) for name in names}
    paper, _, recipe = (getattr(chosen, "recipe", None) or "").partition("/")
    overrides |= {"papers": paper} if paper else {}
    overrides |= {"recipes": recipe} if recipe else {}
    return Workspace(root, load_config(root / "config" / "config.yaml", **overrides))


def _plan(chosen: argparse.Namespace) -> None:
    for cell in open_workspace(chosen).cells:
        axes = " ".join(f"{key}={value}" for key, value in cell.axes.items())
        print(
            f"{cell.identity}  {cell.paper}/{cell.recipe}  {cell.dataset}  {cell.variant}  {axes}  x{len(cell.seeds)}"
        )


def _run(chosen: argparse.Namespace) -> int:
    from dataclasses import replace

    from retable.data.fetch import fetch
    from retable.run import evaluate_cell, find_cell, run_cell, threads
    from retable.train.context import StopRequest
    from retable.train.distributed import process_group

    workspace = open_workspace(chosen)
    cells = [find_cell(workspace.cells, chosen.cell)] if chosen.cell else workspace.cells
    if chosen.seed is not None:
        cells = [replace(cell, seeds=(chosen.seed,)) for cell in cells]
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        fetch(workspace.datasets[dataset], workspace.raw, workspace.mirror, progress=sys.stderr.isatty())
    stop = StopRequest()
    stop.install()
    # A process of torchrun's joins the others, any other stays alone.
    with process_group(), threads(chosen.threads):
        for cell in cells:
            if chosen.evaluate_only:
                for seed in cell.seeds:
                    for name, value in evaluate_cell(workspace, cell, seed).metrics.items():
                        print(f"{cell.slug} seed {seed}: {name} {value!r}")
            else:
                run_cell(workspace, cell, stop)
    return 0


def _status(chosen: argparse.Namespace) -> None:
    from retable.verify import cell_states

    workspace = open_workspace(chosen)
    for cell, states in cell_states(workspace):
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        print(f"{cell.identity}  {_name(cell)}  " + ", ".join(f"{number} {state}" for state, number in counts.items()))


def _estimate(chosen: argparse.Namespace) -> None:
    from retable.preflight import estimate

    print(estimate(open_workspace(chosen)))


def _verify(chosen: argparse.Namespace) -> int:
    from retable.verify import cell_states

    bad = 0
    workspace = open_workspace(chosen)
    for cell, states in cell_states(workspace):
        for seed, state in zip(cell.seeds, states, strict=True):
            if state != "ok":
                bad += 1
                print(f"{_name(cell)} seed {seed}: {state}; measure again: {cell.command}")
    total = sum(len(cell.seeds) for cell in workspace.cells)
    print(f"{total - bad} of {total} seeds are measured and current at scale {workspace.config.scale}")
    return 1 if bad else 0


def _data(chosen: argparse.Namespace) -> int:
    from retable.data.fetch import fetch
    from retable.data.overview import check_lines, listing
    from retable.data.pin import pin

    workspace = open_workspace(chosen)
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


def _report(chosen: argparse.Namespace) -> None:
    from retable.report import build_site

    print(build_site(open_workspace(chosen)).as_uri())


def _publish(chosen: argparse.Namespace) -> None:
    from retable.records import load_records, publish
    from retable.verify import is_current

    workspace = open_workspace(chosen)
    wanted = {cell.identity for cell in workspace.cells}
    records = [record for record in load_records(workspace.results) if record.identity in wanted]
    good = [record for record in records if record.state != "failed" and is_current(workspace, record)]
    for path in publish(good, workspace.results):
        print(path.relative_to(workspace.root))
    print(f"{len(good)} records published, {len(records) - len(good)} left out as failed or stale")


def _wandb(chosen: argparse.Namespace) -> None:
    from retable.wandb_sink import replay

    workspace = open_workspace(chosen)
    print(f"{replay(workspace)} runs replayed, mode {workspace.config.wandb.mode}")


def _name(cell: Cell) -> str:
    return f"{cell.paper}/{cell.recipe} {cell.dataset} {cell.slug}"
