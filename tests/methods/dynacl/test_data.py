import numpy as np
import pytest
import torch

from methods.dynacl.data import Task, training_images, views
from methods.dynacl.schedules import Augmentation
from retable.data.containers import DataError
from retable.data.image_sets import ImageSet, ImageSplit


def image_set(labels, shape=(3, 16, 16)):
    labels = np.array(labels)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    return ImageSet("toy", images, labels, ("a", "b", "c"), {})


def split(train, test):
    return ImageSplit(np.array(train), np.array([], dtype=np.int64), np.array(test))


def test_parts_hold_the_splits_images():
    images = image_set([0, 1, 2, 0, 1])
    task = Task(images, split([0, 1, 2], [3, 4]), torch.device("cpu"))
    assert torch.equal(task.train.x, torch.from_numpy(images.images[:3]))
    assert sorted(task.test.y.tolist()) == [0, 1]
    assert len(task.val) == 0
    assert len(task.test.first(1)) == 1


def test_images_without_labels_are_what_is_learned_without_labels():
    images = image_set([0, 1, 2, -1, -1, 0])
    task = Task(images, split([0, 1, 2, 3, 4], [5]), torch.device("cpu"))
    assert torch.equal(task.unlabelled.x, torch.from_numpy(images.images[3:5]))
    assert task.train.y.tolist() == [0, 1, 2]
    every = Task(image_set([0, 1, 2, 0]), split([0, 1, 2], [3]), torch.device("cpu"))
    assert every.unlabelled is every.train


def test_an_empty_class_and_images_that_are_no_squares_are_named():
    with pytest.raises(DataError, match="toy: no training image of class b, c"):
        Task(image_set([0, 0, 1, 2]), split([0, 1], [2, 3]), torch.device("cpu"))
    with pytest.raises(DataError, match=r"images are \(16, 12\); expected squares"):
        Task(image_set([0, 1, 2], (3, 16, 12)), split([0, 1, 2], [0]), torch.device("cpu"))


def test_without_strength_both_views_are_the_image():
    x = torch.from_numpy(image_set([0, 1, 2]).images)
    drawn = views(x, Augmentation.of_strength(0.0), "bilinear", flip=False)
    torch.testing.assert_close(drawn, (x / 255).repeat_interleave(2, 0), atol=1e-5, rtol=0)


def test_views_of_an_image_lie_side_by_side_and_differ():
    torch.manual_seed(0)
    x = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    x[1] = torch.randint(100, 255, (3, 16, 16), dtype=torch.uint8)
    drawn = views(x, Augmentation.of_strength(1.0), "bilinear", flip=False)
    assert not drawn[:2].any()
    assert drawn[2:].any()
    assert not torch.equal(drawn[2], drawn[3])
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_training_images_are_shifted_by_no_more_than_the_padding():
    torch.manual_seed(0)
    x = torch.full((50, 3, 16, 16), 255, dtype=torch.uint8)
    rows = training_images(x, 2, flip=False)[:, 0].amax(2)
    assert set(rows.sum(1).tolist()) <= {14, 15, 16}
