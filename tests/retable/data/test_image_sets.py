"""Image sets: hashes, the cards as text, and, with a mirror, the real files through the whole path."""

import dataclasses
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from retable.cards import load_datasets
from retable.data.containers import content_sha256, count, split_sha256
from retable.data.fetch import check, fetch
from retable.data.image_sets import ImageSet, ImageSplit
from retable.data.load import compare, load, parse
from retable.data.readers import READERS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARDS = {
    name: card
    for name, card in load_datasets(ROOT).items()
    if card.task == "image_classification" and card.local is None
}
# Published images, classes, side; split -> sizes.
KNOWN = {
    "cifar10": (60000, 10, 32, {"official": (50000, 0, 10000), "subset-5000": (5000, 1000, 2000)}),
    "digits-16": (1797, 10, 16, {"default": (1000, 297, 500)}),
    "tiny-imagenet-20": (4000, 20, 64, {"official": (3000, 0, 1000), "subset-2000": (2000, 1000, 1000)}),
}


def needs_files(name: str):
    return pytest.param(name, marks=() if CARDS[name].embedded else pytest.mark.mirror)


@pytest.fixture(scope="module")
def sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    raw = tmp_path_factory.mktemp("raw")
    read: dict[str, tuple[ImageSet, list[str]]] = {}

    def get(name: str) -> tuple[ImageSet, list[str]]:
        if name not in read:
            card = CARDS[name]
            fetch(card, raw, mirror=None if card.embedded else str(request.getfixturevalue("mirror")))
            images = parse(card, raw)
            read[name] = images, check(card, raw) + compare(card, images, list(card.splits))
        return read[name]

    return get


@pytest.fixture
def made_up() -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
    return ImageSet("made-up", pixels, np.array([0, 1, 1, 0, -1, -1]), ("a", "b"), {})


def test_every_card_has_known_counts():
    assert sorted(KNOWN) == sorted(CARDS)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_card_says_all_that_a_reader_of_tables_needs(name):
    card = CARDS[name]
    assert card.reader in READERS
    assert all(split.note for split in card.splits.values())
    assert set(card.counts) == {"images", "classes", "height", "width"}


@pytest.mark.parametrize("name", [needs_files(name) for name in sorted(CARDS)])
def test_files_give_what_card_and_literature_say(name, sets):
    images, problems = sets(name)
    number, classes, side, sizes = KNOWN[name]
    assert problems == []
    assert count(images) == CARDS[name].counts
    assert images.images.shape == (number, 3, side, side)
    assert images.images.dtype == np.uint8
    assert images.labels.dtype == np.int64
    assert len(images.classes) == classes
    assert list(images.splits) == list(CARDS[name].splits)
    for split, expected in sizes.items():
        assert images.splits[split].sizes == expected


@pytest.mark.parametrize("name", [needs_files(name) for name in sorted(CARDS)])
def test_splits_share_no_image_and_are_balanced(name, sets):
    images, _ = sets(name)
    shares = np.bincount(images.labels) / len(images.labels)
    for split in images.splits.values():
        parts = [split.train, split.val, split.test]
        assert len(np.unique(np.concatenate(parts))) == sum(split.sizes)
        for part in parts:
            assert part.dtype == np.int64
            assert (np.diff(part) > 0).all()
            if len(part):
                found = np.bincount(images.labels[part], minlength=len(shares))
                assert np.abs(found - shares * len(part)).max() <= 1.5


@pytest.mark.parametrize("name", [needs_files("cifar10"), needs_files("tiny-imagenet-20")])
def test_subsets_never_train_or_choose_on_test_images(name, sets):
    images, _ = sets(name)
    official = images.splits["official"]
    for split in images.splits.values():
        assert set(split.train) <= set(official.train)
        assert set(split.val) <= set(official.train)
        assert set(split.test) <= set(official.test)


@pytest.mark.mirror
def test_cifar10_equals_torchvision(sets, mirror, tmp_path):
    # torchvision reads the pickled form, which has the binary form's images and labels: made from them here.
    torchvision = pytest.importorskip("torchvision")
    images, _ = sets("cifar10")
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    record = np.fromfile(f"{mirror}/{CARDS['cifar10'].files[-1].path}", dtype=np.uint8).reshape(-1, 3073)
    with (folder / "test_batch").open("wb") as file:
        pickle.dump({"data": record[:, 1:], "labels": record[:, 0].tolist()}, file)
    (folder / "batches.meta").write_bytes(Path(mirror, "cifar10", "cifar-10-batches-py", "batches.meta").read_bytes())
    theirs = type("Unchecked", (torchvision.datasets.CIFAR10,), {"_check_integrity": lambda _: True})
    theirs.meta = theirs.meta | {"md5": None}
    loaded = theirs(str(tmp_path), train=False)
    np.testing.assert_array_equal(images.images[50000:], loaded.data.transpose(0, 3, 1, 2))
    assert images.labels[50000:].tolist() == loaded.targets
    assert list(images.classes) == loaded.classes


@pytest.mark.mirror
@pytest.mark.slow
def test_cifar10_comes_out_of_the_archive_too(mirror, tmp_path):
    card = CARDS["cifar10"]
    archive = tmp_path / "mirror" / "cifar10" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as bundle:
        for file in card.files:
            bundle.add(Path(mirror, file.path), file.member)
    fetch(card, tmp_path / "raw", mirror=str(tmp_path / "mirror"))
    assert check(card, tmp_path / "raw") == []
    images, split = load(card, "subset-5000", tmp_path / "raw")
    assert np.bincount(images.labels[split.val]).tolist() == [100] * 10


def test_hashes_see_values_and_names_but_not_layout(made_up):
    same = dataclasses.replace(made_up, images=np.asfortranarray(made_up.images), labels=made_up.labels.astype(">i4"))
    assert content_sha256(same) == content_sha256(made_up)
    pixels = made_up.images.copy()
    pixels[5, 2, 3, 4] ^= 1
    for change in (
        {"images": pixels},
        {"images": made_up.images.reshape(6, 3, 5, 4)},
        {"labels": made_up.labels[::-1]},
        {"classes": ("a", "c")},
    ):
        assert content_sha256(dataclasses.replace(made_up, **change)) != content_sha256(made_up)


def test_a_split_hash_tells_the_parts_apart():
    first, second, none = np.arange(3), np.arange(3, 5), np.arange(0)
    hashes = {
        split_sha256(ImageSplit(*parts))
        for parts in ((first, second, none), (first, none, second), (second, first, none))
    }
    assert len(hashes) == 3


def test_unlabelled_images_are_counted(made_up):
    assert count(made_up) == {"images": 6, "unlabelled": 2, "classes": 2, "height": 4, "width": 5}
