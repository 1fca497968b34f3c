"""The file formats that people write: data-set cards, paper cards with their recipes, and claims.

Every model refuses unknown keys and names the allowed ones. `schemas()` yields the JSON schemas that are kept in
`workflows/schemas/`. Importing this module must stay cheap: the job graph and the pages are built without torch.
"""

import csv
import difflib
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from retable.homes import home, is_checkout

# libyaml's, where it was built in: ten times as fast, and every command reads all cards.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Scale = Literal["demo", "reduced", "full"]
SCALES: tuple[Scale, ...] = ("demo", "reduced", "full")
Scalar = bool | int | float | str
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Module = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Reach = Literal["here", "gpu", "data", "unspecified"]
REACHES: tuple[Reach, ...] = ("here", "gpu", "data", "unspecified")
CLAIM_ID = r"^[A-Za-z0-9._-]+$"
ClaimId = Annotated[str, StringConstraints(pattern=CLAIM_ID)]
PART = re.compile(r"\{(\w+)\}")
# Of cards: raised when an older retable would misread a new one.
SCHEMA_VERSION: Literal[1] = 1
Card = TypeVar("Card", bound=BaseModel)
# What a text may be that becomes a part of a path; the rest of Unicode is not known to every file system.
PATH_PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+ -]*")
# Numbers that people write size what is planned and held: lists of seeds, epochs, arrays.
MOST_SEEDS = 10_000
MOST = 10**9
EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")


def _below(path: str) -> str:
    """A path that stays below the folder it is joined to, and off what is kept there under names with a dot."""
    if not all(PATH_PART.fullmatch(part) for part in path.split("/")):
        raise ValueError(
            f"{path!r} must be relative and stay below the data folder: names of letters, digits, `.`, `_`, `+`, `-` "
            "and blanks that begin with no dot, with `/` between them"
        )
    return path


def _bounded(value: Scalar) -> Scalar:
    if isinstance(value, int | float) and not abs(value) <= MOST:
        raise ValueError(f"{value} is no number of a setting; the largest is {MOST:,}")
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        raise ValueError(f"{value!r} is text in YAML; write the number with a point, such as 1.0e-3")
    return value


Below = Annotated[str, AfterValidator(_below)]
Setting = Annotated[Scalar, AfterValidator(_bounded)]
Values = Annotated[list[Setting], Field(min_length=1)]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class CardError(ValueError):
    """A card, claim table or selection that cannot be used; the message is one line that says what to do."""


class DataError(RuntimeError):
    """A file or data set that cannot be used; the message is one line that says what to do."""


class Model(BaseModel):
    """A format whose unknown keys are an error, as are infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Data sets


class Archive(Model):
    """An archive that a file is a member of; its own hash is optional because members are what gets parsed."""

    url: str
    sha256: Sha256 | None = None
    path: Below | None = Field(default=None, description="its place below a mirror that keeps it whole")


class DataFile(Model):
    """One file that a reader parses. `path` is its place below `datasets/raw/` and below a mirror."""

    path: Below
    bytes: int = Field(gt=0)
    sha256: Sha256
    url: str | None = None
    archive: Archive | None = None
    member: str | None = None
    derived: str | None = Field(default=None, description="how it was made, if no address serves it: a mirror must")

    @model_validator(mode="after")
    def _has_one_origin(self) -> "DataFile":
        origins = [origin for origin in (self.url, self.archive, self.derived) if origin is not None]
        if len(origins) != 1 or (self.archive is None) != (self.member is None):
            raise ValueError("a file needs one of `url`, `archive` with `member`, and `derived`")
        return self


class Split(Model):
    """A named division of a data set; the hash covers the index arrays that the reader returns."""

    sha256: Sha256
    note: str


class DatasetFacts(Model):
    """What is known of a data set without its bytes."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    title: str = Field(description="the name that the papers' tables use")
    task: str
    homepage: str
    licence: str
    citation: str
    reader: str = Field(description="a function of retable.data.readers")
    options: dict[str, Scalar] = {}


