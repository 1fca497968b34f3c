"""Typed settings: what a recipe's hyper-parameters, variants and axes must name, and of which type. No torch.

A paper's `settings.py` has a class of :class:`Settings` for each experiment and the table `EXPERIMENTS` from the
module that a recipe's `experiment` names to its class.
"""

import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from retable.cards import CardError, PaperCard, Scalar, unknown
from retable.plan import Cell


class Settings(BaseModel):
    """Settings of one experiment. A whole number counts as a float; nothing else is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls, values: Mapping[str, Scalar], place: str) -> Self:
        """Raises CardError, one line that begins with `place`, for an unknown, missing or wrongly typed setting."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            # A misspelt name is both missing and unknown; the latter says which was meant.
            problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
            name = str(problem["loc"][0])
            match problem["type"]:
                case "extra_forbidden":
                    said = unknown("setting", name, list(cls.model_fields))
                case "missing":
                    said = f"setting {name!r} is missing; the card's `hyper` must give it"
                case _:
                    said = f"setting {name!r} is {values[name]!r}: {problem['msg']}"
            raise CardError(f"{place}: {said}") from None


def load_paper_module(paper: str, name: str) -> ModuleType:
    """The module `methods.<paper>.<name>`; the one place where the engine reaches for a paper's code."""
    return importlib.import_module(f"methods.{paper}.{name}")


def settings_class(paper: str, experiment: str) -> type[Settings]:
    """The class of an experiment's settings. Raises CardError for a paper or an experiment without one."""
    try:
        return load_paper_module(paper, "settings").EXPERIMENTS[experiment]
    except ModuleNotFoundError as missing:
        if missing.name not in {"methods", f"methods.{paper}", f"methods.{paper}.settings"}:
            raise
        raise CardError(f"methods/{paper}/settings.py is missing; CONTRIBUTING.md shows what it holds") from None
    except KeyError:
        raise CardError(
            f"methods/{paper}/settings.py: `EXPERIMENTS` has no settings of {experiment!r}, which the card names"
        ) from None


def check_settings(cells: Iterable[Cell], papers: Mapping[str, PaperCard]) -> None:
    """Raises CardError for the first cell whose settings its experiment would refuse."""
    for cell in cells:
        kind = settings_class(cell.paper, papers[cell.paper].recipe(cell.recipe).experiment)
        kind.parse(cell.settings, f"{cell.paper}/{cell.recipe} {cell.dataset} {cell.variant}")
