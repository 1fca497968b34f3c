"""The static site: a leaderboard, a page for each paper and a page for each cell.

Opens from disk: every address is relative, nothing is fetched, and all text passes Jinja2's autoescape. The
same input gives the same bytes.
"""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from retable.cards import CardError, Claim, DatasetCard, PaperCard, Recipe, Scalar, Scale, load_claims
from retable.config import Workspace
from retable.currency import Currency, RecordStore
from retable.looks import Looks
from retable.plan import Cell, recipe_cells
from retable.records import RunRecord, Trouble, to_json
from retable.report import curves, explorations, figures, others, pictures, tables, words
from retable.report.document import document
from retable.rows import Row, cell_state
from retable.sending import of_others
from retable.verdicts import Assessment, ValueVerdict, assess, check_claims

HERE = Path(__file__).parent
NO_LOOKS = Looks()
NOTHING: Mapping = {}
# Written into every site, so that a rebuild replaces a site and never some other folder.
MARKER = ".retable-site"


def build(
    papers: Mapping[str, PaperCard],
    claims: Mapping[str, Sequence[Claim]],
    datasets: Mapping[str, DatasetCard],
    cells_by_scale: Mapping[Scale, Sequence[Cell]],
    records: Iterable[RunRecord],
    currency: Currency,
    out: Path,
    results: Path | None = None,
    troubles: Sequence[Trouble] = (),
    looks: Looks = NO_LOOKS,
    explored: Sequence[RunRecord] = (),
    sent: Mapping[str, Sequence[RunRecord]] = NOTHING,
) -> Path:
    """Draw the site into the folder `out`, replacing the site that is there, and return its index page.

    `results` is the folder where runs left pictures; without it none are shown. `troubles` are records that cannot be
    used; the index lists them. `looks` are the stored ones, `explored` the records of explorations, `sent`
    those of others by sender.
    Raises CardError when `out` holds something else, or when a claim has two answers.
    """
    cells = [cell for group in cells_by_scale.values() for cell in group]
    records = sorted(records, key=lambda record: (record.paper, record.identity, record.seed))
    assessments = {
        name: assess(paper, claims.get(name, ()), cells, records, currency, looks)
        for name, paper in sorted(papers.items())
    }
    if out.exists() and any(out.iterdir()) and not (out / MARKER).exists():
        raise CardError(f"{out} is not a site that retable drew; choose an empty folder, or delete this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(out.with_name(f".{out.name}.lock")),
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary,
    ):
        # Who holds the lock draws alone: other folders of such names are of drawings that were killed.
        for left in out.parent.glob(f".{out.name}.*/"):
            if left != Path(temporary):
                shutil.rmtree(left, ignore_errors=True)
        fresh = Path(temporary) / "site"
        what_if = explorations.lines(explored, papers, cells_by_scale, records, currency)
        theirs = others.lines(sent, papers, records, currency)
        _Site(fresh, assessments, datasets, records, currency, results, troubles, looks, what_if, theirs).write()
        if out.exists():
            out.rename(Path(temporary) / "old")
        fresh.rename(out)
    return out / "index.html"


def build_site(workspace: Workspace) -> Path:
    """Draw `reports/site` of a checkout, all papers and scales whatever the selection; return its index."""
    papers, claims, cells, store = inputs(workspace)
    return build(
        papers,
        claims,
        workspace.datasets,
        cells,
        store.records,
        store.currency,
        workspace.reports / "site",
        workspace.results,
        store.troubles,
        store.looks,
        store.explorations.records,
        of_others(workspace.results),
    )


def inputs(
    workspace: Workspace,
) -> tuple[Mapping[str, PaperCard], dict[str, list[Claim]], dict[Scale, list[Cell]], RecordStore]:
    """Papers, claims by paper, the planned cells by scale, and the records: all papers and scales."""
    papers, datasets = workspace.papers, workspace.datasets
    claims = {}
    for name, paper in papers.items():
        path = workspace.folder_of(name) / "claims.csv"
        claims[name] = load_claims(path) if path.exists() else []
        check_claims(paper, claims[name])
    # Seeds that the user asked for beyond the card's are part of the plan.
    cells: dict[Scale, list[Cell]] = {
        scale: [
            cell
            for name, paper in papers.items()
            for recipe in paper.recipes
            if scale in recipe.scales
            for cell in recipe_cells(
                name, recipe, datasets, scale, max(recipe.scales[scale].seeds, workspace.config.seeds or 0)
            )
        ]
        for scale in tables.SCALES_DOWN
    }
    return papers, claims, cells, RecordStore.open(workspace)


