"""`retable check`: whether a folder from outside is a paper or data set that can be run, believed and shown."""

import contextlib
import io
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from retable.cards import CardError, load_claims, load_dataset, load_paper
from retable.config import Config, Workspace
from retable.scaffold import places_to_fill

# Below the folder; drawn anew by each check.
PLACE = ".check"


class Failed(Exception):
    """What the folder lacks or breaks, in a line that says what to do."""


def check(folder: Path) -> Iterator[str]:
    """Check a paper's folder, with the data sets in its `datasets/`, or a folder of data sets; a line for each thing
    that is right. Raises Failed at the first that is not. Results, log and page are in `.check/` of the folder.
    """
    started = time.monotonic()
    folder = folder.resolve()
    if not folder.is_dir():
        raise Failed(f"{folder}: no such folder; `retable new paper ID` makes one")
    cards = sorted((folder / "datasets").glob("*.yaml"))
    is_paper = (folder / "card.yaml").is_file() or not cards
    shutil.rmtree(folder / PLACE, ignore_errors=True)
    (folder / PLACE).mkdir()
    for path in cards:
        yield _dataset(folder, path)
    if is_paper:
        yield from _parts(folder)
        yield from _plan(folder)
        yield _own_tests(folder)
        yield from _promises(folder)
        yield from _demo(folder)
    if places := places_to_fill(folder):
        yield f"{len(places)} places still say FILL IN: {', '.join(places[:3])}{', ...' if len(places) > 3 else ''}"
    yield f"all is well after {time.monotonic() - started:.0f} s"


def _workspace(folder: Path, name: str) -> Workspace:
    """Empty results with the paper alone selected."""
    place = folder / PLACE / name
    place.mkdir(exist_ok=True)
    workspace = Workspace(place, Config(device="cpu", papers=[folder.name], papers_from=[str(folder)]))
    if workspace.outside.troubles:
        raise Failed(workspace.outside.troubles[0])
    return workspace


def _dataset(folder: Path, path: Path) -> str:
    from retable.data.containers import DataError
    from retable.data.fetch import fetch
    from retable.data.load import compare, parse
    from retable.outside import find, teach_readers

    try:
        name = load_dataset(path).name
        outside = find(folder / PLACE, [str(folder)], {}, {})
        if name not in outside.datasets:
            raise Failed(outside.troubles[0])
        card = outside.datasets[name]
        teach_readers(outside.readers)
        fetch(card, folder / PLACE / "raw")
        parsed = parse(card, folder / PLACE / "raw")
    except (CardError, DataError) as error:
        raise Failed(str(error)) from None
    except Exception as error:  # whatever a reader does
        raise Failed(f"{path}: its reader raises {type(error).__name__}: {' '.join(str(error).split())}") from None
    if differs := compare(card, parsed, list(card.splits)):
        raise Failed(f"{path}: {differs[0]}; `retable data pin {card.name} --papers-from FOLDER` prints what to pin")
    return f"data set {card.name}: card, files and hashes agree"


def _parts(folder: Path) -> Iterator[str]:
    """The files that a paper consists of."""
    for name, holds in {
        "card.yaml": "what is run and why",
        "claims.csv": "the paper's numbers, each with its source",
        "README.md": "what is measured here and what is not",
        "settings.py": "names and types of the settings",
    }.items():
        if not (folder / name).is_file():
            raise Failed(f"{folder / name} is missing: {holds}")
    if not list((folder / "tests").glob("test_*.py")):
        raise Failed(f"{folder / 'tests'}: no test_*.py in it; test the idea against a slow, obvious version of it")
    yield "its parts are there"


