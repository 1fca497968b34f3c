"""What every method promises, asked of each variant that the demo runs: a new paper is covered by its card, one from
outside where RETABLE_PAPERS_FROM names its folder.

One variant speaks for a method of an experiment; by default the first that does is asked for a paper's experiment, and
the others with `-m slow`. `--device cuda`
asks the same on a GPU.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from retable.config import Config, Workspace
from retable.contract import curve, demo_cells, is_control, meaning, speakers, step_lowers
from retable.plan import Cell
from retable.records import read_record
from retable.run import evaluate_cell, fixed_batch, make_context, make_deterministic, run_cell
from retable.settings import load_paper_module

ROOT = Path(__file__).resolve().parents[2]
SUITE = Workspace(ROOT, Config())
PAPERS = SUITE.papers


CELLS = demo_cells(SUITE)
LEARNING = [cell for cell in CELLS if not is_control(SUITE, cell)]
SPEAKERS = speakers(SUITE, CELLS)
# The first speaker of each experiment.
FIRST = list({(cell.paper, SUITE.experiment(cell)): cell for cell in reversed(SPEAKERS)}.values())


def each(cells: list[Cell]) -> pytest.MarkDecorator:
    """Parametrises a test over cells, those that speak for their experiment first of all by default."""
    marks = [() if cell in FIRST else pytest.mark.slow for cell in cells]
    names = [f"{cell.paper}-{cell.recipe}-{cell.variant}" for cell in cells]
    rows = zip(cells, marks, names, strict=True)
    return pytest.mark.parametrize("cell", [pytest.param(cell, marks=mark, id=name) for cell, mark, name in rows])


@pytest.fixture(scope="module")
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")


def workspace_at(folder: Path, device: str) -> Workspace:
    """The project's cards and methods over an empty results folder."""
    for name in ("methods", "datasets", "retable"):
        (folder / name).symlink_to(ROOT / name)
    return Workspace(folder, Config(device=device))


@pytest.fixture
def workspace(tmp_path: Path, device: str) -> Workspace:
    return workspace_at(tmp_path, device)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, device: str) -> Callable[[Cell], Workspace]:
    """Gives the workspace where seeds 0 and 1 of a cell are measured; several tests look at one measurement."""

    @cache
    def of(identity: str) -> Workspace:
        (cell,) = (cell for cell in CELLS if cell.identity == identity)
        workspace = workspace_at(tmp_path_factory.mktemp("measured"), device)
        run_cell(workspace, dataclasses.replace(cell, seeds=(0, 1)))
        return workspace

    return lambda cell: of(cell.identity)


def outcome(folder: Path, seed: int, device: str) -> tuple[dict, bytes]:
    """What must not change when a seed runs again: record and curve on a processor, to the last bit.

    On a GPU the names of its numbers: sums of sparse products come in any order there, which training magnifies, and
    the record says "best effort".
    """
    record = meaning(folder / f"seed-{seed}.json")
    if device == "cpu":
        return record, curve(folder, seed)
    return record | {name: record[name].keys() for name in ("metrics", "series")}, b""


@pytest.mark.parametrize("paper", sorted(PAPERS))
def test_card_is_valid_and_has_a_demo(paper: str) -> None:
    card = PAPERS[paper]
    assert any("demo" in recipe.scales for recipe in card.recipes)
    assert (SUITE.folder_of(paper) / "README.md").exists()


@each(LEARNING)
def test_one_step_lowers_the_loss_on_a_fixed_batch(cell: Cell, workspace: Workspace, device: str) -> None:
    make_deterministic(torch.device(device))
    context = make_context(workspace, cell, 0, torch.device(device))
    model, loss = fixed_batch(load_paper_module(cell.paper, workspace.experiment(cell)), cell, context)
    assert step_lowers(model, loss)


@each(CELLS)
def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    cell: Cell, workspace: Workspace, measured: Callable[[Cell], Workspace], device: str
) -> None:
    folder = cell.folder(measured(cell).results)
    first, other = meaning(folder / "seed-0.json"), meaning(folder / "seed-1.json")
    assert first["state"] == "ok"
    assert first["metrics"]
    again = run_cell(workspace, dataclasses.replace(cell, seeds=(0,))).folder
    assert outcome(again, 0, device) == outcome(folder, 0, device)
    if not is_control(SUITE, cell):
        assert curve(folder, 0) != curve(folder, 1)
        assert first["settings"] == other["settings"]


@each(CELLS)
def test_evaluation_runs_alone(cell: Cell, measured: Callable[[Cell], Workspace], device: str) -> None:
    workspace = measured(cell)
    record = read_record(cell.folder(workspace.results) / "seed-0.json")
    metrics = evaluate_cell(workspace, cell, 0).metrics
    assert metrics == (record.metrics if device == "cpu" else pytest.approx(record.metrics, rel=1e-5))


# Killed at a named point, then resumed --------------------------------------------------------------------------------

# Imports everything once, then forks a child for each job that it reads: importing torch costs seconds.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
import retable.records, retable.run, retable.train.checkpoint, retable.train.context as context
import retable.train.randomness as randomness
import sklearn.linear_model, timm.models.vision_transformer, transformers.models.bert.modeling_bert
from retable.config import Config, Workspace
from retable.plan import Cell

