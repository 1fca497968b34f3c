import numpy as np
import pytest
import torch

from methods.tricl.task import MemoryTask, channel_statistics, linear_accuracy
from retable.cards import CardError
from retable.data.image_sets import ImageSet, ImageSplit


def images(number: int = 40) -> ImageSet:
    generator = np.random.default_rng(0)
    pixels = generator.integers(256, size=(number, 3, 4, 4), dtype=np.uint8)
    labels = np.arange(number, dtype=np.int64) % 2
    pixels[labels == 1, 0] //= 4
    return ImageSet("toy", pixels, labels, ("a", "b"), {})


def parts(*bounds: int) -> ImageSplit:
    return ImageSplit(*(np.arange(a, b) for a, b in zip((0, *bounds), bounds, strict=False)))


def test_statistics_are_numpys() -> None:
    pixels = images().images
    mean, std = channel_statistics(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 2, 3)), rtol=1e-12)


def test_training_images_choose_where_none_are_set_aside() -> None:
    split = ImageSplit(np.arange(30), np.arange(0), np.arange(30, 40))
    task = MemoryTask(images(), split, "digit", torch.device("cpu"))
    assert [len(labels) for labels in task.part_labels] == [27, 3, 10]
    assert task.size("train") == 30


def test_images_without_a_label_train_and_evaluate_nothing() -> None:
    whole = images()
    whole.labels[:5] = -1
    task = MemoryTask(whole, parts(20, 30, 40), "digit", torch.device("cpu"))
    assert task.size("train") == 20
    assert [len(labels) for labels in task.part_labels] == [15, 10, 10]


def test_probe_finds_what_one_channel_says() -> None:
    task = MemoryTask(images(400), parts(200, 300, 400), "digit", torch.device("cpu"))
    rows = task.features(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    found = linear_accuracy("probe_all", task.part_labels, rows)
    assert found["probe_all"] > 95
    assert 10 <= found["probe_all_largest_class_share"] < 100
    assert (found["probe_all_test_items"], found["probe_all_unconverged"]) == (100, 0)
    assert linear_accuracy("probe", task.part_labels, [row[:, 1:] for row in rows])["probe"] < 70


def test_a_split_without_labels_is_named() -> None:
    whole = images()
    whole.labels[:] = -1
    with pytest.raises(CardError, match="toy: no labelled images"):
        MemoryTask(whole, parts(20, 30, 40), "digit", torch.device("cpu"))


def test_batches_are_full_and_each_image_comes_at_most_once() -> None:
    task = MemoryTask(images(), parts(20, 30, 40), "digit", torch.device("cpu"))
    task.augment = None
    assert task.steps(8) == 2
    batches = list(task.batches(8, 1))
    assert [first.shape for first, _, _ in batches] == [(8, 3, 4, 4), (8, 3, 4, 4)]
    assert len(torch.cat([first for first, _, _ in batches]).unique(dim=0)) == 16
    assert [len(views) for views in task.batches(8, 1, views=1)] == [2, 2]
    with pytest.raises(CardError, match="a batch of 21 cannot be taken from 20 training images"):
        task.steps(21)
