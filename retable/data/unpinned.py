"""Data sets that have no card yet, because nobody here could hash them: a card is made from your own download.

    python -m retable.data.unpinned ogbn-arxiv ~/arxiv.zip     # writes datasets/ogbn-arxiv.yaml

The card pins what your archive holds, so check the archive against its source by other means before. Without a card a
data set cannot be planned, fetched or loaded.
"""

import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from retable.cards import Archive, CardError, DataFile, DatasetCard, Split, unknown
from retable.config import find_root
from retable.data.archive import extract
from retable.data.containers import DataError, content_sha256, count, split_sha256
from retable.data.readers import READERS
from retable.records import write_atomically

OGB = "Hu et al., Open Graph Benchmark: Datasets for machine learning on graphs, NeurIPS 2020, https://arxiv.org/abs/2005.00687"
TU = "Morris et al., TUDataset: A collection of benchmark datasets for learning with graphs, 2020, https://arxiv.org/abs/2007.08663"


@dataclass(frozen=True)
class Known:
    """What is known of a data set without its bytes: everything of a card but sizes, counts and hashes."""

    title: str
    task: str
    homepage: str
    licence: str
    citation: str
    reader: str
    url: str
    folder: str
    members: tuple[str, ...]
    split: str
    note: str
    options: dict[str, str | bool | int | float] = field(default_factory=dict)


def _ogb_members(folder: str, split: str, raw: Sequence[str]) -> tuple[str, ...]:
    parts = [f"split/{split}/{part}" for part in ("train", "valid", "test")]
    return tuple(f"{folder}/{name}.csv.gz" for name in [*(f"raw/{name}" for name in raw), *parts])


MOLECULE = ("edge", "edge-feat", "node-feat", "graph-label", "num-node-list", "num-edge-list")
KNOWN = {
    "ogbn-arxiv": Known(
        title="ogbn-arxiv",
        task="node_classification",
        homepage="https://ogb.stanford.edu/docs/nodeprop/#ogbn-arxiv",
        licence="ODC-BY",
        citation=OGB,
        reader="ogb_nodes",
        url="http://snap.stanford.edu/ogb/data/nodeproppred/arxiv.zip",
        folder="ogb",
        members=_ogb_members("arxiv", "time", ("edge", "node-feat", "node-label")),
        split="time",
        note="by year of publication, from the archive",
        options={"split": "time"},
    ),
    "ogbg-molhiv": Known(
        title="ogbg-molhiv",
        task="graph_classification",
        homepage="https://ogb.stanford.edu/docs/graphprop/#ogbg-mol",
        licence="MIT",
        citation=OGB,
        reader="ogb_graphs",
        url="http://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/hiv.zip",
        folder="ogb",
        members=_ogb_members("hiv", "scaffold", MOLECULE),
        split="scaffold",
        note="by molecular scaffold, from the archive",
        options={"split": "scaffold"},
    ),
    "collab": Known(
        title="COLLAB",
        task="graph_classification",
        homepage="https://chrsmrrs.github.io/datasets/docs/datasets/",
        licence="none stated",
        citation=f"Yanardag and Vishwanathan, Deep graph kernels, KDD 2015; collected in {TU}",
        reader="tu",
        url="https://www.chrsmrrs.com/graphkerneldatasets/COLLAB.zip",
        folder="TUDataset",
        members=tuple(f"COLLAB/COLLAB_{part}.txt" for part in ("A", "graph_indicator", "graph_labels")),
        split="folds-10",
        note="10 folds, stratified by class; order from the names of data set and split",
    ),
}


def card_of(name: str, archive: Path) -> DatasetCard:
    """The card of a known data set with the sizes and hashes of your archive. Raises CardError or DataError."""
    if name not in KNOWN:
        raise CardError(unknown("data set without a card", name, list(KNOWN)))
    known = KNOWN[name]
    if not zipfile.is_zipfile(archive):
        raise DataError(f"{archive} is no zip archive; {name} is at {known.url}")
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary)
        origin = Archive(url=known.url, sha256=_sha256(archive), path=f"{known.folder}/{known.url.rsplit('/', 1)[1]}")
        files = [_file(archive, member, known.folder, origin, raw) for member in known.members]
        card = DatasetCard(
            name=name,
            title=known.title,
            task=known.task,
            homepage=known.homepage,
            licence=known.licence,
            citation=known.citation,
            reader=known.reader,
            options=dict(known.options),
            files=files,
            counts={},
            content_sha256="0" * 64,
            splits={},
        )
        data = READERS[known.reader](card, raw)
        pinned = {
            "counts": count(data),
            "content_sha256": content_sha256(data),
            "splits": {known.split: Split(sha256=split_sha256(data.splits[known.split]), note=known.note)},
        }
    return card.model_copy(update=pinned)


def write_card(name: str, archive: Path, root: Path) -> Path:
    """Write `datasets/<name>.yaml`; raises CardError where one is there already."""
    path = root / "datasets" / f"{name}.yaml"
    if path.exists():
        raise CardError(f"{path} is there already; a card that is pinned is not written over")
    fields = card_of(name, archive).model_dump(exclude_none=True, exclude_defaults=True)
    write_atomically(path, yaml.safe_dump(fields, sort_keys=False, width=112, allow_unicode=True).encode())
    return path


def main(arguments: Sequence[str]) -> int:
    """`<name> <archive>`; returns the exit status."""
    try:
        if len(arguments) != 2:
            raise CardError(f"expected a name ({', '.join(KNOWN)}) and the path of its archive")
        print(write_card(arguments[0], Path(arguments[1]), find_root(Path.cwd())))
    except (CardError, DataError) as error:
        print(f"retable: {error}", file=sys.stderr)
        return 2
    return 0


def _file(archive: Path, member: str, folder: str, origin: Archive, raw: Path) -> DataFile:
    path = f"{folder}/{member}"
    target = raw / path
    target.parent.mkdir(parents=True, exist_ok=True)
    extract(archive, member, target, sys.maxsize - 1)
    return DataFile(path=path, bytes=target.stat().st_size, sha256=_sha256(target), archive=origin, member=member)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