context.CHECKPOINT_SECONDS = 0.0

def dies_on_call(module, name, number):
    original, calls = getattr(module, name), []
    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(module, name, wrapped)

def dies_on_draw_after_saving(number):
    # Stories draw differently often in an epoch; the first draw after a saved state begins a step in all of them.
    replace, seed_torch, saved = os.replace, randomness.seed_torch, []
    def counted(*args, **kwargs):
        saved.append(1)
        return replace(*args, **kwargs)
    def wrapped(seed, *names):
        if len(saved) >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        return seed_torch(seed, *names)
    os.replace, randomness.seed_torch = counted, wrapped

def terminates_itself(self, value, name, epoch, check=context.Context.check_finite):
    if epoch == 3 and name == "loss":
        os.kill(os.getpid(), signal.SIGTERM)
    return check(self, value, name, epoch)

def job(root, device, cell, point, errors):
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if point == "before a step":
        dies_on_draw_after_saving(2)
    elif point == "after a step":
        dies_on_call(context.Context, "check_finite", 4)
    elif point == "between a checkpoint's temporary write and its rename":
        dies_on_call(os, "replace", 3)
    elif point == "before the record":
        dies_on_call(retable.run, "write_record", 1)
    elif point == "SIGTERM":
        context.Context.check_finite = terminates_itself
    stop = context.StopRequest()
    stop.install()
    retable.run.run_cell(Workspace(Path(root), Config(device=device)), Cell(**cell), stop)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            sys.stdout = sys.stderr
            job(**json.loads(line))
            os._exit(0)
        except SystemExit as stopped:
            os._exit(stopped.code)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

POINTS = [
    "before a step",
    "after a step",
    "between a checkpoint's temporary write and its rename",
    "before the record",
]


@pytest.fixture(scope="module")
def driver() -> Iterator[subprocess.Popen]:
    """A process that runs cells on request and survives when one of them is killed."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", DRIVER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    yield process
    process.communicate()


def drive(driver: subprocess.Popen, workspace: Workspace, cell: Cell, point: str) -> tuple[int, str]:
    """Exit status (negative: the signal that killed it) and stderr of one run of `cell`."""
    assert driver.stdin
    assert driver.stdout
    fields = {name: getattr(cell, name) for name in cell.__dataclass_fields__}
    errors = workspace.root / "stderr"
    where = {"root": str(workspace.root), "device": workspace.config.device, "errors": str(errors)}
    driver.stdin.write(json.dumps(where | {"cell": fields, "point": point}) + "\n")
    driver.stdin.flush()
    return int(driver.stdout.readline()), errors.read_text()


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, driver: subprocess.Popen, device: str
) -> Callable[[Cell], tuple[dict, bytes]]:
    """Gives record and curve of seed 0 of a cell that nothing stopped; runs once for all points of a cell."""

    @cache
    def of(identity: str) -> tuple[dict, bytes]:
        (cell,) = (cell for cell in CELLS if cell.identity == identity)
        workspace = workspace_at(tmp_path_factory.mktemp("uninterrupted"), device)
        assert drive(driver, workspace, dataclasses.replace(cell, seeds=(0,)), "never")[0] == 0
        folder = cell.folder(workspace.results)
        assert read_record(folder / "seed-0.json").cost.resumed == 0
        return outcome(folder, 0, device)

    return lambda cell: of(cell.identity)


def kills() -> list[pytest.param]:
    """A learner of each experiment at each point. What the engine does at the points is the same for all, so by
    default one of them is asked all, and one of each other paper what it must keep itself: a step's outcome.
    """
    cells = {(cell.paper, SUITE.experiment(cell)): cell for cell in LEARNING}
    firsts = {cell.paper: cell for cell in reversed(cells.values())}
    return [
        pytest.param(
            cell,
            point,
            marks=() if number == 0 or (point == "after a step" and cell is firsts[cell.paper]) else pytest.mark.slow,
            id=f"{cell.paper}-{cell.recipe}-{point}",
        )
        for number, cell in enumerate(cells.values())
        for point in [*POINTS, "SIGTERM"]
    ]


@pytest.mark.parametrize(("cell", "point"), kills())
def test_killed_and_resumed_equals_uninterrupted(
    cell: Cell,
    point: str,
    workspace: Workspace,
    driver: subprocess.Popen,
    uninterrupted: Callable[[Cell], tuple[dict, bytes]],
    device: str,
) -> None:
    cell = dataclasses.replace(cell, seeds=(0,))
    folder = cell.folder(workspace.results)
    status, errors = drive(driver, workspace, cell, point)
    assert status == (128 + signal.SIGTERM if point == "SIGTERM" else -signal.SIGKILL), errors
    assert not list(folder.glob("*.json"))
    if point == "SIGTERM":
        assert "state saved; the same command resumes" in errors

    assert drive(driver, workspace, cell, "never")[0] == 0
    assert read_record(folder / "seed-0.json").cost.resumed == 1
    assert outcome(folder, 0, device) == uninterrupted(cell)