class UnpinnedFile(Model):
    """A file to download oneself."""

    path: Below = Field(description="its place below `datasets/raw/` and below a mirror")
    url: str
    member: str | None = Field(default=None, description="its name in the archive at `url`, if that is one")
    sha256: Sha256 | None = Field(default=None, description="where a public list has it")


class UnpinnedCard(DatasetFacts):
    """A data set that nobody here could hash; `retable data adopt` makes a data set's card of it."""

    archive: Archive | None = None
    members: list[Below] = Field(default=[], description="what is read of the archive")
    files: list[UnpinnedFile] = Field(default=[], description="single files instead of an archive")
    rows: int | None = Field(default=None, description="where the number is public")
    splits: dict[Name, str] = Field(description="name -> note")

    @model_validator(mode="after")
    def _is_an_archive_or_files(self) -> "UnpinnedCard":
        if (self.archive is None) == (not self.files) or (self.archive is None) != (not self.members):
            raise ValueError("give `archive` (with its `path`) and `members`, or `files`")
        return self


class DatasetCard(DatasetFacts):
    """What a data set is, where it comes from, what its files and its parsed content must hash to."""

    files: list[DataFile] = Field(default=[], description="empty for data that is derived on the machine")
    local: Below | None = Field(default=None, description="a folder below `datasets/raw/` that the user provides")
    counts: dict[str, int]
    content_sha256: Sha256 = Field(description="hash of the parsed arrays, checked at every load")
    splits: dict[Name, Split]
    notes: list[str] = []

    @property
    def embedded(self) -> bool:
        return not self.files and self.local is None

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


# Papers


class Hyper(Model):
    """A hyper-parameter's value and where it comes from."""

    value: Setting
    source: str = Field(description="paper section, authors' code, or ours")


class Selection(Model):
    """What the candidates of a tuned setting are chosen by: the largest or the smallest seed mean of a metric."""

    metric: str = Field(description="a validation metric in records")
    mode: Literal["max", "min"]

    @model_validator(mode="after")
    def _is_no_test_metric(self) -> "Selection":
        if "test" in self.metric:
            raise ValueError(f"{self.metric!r} is a test metric; candidates are chosen on validation")
        return self


class Variant(Model):
    """One row of a paper's table.

    `axes` are candidates of a tuned setting: each candidate is a cell of its own, and the row shows the one that
    `select` chooses.
    """

    label: str = Field(description="the method's name on the pages")
    settings: dict[Key, Setting] = {}
    by_dataset: dict[Name, dict[Key, Setting]] = Field(
        default={}, description="data set -> settings that the paper tunes for it; they override `settings`"
    )
    axes: dict[Key, Values] = {}
    select: Selection | None = None
    skip_axes: list[str] = Field(default=[], description="recipe axes that mean nothing to this variant")
    control: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _candidates_need_a_judge(self) -> "Variant":
        if bool(self.axes) != (self.select is not None):
            raise ValueError("`axes` and `select` go together")
        return self


class Operations(Model):
    """Floating-point operations of all training steps of a seed, counted with `retable.operations`."""

    count: float = Field(gt=0)
    datasets: list[Name] | None = Field(default=None, description="all of the scale's if absent")
    variants: list[Name] | None = Field(default=None, description="all of the scale's if absent")
    axes: dict[str, list[Scalar]] = Field(default={}, description="values of axes; those not named are any")


class ScalePlan(Model):
    """What a recipe runs at one scale."""

    datasets: dict[Name, Name] = Field(description="data set -> split")
    user_provided: dict[Name, Name] = Field(
        default={}, description="as `datasets`: more of them, which run once you have made their cards"
    )
    axes: dict[Key, Values] = {}
    variants: list[str] | None = Field(default=None, description="all of the recipe's if absent")
    restrict: dict[str, dict[Key, Values]] = Field(default={}, description="variant -> its candidates at this scale")
    seeds: int = Field(ge=1, le=MOST_SEEDS)
    hyper: dict[Key, Hyper] = {}
    cost: str = Field(description="expected cost in words, with the machine")
    seconds: float | None = Field(
        default=None,
        gt=0,
        description="processor-seconds of a seed that is no control, by which jobs are sized before there is a history",
    )
    memory_gb: float = Field(default=4.0, gt=0, le=MOST, description="of the machine, that a seed needs at most")
    hours: float | None = Field(
        default=None, gt=0, le=MOST, description="that a seed takes at most on the machine that `cost` names"
    )
    operations: list[Operations] = Field(
        default=[], description="what a seed has to compute, for estimates on a GPU; the first entry that fits counts"
    )


