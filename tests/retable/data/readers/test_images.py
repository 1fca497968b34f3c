import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from retable.cards import CardError, load_dataset
from retable.data.containers import DataError
from retable.data.readers.images import balanced_order, cifar_binary, decode, stl10_binary, tiny_imagenet

Z = {"sha256": "0" * 64, "note": "made up"}
RNG = np.random.default_rng(0)


def write(raw, contents: dict[str, bytes], entry):
    """Files below `raw` and their entries for a card."""
    for name, content in contents.items():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(content)
    return [entry(name, content, url="https://example.org/x") for name, content in contents.items()]


# CIFAR's binary form


@pytest.fixture
def cifar100(tmp_path, entry, make_card):
    """A small CIFAR-100: two label bytes, 3 classes."""
    records = RNG.integers(0, 256, (9, 3074), dtype=np.uint8)
    records[:, 1] = np.arange(9) % 3
    contents = {"c/test.bin": records[6:].tobytes(), "c/train.bin": records[:6].tobytes()}
    files = write(tmp_path, contents, entry)
    options = {"label_bytes": 2, "classes": "cup fox oak"}
    return make_card(*files, options=options, splits={"official": Z}), records


def test_cifar_records_are_fine_labels_and_planes(cifar100, tmp_path):
    card, records = cifar100
    images = cifar_binary(card, tmp_path)
    assert images.classes == ("cup", "fox", "oak")
    assert images.labels.tolist() == records[:, 1].tolist()
    assert images.images[4, 1, 2, 3] == records[4, 2 + 1024 + 2 * 32 + 3]
    assert images.splits["official"].sizes == (6, 0, 3)


def test_cifar_files_that_do_not_fit_are_named(cifar100, tmp_path):
    card, records = cifar100
    (tmp_path / "c/train.bin").write_bytes(records[:6].tobytes()[:-1])
    with pytest.raises(DataError, match=r"c/train.bin: 18,443 bytes are no whole number of records of 3,074 bytes"):
        cifar_binary(card, tmp_path)
    records[2, 1] = 3
    (tmp_path / "c/train.bin").write_bytes(records[:6].tobytes())
    with pytest.raises(DataError, match=r"c/train.bin: an image has the label 3 \(from 0\), the card names 3 classes"):
        cifar_binary(card, tmp_path)


def test_a_subset_larger_than_the_data_is_refused(cifar100, tmp_path):
    card = cifar100[0].model_copy(update={"splits": {"subset-5000": Z}})
    with pytest.raises(DataError, match="6 training and 3 test images are not enough for the split 'subset-5000'"):
        cifar_binary(card, tmp_path)


# STL-10's binary form


@pytest.fixture
def stl10(tmp_path, entry, make_card):
    pixels = RNG.integers(0, 256, (7, 3, 96, 96), dtype=np.uint8)
    by_column = pixels.transpose(0, 1, 3, 2)
    contents = {
        "s/train_X.bin": by_column[:3].tobytes(),
        "s/train_y.bin": bytes([1, 2, 1]),
        "s/test_X.bin": by_column[3:5].tobytes(),
        "s/test_y.bin": bytes([2, 1]),
        "s/unlabeled_X.bin": by_column[5:].tobytes(),
    }
    return make_card(*write(tmp_path, contents, entry), options={"classes": "cat dog"}), pixels


def test_stl10_is_turned_upright_and_counts_from_zero(stl10, tmp_path):
    card, pixels = stl10
    images = stl10_binary(card, tmp_path)
    np.testing.assert_array_equal(images.images, pixels)
    assert images.labels.tolist() == [0, 1, 0, 1, 0, -1, -1]
    assert images.splits["official"].train.tolist() == [0, 1, 2]
    assert images.splits["with-unlabelled"].train.tolist() == [0, 1, 2, 5, 6]
    assert images.splits["with-unlabelled"].test.tolist() == [3, 4]


def test_stl10_files_that_do_not_fit_are_named(stl10, tmp_path):
    card, _ = stl10
    with pytest.raises(DataError, match=r"lacks the STL-10 files \['train_y.bin'\]"):
        stl10_binary(card.model_copy(update={"files": [f for f in card.files if "train_y" not in f.path]}), tmp_path)
    (tmp_path / "s/train_y.bin").write_bytes(bytes([1, 2]))
    with pytest.raises(DataError, match=r"s/train_y.bin: 2 labels for 3 images"):
        stl10_binary(card, tmp_path)
    (tmp_path / "s/train_y.bin").write_bytes(bytes([1, 2, 0]))
    with pytest.raises(DataError, match=r"s/train_y.bin: an image has the label -1"):
        stl10_binary(card, tmp_path)


# Tiny ImageNet's zip


