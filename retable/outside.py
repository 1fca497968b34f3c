"""Papers and data cards from outside the suite: folders that the user names, and installed packages that offer some.

Reading cards imports nothing. A paper's code is imported when its cells are planned or run, a data set's reader when it
is read. What cannot be used costs itself only: it is told in a line, and the rest goes on.
"""

import ast
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from retable.cards import (
    SCALES,
    CardError,
    DatasetCard,
    PaperCard,
    load_claims,
    load_dataset,
    load_paper,
)
from retable.homes import lend
from retable.plan import recipe_cells
from retable.sources import forget

GROUP = "retable.papers"
VARIABLE = "RETABLE_PAPERS_FROM"
# A workspace's own papers, which need not be named.
OWN = "papers"
# Any of these makes a folder a paper's that lacks its card.
SIGNS = ("claims.csv", "settings.py", "run.py")


@dataclass
class Outside:
    """What was found outside: cards, the folder of each paper, the file of each reader, and what cannot be used."""

    papers: dict[str, PaperCard] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    datasets: dict[str, DatasetCard] = field(default_factory=dict)
    readers: dict[str, Path] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def find(
    root: Path, named: Iterable[str], papers: Mapping[str, PaperCard], datasets: Mapping[str, DatasetCard]
) -> Outside:
    """The cards in `root/papers`, the named folders (relative to `root`), those that RETABLE_PAPERS_FROM names, and
    those of installed packages. A name that `papers`, `datasets` or an earlier folder has is refused.
    """
    outside = Outside()
    folders = named_folders(root, named)
    for entry in offered():
        try:
            folders.append(folder_of(entry))
        except CardError as error:
            outside.troubles.append(str(error))
    for folder in dict.fromkeys(Path(os.path.normpath(folder)) for folder in folders):
        _add(outside, folder, papers, datasets)
    _keep_what_plans(outside, datasets)
    if [paper for paper, folder in outside.folders.items() if lend(paper, folder)]:
        forget()
    return outside