@dataclass
class _Site:
    """One drawing of the site into a new folder."""

    out: Path
    assessments: dict[str, Assessment]
    datasets: Mapping[str, DatasetCard]
    records: list[RunRecord]
    currency: Currency
    results: Path | None = None
    troubles: Sequence[Trouble] = ()
    looks: Looks = NO_LOOKS
    what_if: Sequence[explorations.Line] = ()
    theirs: Sequence[others.Line] = ()
    by_cell: dict[str, list[RunRecord]] = field(default_factory=lambda: defaultdict(list))

    def write(self) -> None:
        for record in self.records:
            self.by_cell[record.identity].append(record)
        self.pages = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.pages.filters |= {"web": web_address}
        self.pages.globals |= {
            "words": words,
            "marks": words.MARKS,
            "explorations": explorations.PAGE if self.what_if else "",
            "others": others.PAGE if self.theirs else "",
            "newest": max((record.ended[:10] for record in self.records), default=None),
            # Settings may name a data set that has no card here.
            "title_of": lambda name: self.datasets[name].title if name in self.datasets else name,
        }
        for folder in ("papers", "cells", "figures", "tables", "records", "pictures"):
            (self.out / folder).mkdir(parents=True)
        shutil.copytree(HERE / "static", self.out / "static")
        (self.out / MARKER).write_text("A site drawn by retable; a rebuild replaces this folder.\n")
        tables.write_csv(self.assessments, self.datasets, self.out / "tables")
        (self.out / "verdicts.json").write_bytes(to_json(document(self.assessments).model_dump(mode="json")))
        self._index()
        explorations.write(self.what_if, self.pages, self.out)
        others.write(self.theirs, self.pages, self.out)
        for assessment in self.assessments.values():
            self._paper(assessment)
            for row in assessment.rows:
                for cell in row.cells:
                    self._cell(assessment, row, cell)

    def _index(self) -> None:
        lines = {
            scale: [
                (assessment.paper, line)
                for assessment in self.assessments.values()
                for line in tables.comparison(assessment, self.datasets, scale)
            ]
            for scale in tables.SCALES_DOWN
        }
        papers = [(assessment, assessment.coverage()) for assessment in self.assessments.values()]
        self._render("index.html", "index.html", papers=papers, lines=lines, troubles=self.troubles)

    def _paper(self, assessment: Assessment) -> None:
        drawn = figures.draw(assessment, self.datasets)
        for figure in drawn:
            base = self.out / "figures" / figure.name
            base.with_suffix(".svg").write_text(figures.to_svg(figure), encoding="utf-8")
            base.with_suffix(".csv").write_text(figures.to_csv(figure), encoding="utf-8")
        # Tables that some row answers come first.
        names = dict.fromkeys(v.claim.table for v in sorted(assessment.values, key=lambda v: v.row is None))
        by_table = {
            name: tables.grids([v for v in assessment.values if v.claim.table == name], assessment.third_party)
            for name in names
        }
        reruns = [ValueVerdict(claim, "") for claim in assessment.third_party]
        others = {
            name: tables.grids([v for v in reruns if v.claim.table == name])
            for name in dict.fromkeys(claim.table for claim in assessment.third_party)
        }
        self._render(
            "paper.html",
            f"papers/{assessment.paper.id}.html",
            it=assessment,
            coverage=assessment.coverage(),
            by_table=by_table,
            others=others,
            figures=drawn,
            pictures=self._pictures(assessment),
            blocks=[block for recipe in assessment.paper.recipes for block in _blocks(assessment, recipe)],
            reasons={record.identity: self.currency.reason(record) for record in assessment.orphans},
        )

    def _pictures(self, assessment: Assessment) -> dict[tuple[Scale, str], list[tuple[Row, pictures.Shown]]]:
        """Pictures of measured rows by scale and data set; those of one name stand together."""
        found: dict[tuple[Scale, str], list[tuple[Row, pictures.Shown]]] = {}
        for row in assessment.rows:
            if row.chosen:
                for shown in pictures.of_cell(row.chosen, row.records, self.results, self.out / "pictures"):
                    found.setdefault((row.scale, row.dataset), []).append((row, shown))
        for group in found.values():
            names = list(dict.fromkeys(shown.name for _, shown in group))
            group.sort(key=lambda pair: (pair[0].recipe.name, names.index(pair[1].name)))
        return found

    def _cell(self, assessment: Assessment, row: Row, cell: Cell) -> None:
        records = self.by_cell.get(cell.identity, [])
        if records:
            text = ",\n".join(record.model_dump_json(indent=1) for record in records)
            (self.out / "records" / f"{cell.identity}.json").write_text(f"[{text}]\n", encoding="utf-8")
        state, note, good = cell_state(cell, records, self.currency, self.looks)
        self._render(
            "cell.html",
            f"cells/{cell.identity}.html",
            paper=assessment.paper,
            row=row,
            cell=cell,
            state="measured" if state == "ok" else state,
            note=note,
            runs=[(record, self.currency.reason(record), self._measured_at(record)) for record in records],
            metrics=tables.metric_values(row.recipe, good),
            settings=setting_sources(row.recipe, cell),
            curves=curves.draw(good),
            pictures=pictures.of_cell(cell, good, self.results, self.out / "pictures"),
            environment=_environment(records),
            verdicts=[v for v in assessment.values if v.row is row and row.chosen == cell],
        )

    def _measured_at(self, record: RunRecord) -> str:
        """The commit that a record was measured at and, where the code is another now, the proof that it is equal."""
        text = f"measured at {record.commit[:9]}" if record.commit else "measured before commits were recorded"
        if record.clean is False:
            text += " with uncommitted changes"
        if proofs := self.currency.proof(record):
            kind = "" if record.environment.get("device", "").startswith("cpu") else " of the CPU path"
            text += f"; equal by proof{kind} of {', '.join(entry.date for entry in proofs)}"
        return text

    def _render(self, template: str, path: str, **values) -> None:
        root = "../" * path.count("/")
        text = self.pages.get_template(template).render(root=root, **values)
        (self.out / path).write_text(text, encoding="utf-8")


