"""Files for other tools: verdicts as CSV, LaTeX and Markdown, references, a badge.

The tables are written by pandas, in the process of `render`.
"""

import json
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from retable import __version__
from retable.cards import DatasetCard, PaperCard
from retable.frames import VERDICT_COLUMNS, verdict_lines
from retable.report import words
from retable.report.folder import Folder
from retable.report.part import Part
from retable.report.render import Renderer
from retable.report.words import anchor, signed
from retable.verdicts import Assessment

TONES = {"good": "#0b6b3a", "bad": "#a3280f", "open": "#7a5200", "quiet": "#5c656e"}
HEADS = ["method", "data set", "setting", "paper", "measured", "difference", "95 % interval", "n", "verdict"]


def write(assessment: Assessment, datasets: Mapping[str, DatasetCard], folder: Folder, renderer: Renderer) -> None:
    """The verdicts of a paper as one CSV, each of its tables with numbers as CSV, LaTeX and Markdown, BibTeX, badge."""
    paper = assessment.paper
    lines = verdict_lines(assessment, datasets)
    (all_of_them,) = folder.paths(f"tables/{paper.id}_verdicts", (".csv",))
    renderer.ask(all_of_them, columns=VERDICT_COLUMNS, lines=lines, caption="", label="")
    for table in dict.fromkeys(v.claim.table for v in assessment.values):
        shown = [
            [
                v.claim.method,
                v.claim.dataset,
                words.settings(v.claim.setting),
                words.with_spread(v.claim.mean, v.claim.std, v.claim.unit),
                words.measured(v.row, v.answer.measured, v.claim.unit),
                signed(v.difference, v.claim.unit),
                words.interval(v.difference_interval, v.claim.unit),
                str(v.n),
                v.state,
            ]
            for v in assessment.values
            if v.claim.table == table and v.row and v.answer and v.row.scale == "full" and v.mean is not None
        ]
        if shown:
            base, *_ = folder.paths(f"tables/{paper.id}_table-{anchor(table)}", (".csv", ".md", ".tex"))
            title = paper.tables[table].title if table in paper.tables else table
            label = f"tab:{paper.id}-{anchor(table)}"
            renderer.ask(base, columns=HEADS, lines=shown, caption=title, label=label)
    folder.write(f"papers/{paper.id}.bib", bibtex(paper))
    folder.write(f"badges/{paper.id}.svg", badge(assessment))


def badge(assessment: Assessment) -> str:
    """An SVG for a README: how many of the abstract's statements hold, in part or in full."""
    best = [words.best(verdicts) for verdicts in words.by_statement(assessment).values()]
    states = words.count_states((v.state for v in best), ("holds", "holds in part", "reversed", "undecided"))
    shown = [state for state in ("reversed", "holds", "holds in part") if state in states]
    tone = words.MARKS[shown[0]].tone if shown else "quiet"
    right = words.counted(states) or "not measured"
    left = f"retable: {assessment.paper.id}"
    first, second = (round(6.6 * len(text)) + 12 for text in (left, right))
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="20" role="img" aria-label="{left}: {right}">'
        '<title>{left}: {right}</title><rect width="{first}" height="20" fill="#333a41"/>'
        '<rect x="{first}" width="{second}" height="20" fill="{fill}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        '<text x="{a}" y="14">{left}</text><text x="{b}" y="14">{right}</text></g></svg>\n'
    ).format(
        w=first + second, left=left, right=right, first=first, second=second, fill=TONES[tone], a=first / 2,
        b=first + second / 2,
    )  # fmt: skip


def bibtex(paper: PaperCard) -> str:
    """The paper's BibTeX entry, as far as its card knows."""
    plain = str.maketrans({"{": "", "}": "", "\\": ""})
    fields = {
        "title": f"{{{paper.title.translate(plain)}}}",
        "author": " and ".join(name.translate(plain) for name in paper.authors),
        "venue": paper.venue.translate(plain),
        "year": str(paper.year),
        "url": paper.link.translate(plain),
    }
    kind = "misc" if paper.venue == "arXiv" else "inproceedings"
    fields["howpublished" if kind == "misc" else "booktitle"] = fields.pop("venue")
    lines = [f"  {key} = {{{value}}}" for key, value in fields.items() if value]
    return f"@{kind}{{{paper.id},\n" + ",\n".join(lines) + "\n}\n"


def citation_cff(papers: Sequence[Part] | Sequence[PaperCard]) -> str:
    """How to cite the suite and the papers, as CITATION.cff: JSON is YAML."""
    found = {
        "cff-version": "1.2.0",
        "message": "If you use these measurements, cite the suite and the papers that it measures again.",
        "title": "retable",
        "version": __version__,
        "type": "software",
        "authors": [{"name": "The retable maintainers"}],
        "references": [
            {
                "type": "article",
                "title": paper.title,
                "year": paper.year,
                "url": paper.link,
                "authors": [{"family-names": name} for name in paper.authors] or [{"name": "The paper's authors"}],
            }
            for paper in papers
        ],
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
