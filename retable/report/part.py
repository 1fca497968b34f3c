"""What the pages of all papers need of one paper, as plain data.

It is kept in the site, so that a redraw asks only the papers that changed.
"""

from typing import Literal

from retable.cards import Model, Scale
from retable.report.document import PaperEntry

Kind = Literal["paper", "statement", "number", "method", "data set"]


class Entry(Model):
    """Something that a search finds: `page` is its address below the site."""

    kind: Kind
    name: str
    about: str
    page: str
    state: str = ""


class Result(Model):
    """A row at a data set, for the page of all methods on it; `seeds` and `devices` are by seed."""

    paper: str
    recipe: str
    title: str
    dataset: str
    dataset_title: str
    task: str
    scale: Scale
    protocol: str
    about: str
    split: str
    metric: str
    unit: str
    higher_is_better: bool
    spread: str
    shared: bool
    method: str
    setting: str
    control: bool
    state: str
    note: str
    cell: str
    command: str
    hours: float | None = None
    takes: str = ""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: dict[int, float] = {}
    devices: dict[int, str] = {}


class Part(Model):
    """One paper's share in the index, the table of all results, the pages of data sets, the search and the files.

    `card` and `results` are HTML; `held` are the source hashes of its records.
    """

    paper: str
    title: str
    authors: list[str]
    year: int
    link: str
    card: str
    results: dict[Scale, str]
    counts: dict[Scale, int]
    rows: list[Result]
    entries: list[Entry]
    verdicts: PaperEntry
    citation: str
    newest: str | None
    held: list[str]
    troubles: list[tuple[str, str]]
