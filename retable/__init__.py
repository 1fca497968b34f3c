"""retable: rebuild the tables of a paper and say, number by number, whether they hold."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retable.frames import load

__all__ = ["load"]
__version__ = "0.1.0"

# So that `import methods.<id>` finds what a wheel keeps inside this package.
import retable.homes  # noqa: F401

# On use, so that the job graph and the pages need no torch, and the command line no pandas.
_LAZY = {
    "run": "retable.run",
    "benchmark": "retable.library",
    "protocols": "retable.library",
    "load": "retable.frames",
}
_MODULES = ("interop", "library")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        # `retable.run` is a module that can be called: what it gives is `retable.library.run`.
        module = import_module(_LAZY[name])
        return module if name == "run" else getattr(module, name)
    if name in _MODULES:
        return import_module(f"retable.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
