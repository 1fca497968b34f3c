"""Names that cards had before: the table `results/renames.yaml`, through which older records are read.

A record is never edited. When a card is re-written, an entry says what its recipes, variants, settings, their values
and its metrics were called, and a cell keeps its records. A name that was given up is not used again for something
else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError, model_validator

from retable.cards import CardError, Model, PaperCard, Recipe, Scalar, read_yaml
from retable.plan import Cell

if TYPE_CHECKING:
    from retable.records import RunRecord

RENAMES = "results/renames.yaml"


class Rename(Model):
    """One change of names, old to new, in one paper, or in one recipe of it (named as it was before)."""

    paper: str
    recipe: str | None = None
    recipes: dict[str, str] = {}
    variants: dict[str, str] = {}
    keys: dict[str, str] = {}
    values: dict[str, dict[Scalar, Scalar]] = {}
    metrics: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_to_one(self) -> "Rename":
        tables: list[tuple[str, Mapping]] = [(n, getattr(self, n)) for n in ("recipes", "variants", "keys", "metrics")]
        tables += [(f"values.{key}", table) for key, table in self.values.items()]
        for name, table in tables:
            new = [repr(value) for value in table.values()]
            if twice := [old for old, value in table.items() if new.count(repr(value)) > 1]:
                raise ValueError(
                    f"{name}: {twice[0]!r} and {twice[1]!r} both become {table[twice[0]]!r}, so two cells become one; "
                    "give each a name of its own"
                )
        return self

    def covers(self, paper: str, recipe: str) -> bool:
        return paper == self.paper and self.recipe in (None, recipe)

    def _key(self, key: str) -> str:
        return self.keys.get(key, key)

    def _value(self, key: str, value: Scalar) -> Scalar:
        for old, new in self.values.get(key, {}).items():
            if type(old) is type(value) and old == value:
                return new
        return value

    def settings(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Settings under the new names. Raises CardError where two keys would become one."""
        renamed = {self._key(key): self._value(key, value) for key, value in settings.items()}
        if len(renamed) < len(settings):
            raise CardError(f"{RENAMES} gives two settings of {self.paper} the same name; mend its `keys`")
        return renamed

    def cell(self, cell: Cell) -> Cell:
        """The cell under the new names; itself where the entry is about others."""
        if not self.covers(cell.paper, cell.recipe):
            return cell
        return replace(
            cell,
            recipe=self.recipes.get(cell.recipe, cell.recipe),
            variant=self.variants.get(cell.variant, cell.variant),
            axes=self.settings(cell.axes),
            settings=self.settings(cell.settings),
        )

    def numbers(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics or series under the new names."""
        return {self.metrics.get(name, name): value for name, value in numbers.items()}

    def given_up(self, recipe: Recipe) -> set[str]:
        """Old names that a recipe of today's card uses, values as `key: value`."""
        settings = recipe.settings()
        metrics = {recipe.metric, *(answer.measured for answer in recipe.answers), *(c.series for c in recipe.curves)}
        metrics |= {variant.select.metric for variant in recipe.variants.values() if variant.select}
        names = {*self.recipes} & {recipe.name} | {*self.variants} & {*recipe.variants} | {*self.metrics} & metrics
        names |= {key for key, _ in settings if key in self.keys}
        return names | {f"{key}: {v}" for key, v in settings if repr(self._value(key, v)) != repr(v)}


@dataclass(frozen=True)
class Renames:
    """All entries, in the order in which they came."""

    entries: tuple[Rename, ...] = ()

    def cell(self, cell: Cell) -> Cell:
        """A cell of an older card as today's card names it."""
        for entry in self.entries:
            cell = entry.cell(cell)
        return cell

    def apply(self, record: "RunRecord") -> "RunRecord":
        """A record under today's names, its identity that of today's cell."""
        if not any(entry.paper == record.paper for entry in self.entries):
            return record
        cell, metrics, series = record.cell, record.metrics, record.series
        for entry in self.entries:
            if entry.covers(cell.paper, cell.recipe):
                metrics, series = entry.numbers(metrics), entry.numbers(series)
                cell = entry.cell(cell)
        fields = {name: getattr(cell, name) for name in ("recipe", "variant", "axes", "settings", "identity")}
        return record.model_copy(update={**fields, "metrics": metrics, "series": series})

    def check(self, papers: Mapping[str, PaperCard]) -> None:
        """Raises CardError where a card uses a name that an entry gave up: its records would be renamed."""
        for number, entry in enumerate(self.entries, start=1):
            for recipe in papers[entry.paper].recipes if entry.paper in papers else ():
                for name in sorted(entry.given_up(recipe)) if entry.covers(entry.paper, recipe.name) else ():
                    raise CardError(
                        f"{RENAMES}: entry {number} gives up the name {name!r}, but {entry.paper}/{recipe.name} "
                        "uses it; choose another name in the card"
                    )


def load_renames(results: Path) -> Renames:
    """The table beside the published records; empty where there is none. Raises CardError that names the entry."""
    path = results / Path(RENAMES).name
    try:
        data = read_yaml(path) or []
    except FileNotFoundError:
        return Renames()
    if not isinstance(data, list):
        raise CardError(f"{path}: expected a list of entries, each with `paper` and what it renames")
    entries = []
    for number, entry in enumerate(data, start=1):
        try:
            entries.append(Rename.model_validate(entry))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            what = problem["msg"].removeprefix("Value error, ")
            raise CardError(f"{path}: entry {number}: {': '.join(filter(None, (place, what)))}") from None
    return Renames(tuple(entries))