class Protocol(Model):
    """How a number comes about; the version is raised when the meaning of the number changes."""

    name: str
    version: int = Field(ge=1)
    description: str
    spread: str = Field(description="what the deviation is over, in one word")
    shared: str = Field(
        default="",
        description="what a seed decides for all rows alike (splits, start of the weights); empty: rows are not paired",
    )
    most_seeds: int | None = Field(
        default=None, ge=1, description="seeds that there can be, where each takes one of a fixed set of splits"
    )


class ClaimLink(Model):
    """Which claims a recipe's cells answer: those whose ids its pattern gives.

    In `depth-{dataset}-{variant}-{depth}`, {dataset} and {variant} stand for the card's names, any other part for the
    cell's setting of that name, as YAML writes it.
    """

    measured: str = Field(description="the metric's name in records")
    claims: str = Field(description="pattern of ids in claims.csv")
    names: dict[str, str] = Field(default={}, description="name or value in the card -> how ids write it")
    margin: float = Field(gt=0, description="of equivalence, in the claim's unit; at most 2 points of its scale")
    reason: str = Field(min_length=1, description="why this margin")

    @model_validator(mode="after")
    def _gives_ids(self) -> "ClaimLink":
        if not re.fullmatch(CLAIM_ID, PART.sub("x", self.claims)):
            raise ValueError(
                f"`claims: {self.claims}` is no pattern of ids; write letters, digits, `.`, `_`, `-` and parts "
                "such as {dataset}"
            )
        return self

    @property
    def parts(self) -> list[str]:
        """Names of the pattern's parts."""
        return PART.findall(self.claims)

    def claim_id(self, values: Mapping[str, Scalar | None]) -> str | None:
        """The pattern with a value for each part; None where a part has none."""
        if None in values.values():
            return None
        texts = {part: as_text(value) for part, value in values.items() if value is not None}
        return PART.sub(lambda part: self.names.get(texts[part[1]], texts[part[1]]), self.claims)


class Asked(Model):
    """What orderings, equivalences and trends have in common: an id, a metric, and where they are asked."""

    id: Name = Field(description="its own within the recipe; statements name it `<recipe>/<id>`")
    metric: str | None = Field(default=None, description="in records; the recipe's if absent")
    higher_is_better: bool | None = Field(default=None, description="of the metric; the recipe's if absent")
    axes: dict[str, list[Scalar]] = Field(default={}, description="values of axes; those not named are any")
    datasets: list[str] | None = Field(default=None, description="all of the recipe's if absent")
    source: str

    @property
    def variants(self) -> tuple[str, ...]:
        """The rows that it speaks of."""
        raise NotImplementedError


class Ordering(Asked):
    """A statement `better > worse` in a metric, asked on every data set and at every value of `axes`."""

    better: str
    worse: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.better, self.worse)


class Equivalence(Asked):
    """A statement that two rows differ by less than `within`, in the metric's unit: "A is not needed"."""

    first: str
    second: str
    within: float = Field(gt=0)
    reason: str = Field(min_length=1, description="why this margin")

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.first, self.second)


class Trend(Asked):
    """A statement that a row's metric rises or falls along an axis: the slope of each seed, the seed as the unit."""

    variant: str
    along: str = Field(description="a numeric axis; its values in `axes`, or all")
    direction: Literal["rises", "falls"]
    log: bool = Field(default=False, description="slope over the logarithm to base 2 of the axis")

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


