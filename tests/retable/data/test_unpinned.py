"""Cards made from archives that are written here: what they pin, and that nothing loads without them."""

import gzip
import zipfile
from pathlib import Path

import pytest

from retable.cards import CardError, load_dataset
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.load import load
from retable.data.unpinned import KNOWN, card_of, main, write_card

ARXIV = {
    "raw/edge": "0,1\n1,2\n",
    "raw/node-feat": "0.5,1\n0,2\n1,0\n",
    "raw/node-label": "1\n0\n1\n",
    "split/time/train": "0\n",
    "split/time/valid": "1\n",
    "split/time/test": "2\n",
}
COLLAB = {"A": "1, 2\n2, 1\n3, 4\n4, 3\n", "graph_indicator": "1\n1\n2\n2\n", "graph_labels": "1\n2\n"}


@pytest.fixture
def archives(tmp_path) -> Path:
    folder = tmp_path / "mirror"
    for place in ("ogb", "TUDataset"):
        (folder / place).mkdir(parents=True)
    with zipfile.ZipFile(folder / "ogb" / "arxiv.zip", "w") as bundle:
        for name, text in ARXIV.items():
            bundle.writestr(f"arxiv/{name}.csv.gz", gzip.compress(text.encode(), mtime=0))
        bundle.writestr("arxiv/mapping/README.md", "not read")
    with zipfile.ZipFile(folder / "TUDataset" / "COLLAB.zip", "w") as bundle:
        for name, text in COLLAB.items():
            bundle.writestr(f"COLLAB/COLLAB_{name}.txt", text)
    return folder


@pytest.mark.parametrize(("name", "archive"), [("ogbn-arxiv", "ogb/arxiv.zip"), ("collab", "TUDataset/COLLAB.zip")])
def test_the_card_of_an_archive_fetches_and_loads_it(name, archive, archives, tmp_path):
    (tmp_path / "datasets").mkdir()
    path = write_card(name, archives / archive, tmp_path)
    card = load_dataset(path)
    fetch(card, tmp_path / "raw", str(archives))
    data, _ = load(card, KNOWN[name].split, tmp_path / "raw")
    assert len(data.y) == {"ogbn-arxiv": 3, "collab": 2}[name]
    with pytest.raises(CardError, match="is there already"):
        write_card(name, archives / archive, tmp_path)


def test_another_archive_is_refused_by_the_card(archives, tmp_path):
    card = card_of("ogbn-arxiv", archives / "ogb" / "arxiv.zip")
    with zipfile.ZipFile(archives / "ogb" / "arxiv.zip", "a") as bundle:
        bundle.writestr("arxiv/more.txt", "altered")
    with pytest.raises(DataError, match="has sha256"):
        fetch(card, tmp_path / "raw", str(archives))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ogbn-arxive", "x.zip"], "did you mean 'ogbn-arxiv'"),
        (["ogbn-arxiv", "no.zip"], "is no zip archive"),
        (["ogbn-arxiv"], "expected a name"),
    ],
)
def test_bad_arguments_get_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_an_archive_without_a_member_is_refused(archives):
    with zipfile.ZipFile(archives / "bad.zip", "w") as bundle:
        bundle.writestr("arxiv/raw/edge.csv.gz", gzip.compress(b"0,1\n"))
    with pytest.raises(DataError, match=r"holds no file 'arxiv/raw/node-feat\.csv\.gz'"):
        card_of("ogbn-arxiv", archives / "bad.zip")