def web_address(text: str) -> str:
    """The address if it is one of the web, else `#`: a card cannot smuggle in a script."""
    return text if urlsplit(text).scheme in ("http", "https") else "#"


def setting_sources(recipe: Recipe, cell: Cell) -> list[tuple[str, Scalar, str]]:
    """Each setting of a cell with its value and where that comes from."""
    variant, hyper = recipe.variants[cell.variant], {**recipe.hyper, **recipe.scales[cell.scale].hyper}
    found = []
    for key, value in cell.settings.items():
        if key in variant.axes and variant.select:
            source = f"candidate, chosen by {variant.select.metric}"
        elif key in cell.axes:
            source = "the grid"
        elif key in variant.by_dataset.get(cell.dataset, {}):
            source = f"the variant “{variant.label}” on this data set"
        elif key in variant.settings:
            source = f"the variant “{variant.label}”"
        else:
            source = hyper[key].source
        found.append((key, value, source))
    return found


def _blocks(assessment: Assessment, recipe: Recipe) -> list[dict]:
    """A recipe's rows at each scale where it has some, with the names that head their columns."""
    blocks = []
    for scale in tables.SCALES_DOWN:
        rows = [row for row in assessment.rows if (row.recipe.name, row.scale) == (recipe.name, scale)]
        if rows:
            names = {"axes": tables.axis_names(rows), "metrics": tables.metric_names(recipe, rows)}
            blocks.append({"recipe": recipe, "scale": scale, "plan": recipe.scales[scale], "rows": rows, **names})
    return blocks


def _environment(records: Sequence[RunRecord]) -> dict[str, str]:
    """What the runs ran on; differing values of one key are joined."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for key, value in record.environment.items():
            found.setdefault(key, {})[value] = None
    return {key: " / ".join(values) for key, values in sorted(found.items())}