def _plan(folder: Path) -> Iterator[str]:
    """Card, claims and settings agree with each other, at every scale."""
    from retable.plan import plan
    from retable.settings import check_settings
    from retable.verdicts import check_claims

    try:
        card, claims = load_paper(folder / "card.yaml"), load_claims(folder / "claims.csv")
        if not claims:
            raise Failed(f"{folder / 'claims.csv'}: no claim in it; enter what the paper's tables say")
        if strange := [claim.id for claim in claims if claim.paper != card.id]:
            raise Failed(f"{folder / 'claims.csv'}: {strange[0]!r} is of another paper; write {card.id!r} there")
        check_claims(card, claims)
        if not any("demo" in recipe.scales for recipe in card.recipes):
            raise Failed(f"{folder / 'card.yaml'}: no recipe has the scale `demo`; give one derived data and seconds")
        yield f"card: {len(card.recipes)} recipes, {len(card.statements)} statements; {len(claims)} claims with sources"
        workspace = _workspace(folder, "demo")
        cells = 0
        for scale in dict.fromkeys(scale for recipe in card.recipes for scale in recipe.scales):
            planned = plan(workspace.papers, workspace.datasets, scale, [card.id])
            check_settings(planned, workspace.papers)
            cells += len(planned)
        yield f"plan: {cells} cells, their settings are of the types that settings.py names"
    except CardError as error:
        raise Failed(str(error)) from None
    except (Exception, SystemExit) as error:
        if isinstance(error, Failed):
            raise
        from retable.outside import error_line

        raise Failed(error_line(error, folder)) from None


def _promises(folder: Path) -> Iterator[str]:
    """What every paper promises, asked of one cell of each experiment."""
    from retable.contract import Broken, demo_cells, keep_promises, speakers
    from retable.train.determinism import threads

    workspace = _workspace(folder, "demo")
    _fetch(workspace)
    kept: list[str] = []
    try:
        asked = speakers(workspace, demo_cells(workspace, folder.name))
    except ImportError as error:
        raise Failed(str(error)) from None
    for number, cell in enumerate(asked):
        try:
            with _log(folder), threads(1):
                kept = list(keep_promises(partial(_numbered, folder, number), cell))
        except Broken as error:
            raise Failed(f"{error} (more in {folder / PLACE / 'log'})") from None
        except (Exception, SystemExit) as error:
            raise Failed(f"{cell.name}: {_told(error, folder)}") from None
    if not kept:
        raise Failed(f"{folder / 'card.yaml'}: no variant of the demo has a model; all are controls")
    yield from (f"promise: {line}" for line in kept)


def _numbered(folder: Path, number: int, name: str) -> Workspace:
    return _workspace(folder, f"{name}-{number}")


def _own_tests(folder: Path) -> str:
    try:
        import pytest
    except ImportError:
        raise Failed("its tests need pytest: pip install pytest") from None
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null", f"--rootdir={folder}"]
    with _log(folder):
        status = pytest.main([*options, "--import-mode=importlib", str(folder / "tests")])
    if status != 0:
        raise Failed(f"{folder / 'tests'}: its tests fail; `pytest {folder / 'tests'}` says how")
    return "tests: pass"


def _demo(folder: Path) -> Iterator[str]:
    """All cells of the demo, and their page."""
    from retable.assessments import inputs
    from retable.report.site import build
    from retable.run import run_cell
    from retable.train.determinism import threads

    workspace = _workspace(folder, "demo")
    seeds = 0
    for cell in workspace.cells:
        with _log(folder), threads(1):
            outcome = run_cell(workspace, cell)
        for record in outcome.records.values():
            seeds += 1
            if record.state != "ok":
                raise Failed(f"{cell.name} seed {record.seed}: {record.state}: {record.error}")
    yield f"demo: {seeds} seeds of {len(workspace.cells)} cells are measured"
    papers, claims, cells, store = inputs(workspace)
    one = folder.name
    page = build(
        {one: papers[one]},
        {one: claims[one]},
        workspace.datasets,
        {scale: [cell for cell in found if cell.paper == one] for scale, found in cells.items()},
        store.records,
        store.currency,
        folder / PLACE / "site",
        workspace.results,
        store.troubles,
        store.looks,
        store.replaced,
    )
    yield f"page: {page.as_uri()}"


def _fetch(workspace: Workspace) -> None:
    from retable.data.fetch import fetch

    for name in dict.fromkeys(cell.dataset for cell in workspace.cells):
        fetch(workspace.datasets[name], workspace.raw, workspace.mirror)


def _told(error: BaseException, folder: Path) -> str:
    from retable.outside import error_line

    return str(error) if isinstance(error, CardError) else error_line(error, folder)


@contextlib.contextmanager
def _log(folder: Path) -> Iterator[None]:
    """What is printed meanwhile goes to a file."""
    with (folder / PLACE / "log").open("a", encoding="utf-8") as log, contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            with contextlib.redirect_stderr(out):
                yield
        finally:
            log.write(out.getvalue())
