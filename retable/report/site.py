"""The static site: an index, a page of all results, a page for each paper, statement, data set and cell, a search.

Opens from disk: every address is relative, nothing is fetched, and all text passes Jinja2's autoescape. The same input
gives the same bytes, but for PDFs, whose fonts come in any order. A redraw draws the papers whose cards, claims,
records or code changed (`changes`).
"""

import gc
import gzip
import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

from retable.assessments import claims_of, inputs, planned
from retable.cards import Claim, DatasetCard, PaperCard, Scale
from retable.config import Workspace
from retable.currency import Currency, RecordStore
from retable.looks import Looks
from retable.plan import Cell
from retable.probed import Probe, read_probes
from retable.records import RunRecord, Trouble, to_json
from retable.report import changes, explorations, files, others, tables, tasks, words
from retable.report.document import document
from retable.report.folder import Drawn, Folder, new_site
from retable.report.paper import PaperPages, Subject
from retable.report.part import Part
from retable.report.render import Renderer
from retable.sending import of_others

HERE = Path(__file__).parent
NO_LOOKS = Looks()
PARTS = ".parts"


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
    replaced: Sequence[RunRecord] = (),
) -> Path:
    """Draw the site into the folder `out`, replacing the site that is there, and return its index page.

    `results` is the folder where runs left pictures; without it none are shown. `troubles` are records that cannot be
    used; a page lists them. `looks` are the stored ones, `replaced` published records that own ones stand for.
    Raises CardError when `out` holds something else, or when a claim has two answers.
    """
    cells = [cell for group in cells_by_scale.values() for cell in group]
    records = list(records)
    with new_site(out) as folder:
        drawing = Drawing(folder, datasets, currency, looks, results)
        for name, paper in sorted(papers.items()):
            own, before = ([r for r in group if r.paper == name] for group in (records, replaced))
            subject = Subject(paper, claims.get(name, ()), [c for c in cells if c.paper == name], own, before)
            drawing.draw(subject)
        drawing.shared(troubles)
    return out / "index.html"


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: it would visit 100,000 records again and again, and a drawing leaves no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def draw_site(workspace: Workspace, out: Path, now: changes.Keys, before: Drawn) -> Path:
    """Draw the site into `out` and return its index; of the site `before`, what nothing changed of is taken over."""
    keys = now.of
    with new_site(out, keys) as folder:
        drawing: Drawing | None = None
        parts: dict[str, Part] = {}
        for name in sorted(set(keys) - {""}):
            kept = out / PARTS / f"{name}.json.gz"
            if before.keys.get(name) == keys[name] and before.whole(name):
                parts[name] = Part.model_validate_json(gzip.decompress(kept.read_bytes()))
                folder.take_over(name)
                continue
            store = RecordStore.open(workspace, name)
            drawing = drawing or Drawing(folder, workspace.datasets, store.currency, NO_LOOKS, workspace.results)
            drawing.looks = store.looks
            drawing.draw(subject_of(workspace, name, store), now.bases[name])
        store = RecordStore.open(workspace, "")
        drawing = drawing or Drawing(folder, workspace.datasets, store.currency, NO_LOOKS, workspace.results)
        drawing.parts |= parts
        held = {source for part in drawing.parts.values() for source in part.held}
        strays = [
            Trouble(str(path), "is of a paper that has no card; delete it, or bring the card back")
            for path in changes.strays(workspace.results, set(keys))
        ]
        drawing.probes = read_probes(workspace.root)
        _beside(workspace, drawing)
        drawing.shared([*store.currency.ledger.troubles, *store.idle_entries(held), *strays])
    return out / "index.html"


def _beside(workspace: Workspace, drawing: "Drawing") -> None:
    """What-if runs and others' results, each beside the same cell of the papers; only where there are some."""
    sent = of_others(workspace.results)
    if not sent and not (workspace.results / "explorations").is_dir():
        return
    papers, _, cells, store = inputs(workspace)
    records, currency = store.records, store.currency
    drawing.what_if = explorations.lines(store.explorations.records, papers, cells, records, currency)
    drawing.theirs = others.lines(sent, papers, records, currency)


def subject_of(workspace: Workspace, name: str, store: RecordStore) -> Subject:
    """A paper with its claims, the planned cells of all scales, and the records."""
    cells = [cell for scale in tables.SCALES_DOWN for cell in planned(workspace, name, scale)]
    claims = claims_of(workspace, name)
    return Subject(workspace.papers[name], claims, cells, store.records, store.replaced, store.unusable)


