"""Images become batches: parts that do not overlap, chance from named streams, one line for what does not fit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from methods.umae.task import accuracies, from_folder, in_memory
from retable.cards import CardError
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_batches import MemoryBatches
from retable.data.image_sets import ImageSet, ImageSplit

SETTINGS = {"statistics": "half", "flip": False, "workers": 0}
CPU = torch.device("cpu")


def settings(**change) -> Any:
    """The settings that these classes read."""
    return SimpleNamespace(**SETTINGS | change)


def image_set(side: int = 8, width: int | None = None) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, side, width or side), dtype=np.uint8)
    return ImageSet("noise", pixels, np.arange(40) % 4, ("a", "b", "c", "d"), {})


def split(val: int = 0) -> ImageSplit:
    return ImageSplit(np.arange(30), np.arange(30, 30 + val), np.arange(30 + val, 40))


def task_of(val: int = 0, **change) -> MemoryBatches:
    return in_memory(image_set(), split(val), settings(**change), CPU)


def test_without_validation_images_the_probe_chooses_on_every_tenth_training_image() -> None:
    task = task_of()
    fit, val = (set(task.parts[name].tolist()) for name in ("fit", "val"))
    assert val == {0, 10, 20}
    assert fit | val == set(task.parts["train"].tolist())
    assert not fit & val
    assert task_of(val=4).size("fit") == 30


def test_images_without_a_label_train_and_are_not_probed() -> None:
    images = image_set()
    images.labels[:12] = -1
    for val in (0, 4):
        task = in_memory(images, split(val), settings(), CPU)
        assert task.size("train") == 30
        assert task.size("fit") == (18 if val else 16)
        assert all((task.labels(part) >= 0).all() for part in ("fit", "val", "test"))


def test_an_epoch_takes_each_image_once_at_most_in_an_order_of_chance() -> None:
    task = task_of()
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        orders.append(torch.cat([images for images, _ in task.training(8, crop_low=1.0)]))
    assert len(orders[0]) == 24
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert len(orders[0].flatten(1).unique(dim=0)) == 24


def test_whole_images_are_normalised_pixels() -> None:
    task = task_of()
    images, labels = next(task.part("test"))
    expected = (image_set().images[30:] / 255 - 0.5) / 0.5
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)
    assert labels.tolist() == (np.arange(30, 40) % 4).tolist()


def test_crops_and_flips_keep_the_size() -> None:
    images, _ = next(task_of(flip=True).training(8, crop_low=0.2))
    assert images.shape == (8, 3, 8, 8)


COUNTS = ("largest_class_share", "test_items")


def test_features_that_are_the_label_are_classified_perfectly() -> None:
    task = task_of(val=4)
    labels = torch.cat([labels for part in ("fit", "val", "test") for _, labels in task.part(part)])
    found, test = accuracies(task, torch.nn.functional.one_hot(labels, 4).float())
    accuracies_of = {"probe_accuracy", "probe_val_accuracy", "knn20_accuracy", "knn10_accuracy"}
    counts = {f"{name}_{what}" for name in ("probe", "knn20", "knn10") for what in COUNTS}
    assert set(found) == accuracies_of | counts | {"probe_unconverged"}
    most = 100 * int(labels[-task.size("test") :].bincount().max()) / task.size("test")
    assert found["probe_largest_class_share"] == found["knn10_largest_class_share"] == pytest.approx(most)
    assert found["probe_test_items"] == task.size("test")
    assert found["probe_accuracy"] == found["knn20_accuracy"] == 100
    assert len(test) == task.size("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: in_memory(image_set(8, 12), split(), settings(), CPU), "images are 8 x 12; U-MAE needs square"),
        (lambda: task_of().steps(31), "a batch of 31 cannot be taken from 30 training images; set 1 to 30"),
        (lambda: task_of().steps(0), "a batch of 0 cannot be taken"),
    ],
)
def test_what_does_not_fit_is_named(change, message: str) -> None:
    with pytest.raises(CardError, match=message):
        change()


def test_folders_come_as_batches_whose_crops_torchs_generator_decides(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                pixels = random.integers(0, 256, (240, 260, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    folders = FolderSplit(*(FolderImages(tmp_path / part, ("a", "b")) for part in ("train", "val")))
    task = from_folder(FolderSet("mine", ("a", "b"), {}), folders, settings(), CPU)
    assert (task.size("train"), task.steps(2), task.classes) == (4, 2, 2)
    epochs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        epochs.append(torch.cat([images for images, _ in task.training(2, crop_low=0.2)]))
    first, again, other = epochs
    assert first.shape == (4, 3, 224, 224)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    images, labels = next(task.part("test"))
    assert images.shape == (4, 3, 224, 224)
    assert labels.tolist() == [0, 0, 1, 1]
