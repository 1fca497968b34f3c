"""Cards made from archives that are written here: what they pin, and that nothing loads without them."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retable.cards import CardError, UnpinnedCard, load_dataset, load_unpinned
from retable.cli import main
from retable.data.adopt import adopt, write_card
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.load import load
from retable.data.readers import READERS

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


def packed(path: Path, contents: dict[str, bytes]) -> None:
    """Write an archive whose kind the path's ending says."""
    path.parent.mkdir(parents=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as bundle:
            for name, content in contents.items():
                bundle.writestr(name, content)
        return
    with tarfile.open(path, "w:gz") as bundle:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))


def records(number: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, length), dtype=np.uint8)


def cifar100(train: int = 4, test: int = 2) -> dict[str, bytes]:
    parts = {"train": records(train, 3074), "test": records(test, 3074)}
    for part in parts.values():
        part[:, 1] = 99 - np.arange(len(part))
    return {f"cifar-100-binary/{name}.bin": part.tobytes() for name, part in parts.items()}


def stl10() -> dict[str, bytes]:
    pixels = {f"{name}_X": records(2, 3 * 96 * 96).tobytes() for name in ("train", "test", "unlabeled")}
    contents = pixels | {"train_y": bytes([1, 10]), "test_y": bytes([3, 2]), "fold_indices": b"not read"}
    return {f"stl10_binary/{name}.bin": content for name, content in contents.items()}


def tiny_imagenet() -> dict[str, bytes]:
    image = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 8, 7)).save(image, format="JPEG")
    names = ("train/n01/images/n01_0.JPEG", "train/n02/images/n02_0.JPEG", "val/images/val_0.JPEG")
    contents = dict.fromkeys(names, image.getvalue()) | {"val/val_annotations.txt": b"val_0.JPEG\tn02\t0\t0\t9\t9\n"}
    return {f"tiny-imagenet-200/{name}": content for name, content in contents.items()}


@pytest.mark.parametrize(
    ("name", "archive", "contents", "sizes"),
    [
        ("cifar100", "cifar100/cifar-100-binary.tar.gz", cifar100(), (4, 0, 2)),
        ("stl10", "stl10/stl10_binary.tar.gz", stl10(), (2, 0, 2)),
        ("stl10-unlabelled", "stl10/stl10_binary.tar.gz", stl10(), (4, 0, 2)),
        ("tiny-imagenet", "tiny-imagenet/tiny-imagenet-200.zip", tiny_imagenet(), (2, 0, 1)),
    ],
)
def test_image_archives_get_a_card(name, archive, contents, sizes, root, tmp_path):
    packed(tmp_path / "mirror" / archive, contents)
    (tmp_path / "datasets").mkdir()
    card = load_dataset(write_card(load_unpinned(root, name), tmp_path / "mirror" / archive, tmp_path))
    fetch(card, tmp_path / "raw", str(tmp_path / "mirror"))
    images, split = load(card, None, tmp_path / "raw")
    assert split.sizes == sizes
    assert len(images.classes) == {"cifar100": 100, "tiny-imagenet": 2}.get(name, 10)


def test_the_classes_of_cifar100_are_in_the_order_of_its_labels(root, tmp_path):
    packed(tmp_path / "a" / "cifar.tar.gz", cifar100())
    classes = adopt(load_unpinned(root, "cifar100"), tmp_path / "a" / "cifar.tar.gz").options["classes"].split()
    assert classes == sorted(set(classes))
    assert (classes[0], classes[99]) == ("apple", "worm")


@pytest.mark.parametrize(("name", "archive"), [("ogbn-arxiv", "ogb/arxiv.zip"), ("collab", "TUDataset/COLLAB.zip")])
def test_the_card_of_an_archive_fetches_and_loads_it(name, archive, archives, root, tmp_path):
    (tmp_path / "datasets").mkdir()
    known = load_unpinned(root, name)
    path = write_card(known, archives / archive, tmp_path)
    card = load_dataset(path)
    fetch(card, tmp_path / "raw", str(archives))
    data, _ = load(card, next(iter(known.splits)), tmp_path / "raw")
    assert len(data.y) == {"ogbn-arxiv": 3, "collab": 2}[name]
    with pytest.raises(CardError, match="is there already"):
        write_card(known, archives / archive, tmp_path)


