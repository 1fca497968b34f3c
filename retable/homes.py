"""Where the code of papers lies: beside this package in a checkout, inside it once installed, or in a folder of yours.

A paper is imported as `methods.<id>` wherever its folder is, so that it can move without changing what it is. Nothing
is imported here: a folder is named first, and its code runs when something asks for `methods.<id>`.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent
# What a wheel has of the checkout: methods, data cards, workflow and configuration. A checkout has no such folder.
SUITE = PACKAGE / "suite"
FOLDERS: dict[str, Path] = {}


def home() -> Path:
    """The folder with the suite's own `methods/`, `datasets/` and `workflows/`."""
    return SUITE if SUITE.is_dir() else PACKAGE.parent


def is_checkout(root: Path) -> bool:
    """Whether `root` has papers of its own, instead of the installed ones."""
    return (root / "methods").is_dir()


def lend(paper: str, folder: Path) -> bool:
    """Make the paper in `folder` importable as `methods.<paper>`; tells whether it was another folder's, or none's."""
    if FOLDERS.get(paper) == folder:
        return False
    FOLDERS[paper] = folder
    name = f"methods.{paper}"
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]
    importlib.invalidate_caches()
    return True


def place_of(root: Path, module: str) -> Path | None:
    """Where a module of the project would be, without `.py`; None for a module of others."""
    top, *rest = module.split(".")
    if top == "methods" and rest and rest[0] in FOLDERS and not (root / "methods" / rest[0]).is_dir():
        return FOLDERS[rest[0]].joinpath(*rest[1:])
    if top not in ("methods", "retable"):
        return None
    if (root / top).is_dir():
        return root.joinpath(top, *rest)
    return (PACKAGE.parent if top == "retable" else home()).joinpath(top, *rest)


class _Finder:
    """Finds `methods` where a wheel keeps it, and `methods.<id>` in the folder that was named for it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, paper = name.partition(".")
        if top != "methods" or "." in paper:
            return None
        if paper:
            return _package(name, FOLDERS[paper]) if paper in FOLDERS else None
        return _package(name, SUITE / "methods") if SUITE.is_dir() else None


def _package(name: str, folder: Path) -> ModuleSpec | None:
    """The folder as a package, with its `__init__.py` if it has one."""
    if (folder / "__init__.py").is_file():
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
