"""What if: settings that no card lists, each a cell of its own that is never the paper's."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import yaml

from retable.cards import CardError, Loader, PaperCard, Scalar, unknown
from retable.plan import WHAT_IF, Cell

Values = Mapping[str, Sequence[Scalar]]


def parse_values(texts: Sequence[str], option: str) -> dict[str, list[Scalar]]:
    """`lr=0.01,0.005` as a setting with its values, read as YAML. Raises CardError for another form."""
    found: dict[str, list[Scalar]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not key or not equals or not values:
            raise CardError(f"{option} {text}: expected name=value, or name=value,value")
        found[key.strip()] = [_scalar(value, f"{option} {text}") for value in values.split(",")]
    return found


def _scalar(text: str, place: str) -> Scalar:
    try:
        value = yaml.load(text, Loader=Loader)
    except yaml.YAMLError:
        value = None
    # YAML takes 1e-3 for a text.
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value) if value[:1] in "-+.0123456789" else value
    if not isinstance(value, bool | int | float | str):
        raise CardError(f"{place}: {text!r} is no number, word, true or false")
    return value


def select(cells: Sequence[Cell], variants: Sequence[str] | None, axes: Values) -> list[Cell]:
    """The cells of these variants at these values of axes. Raises CardError, with what there is, for a name or value
    that no cell has.
    """
    for name in variants or ():
        if name not in (there := {cell.variant for cell in cells}):
            raise CardError(unknown("variant", name, sorted(there)))
    chosen = [cell for cell in cells if not variants or cell.variant in variants]
    for axis, values in axes.items():
        there = {axis for cell in chosen for axis in cell.axes}
        if axis not in there:
            raise CardError(unknown("axis", axis, sorted(there)))
        listed = {cell.axes[axis] for cell in chosen if axis in cell.axes}
        for value in values:
            if value not in listed:
                offered = ", ".join(map(str, sorted(listed, key=str)))
                raise CardError(f"no cell has {axis}={value}; there are: {offered} (`--set` tries others)")
        chosen = [cell for cell in chosen if cell.axes.get(axis) in values]
    return chosen


def explore(cells: Sequence[Cell], papers: Mapping[str, PaperCard], values: Values) -> list[Cell]:
    """Each cell with each combination of these settings instead of its own, as an exploration; those that become the
    same are one. Controls, which train nothing, are left out. Settings are checked where the plan is.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        if papers[cell.paper].recipe(cell.recipe).variants[cell.variant].control:
            continue
        for point in itertools.product(*values.values()):
            told = dict(zip(values, point, strict=True))
            made = replace(
                cell,
                settings=cell.settings | told,
                axes=cell.axes | told,
                protocol=cell.protocol.removesuffix(WHAT_IF) + WHAT_IF,
            )
            found.setdefault(made.identity, made)
    if not found:
        raise CardError("`--set` has nothing to vary: the selection has only controls")
    return list(found.values())


def varied(cell: Cell, cells: Sequence[Cell]) -> tuple[Cell | None, dict[str, tuple[Scalar | None, Scalar]]]:
    """Of the paper's cells the one that an exploration is nearest to, and what it changes: name -> (before, now)."""
    alike = [
        other
        for other in cells
        if (other.paper, other.recipe, other.dataset, other.variant, other.scale)
        == (cell.paper, cell.recipe, cell.dataset, cell.variant, cell.scale)
    ]

    def changes(other: Cell) -> dict[str, tuple[Scalar | None, Scalar]]:
        names = [name for name, value in cell.settings.items() if other.settings.get(name) != value]
        return {name: (other.settings.get(name), cell.settings[name]) for name in names}

    base = min(alike, key=lambda other: len(changes(other)), default=None)
    return base, changes(base) if base else {}
