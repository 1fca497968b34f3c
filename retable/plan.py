"""From cards, a scale and a selection to the list of cells that a run consists of. Pure and fast: no torch."""

import hashlib
import itertools
import json
import re
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from retable.cards import MOST_SEEDS, SCALES, CardError, DatasetCard, PaperCard, Recipe, Scalar, Scale, as_text, unknown

# Ends the protocol's name of cells that no card lists (`--set`), so that they are nobody's result by mistake.
WHAT_IF = ", what if"

STRAYS = re.compile(r"[^A-Za-z0-9._+-]")
LONGEST = 180


@dataclass(frozen=True)
class Cell:
    """One point of a recipe's grid: everything that decides its numbers, but for the seed.

    `axes` are the settings that the grid varies (shown in tables); `settings` holds them and all hyper-parameters.
    """

    paper: str
    recipe: str
    dataset: str
    split: str
    variant: str
    axes: dict[str, Scalar]
    settings: dict[str, Scalar]
    scale: Scale
    protocol: str
    seeds: tuple[int, ...] = field(compare=False)

    @cached_property
    def identity(self) -> str:
        """12 hexadecimal digits over all fields but the seeds: adding a seed keeps what is measured already."""
        text = json.dumps({**vars_of(self), "seeds": None}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def is_exploration(self) -> bool:
        """Whether its settings are a user's instead of the card's."""
        return self.protocol.endswith(WHAT_IF)

    @property
    def slug(self) -> str:
        """A folder name that a person can read: variant, axes (10% as 10), identity."""
        axes = [f"{key.replace('_', '-')}-{value}".replace("%", "") for key, value in sorted(self.axes.items())]
        # A value is any text: what could lead elsewhere, or be too long for a name, stays out of it.
        said = STRAYS.sub("-", "_".join([self.variant, *axes]))
        return f"{said[:LONGEST]}_{self.identity}"

    @property
    def name(self) -> str:
        """For a line of text; the scale is said elsewhere."""
        return f"{self.paper}/{self.recipe} {self.dataset} {self.slug}"

    def state_folder(self, results: Path, seed: int) -> Path:
        """Where a run of the cell keeps its state and weights."""
        return results / ".state" / self.identity / f"seed-{seed}"

    def folder(self, results: Path) -> Path:
        """Where the cell's records lie: `results/<scale>/<paper>/<recipe>/<dataset>/<slug>`; those of explorations are
        below `results/explorations/`, where nothing takes them for the paper's.
        """
        top = results / "explorations" if self.is_exploration else results
        return top / self.scale / self.paper / self.recipe / self.dataset / self.slug

    @property
    def command(self) -> str:
        """The one command that measures the cell again."""
        told = f"retable run {self.paper}/{self.recipe} --scale {self.scale} --cell {self.identity}"
        if self.is_exploration:
            told += f" --datasets {self.dataset} --variants {self.variant}"
            told += "".join(f" --set {shlex.quote(f'{key}={as_text(value)}')}" for key, value in self.axes.items())
        return told


def vars_of(cell: Cell) -> dict:
    """The cell's fields as plain data, the way records keep them."""
    return {name: getattr(cell, name) for name in cell.__dataclass_fields__}


def plan(
    papers: dict[str, PaperCard],
    datasets: dict[str, DatasetCard],
    scale: str,
    only_papers: list[str] | None = None,
    only_datasets: list[str] | None = None,
    only_recipes: list[str] | None = None,
    seeds: int | None = None,
) -> list[Cell]:
    """Cells of a scale in a stable order, narrowed to a selection.

    `seeds` replaces the number of seeds that the cards ask for, as far as a protocol has so many. Raises CardError with
    the valid choices when a name is unknown, and when a selection leaves nothing to run. None selects all, an empty
    list nothing.
    """
    if scale not in SCALES:
        raise CardError(unknown("scale", scale, list(SCALES)))
    _check("paper", only_papers, list(papers))
    chosen = [paper for name, paper in papers.items() if only_papers is None or name in only_papers]
    recipes = [(paper, recipe) for paper in chosen for recipe in paper.recipes]
    every = (recipe for paper in papers.values() for recipe in paper.recipes)
    own = {name for recipe in every for at_scale in recipe.scales.values() for name in at_scale.user_provided}
    for name in only_datasets or []:
        if name in own - set(datasets):
            raise CardError(
                f"data set {name!r} has no card yet: `retable data adopt {name} PATH` makes one of your own download"
            )
    _check("data set", only_datasets, list(datasets))
    _check("recipe", only_recipes, [recipe.name for _, recipe in recipes])
    cells = [
        cell
        for paper, recipe in recipes
        if only_recipes is None or recipe.name in only_recipes
        for cell in recipe_cells(paper.id, recipe, datasets, scale, seeds)
        if only_datasets is None or cell.dataset in only_datasets
    ]
    if not cells:
        raise CardError(_nothing(recipes, scale, only_papers, only_datasets, only_recipes))
    return cells


def names_of(selection: str) -> tuple[str, str]:
    """Paper and recipe, "" for all, of `<paper>` or `<paper>/<recipe>`. Raises CardError where either is empty."""
    paper, slash, recipe = selection.partition("/")
    if not paper or (slash and not recipe):
        raise CardError(f"{selection!r} names nothing; write <paper> or <paper>/<recipe>")
    return paper, recipe


def find_cell(cells: list[Cell], identity: str) -> Cell:
    """The planned cell whose identity begins with `identity`. Raises CardError when none or several do."""
    found = [cell for cell in cells if identity and cell.identity.startswith(identity)]
    if len(found) != 1:
        raise CardError(
            f"{len(found)} planned cells have an identity that begins with {identity!r}; see `retable plan`"
        )
    return found[0]


def recipe_cells(
    paper: str, recipe: Recipe, datasets: dict[str, DatasetCard], scale: Scale, seeds: int | None = None
) -> list[Cell]:
    """All cells of one recipe at one scale; none if the recipe has nothing at that scale.

    Data sets that the scale names as `own` are left out while they have no card.
    """
    at_scale = recipe.scales.get(scale)
    if at_scale is None:
        return []
    hyper = {key: sourced.value for key, sourced in {**recipe.hyper, **at_scale.hyper}.items()}
    cells, most = [], recipe.protocol.most_seeds or MOST_SEEDS
    own = {dataset: split for dataset, split in at_scale.user_provided.items() if dataset in datasets}
    for dataset, split in (at_scale.datasets | own).items():
        if dataset not in datasets:
            raise CardError(f"{paper}/{recipe.name}: {unknown('data set', dataset, list(datasets))}")
        if split not in datasets[dataset].splits:
            raise CardError(f"{paper}/{recipe.name}: {unknown('split', split, list(datasets[dataset].splits))}")
        for name in at_scale.variants or recipe.variants:
            variant = recipe.variants[name]
            tuned = variant.settings | variant.by_dataset.get(dataset, {})
            grid = {key: values for key, values in at_scale.axes.items() if key not in variant.skip_axes}
            grid |= variant.axes | at_scale.restrict.get(name, {})
            for values in itertools.product(*grid.values()):
                axes = dict(zip(grid, values, strict=True))
                cells.append(
                    Cell(
                        paper=paper,
                        recipe=recipe.name,
                        dataset=dataset,
                        split=split,
                        variant=name,
                        axes=axes,
                        settings=hyper | tuned | axes,
                        scale=scale,
                        protocol=f"{recipe.protocol.name} v{recipe.protocol.version}",
                        seeds=tuple(range(min(seeds or at_scale.seeds, most))),
                    )
                )
    return cells


def _check(kind: str, chosen: list[str] | None, valid: list[str]) -> None:
    for name in chosen or []:
        if name not in valid:
            raise CardError(unknown(kind, name, sorted(set(valid))))


def _nothing(recipes, scale, only_papers, only_datasets, only_recipes) -> str:
    offers = sorted(
        f"{paper.id}/{recipe.name} on {'+'.join(recipe.scales[scale].datasets) or 'data of your own'}"
        for paper, recipe in recipes
        if scale in recipe.scales
    )
    asked = [f"{key}={','.join(value)}" for key, value in
             (("papers", only_papers), ("datasets", only_datasets), ("recipes", only_recipes)) if value]  # fmt: skip
    selection = " ".join(asked) or "this selection"
    return f"nothing to run at scale {scale} for {selection}; the scale offers: {'; '.join(offers)}"