def test_another_archive_is_refused_by_the_card(archives, root, tmp_path):
    card = adopt(load_unpinned(root, "ogbn-arxiv"), archives / "ogb" / "arxiv.zip")
    with zipfile.ZipFile(archives / "ogb" / "arxiv.zip", "a") as bundle:
        bundle.writestr("arxiv/more.txt", "altered")
    with pytest.raises(DataError, match="has sha256"):
        fetch(card, tmp_path / "raw", str(archives))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ogbn-arxive", "x.zip"], "did you mean 'ogbn-arxiv'"),
        (["ogbn-arxiv", "no.zip"], "is no zip or tar archive"),
        (["ogbn-arxiv"], "retable data adopt NAME PATH: a name (cifar100, code-alpaca,"),
    ],
)
def test_bad_arguments_get_one_line(arguments, words, capsys, root, monkeypatch):
    monkeypatch.chdir(root)
    assert main(["data", "adopt", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_an_archive_without_a_member_is_refused(archives, root):
    with zipfile.ZipFile(archives / "bad.zip", "w") as bundle:
        bundle.writestr("arxiv/raw/edge.csv.gz", gzip.compress(b"0,1\n"))
    with pytest.raises(DataError, match=r"holds no file 'arxiv/raw/node-feat\.csv\.gz'"):
        adopt(load_unpinned(root, "ogbn-arxiv"), archives / "bad.zip")


ALPACA = [
    {"instruction": "Add two numbers", "input": "in Python", "output": "a + b"},
    {"instruction": "Say hi", "input": "", "output": "hi"},
]
EVAL = {
    "task_id": "t/0",
    "prompt": "def one():\n",
    "canonical_solution": "    return 1\n",
    "test": "def check(f): assert f() == 1",
    "entry_point": "one",
}
MSR = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n0\t3\t4\tc\td\n"


@pytest.fixture
def downloads(tmp_path) -> Path:
    """Small files by the names that upstream gives them, in a mirror."""
    folder = tmp_path / "mirror"
    contents = {
        "glue/MRPC/msr_paraphrase_train.txt": MSR.encode(),
        "glue/MRPC/mrpc_dev_ids.tsv": b"3\t4\n",
        "code-alpaca/code_alpaca_20k.json": json.dumps(ALPACA).encode(),
        "human-eval/HumanEval.jsonl.gz": gzip.compress(json.dumps(EVAL).encode()),
    }
    for path, content in contents.items():
        for place in (folder / path, tmp_path / "mine" / Path(path).name):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    return folder


def small(root, name: str, rows: int | None = None, **hashes: str) -> UnpinnedCard:
    """What is known of a data set, with other hashes (by a file's last name) and another size."""
    known = load_unpinned(root, name)
    files = [file.model_copy(update={"sha256": hashes.get(Path(file.path).stem)}) for file in known.files]
    return known.model_copy(update={"files": files, "rows": rows})


def test_a_card_is_made_of_single_files_too(downloads, root, tmp_path):
    (tmp_path / "datasets").mkdir()
    for name in ("glue-mrpc", "code-alpaca"):
        card = load_dataset(write_card(small(root, name), tmp_path / "mine", tmp_path))
        fetch(card, tmp_path / "raw", str(downloads))
        data, split = load(card, "official", tmp_path / "raw")
        if name == "glue-mrpc":
            assert (card.title, data.labels.tolist()) == ("GLUE MRPC dev", [1, 0])
        else:
            assert data.columns["question"] == ("Add two numbers\nin Python", "Say hi", "def one():\n")
            assert data.columns["entry_point"] == ("", "", "one")
        assert split.test.tolist() == [len(data) - 1]


def test_files_of_several_archives_are_members_of_theirs(root, tmp_path):
    (tmp_path / "datasets").mkdir()
    fields = {
        "A": "1, 2\n2, 1\n",
        "graph_indicator": "1\n1\n",
        "graph_attributes": "0.5\n",
        "node_labels": "0\n3\n",
        "edge_labels": "1\n1\n",
    }
    for part in ("train", "val", "test"):
        for field, text in fields.items():
            for place in ("mine", f"mirror/TUDataset/ZINC_{part}"):
                (tmp_path / place).mkdir(parents=True, exist_ok=True)
                (tmp_path / place / f"ZINC_{part}_{field}.txt").write_text(text)
    card = load_dataset(write_card(load_unpinned(root, "zinc-12k"), tmp_path / "mine", tmp_path))
    assert all(file.archive and file.member == file.path.removeprefix("TUDataset/") for file in card.files)
    fetch(card, tmp_path / "raw", str(tmp_path / "mirror"))
    data, split = load(card, "fixed", tmp_path / "raw")
    assert data.y.tolist() == [[0.5]] * 3
    assert split.sizes == (1, 1, 1)


def test_files_that_are_missing_or_other_than_those_of_public_lists_are_refused(downloads, root, tmp_path):
    mine = tmp_path / "mine"
    with pytest.raises(DataError, match=r"mrpc_dev_ids\.tsv of glue-mrpc is known by 111111111111"):
        adopt(small(root, "glue-mrpc", mrpc_dev_ids="1" * 64), mine)
    with pytest.raises(DataError, match="holds 2 rows of glue-mrpc, which is known to have 4076"):
        adopt(small(root, "glue-mrpc", rows=4076), mine)
    (mine / "mrpc_dev_ids.tsv").unlink()
    with pytest.raises(DataError, match=r"holds no mrpc_dev_ids.tsv; glue-mrpc needs it from https://"):
        adopt(small(root, "glue-mrpc"), mine)


def test_every_known_set_says_where_it_is_and_what_may_be_done_with_it(root):
    paths = sorted((root / "datasets" / "unpinned").glob("*.yaml"))
    assert len(paths) >= 13
    for path in paths:
        known = load_unpinned(root, path.stem)
        assert known.name == path.stem
        assert known.licence
        assert known.reader in READERS
        if known.archive:
            assert Path(known.archive.path or "").name == known.archive.url.rsplit("/", 1)[1]
            assert Path(known.archive.path or "").parent.name


def test_a_set_that_is_neither_archive_nor_files_is_refused(root, tmp_path):
    folder = tmp_path / "datasets" / "unpinned"
    folder.mkdir(parents=True)
    text = (root / "datasets" / "unpinned" / "collab.yaml").read_text(encoding="utf-8")
    (folder / "collab.yaml").write_text(text.replace("members:", "files: []\nmember:"), encoding="utf-8")
    with pytest.raises(CardError, match="unknown key 'member'"):
        load_unpinned(tmp_path, "collab")
