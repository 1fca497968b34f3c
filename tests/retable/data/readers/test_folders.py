"""What becomes of training images that cannot be decoded; the rest is in ../test_folder_images.py."""

import pytest
from PIL import Image

from retable.data.containers import DataError
from retable.data.loader import evaluation_batches, training_batches
from retable.data.readers.folders import image_folder

CLASSES = ("ant", "bee")


@pytest.fixture
def folder(tmp_path):
    """Three images of each class; the second ant of both parts is broken."""
    for part in ("train", "val"):
        for label, name in enumerate(CLASSES):
            (tmp_path / "imagenet" / part / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (100 * label + number, 0, 0)).save(
                    tmp_path / "imagenet" / part / name / f"{number}.png"
                )
        (tmp_path / "imagenet" / part / "ant" / "1.png").write_bytes(b"nothing")
    return tmp_path


def make(make_card, folder, **options):
    card = make_card(reader="image_folder", local="imagenet", options={"classes": "ant bee", **options})
    return image_folder(card, folder).splits["official"]


def test_a_broken_training_image_is_fatal_unless_asked_otherwise(make_card, folder):
    for split in (make(make_card, folder), make(make_card, folder, corrupt="fatal")):
        with pytest.raises(DataError, match=r"train/ant/1\.png cannot be decoded"):
            list(training_batches(split.train, 8, 6, seed=0))


def test_skipped_it_is_named_and_the_next_of_its_class_stands_in(make_card, folder, capsys):
    split = make(make_card, folder, corrupt="skip")
    assert [split.train[i][0].getpixel((0, 0))[0] for i in range(6)] == [0, 2, 2, 100, 101, 102]
    assert capsys.readouterr().err.count("left out: ") == 1
    red = split.train.transformed(lambda image: image.getpixel((0, 0))[0])
    assert [red[i] for i in range(3)] == [(0, 0), (2, 0), (2, 0)]
    ((pixels, labels),) = training_batches(split.train, 8, 6, seed=0)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert pixels.shape == (6, 1, 3, 8, 8)
    assert "train/ant/1.png cannot be decoded" in capsys.readouterr().err


def test_the_last_image_of_a_class_is_followed_by_its_first(make_card, folder):
    (folder / "imagenet/train/bee/2.png").write_bytes(b"nothing")
    assert make(make_card, folder, corrupt="skip").train[5][0].getpixel((0, 0))[0] == 100


def test_what_is_reported_on_is_never_skipped(make_card, folder):
    split = make(make_card, folder, corrupt="skip")
    with pytest.raises(DataError, match=r"val/ant/1\.png cannot be decoded"):
        list(evaluation_batches(split.test, 8, 6))


def test_a_class_without_a_readable_image_is_named(make_card, folder):
    for number in range(3):
        (folder / "imagenet/train/ant" / f"{number}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="train/ant: none of 3 images can be decoded"):
        make(make_card, folder, corrupt="skip").train[0]


def test_another_value_is_refused(make_card, folder):
    with pytest.raises(DataError, match=r"unknown value of the option corrupt 'ignore'; valid: fatal, skip"):
        make(make_card, folder, corrupt="ignore")