class Drawing:
    """One drawing of a site into a new folder: papers first, then what they share."""

    def __init__(
        self,
        folder: Folder,
        datasets: Mapping[str, DatasetCard],
        currency: Currency,
        looks: Looks,
        results: Path | None,
    ) -> None:
        self.folder, self.datasets, self.currency = folder, datasets, currency
        self.looks, self.results = looks, results
        self.renderer = Renderer()
        self.parts: dict[str, Part] = {}
        self.what_if: Sequence[explorations.Line] = ()
        self.probes: Sequence[Probe] = ()
        self.theirs: Sequence[others.Line] = ()
        self.pages = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=_compiled_templates(),
        )
        self.pages.filters |= {"web": web_address}
        self.pages.globals |= {
            "words": words,
            "marks": words.MARKS,
            "tables": tables,
            # Settings may name a data set that has no card here.
            "title_of": lambda name: datasets[name].title if name in datasets else name,
        }

    def draw(self, subject: Subject, base: str = "") -> None:
        """The pages of a paper; cells that were drawn from the same `base` and records are taken over."""
        self.folder.owner = name = subject.paper.id
        drawn_with = (self.datasets, self.currency, self.looks, self.results, base)
        pages = PaperPages(self.folder, self.pages, self.renderer, subject, *drawn_with)
        self.parts[name] = part = pages.draw()
        packed = gzip.compress(part.model_dump_json().encode(), compresslevel=3, mtime=0)
        self.folder.path(f"{PARTS}/{name}.json.gz").write_bytes(packed)

    def shared(self, troubles: Sequence[Trouble]) -> None:
        """Everything that is about all papers; the figures are there after it."""
        self.folder.owner = ""
        for name in ("figures", "tables"):  # the job graph expects both, also where a paper draws none
            (self.folder.root / name).mkdir(exist_ok=True)
        parts = [self.parts[name] for name in sorted(self.parts)]
        self.newest = max((part.newest for part in parts if part.newest), default=None)
        found = [(where, what) for part in parts for where, what in part.troubles]
        found += [(trouble.where, trouble.what) for trouble in troubles]
        for path in sorted((HERE / "static").iterdir()):
            shutil.copyfile(path, self.folder.path(f"static/{path.name}"))
        self._render(
            "index.html",
            parts=parts,
            troubles=found,
            measured=any(row.seeds for p in parts for row in p.rows),
            what_if=self.what_if,
            theirs=self.theirs,
        )
        for page, lines in ((explorations.PAGE, self.what_if), (others.PAGE, self.theirs)):
            if lines:
                self._render(page, lines=lines)
        self._render("results.html", parts=parts)
        self._render("troubles.html", troubles=found)
        self._render("verdicts.html")
        self._tasks(parts)
        self._search(parts)
        document_of_all = document({part.paper: part.verdicts for part in parts})
        self.folder.path("verdicts.json").write_bytes(to_json(document_of_all.model_dump(mode="json")))
        self.folder.write("papers.bib", "\n".join(part.citation for part in parts))
        self.folder.write("CITATION.cff", files.citation_cff(parts))
        self.renderer.finish()

    def _tasks(self, parts: Sequence[Part]) -> None:
        by_dataset: dict[str, list] = defaultdict(list)
        for part in parts:
            for row in part.rows:
                by_dataset[row.dataset].append(row)
        # What a page was made from: its rows and the code, which the templates stand for.
        code = b"".join(path.read_bytes() for path in (HERE / "templates").glob("*.html"))
        for name, rows in by_dataset.items():
            probes = [probe for probe in self.probes if probe.dataset == name]
            content = json.dumps([line.model_dump(mode="json") for line in (*rows, *probes)])
            made_from = hashlib.sha256(code + content.encode())
            path = f"datasets/{name}.html"
            if not self.folder.reuse(path, f"{made_from.hexdigest()} {self.newest}"):
                card = self.datasets.get(name)
                blocks = tasks.blocks(rows, probes)
                open_rows = [row for row in rows if row.mean is None]
                self._render("dataset.html", path, card=card, rows=rows, blocks=blocks, open=open_rows, tasks=tasks)
        by_task: dict[str, list] = defaultdict(list)
        for rows in by_dataset.values():
            by_task[rows[0].task].append(rows)
        self._render("datasets.html", by_task=dict(sorted(by_task.items())))

    def _search(self, parts: Sequence[Part]) -> None:
        entries = [entry for part in parts for entry in part.entries]
        seen = {row.dataset: (row.dataset_title, row.task) for part in parts for row in part.rows}
        found: list[dict[str, Any]] = [entry.model_dump(exclude_defaults=True) for entry in entries]
        found += [
            {"kind": "data set", "name": title, "about": task, "page": f"datasets/{name}.html"}
            for name, (title, task) in sorted(seen.items())
        ]
        # A script, since a page that was opened from disk may fetch nothing. No "</script>" can end up in a page.
        text = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
        self.folder.write("static/entries.js", f"const ENTRIES = {text};\n")
        self._render("search.html", count=len(found))

    def _render(self, template: str, path: str = "", **values: Any) -> None:
        path = path or template
        root = "../" * path.count("/")
        text = self.pages.get_template(template).render(root=root, newest=self.newest, **values)
        self.folder.write(path, text)


def _compiled_templates() -> FileSystemBytecodeCache | None:
    """Where templates stay compiled, as Python keeps its own; None where the folder cannot be written."""
    folder = HERE / "templates" / "__pycache__"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return FileSystemBytecodeCache(str(folder), "%s.jinja") if os.access(folder, os.W_OK) else None


def web_address(text: str) -> str:
    """The address if it is one of the web, else `#`: a card cannot smuggle in a script."""
    return text if urlsplit(text).scheme in ("http", "https") else "#"