def jpeg(mode: str = "RGB", size: tuple[int, int] = (8, 8), value: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value,) * len(mode)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def tiny(tmp_path, make_card, entry):
    """Makes a zip of two classes with these changes (None: leave the file out) and reads it."""

    def make(changes: dict[str, bytes | None] | None = None, **options):
        contents = {
            **{f"t/train/n{c}/images/n{c}_{i}.JPEG": jpeg(value=20 * i) for c in (2, 1) for i in (0, 2, 10)},
            "t/train/n1/images/n1_3.JPEG": jpeg("L", value=77),
            "t/val/images/val_0.JPEG": jpeg(value=200),
            "t/val/images/val_1.JPEG": jpeg(value=201),
            "t/val/val_annotations.txt": b"val_0.JPEG\tn2\t0\t0\t1\t1\nval_1.JPEG\tn1\t0\t0\t1\t1\n",
        } | (changes or {})
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as bundle:
            for name, content in contents.items():
                if content is not None:
                    bundle.writestr(name, content)
        file = entry("t.zip", (tmp_path / "t.zip").read_bytes(), derived="made up")
        card = make_card(file, options={"side": 8, "corrupt": "fatal"} | options)
        return tiny_imagenet(card, tmp_path)

    return make


def test_tiny_imagenet_is_ordered_by_class_and_number_and_grey_becomes_rgb(tiny):
    images = tiny()
    assert images.classes == ("n1", "n2")
    assert images.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 1]
    assert images.images[:, 0, 4, 4].tolist() == [0, 40, 77, 200, 0, 40, 200, 201, 200]
    assert (images.images[2] == 77).all()
    assert images.splits["official"].sizes == (7, 0, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t/train/n1/images/n1_2.JPEG": jpeg()[:200]}, r"t.zip: t/train/n1/images/n1_2.JPEG cannot be decoded"),
        ({"t/train/n1/images/n1_2.JPEG": b"no image"}, r"t.zip: t/train/n1/images/n1_2.JPEG cannot be decoded"),
        ({"t/train/n1/images/n1_2.JPEG": jpeg(size=(8, 9))}, r"n1_2.JPEG has 8 x 9 pixels, expected 8 x 8"),
        ({"t/train/n1/images/n1_2.JPEG": jpeg("CMYK")}, r"n1_2.JPEG is neither grey nor RGB but CMYK"),
        ({"t/val/images/val_7.JPEG": jpeg()}, r"t/val/images/val_7.JPEG is not in val_annotations.txt"),
        ({f"t/train/n2/images/n2_{i}.JPEG": None for i in (0, 2, 10)}, r"the class n2 has no training images"),
        ({"t/val/val_annotations.txt": None}, r"holds no val/val_annotations.txt"),
    ],
)
def test_a_zip_that_does_not_fit_is_named_in_one_line(tiny, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        tiny(changes)
    assert "\n" not in str(caught.value)


def test_a_corrupt_image_is_left_out_on_request_and_named(tiny):
    with pytest.warns(UserWarning, match=r"n1_2.JPEG cannot be decoded .*; left out"):
        images = tiny({"t/train/n1/images/n1_2.JPEG": b"no image"}, corrupt="skip")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
    assert images.splits["official"].sizes == (6, 0, 2)
    with pytest.raises(DataError, match=r"corrupt 'skipp'; did you mean 'skip'"):
        tiny(corrupt="skipp")


def test_decoding_gives_the_pixels_themselves():
    pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    np.testing.assert_array_equal(decode(stream.getvalue(), "x.png", 8), pixels)


def test_an_image_of_too_many_pixels_is_named(monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(DataError, match=r"^x.png cannot be decoded \(.*decompression bomb"):
        decode(stream.getvalue(), "x.png", 64)


def test_a_file_needs_exactly_one_origin(entry):
    for origins in ({}, {"derived": "by hand", "url": "https://example.org"}, {"derived": "by hand", "member": "a"}):
        with pytest.raises(ValueError, match="a file needs one of `url`, `archive` with `member`, and `derived`"):
            entry("a", b"a", **origins)


# Orders


def test_a_balanced_order_spreads_every_class_evenly():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = RNG.permutation(100)
    balanced = balanced_order(order, labels)
    assert sorted(balanced) == list(range(100))
    for length in range(1, 101):
        found = np.bincount(labels[balanced[:length]], minlength=3)
        assert np.abs(found - length * np.array([0.6, 0.3, 0.1])).max() < 1.5
    for label in range(3):
        assert balanced[labels[balanced] == label].tolist() == order[labels[order] == label].tolist()


def test_a_card_without_an_origin_is_refused(root, tmp_path):
    text = (root / "datasets" / "tiny-imagenet-20.yaml").read_text().replace("  derived:", "  member:")
    (tmp_path / "tiny-imagenet-20.yaml").write_text(text)
    with pytest.raises(CardError, match="a file needs one of"):
        load_dataset(tmp_path / "tiny-imagenet-20.yaml")
