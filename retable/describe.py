"""The results as a folder that data portals read: `retable crate FOLDER`, an RO-Crate with a Croissant description.

The three frames of `retable.frames` become CSV files, with `verdicts.json`, the references of the papers, and two
descriptions of all of it: `ro-crate-metadata.json` and `croissant.json`, which has a type for each column. Both are
written by their own libraries, the extra `describe`.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable import __version__
from retable.cards import PaperCard, refuse_filled
from retable.config import Workspace
from retable.frames import Frames, load
from retable.records import write_atomically

if TYPE_CHECKING:
    import pandas

NAME = "Results of retable"
DESCRIPTION = (
    "Numbers of machine-learning papers beside what retable, a replication suite, measured: every seed's metrics, rows "
    "of tables with intervals, and a verdict for each of the papers' numbers and statements."
)
LICENCE = "https://spdx.org/licenses/Apache-2.0"
CROISSANT = "croissant.json"
FRAMES = {
    "records": "A line for each metric of each seed.",
    "rows": "A line for each metric of each row of a table: mean over seeds with its 95 % interval.",
    "verdicts": "A line for each verdict on a number or a statement of a paper.",
}
SITE = {
    "verdicts.json": ("application/json", "All verdicts with what they rest on."),
    "papers.bib": ("text/x-bibtex", "The papers."),
    "CITATION.cff": ("text/yaml", "How to cite the suite and the papers."),
}


def write_crate(workspace: Workspace, folder: Path) -> Path:
    """Describe the checkout's results in a new folder; gives the RO-Crate's metadata file.

    Raises CardError for a folder that holds something, ModuleNotFoundError without the extra.
    """
    import mlcroissant  # noqa: F401  (missing libraries are said before anything is written)
    import rocrate  # noqa: F401

    from retable.report import build_site

    refuse_filled(folder)
    site = build_site(workspace).parent
    frames = load(workspace.root)
    for name in FRAMES:
        write_atomically(folder / f"{name}.csv", getattr(frames, name).to_csv(index=False).encode())
    for name in SITE:
        write_atomically(folder / name, (site / name).read_bytes())
    write_atomically(folder / CROISSANT, croissant(frames, folder))
    return ro_crate(frames, workspace.papers, folder)


def croissant(frames: Frames, folder: Path) -> bytes:
    """The Croissant description of the CSV files in `folder`."""
    import mlcroissant as mlc

    files, sets = [], []
    for name, description in FRAMES.items():
        file = f"{name}.csv"
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        files.append(
            mlc.FileObject(
                id=file, name=file, description=description, content_url=file, encoding_formats=["text/csv"],
                sha256=digest,
            )
        )  # fmt: skip
        frame = getattr(frames, name)
        fields = [
            mlc.Field(
                id=f"{name}/{column}", name=column, data_types=[_type(frame[column])],
                source=mlc.Source(file_object=file, extract=mlc.Extract(column=column)),
            )
            for column in frame.columns
        ]  # fmt: skip
        sets.append(mlc.RecordSet(id=name, name=name, description=description, fields=fields))
    described = mlc.Metadata(
        name=NAME, description=DESCRIPTION, license=[LICENCE], version=__version__, cite_as=_cited(folder),
        date_published=_newest(frames), distribution=files, record_sets=sets,
    )  # fmt: skip
    return (json.dumps(described.to_json(), indent=1, ensure_ascii=False, default=str) + "\n").encode()


def _type(column: "pandas.Series") -> Any:
    import mlcroissant as mlc
    from pandas.api import types

    if types.is_bool_dtype(column):
        return mlc.DataType.BOOL
    if types.is_integer_dtype(column):
        return mlc.DataType.INTEGER
    return mlc.DataType.FLOAT if types.is_numeric_dtype(column) else mlc.DataType.TEXT


def _cited(folder: Path) -> str:
    return (folder / "papers.bib").read_text(encoding="utf-8")


def _newest(frames: Frames) -> datetime.datetime:
    """When the last of the runs ended; of none, the beginning of time."""
    ended = frames.records.ended.max() if len(frames.records) else "1970-01-01T00:00:00+00:00"
    return datetime.datetime.fromisoformat(ended).replace(microsecond=0)


def ro_crate(frames: Frames, papers: Mapping[str, PaperCard], folder: Path) -> Path:
    """The RO-Crate of the files in `folder`: what they are, the papers they are about, the software they come from."""
    from rocrate.model import ContextEntity, SoftwareApplication
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    crate.name, crate.description, crate.license = NAME, DESCRIPTION, LICENCE
    crate.datePublished = _newest(frames)
    suite = crate.add(SoftwareApplication(crate, "#retable", properties={"name": "retable", "version": __version__}))
    about = [
        crate.add(
            ContextEntity(
                crate,
                paper.link or f"#{name}",
                properties={
                    "@type": "ScholarlyArticle",
                    "name": paper.title,
                    "author": paper.authors,
                    "datePublished": str(paper.year),
                    "isPartOf": paper.venue,
                },
            )
        )
        for name, paper in sorted(papers.items())
    ]
    crate.root_dataset["about"] = about
    csv = {f"{name}.csv": ("text/csv", description) for name, description in FRAMES.items()}
    more = {CROISSANT: ("application/ld+json", "The CSV files, column by column, in Croissant's words.")}
    for name, (kind, description) in (csv | SITE | more).items():
        properties = {"name": name, "description": description, "encodingFormat": kind, "creator": {"@id": suite.id}}
        crate.add_file(folder / name, name, properties=properties)
    crate.metadata.write(folder)
    return folder / "ro-crate-metadata.json"
