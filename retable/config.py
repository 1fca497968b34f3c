"""The user's settings (`config/config.yaml`, `--config key=value`) and the workspace that they open."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from retable.cards import (
    MOST_SEEDS,
    SCALES,
    CardError,
    DatasetCard,
    Model,
    PaperCard,
    Scalar,
    Scale,
    load_datasets,
    load_papers,
    methods_folder,
    read_yaml,
    unknown,
)
from retable.checkout import require_running
from retable.homes import is_checkout
from retable.outside import Outside, error_line, find, leave_out
from retable.plan import Cell, plan
from retable.records import RunRecord
from retable.settings import check_settings
from retable.whatif import explore, parse_values, select


class Wandb(Model):
    """Where runs are mirrored to, if that is asked for: `offline` writes files that `wandb sync` uploads."""

    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "retable"
    entity: str | None = None


# More share a GPU's memory in no case.
MOST_RUNS = 1000


class Config(Model):
    """What to run and with what. Names may be lists or comma-separated text; absent means all, an empty list is none
    and refused.
    """

    scale: Scale = "demo"
    papers: list[str] | None = None
    papers_from: list[str] | None = None
    datasets: list[str] | None = None
    recipes: list[str] | None = None
    variants: list[str] | None = None
    axes: dict[str, list[Scalar]] = {}
    set: dict[str, list[Scalar]] = {}
    seeds: int | None = Field(default=None, le=MOST_SEEDS)
    mirror: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    runs_per_gpu: int = Field(default=1, le=MOST_RUNS)
    wandb: Wandb = Wandb()

    @field_validator("papers", "papers_from", "datasets", "recipes", "variants", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("papers", "datasets", "recipes")
    @classmethod
    def _names_something(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not all(value or [""]):
            raise ValueError("an empty name selects nothing; leave the setting out to select all")
        return value

    @field_validator("axes", "set", mode="before")
    @classmethod
    def _one_value_or_more(cls, value: Any) -> Any:
        if isinstance(value, str):  # Snakemake's --config 'set=lr=0.01,0.005 dropout=0.3'
            return parse_values(value.split(), "set")
        return {k: v if isinstance(v, list) else [v] for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("seeds", "runs_per_gpu")
    @classmethod
    def _at_least_one(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError("needs at least 1")
        return value


def parse_config(values: dict[str, Any], where: str = "config") -> Config:
    """Check settings. Raises CardError: one line with the valid choices."""
    if str(values.get("scale", "demo")) not in SCALES:
        raise CardError(f"{where}: {unknown('scale', values['scale'], list(SCALES))}")
    if values.get("device") == "mps":
        raise CardError(
            f"{where}: device: mps is not supported: torch has no float64 and no deterministic sparse sums on it, and "
            "equal numbers need both; use cpu"
        )
    for key in values:
        if key not in Config.model_fields:
            raise CardError(f"{where}: {unknown('key', key, list(Config.model_fields))}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place, what = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        raise CardError(f"{where}: {place}: {what}") from None


def load_config(path: Path, **overrides: Any) -> Config:
    """Read the config file, then replace what is not None in `overrides`. Raises CardError, which says whose the
    mistake is.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        values = None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise CardError(f"{path}: settings are a mapping of keys, this file holds {type(values).__name__}")
    given = {key: value for key, value in overrides.items() if value is not None}
    kept = parse_config(values, str(path))
    return parse_config(values | given, "command line") if given else kept


@dataclass(frozen=True)
class Workspace:
    """A checkout with its cards and settings: where things lie and what a run consists of.

    Raises CardError where `root` is a checkout but another checkout's code is running.
    """

    root: Path
    config: Config

    def __post_init__(self) -> None:
        require_running(self.root)

    @cached_property
    def datasets(self) -> dict[str, DatasetCard]:
        """The suite's data sets and those of outside papers."""
        return self._datasets | self.outside.datasets

    @property
    def papers(self) -> dict[str, PaperCard]:
        """The suite's papers and those from outside that can be used."""
        return self._papers | self.outside.papers

    @cached_property
    def outside(self) -> Outside:
        """Papers and data sets that are no part of the suite; `troubles` are those that cannot be used, a line each."""
        return find(self.root, self.config.papers_from or (), self._papers, self._datasets)

    @cached_property
    def _papers(self) -> dict[str, PaperCard]:
        return load_papers(self.root)

    @cached_property
    def _datasets(self) -> dict[str, DatasetCard]:
        return load_datasets(self.root)

    def folder_of(self, paper: str) -> Path:
        """The folder with a paper's card, claims and code."""
        return self.outside.folders.get(paper) or methods_folder(self.root) / paper

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of the configured scale and selection."""
        chosen = self.config
        cells = plan(
            self.papers,
            self.datasets,
            chosen.scale,
            chosen.papers,
            chosen.datasets,
            chosen.recipes,
            chosen.seeds,
        )
        cells = select(cells, chosen.variants, chosen.axes)
        if chosen.set:
            cells = explore(cells, self.papers, chosen.set)
        check_settings([cell for cell in cells if cell.paper not in self.outside.papers], self.papers)
        for name in [name for name in self.outside.papers if any(cell.paper == name for cell in cells)]:
            try:
                check_settings([cell for cell in cells if cell.paper == name], self.papers)
            except (Exception, SystemExit) as error:  # whatever a user's code does when it is imported
                folder = self.outside.folders[name]
                why = str(error) if isinstance(error, CardError) else error_line(error, folder)
                leave_out(self.outside, name, why)
                cells = [cell for cell in cells if cell.paper != name]
        if not cells:
            raise CardError("nothing is left to run")
        return cells

    def experiment(self, subject: Cell | RunRecord) -> str:
        """The module below `methods/<paper>/` that runs the subject's recipe. Raises KeyError or CardError if no card

        has the paper or the recipe.
        """
        return self.papers[subject.paper].recipe(subject.recipe).experiment

    @property
    def raw(self) -> Path:
        """Where downloads lie."""
        return self.root / "datasets" / "raw"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def mirror(self) -> str | None:
        """The mirror of the config, else of the environment variable RETABLE_MIRROR."""
        return self.config.mirror or os.environ.get("RETABLE_MIRROR") or None


def find_root(start: Path) -> Path:
    """The checkout, or the folder of `retable init`, that `start` lies in. Raises CardError outside of one."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "Snakefile").exists() and (is_checkout(folder) or (folder / "config").is_dir()):
            return folder
    raise CardError(
        f"{start} is not inside a retable checkout (no Snakefile beside methods/ or config/); cd into one, or make a "
        "folder for runs with `retable init FOLDER`"
    )
