import io
import itertools
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from retable.cards import load_datasets
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.folder_images import FolderImages
from retable.data.load import load, parse
from retable.data.overview import state

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path):
    """An ImageNet in small: three classes of two grey and coloured images in train/ and val/."""
    for part in ("train", "val"):
        for label, name in enumerate(CLASSES):
            place = tmp_path / "imagenet" / part / name
            place.mkdir(parents=True)
            Image.new("L", (9, 7), 10 * label).save(place / "b.JPEG")
            Image.new("RGB", (5, 6), (label, 50, 100)).save(place / "a.png")
    return tmp_path / "imagenet"


@pytest.fixture
def card(make_card):
    return make_card(reader="image_folder", local="imagenet", options={"classes": "bee ant cat"})


def test_images_are_decoded_in_order_by_torchs_loader(folder):
    images = FolderImages(folder / "train", CLASSES, transform=lambda image: torch.tensor(image.getpixel((0, 0))))
    ((pixels, labels),) = DataLoader(images, batch_size=6)
    assert labels.tolist() == images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert pixels.tolist() == [[0, 50, 100], [0, 0, 0], [1, 50, 100], [10] * 3, [2, 50, 100], [20] * 3]
    sizes = images.transformed(lambda image: image.size)
    assert sizes[1] == ((9, 7), 0)
    assert len(sizes) == 6


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "train").rename(f / "other"), r"imagenet/train is no folder: .* each of 3 classes"),
        (lambda f: (f / "train/bee").rename(f / "train/wasp"), r"lacks the class folder bee of 3 in the class list"),
        (lambda f: [p.unlink() for p in (f / "val/cat").iterdir()], r"val/cat: a class folder without images"),
    ],
)
def test_a_folder_that_does_not_fit_the_list_is_named(folder, card, tmp_path, harm, message):
    harm(folder)
    with pytest.raises(DataError, match=message) as caught:
        parse(card, tmp_path)
    assert "\n" not in str(caught.value)


def png(side: int) -> bytes:
    """A well-formed PNG of side x side white pixels of one bit; of 40,000 it has 200 KB for 1.6 billion pixels."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(b"\0" + b"\xff" * (side // 8)) for _ in range(side)) + rows.flush()
    chunks = (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def deep() -> bytes:
    """A PNG of 16 bits a pixel."""
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"nothing", "cannot identify"),
        (png(64)[:45], ""),
        (png(40_000), "decompression bomb"),
        (deep(), "more than 8 bits"),
    ],
    ids=["no image", "cut", "bomb", "16 bits"],
)
def test_an_image_that_cannot_be_decoded_is_named_on_access(folder, content, why):
    (folder / "train/bee/a.png").write_bytes(content)
    images = FolderImages(folder / "train", CLASSES)
    assert images[0][1] == 0
    with pytest.raises(DataError, match=rf"train/bee/a.png cannot be decoded \(.*{why}.*\): replace it, or delete it"):
        images[2]


HUNDRED = ["imagenet-100", "imagenet-100-incremental", "imagenet-100-kaggle", "imagenet-100-mcm"]


@pytest.mark.parametrize("name", ["imagenet", *HUNDRED])
def test_the_class_lists_are_pinned(root, tmp_path, name):
    card = load_datasets(root)[name]
    classes = sorted(card.options["classes"].split())
    assert len(set(classes)) == card.counts["classes"]
    for part in ("train", "val"):
        for wnid in classes:
            (tmp_path / "imagenet" / part / wnid).mkdir(parents=True)
            (tmp_path / "imagenet" / part / wnid / "1.JPEG").touch()
    images, split = load(card, "official", tmp_path)
    assert list(images.classes) == classes
    assert np.bincount(split.test.labels).tolist() == [1] * len(classes)

    shorter = card.model_copy(update={"options": {"classes": " ".join(classes[1:])}})
    with pytest.raises(DataError, match="the parsed arrays hash to"):
        load(shorter, "official", tmp_path)


def test_the_lists_of_100_differ_and_are_part_of_imagenet(root):
    cards = load_datasets(root)
    whole, *lists = (set(cards[name].options["classes"].split()) for name in ("imagenet", *HUNDRED))
    assert all(classes < whole for classes in lists)
    assert all(len(a & b) < 20 for a, b in itertools.combinations(lists, 2))
    assert len({cards[name].content_sha256 for name in HUNDRED}) == len(HUNDRED)


def test_data_that_only_the_user_can_provide_is_asked_for(card, folder, tmp_path):
    assert not card.embedded
    assert fetch(card, tmp_path) == []
    assert state(card, tmp_path) == "yours"
    with pytest.raises(
        DataError, match=r"made-up is not downloaded .*: put it, or a link to it, at .*elsewhere/imagenet"
    ):
        fetch(card, tmp_path / "elsewhere")
    assert state(card, tmp_path / "elsewhere") == "absent"


def test_a_file_that_no_address_serves_comes_from_a_mirror(make_card, entry, tmp_path):
    card = make_card(entry("a/b.bin", b"content", derived="cut by hand"))
    with pytest.raises(DataError, match=r"cannot fetch a/b.bin: no address serves it \(cut by hand\).* RETABLE_MIRROR"):
        fetch(card, tmp_path / "raw")
    (tmp_path / "mirror" / "a").mkdir(parents=True)
    (tmp_path / "mirror" / "a" / "b.bin").write_bytes(b"content")
    (path,) = fetch(card, tmp_path / "raw", mirror=str(tmp_path / "mirror"))
    assert path.read_bytes() == b"content"
