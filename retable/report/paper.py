"""The pages of one paper: its own, one for each statement, one for each cell; its tables, figures and files."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from pydantic import ConfigDict, TypeAdapter

from retable.cards import Claim, DatasetCard, PaperCard, Recipe, Scale
from retable.currency import Currency
from retable.looks import Looks
from retable.plan import Cell
from retable.records import RunRecord, Trouble
from retable.report import compact, curves, figures, files, pictures, plots, tables, words
from retable.report.document import paper_entry
from retable.report.folder import Folder
from retable.report.hours import Hours
from retable.report.part import Entry, Part, Result
from retable.report.render import Renderer
from retable.rows import Row, cell_state
from retable.significance import average, interval_of_mean
from retable.statements import Part as Evidence
from retable.statements import StatementVerdict
from retable.verdicts import Assessment, ValueVerdict, assess

# A cell's page lists so many runs one by one; of more it says what groups of them have in common.
MOST_RUNS = 20
# Writes JSON ten times as fast as `json`; the order of the keys is that of the records.
COLUMNS = TypeAdapter(dict[str, Any], config=ConfigDict(ser_json_inf_nan="constants"))


@dataclass(frozen=True)
class Subject:
    """A paper with everything that its pages rest on. `replaced` are published records that own ones stand for."""

    paper: PaperCard
    claims: Sequence[Claim]
    cells: Sequence[Cell]
    records: Sequence[RunRecord]
    replaced: Sequence[RunRecord] = ()
    troubles: Sequence[Trouble] = ()


@dataclass
class PaperPages:
    """One drawing of a paper's pages into a new site."""

    folder: Folder
    pages: Environment
    renderer: Renderer
    subject: Subject
    datasets: Mapping[str, DatasetCard]
    currency: Currency
    looks: Looks
    results: Path | None = None
    base: str = ""
    by_cell: dict[str, list[RunRecord]] = field(default_factory=lambda: defaultdict(list))

    def draw(self) -> Part:
        """Write all files of the paper and return what the pages of all papers need of it."""
        subject = self.subject
        records = sorted(subject.records, key=lambda record: (record.identity, record.seed))
        for record in records:
            self.by_cell[record.identity].append(record)
        self.it = assess(subject.paper, subject.claims, subject.cells, records, self.currency, self.looks)
        self.hours = Hours(self.it.rows)
        self.newest = max((record.ended[:10] for record in records), default=None)
        self.figures = self._figures()
        for name, text in tables.csv_of_recipes(self.it, self.datasets).items():
            self.folder.write(f"tables/{name}", text)
        files.write(self.it, self.datasets, self.folder, self.renderer)
        self._paper()
        statements = words.by_statement(self.it)
        for verdicts in statements.values():
            self._statement(verdicts)
        by_row: dict[int, list[ValueVerdict]] = defaultdict(list)
        for verdict in self.it.values:
            by_row[id(verdict.row)].append(verdict)
        former = self._former()
        for row in self.it.rows:
            for cell in row.cells:
                self._cell(row, cell, by_row[id(row)], former)
        return self._part(records, statements)

    def _render(self, template: str, path: str, **values: Any) -> None:
        root = "../" * path.count("/")
        values = (
            {"newest": self.newest} | values | {"it": self.it, "hours_of": self.hours.of, "title_of": self._title_of}
        )
        self.folder.write(path, self.pages.get_template(template).render(root=root, **values))

    def _title_of(self, name: str) -> str:
        """A data set's title; settings may name one that has no card here."""
        return self.datasets[name].title if name in self.datasets else name

    # The paper's own page

    def _figures(self) -> list[figures.Figure]:
        drawn = figures.draw(self.it, self.datasets)
        for figure in drawn:
            key = figures.key_of(figure)
            taken = [self.folder.reuse(f"figures/{figure.name}{suffix}", key) for suffix in (".svg", ".pdf")]
            if not all(taken):
                path, _ = self.folder.paths(f"figures/{figure.name}", (".svg", ".pdf"))
                self.renderer.ask(path, spec=figure.spec)
            self.folder.write(f"figures/{figure.name}.csv", figures.to_csv(figure))
        return drawn

    def _paper(self) -> None:
        it = self.it
        # Tables that some row answers come first.
        names = dict.fromkeys(v.claim.table for v in sorted(it.values, key=lambda v: v.row is None))
        by_table = {
            name: tables.grids([v for v in it.values if v.claim.table == name], it.third_party) for name in names
        }
        reruns = [ValueVerdict(claim, "") for claim in it.third_party]
        others = {
            name: tables.grids([v for v in reruns if v.claim.table == name])
            for name in dict.fromkeys(claim.table for claim in it.third_party)
        }
        self._render(
            "paper.html",
            f"papers/{it.paper.id}.html",
            coverage=it.coverage(),
            numbers=tables.numbers(it),
            by_table=by_table,
            others=others,
            headline=self._headline(),
            plot=self._plot(460, 330),
            figures=self.figures,
            pictures=self._pictures(),
            blocks=[block for recipe in it.paper.recipes for block in _blocks(it, recipe)],
            reasons={record.identity: self.currency.reason(record) for record in it.orphans},
        )

    def _headline(self) -> figures.Figure | None:
        """The figure that stands beside the statements: the first of full scale that shows the paper's numbers too."""
        return next((f for f in self.figures if any(point.get("by") == figures.PAPER for point in f.data)), None)

    def _plot(self, width: int, height: int, names: bool = True) -> str:
        """Claimed against measured; where nothing claimed was measured, the differences behind the statements."""
        title, points = plots.claimed_and_measured(self.it)
        if len(points) > 1:
            return plots.scatter(title, points, width, height)
        title, points = self._differences([part for verdict in self.it.statements for part in verdict.parts])
        return plots.forest(title, points[:12], width, 20 if names else 11, names) if points else ""

    def _differences(self, parts: Sequence[Evidence]) -> tuple[str, list[plots.Point]]:
        """The differences of parts that were tested, of the unit that most of them have."""
        found: dict[str, list[plots.Point]] = defaultdict(list)
        for part in parts:
            verdict = part.verdict
            if verdict is None or verdict.interval is None or verdict.difference is None:
                continue
            where = [self._title_of(verdict.first.dataset), words.settings(part.axes)]
            name = ", ".join(filter(None, [words.brief(verdict), *where]))
            tone = {"supported": "good", "contradicted": "bad"}.get(part.finding, "open")
            unit = words.measure(verdict)
            if name not in [point.name for point in found[unit]]:
                found[unit].append(plots.Point(name, verdict.difference, *verdict.interval, tone))
        unit = max(found, key=lambda unit: len(found[unit]), default="")
        return f"difference in {unit}", found.get(unit, [])

    def _pictures(self) -> dict[tuple[Scale, str], list[tuple[Row, pictures.Shown]]]:
        """Pictures of measured rows by scale and data set; those of one name stand together."""
        found: dict[tuple[Scale, str], list[tuple[Row, pictures.Shown]]] = {}
        for row in self.it.rows:
            if row.chosen:
                for shown in pictures.of_cell(row.chosen, row.records, self.results, self.folder):
                    found.setdefault((row.scale, row.dataset), []).append((row, shown))
        for group in found.values():
            names = list(dict.fromkeys(shown.name for _, shown in group))
            group.sort(key=lambda pair: (pair[0].recipe.name, names.index(pair[1].name)))
        return found

    # Its statements

    def _statement(self, verdicts: Sequence[StatementVerdict]) -> None:
        plotted = {}
        for verdict in verdicts:
            title, points = self._differences(verdict.parts)
            if points:
                plotted[verdict.scale] = plots.forest(title, points, 640)
        path = f"statements/{self.it.paper.id}/{verdicts[0].statement.id}.html"
        self._render("statement.html", path, verdicts=verdicts, plotted=plotted)

    # Its cells

    def _former(self) -> dict[tuple, list[tuple[RunRecord, str]]]:
        """What numbers were before, by place: published runs that own ones replace, and runs that count no more."""
        found: dict[tuple, list[tuple[RunRecord, str]]] = defaultdict(list)
        for record in self.subject.replaced:
            found[_place(record)].append((record, "published; yours stands for it"))
        for record in self.it.orphans:
            found[_place(record)].append((record, f"by an earlier protocol or setting ({record.protocol})"))
        for record in self.subject.records:
            if reason := self.currency.reason(record):
                found[_place(record)].append((record, reason))
        return found

    def _cell(self, row: Row, cell: Cell, verdicts: Sequence[ValueVerdict], former: Mapping[tuple, Sequence]) -> None:
        records = self.by_cell.get(cell.identity, [])
        state, note, good = cell_state(cell, records, self.currency, self.looks)
        before = tables.former(former.get(_place(cell), ()), row.recipe.metric)
        shown = pictures.of_cell(cell, good, self.results, self.folder)
        text = COLUMNS.dump_json(compact.columns(records)).decode() if records else ""
        if self.base:
            judged = [
                (v.claim.id, v.state, v.note, v.mean, v.std, v.n, v.p_equal, v.p_differ, v.tests) for v in verdicts
            ]
            of_row = (row.state, row.note, row.chosen and row.chosen.identity, self.hours.of(row))
            all_of_it = repr([self.base, state, note, judged, of_row, before, shown])
            key = hashlib.sha256((all_of_it + text).encode()).hexdigest()
            names = [f"cells/{cell.identity}.html", *([f"records/{cell.identity}.json"] if records else [])]
            taken = [self.folder.reuse(name, key) for name in names]
            if all(taken):
                return
        if records:
            self.folder.write(f"records/{cell.identity}.json", text)
        runs = [(record, self.currency.reason(record), self._measured_at(record)) for record in records]
        self._render(
            "cell.html",
            f"cells/{cell.identity}.html",
            paper=self.it.paper,
            row=row,
            cell=cell,
            state="measured" if state == "ok" else state,
            note=note,
            runs=runs if len(runs) <= MOST_RUNS else [],
            many=tables.grouped(runs) if len(runs) > MOST_RUNS else [],
            seeds=[record.seed for record in good] if len(good) <= MOST_RUNS else [],
            metrics=tables.metric_lines(row.recipe, good),
            settings=Markup("").join(_setting(*line) for line in setting_sources(row.recipe, cell)),
            curves=curves.draw(good),
            pictures=shown,
            environment=_environment(records),
            hashes=_hashes(records),
            verdicts=verdicts if row.chosen == cell else [],
            former=before,
            newest=max((record.ended[:10] for record in records), default=None),
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

    # What the pages of all papers need

    def _part(self, records: Sequence[RunRecord], statements: Mapping[str, list[StatementVerdict]]) -> Part:
        it = self.it
        lines = {scale: tables.comparison(it, self.datasets, scale) for scale in tables.SCALES_DOWN}
        card = self.pages.get_template("card.html").render(
            it=it, root="", coverage=it.coverage(), plot=self._plot(300, 220, names=False), hours_of=self.hours.of
        )
        body = self.pages.get_template("lines.html")
        return Part(
            paper=it.paper.id,
            title=it.paper.title,
            authors=it.paper.authors,
            year=it.paper.year,
            link=it.paper.link,
            card=card,
            results={s: body.render(it=it, root="", scale=s, lines=found) for s, found in lines.items() if found},
            counts={scale: len(found) for scale, found in lines.items() if found},
            rows=[self._result(row) for row in it.rows],
            entries=self._entries(statements),
            verdicts=paper_entry(it),
            citation=files.bibtex(it.paper),
            newest=self.newest,
            held=sorted({record.source_sha256 for record in records}),
            troubles=[(trouble.where, trouble.what) for trouble in self.subject.troubles],
        )

    def _result(self, row: Row) -> Result:
        recipe = row.recipe
        values = dict(row.values(recipe.metric)) if row.state == "measured" else {}
        if row.condition(recipe.metric) == "mixture":
            values = {}
        around = interval_of_mean(list(values.values())) if values else None
        takes = None if values else self.hours.of(row)
        return Result(
            paper=self.it.paper.id,
            recipe=recipe.name,
            title=recipe.title,
            dataset=row.dataset,
            dataset_title=self._title_of(row.dataset),
            task=self.datasets[row.dataset].task.replace("_", " "),
            scale=row.scale,
            protocol=row.cell.protocol,
            about=recipe.protocol.description,
            split=row.cell.split,
            metric=recipe.metric,
            unit=recipe.unit,
            higher_is_better=recipe.higher_is_better,
            spread=recipe.protocol.spread,
            shared=bool(recipe.protocol.shared),
            method=row.label,
            setting=words.settings(row.axes),
            control=recipe.variants[row.variant].control,
            state=words.row_state(row),
            note=row.note,
            cell=row.cell.identity,
            command=row.cell.command,
            hours=takes.total if takes else None,
            takes=str(takes or ""),
            mean=average(values.values()) if values else None,
            low=around[0] if around else None,
            high=around[1] if around else None,
            seeds=values,
            devices={seed: row.device(seed) for seed in (values if len(row.devices) > 1 else list(values)[:1])},
        )

    def _entries(self, statements: Mapping[str, list[StatementVerdict]]) -> list[Entry]:
        paper = self.it.paper
        page = f"papers/{paper.id}.html"
        found = [Entry(kind="paper", name=paper.title, about=f"{paper.venue} {paper.year}", page=page)]
        for name, verdicts in statements.items():
            best = words.best(verdicts)
            found.append(
                Entry(
                    kind="statement",
                    name=best.statement.text,
                    about=f"{paper.id}, {best.scale} scale",
                    page=f"statements/{paper.id}/{name}.html",
                    state=best.state,
                )
            )
        for verdict in self.it.by_claim():
            claim = verdict.claim
            about = f"{paper.id}, {claim.table}: {words.number(claim.mean, claim.unit)} {claim.unit}"
            found.append(
                Entry(
                    kind="number",
                    name=words.claim_name(claim),
                    about=about,
                    page=f"{page}#claim-{claim.id}",
                    state=verdict.state,
                )
            )
        for row in self.it.rows:
            about = ", ".join(filter(None, [words.settings(row.axes), f"{paper.id}/{row.recipe.name}", row.scale]))
            found.append(
                Entry(
                    kind="method",
                    name=f"{row.label} on {self._title_of(row.dataset)}",
                    about=about,
                    page=f"cells/{row.cell.identity}.html",
                    state=words.row_state(row),
                )
            )
        return found


@lru_cache(maxsize=4096)
def _setting(key: str, value: str, source: str) -> Markup:
    """A line of a cell's table of settings; most cells share most lines."""
    line = Markup('<tr><th scope="row">{}</th><td class="number">{}</td><td>{}</td></tr>')
    return line.format(key, value, source)


def _place(subject: RunRecord | Cell) -> tuple:
    """What stays of a cell when its protocol or its other settings change."""
    axes = tuple(sorted((key, repr(value)) for key, value in subject.axes.items()))
    return subject.recipe, subject.scale, subject.dataset, subject.variant, axes


def setting_sources(recipe: Recipe, cell: Cell) -> list[tuple[str, str, str]]:
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
        found.append((key, str(value), source))
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
    for environment in {id(record.environment): record.environment for record in records}.values():
        for key, value in environment.items():
            found.setdefault(key, {})[value] = None
    return {key: " / ".join(values) for key, values in sorted(found.items())}


def _hashes(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """The hashes of what the runs used."""
    names = ("source_sha256", "data_sha256", "split_sha256")
    return {name: list(dict.fromkeys(getattr(record, name) for record in records)) for name in names}
