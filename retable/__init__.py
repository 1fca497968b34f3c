"""retable: rebuild the tables of a paper and say, number by number, whether they hold."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retable.frames import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Late: the command line and the job graph do without pandas and scipy.
    if name == "load":
        from retable.frames import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