def named_folders(root: Path, named: Iterable[str]) -> list[Path]:
    """The folders of papers that the workspace has, that are named, and that the environment names."""
    folders = [root / OWN] if (root / OWN).is_dir() and any((root / OWN).iterdir()) else []
    folders += [root / Path(name).expanduser() for name in named]
    return folders + [Path(name).absolute() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


@cache
def offered() -> tuple[EntryPoint, ...]:
    """What installed packages offer, by their metadata."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def folder_of(entry: EntryPoint) -> Path:
    """The folder of the package or module that an entry point names. Nothing is imported; CardError where it is not."""
    top, *rest = entry.value.partition(":")[0].strip().split(".")
    spec = importlib.util.find_spec(top)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place).joinpath(*rest)
        if folder.is_dir():
            return folder
    raise CardError(f"the entry point {entry.name!r} of {GROUP} names {entry.value!r}, which is no installed folder")


def _add(outside: Outside, folder: Path, papers: Mapping[str, PaperCard], datasets: Mapping[str, DatasetCard]) -> None:
    """Take in what a folder has: it is a paper's, or holds folders of papers; data cards are in their `datasets/`."""
    if not folder.is_dir():
        outside.troubles.append(f"papers from {folder}: no such folder; mend the path, or take it out")
        return
    parts = [folder] if (folder / "card.yaml").is_file() else [p for p in sorted(folder.iterdir()) if p.is_dir()]
    cards = [part for part in parts if (part / "card.yaml").is_file()]
    without = [p for p in (folder, *parts) if p not in cards and any((p / name).is_file() for name in SIGNS)]
    for part in without:
        outside.troubles.append(f"{part}: no card.yaml in it; `retable new paper ID` shows what one holds")
    sets = sorted({path for part in {folder, *parts} for path in (part / "datasets").glob("*.yaml")})
    if not cards and not sets and not without:
        outside.troubles.append(f"papers from {folder}: neither a paper's card.yaml nor a datasets/*.yaml is in it")
    for path in sets:
        with _telling(outside):
            _add_dataset(outside, path, datasets)
    for part in cards:
        with _telling(outside):
            _add_paper(outside, part, papers)


def _add_dataset(outside: Outside, path: Path, datasets: Mapping[str, DatasetCard]) -> None:
    card = load_dataset(path)
    if card.name in datasets or card.name in outside.datasets:
        raise CardError(f"{path}: there is a data set {card.name!r} already; choose another name for this one")
    reader = path.parent / f"{card.reader}.py"
    if reader.is_file():
        # By its place, so that readers of two folders may have the same name.
        card = card.model_copy(update={"reader": str(reader)})
        outside.readers[str(reader)] = reader
    outside.datasets[card.name] = card


def _add_paper(outside: Outside, folder: Path, papers: Mapping[str, PaperCard]) -> None:
    path = folder / "card.yaml"
    card = load_paper(path)
    if card.id in papers or card.id in outside.papers:
        where = outside.folders.get(card.id, "the suite")
        raise CardError(f"{path}: there is a paper {card.id!r} already ({where}); choose another id for this one")
    if not card.id.isidentifier():
        raise CardError(f"{path}: the id {card.id!r} is no name of a module; use letters, digits and `_`")
    for name in dict.fromkeys(("settings", *(recipe.experiment for recipe in card.recipes))):
        if not (folder / f"{name}.py").is_file() and not (folder / name / "__init__.py").is_file():
            raise CardError(f"{path}: needs the module {name}.py beside it; docs/your-own-paper.md shows what it holds")
    for code in sorted(folder.rglob("*.py")):
        try:
            tree = ast.parse(code.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise CardError(f"{code}:{line}: not Python ({getattr(error, 'msg', error)}); mend it") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and code.parent == folder:
                name = node.module.partition(".")[0]
                if not (folder / f"{name}.py").is_file() and not (folder / name).is_dir():
                    raise CardError(f"{code}:{node.lineno}: imports .{name}, and {folder / name}.py is missing")
    if (folder / "claims.csv").is_file():
        load_claims(folder / "claims.csv")
    outside.papers[card.id], outside.folders[card.id] = card, folder


def _keep_what_plans(outside: Outside, datasets: Mapping[str, DatasetCard]) -> None:
    """Leave out papers whose grid names data sets or splits that no card has."""
    known = {**datasets, **outside.datasets}
    for name, card in list(outside.papers.items()):
        try:
            for recipe in card.recipes:
                for scale in SCALES:
                    recipe_cells(name, recipe, known, scale)
        except CardError as error:
            leave_out(outside, name, f"{outside.folders[name] / 'card.yaml'}: {error}")


def leave_out(outside: Outside, paper: str, why: str) -> None:
    """The rest goes on without the paper."""
    outside.troubles.append(f"{why}; the paper {paper!r} is left out")
    del outside.papers[paper]


class _telling:
    """What cannot be used is a line."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, CardError | OSError):
            self.outside.troubles.append(" ".join(str(error).split()))
            return True
        return False


def error_line(error: BaseException, folder: Path) -> str:
    """An exception of a paper's code in a line, with the last place in its folder that raised it."""
    place, trace = folder, error.__traceback__
    where = ""
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(folder):
            where, place = f":{trace.tb_lineno}", file
        trace = trace.tb_next
    return f"{place}{where}: {type(error).__name__}: {' '.join(str(error).split())}"


def teach_readers(readers: Mapping[str, Path]) -> None:
    """Let data sets be read by the modules beside their cards; these are imported when first used."""
    if not readers:
        return
    from retable.data.readers import READERS

    for key, path in readers.items():
        READERS.setdefault(key, _reader(path))


def _reader(path: Path) -> Callable:
    def read(card: DatasetCard, raw: Path) -> object:
        spec = importlib.util.spec_from_file_location(f"retable_reader_{path.stem}", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.read(card, raw)

    return read