class State(Asked):
    """A statement that most seeds of a row collapse or answer with one class."""

    variant: str
    kind: Literal["collapsed", "constant answer"]

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


class Statement(Model):
    """A sentence of the paper's abstract in testable form, and what carries it.

    It holds if every part does, at every data set and setting where a scale asks it.
    """

    id: Name
    text: str = Field(min_length=1)
    refuted_by: str = Field(min_length=1, description="what would refute it")
    scope: str = Field(min_length=1, description="what it is about, and what of the paper's sentence is left out")
    parts: list[str] = Field(default=[], description="`<recipe>/<id>` of orderings, equivalences, trends and states")
    numbers: list[ClaimId] = Field(default=[], description="ids in claims.csv, judged at full scale")

    @model_validator(mode="before")
    @classmethod
    def _says_what_would_refute_it(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("refuted_by"):
            raise ValueError(f"the statement {data.get('id')!r} lacks `refuted_by`; write what would refute it")
        return data

    @model_validator(mode="after")
    def _rests_on_something(self) -> "Statement":
        named = [*self.parts, *self.numbers]
        if not named:
            raise ValueError(f"the statement {self.id!r} rests on nothing; give `parts` or `numbers`")
        if twice := [name for name in named if named.count(name) > 1]:
            raise ValueError(f"the statement {self.id!r} names {twice[0]!r} twice; take one out")
        return self


class Comparison(Model):
    """Variants that are tested against one of them, paired over the seeds of all data sets of a scale."""

    reference: str
    variants: list[str] = Field(min_length=1)
    source: str


class Curve(Model):
    """A figure of a recorded series: a line a variant, its mean over the runs with their deviation."""

    series: str = Field(description="its name in the records")
    x: str = Field(description="what the places of the series are, in words")
    y: str = Field(description="what its values are, in words")
    caption: str = Field(description="what to look for")
    at: list[float] = Field(default=[], description="the places, ascending; 1, 2, 3, ... if absent")
    log: bool = Field(default=False, description="a logarithmic y axis, which leaves out values that are not positive")

    @model_validator(mode="after")
    def _places_ascend(self) -> "Curve":
        if any(a >= b for a, b in itertools.pairwise(self.at)):
            raise ValueError(f"the curve {self.series!r} lists places in `at` that do not ascend")
        return self


class Recipe(Model):
    """One experiment: what is run, with which settings and why, and which claims its cells answer."""

    name: Name
    title: str
    task: str
    protocol: Protocol
    metric: str = Field(description="primary metric in records")
    unit: str
    higher_is_better: bool = True
    experiment: Module = Field(default="run", description="module in the paper's folder that runs the recipe")
    variants: dict[Name, Variant]
    hyper: dict[Key, Hyper]
    scales: dict[Scale, ScalePlan]
    answers: list[ClaimLink] = []
    orderings: list[Ordering] = []
    equivalences: list[Equivalence] = []
    trends: list[Trend] = []
    states: list[State] = []
    comparisons: list[Comparison] = []
    curves: list[Curve] = []
    notes: list[str] = []

    @model_validator(mode="after")
    def _names_exist(self) -> "Recipe":
        for scale, plan in self.scales.items():
            most = self.protocol.most_seeds
            if most is not None and plan.seeds > most:
                raise ValueError(f"scale {scale} asks for {plan.seeds} seeds; its protocol has {most}")
            for variant in [*(plan.variants or ()), *plan.restrict]:
                if variant not in self.variants:
                    raise ValueError(f"scale {scale} names the variant {variant!r}, which the recipe lacks")
            for variant, axes in plan.restrict.items():
                for axis, values in axes.items():
                    if not set(values) <= set(self.variants[variant].axes.get(axis, [])):
                        raise ValueError(f"scale {scale} gives {variant!r} a value of {axis!r} it does not list")
            if unknown := set(plan.hyper) - set(self.hyper):
                raise ValueError(f"scale {scale} overrides {sorted(unknown)}, which `hyper` lacks")
        for name, row in self.variants.items():
            if strays := set(row.by_dataset) - {
                d for plan in self.scales.values() for d in [*plan.datasets, *plan.user_provided]
            }:
                raise ValueError(f"{name!r} tunes {sorted(strays)}, data sets that no scale runs")
        drawn = [curve.series for curve in self.curves]
        if twice := sorted({series for series in drawn if drawn.count(series) > 1}):
            raise ValueError(f"`curves` names the series {twice[0]!r} twice")
        for comparison in self.comparisons:
            for variant in (comparison.reference, *comparison.variants):
                if variant not in self.variants:
                    raise ValueError(f"a comparison names the variant {variant!r}, which the recipe lacks")
            if comparison.reference in comparison.variants:
                raise ValueError(f"a comparison tests {comparison.reference!r} against itself")
        ids: set[str] = set()
        for asked in self.asked:
            for variant in asked.variants:
                if variant not in self.variants:
                    raise ValueError(f"{asked.id!r} names the variant {variant!r}, which the recipe lacks")
            if asked.id in ids:
                raise ValueError(f"the id {asked.id!r} is given twice; choose another")
            ids.add(asked.id)
        return self

    @model_validator(mode="after")
    def _answers_name_cells(self) -> "Recipe":
        texts = self.texts()
        for answer in self.answers:
            for part in answer.parts:
                if part not in texts:
                    raise ValueError(f"`claims: {answer.claims}`: {unknown('part', part, list(texts))}")
            if strays := sorted(set(answer.names).difference(*(texts[part] for part in answer.parts))):
                raise ValueError(f"`claims: {answer.claims}`: `names` has {strays[0]!r}, which no part of it can be")
        return self

    @property
    def asked(self) -> list[Asked]:
        """All orderings, equivalences, trends and states."""
        return [*self.orderings, *self.equivalences, *self.trends, *self.states]

    def settings(self) -> list[tuple[str, Scalar]]:
        """Each setting that the recipe gives its cells at some scale, with each of its values."""
        scales, variants = self.scales.values(), self.variants.values()
        fixed = [{key: sourced.value for key, sourced in h.items()} for h in (self.hyper, *(s.hyper for s in scales))]
        fixed += [settings for variant in variants for settings in (variant.settings, *variant.by_dataset.values())]
        found = [pair for settings in fixed for pair in settings.items()]
        axes = [pair for grid in (*(s.axes for s in scales), *(v.axes for v in variants)) for pair in grid.items()]
        return found + [(key, value) for key, values in axes for value in values]

    def texts(self) -> dict[str, set[str]]:
        """What each part of a claim's id can be."""
        found: dict[str, set[str]] = {}
        for key, value in self.settings():
            found.setdefault(key, set()).add(as_text(value))
        datasets = {name for scale in self.scales.values() for name in (*scale.datasets, *scale.user_provided)}
        return found | {"dataset": datasets, "variant": set(self.variants)}


class Deviation(Model):
    """A known difference between the paper, its authors' code and this suite."""

    what: str
    paper: str
    ours: str
    why: str


class Table(Model):
    """A table or figure of the paper."""

    title: str
    where: str = Field(description="place in the paper or in the authors' repository")
    caption: str = ""
    third_party: bool = Field(default=False, description="measured by another group: shown beside, never judged")


class PaperCard(Model):
    """A paper: what it is, what it claims (claims.csv beside the card) and how its numbers are measured here."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Module
    title: str
    venue: str
    year: int
    link: str
    code: str
    authors: list[str] = Field(default=[], description="family names, as far as a source gives them")
    summary: str
    statements: list[Statement] = Field(min_length=1, description="three to seven, as far as the abstract has them")
    tables: dict[str, Table]
    recipes: list[Recipe]
    deviations: list[Deviation] = []

    @model_validator(mode="before")
    @classmethod
    def _states_something(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("statements"):
            raise ValueError(
                "a card needs `statements`, one at least: what the paper's abstract says, in testable form"
            )
        return data

    @model_validator(mode="after")
    def _statements_name_what_is_asked(self) -> "PaperCard":
        names = [f"{recipe.name}/{asked.id}" for recipe in self.recipes for asked in recipe.asked]
        ids = [statement.id for statement in self.statements]
        for statement in self.statements:
            if ids.count(statement.id) > 1:
                raise ValueError(f"the statement id {statement.id!r} is given twice; choose another")
            for part in statement.parts:
                if part not in names:
                    raise ValueError(f"the statement {statement.id!r} names an {unknown('part', part, names)}")
        return self

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name; raises CardError with the names that exist."""
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise CardError(unknown("recipe", name, [recipe.name for recipe in self.recipes]))


class Claim(Model):
    """One number of a paper. `setting` holds the `key=value` parts of the table cell's description as text.

    `id` is what cards call it: its own within the paper, and kept when anything else of the claim is corrected.
    """

    id: ClaimId
    paper: str
    table: str
    task: str
    dataset: str
    model: str
    method: str
    setting: dict[str, str]
    metric: str
    unit: str
    mean: float
    std: float | None = Field(ge=0)
    runs: int | None = Field(ge=1, le=MOST)
    higher_is_better: bool
    evidence: Literal["source", "digitised", "second-hand", "memory"] = Field(
        description="`source`: read where the authors published it; `digitised`: measured in a figure; `second-hand`: "
        "read where others quote it; `memory`: never seen in a source"
    )
    source: str
    reach: Reach = Field(
        description="what answering it takes: `here`: a processor and data that a card fetches; `gpu`: a GPU besides; "
        "`data`: data or weights that no card fetches; `unspecified`: a setting that the paper does not give"
    )
    varied: Literal["seeds", "splits", "folds"] | None = Field(
        default=None, description="what `std` and `runs` are over in the paper; absent where nothing is stated"
    )
    used_for: str = Field(default="", description="what of the set-up the number served to choose; it is not judged")

    @property
    def trained_std(self) -> float | None:
        """Its deviation over trainings; None where it has none, or one over something else."""
        return self.std if self.varied == "seeds" else None

    @property
    def trained_runs(self) -> int | None:
        """How many trainings it is the mean of; None where that is not stated."""
        return self.runs if self.varied == "seeds" else None

    @property
    def unreliable(self) -> str:
        """Why the number is not judged; empty where it is."""
        if self.evidence == "memory":
            return "the claim was never seen in a source"
        return "the claim was read with low confidence" if self.setting.get("confidence") == "low" else ""

    @property
    def most_margin(self) -> float:
        """The widest margin that a verdict on it may have: 2 points of its metric's scale."""
        return 0.02 * {"%": 100.0, "points": 100.0, "fraction": 1.0}.get(self.unit, abs(self.mean))

    @property
    def place(self) -> tuple:
        """What tells it apart from the paper's other claims, its id aside."""
        setting = tuple(self.setting.items())
        return (self.table, self.task, self.dataset, self.model, self.method, self.metric, setting)


# Reading


def read_text(path: Path) -> str:
    """A text file that people write: UTF-8, with or without a byte-order mark, whatever ends its lines.

    Raises CardError, naming file and line, for another encoding; OSError where there is no such file.
    """
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise CardError(f"{path}:1: the text is UTF-16; save the file as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CardError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise CardError(f"{path}:{line}: no text, it holds a zero byte; restore the file, or save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_filled(folder: Path) -> None:
    """Raises CardError for a place that is to become a new folder and holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CardError(f"{folder} is there already, and not empty; choose another place")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises CardError in one line; OSError where there is no such file."""
    try:
        return yaml.load(read_text(path), Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2020-13-45
        if isinstance(error, CardError):
            raise
        raise CardError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def read_table(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file under its head, each with its number in the file.

    Raises CardError for a head that lacks a column of `needed`, and for a line of another number of cells.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        head = next(reader, [])
        if lacking := [name for name in needed if name not in head]:
            found = f"the first line is {','.join(head)[:120]!r}" if head else "the file is empty"
            hint = "; separate the columns by commas and write decimal points" if ";" in "".join(head) else ""
            raise CardError(f"{path}:1: no column {lacking[0]!r}: {found}, expected {','.join(needed)}{hint}")
        if twice := [name for name in head if head.count(name) > 1]:
            raise CardError(f"{path}:1: the column {twice[0]!r} is there twice; take one out")
        for cells in reader:
            if cells and len(cells) != len(head):
                raise CardError(f"{path}:{reader.line_num}: {len(cells)} cells, but the head has {len(head)}")
            if cells:
                yield reader.line_num, dict(zip(head, cells, strict=True))
    except csv.Error as error:
        raise CardError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def as_text(value: Scalar) -> str:
    """A setting as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def unknown(kind: str, name: str, valid: list[str]) -> str:
    """One line: `unknown paper 'contranrom'; did you mean 'contranorm'? valid: ...`."""
    near = difflib.get_close_matches(str(name), [str(v) for v in valid], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"unknown {kind} {name!r}{hint} valid: {', '.join(str(v) for v in sorted(valid, key=str))}"


def _one_line(path: Path, model: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "top level"
        if problem["type"] == "extra_forbidden":
            allowed = _allowed_keys(model, problem["loc"][:-1])
            lines.append(unknown("key", where, allowed) if allowed else f"unknown key {where!r}")
        else:
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return f"{path}: " + "; ".join(lines)


def _allowed_keys(model: type[BaseModel], location: tuple) -> list[str]:
    """Field names of the model at a location inside `model`, found in its JSON schema."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in location:
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        for option in node.get("anyOf", []):
            if "$ref" in option or "items" in option:
                node = option
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return list(node.get("properties", {}))


def _add_tuned(path: Path, data: dict[str, Any]) -> None:
    """Give variants the settings of `tuned/<recipe>.csv`, a table for what a paper tunes for each data set.

    Each line names variants (separated by spaces), a data set and settings; an empty cell sets nothing.
    """
    for file in sorted((path.parent / "tuned").glob("*.csv")):
        recipe = next((recipe for recipe in _mappings(data.get("recipes")) if recipe.get("name") == file.stem), None)
        if recipe is None:
            raise CardError(f"{file}: {path} has no recipe {file.stem!r}")
        variants = recipe.get("variants")
        if not isinstance(variants, dict) or len(_mappings(list(variants.values()))) < len(variants):
            return  # the model says what the card lacks
        for number, line in read_table(file, ["variants", "dataset"]):
            place = f"{file}:{number}"
            names, dataset = line.pop("variants").split(), line.pop("dataset")
            try:
                settings = {key: _scalar(text) for key, text in line.items() if text}
            except (yaml.YAMLError, ValueError) as error:
                raise CardError(f"{place}: not YAML: {' '.join(str(error).split())}") from None
            for name in names:
                if name not in recipe["variants"]:
                    raise CardError(f"{place}: {unknown('variant', name, list(recipe['variants']))}")
                tuned = recipe["variants"][name].setdefault("by_dataset", {})
                if dataset in tuned:
                    raise CardError(f"{place}: {name} has settings for {dataset} already; give them once")
                tuned[dataset] = settings


def _mappings(found: object) -> list[dict[str, Any]]:
    """The mappings of what should be a list of mappings."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


@cache
def _scalar(text: str) -> Any:
    """What a cell of a table holds, read as YAML."""
    return yaml.load(text, Loader=Loader)


def _load(path: Path, model: type[Card]) -> Card:
    return _validate(path, _read(path), model)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = read_yaml(path)
    except FileNotFoundError:
        raise CardError(f"{path}: no such card") from None
    if not isinstance(data, dict):
        raise CardError(f"{path}: a card is a mapping of keys, this file holds {type(data).__name__}")
    return data


def _validate(path: Path, data: dict[str, Any], model: type[Card]) -> Card:
    version = data.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CardError(
            f"{path}: a card of schema {version}, and this retable reads up to {SCHEMA_VERSION}; install a newer one"
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise CardError(_one_line(path, model, error)) from None


def load_dataset(path: Path) -> DatasetCard:
    """Read `datasets/<name>.yaml`. Raises CardError on any mistake, a missing hash included."""
    card = _load(path, DatasetCard)
    if card.name != path.stem:
        raise CardError(f"{path}: the card's name is {card.name!r}; it must equal the file's name")
    return card


def load_unpinned(root: Path, name: str) -> UnpinnedCard:
    """Read `datasets/unpinned/<name>.yaml`. Raises CardError on any mistake and for an unknown name."""
    folder = unpinned_folder(root)
    if not (folder / f"{name}.yaml").is_file():
        raise CardError(unknown("data set to adopt", name, sorted(path.stem for path in folder.glob("*.yaml"))))
    return _load(folder / f"{name}.yaml", UnpinnedCard)


def unpinned_folder(root: Path) -> Path:
    """Where the cards of data that nobody here could hash lie."""
    own = root / "datasets" / "unpinned"
    return own if own.is_dir() else home() / "datasets" / "unpinned"


def load_datasets(root: Path) -> dict[str, DatasetCard]:
    """All data-set cards, by name: those below `root/datasets`, and the installed ones where `root` is no checkout."""
    places = [root] if is_checkout(root) else [home(), root]
    paths = [path for place in places for path in (place / "datasets").glob("*.yaml")]
    return {path.stem: load_dataset(path) for path in sorted(paths, key=lambda path: path.stem)}


def load_paper(path: Path) -> PaperCard:
    """Read `methods/<paper>/card.yaml` with its `tuned/*.csv`. Raises CardError on any mistake."""
    data = _read(path)
    _add_tuned(path, data)
    card = _validate(path, data, PaperCard)
    if card.id != path.parent.name:
        raise CardError(f"{path}: the card's id is {card.id!r}; it must equal its folder's name")
    return card


def load_papers(root: Path) -> dict[str, PaperCard]:
    """All paper cards below `root/methods`, or the installed ones where `root` is no checkout, by id."""
    folder = methods_folder(root)
    return {path.parent.name: load_paper(path) for path in sorted(folder.glob("*/card.yaml"))}


def methods_folder(root: Path) -> Path:
    """Where the papers lie that are no folder of a user's."""
    return (root if is_checkout(root) else home()) / "methods"


def load_claims(path: Path) -> list[Claim]:
    """Read a paper's claims.csv. Raises CardError that names the line."""
    claims: list[Claim] = []
    seen: dict[str | tuple, int] = {}
    needed = [name for name, about in Claim.model_fields.items() if about.is_required()]
    for number, row in read_table(path, needed):
        if not re.fullmatch(CLAIM_ID, name := row.get("id") or ""):
            raise CardError(
                f"{path}:{number}: {name!r} is no id; give the claim its own, of letters, digits, `.`, `_` and `-`"
            )
        data: dict[str, Any] = {key: value if value != "" else None for key, value in row.items()}
        if not data.get("source"):
            raise CardError(f"{path}:{number}: {name!r} has no `source`; write where the number was read")
        if data.get("reach") not in REACHES:
            raise CardError(
                f"{path}:{number}: {name!r} has no `reach` that is known; write one of {', '.join(REACHES)}"
            )
        parts = (part.partition("=") for part in row["setting"].split(";") if part)
        data["setting"] = {key: value for key, _, value in parts}
        data["model"] = data["model"] or ""
        data["unit"] = data["unit"] or ""
        data["used_for"] = data.get("used_for") or ""
        try:
            claim = Claim.model_validate(data)
        except ValidationError as error:
            raise CardError(_one_line(path.with_name(f"{path.name}:{number}"), Claim, error)) from None
        if claim.place in seen:
            raise CardError(f"{path}:{number}: same claim as row {seen[claim.place]}; add what tells them apart")
        if claim.id in seen:
            raise CardError(f"{path}:{number}: the id {claim.id!r} is row {seen[claim.id]}'s; choose another")
        seen[claim.id] = seen[claim.place] = number
        claims.append(claim)
    if not claims:
        raise CardError(f"{path}: no claims; write what the paper states, or delete the file")
    return claims
