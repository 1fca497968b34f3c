"""One pipeline for images in memory and in folders: what a batch holds, who decides its order, and parts in order."""

import numpy as np
import pytest
import torch
from PIL import Image

from retable.cards import CardError
from retable.data.augment import random_resized_crop
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_batches import FolderBatches, MemoryBatches, held_out, shuffled_batches
from retable.data.image_sets import ImageSet

CPU = torch.device("cpu")
STATISTICS = ((0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(20) % 3


def memory(augment=None, **options) -> MemoryBatches:
    images = ImageSet("noise", PIXELS, LABELS, ("a", "b", "c"), {})
    parts = {"train": np.arange(1, 12), "test": np.arange(12, 20)}
    return MemoryBatches(images, parts, STATISTICS, augment, CPU, **options)


@pytest.fixture
def folder(tmp_path) -> FolderBatches:
    for part in ("train", "val"):
        for label, name in enumerate(("a", "b")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = PIXELS[label * 3 + number].transpose(1, 2, 0).repeat(3, axis=0).repeat(3, axis=1)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    split = FolderSplit(*(FolderImages(tmp_path / part, ("a", "b")) for part in ("train", "val")))
    return FolderBatches(FolderSet("noise", ("a", "b"), {}), split, STATISTICS, None, CPU, workers=0, side=16)


def normalised(rows: np.ndarray) -> np.ndarray:
    mean, std = (np.array(values)[:, None, None] for values in STATISTICS)
    return (PIXELS[rows] / 255 - mean) / std


def test_a_part_comes_in_order_normalised_by_channel() -> None:
    batches = list(memory().part("test", batch_size=5))
    assert [len(y) for _, y in batches] == [5, 3]
    np.testing.assert_allclose(torch.cat([x for x, _ in batches]), normalised(np.arange(12, 20)), atol=1e-6)
    assert torch.cat([y for _, y in batches]).tolist() == LABELS[12:].tolist() == memory().labels("test").tolist()


def test_normalised_images_give_their_pixels_back() -> None:
    batches = memory()
    x, _ = next(batches.part("test"))
    assert np.array_equal(batches.pixels(x), PIXELS[12:])
    assert int(batches.pixels(x + 9).min()) == 255


def test_an_epoch_takes_training_images_with_their_labels_in_the_order_of_torchs_stream() -> None:
    torch.manual_seed(3)
    batches = list(memory().training(4))
    torch.manual_seed(3)
    order = 1 + torch.randperm(11).numpy()
    assert [len(y) for _, y in batches] == [4, 4]
    np.testing.assert_allclose(torch.cat([x for x, _ in batches]), normalised(order[:8]), atol=1e-6)
    assert torch.cat([y for _, y in batches]).tolist() == LABELS[order[:8]].tolist()
    assert [len(y) for _, y in memory(drop_last=False).training(4)] == [4, 4, 3]


def test_views_are_cropped_then_augmented_then_normalised_one_after_the_other() -> None:
    task = memory(lambda x: x + torch.rand(len(x), 1, 1, 1))
    torch.manual_seed(0)
    first, second, y = next(task.training(4, crop_low=0.3, views=2))
    torch.manual_seed(0)
    rows = 1 + torch.randperm(11)[:4]
    pixels = torch.from_numpy(PIXELS)[rows] / 255
    for view in (first, second):
        cropped = random_resized_crop(pixels, 8, (0.3, 1.0), interpolation="bicubic")
        assert torch.equal(view, task.normalised(cropped + torch.rand(4, 1, 1, 1)))
    assert y.tolist() == LABELS[rows.numpy()].tolist()


def test_steps_leave_out_a_short_batch_and_a_batch_that_does_not_fit_is_named() -> None:
    assert memory().steps(4) == len(list(memory().training(4))) == 2
    assert memory().steps(11) == 1
    for batch in (0, 12):
        with pytest.raises(CardError, match=f"a batch of {batch} cannot be taken from 11 training images; set 1 to 11"):
            memory().steps(batch)


def test_folders_have_the_same_methods(folder) -> None:
    assert (folder.classes, folder.channels, folder.side, folder.steps(4)) == (2, 3, 16, 1)
    x, y = next(folder.part("test"))
    assert x.shape == (6, 3, 16, 16)
    assert y.tolist() == folder.labels("test").tolist() == [0, 0, 0, 1, 1, 1]
    red = x[:, 0] * 0.5 + 0.5
    assert red.min() >= 0
    assert red.max() <= 1
    batches = list(folder.training(4, crop_low=0.2, views=2))
    assert [[part.shape for part in batch] for batch in batches] == [[(4, 3, 16, 16), (4, 3, 16, 16), (4,)]]
    assert not torch.equal(batches[0][0], batches[0][1])


def test_a_folders_crops_come_from_torchs_stream_or_from_a_seed_alone(folder) -> None:
    def epoch(stream: int, seed: int | None) -> torch.Tensor:
        torch.manual_seed(stream)
        return next(folder.training(4, crop_low=0.2, seed=seed))[0]

    assert torch.equal(epoch(0, None), epoch(0, None))
    assert not torch.equal(epoch(0, None), epoch(1, None))
    assert torch.equal(epoch(0, 7), epoch(1, 7))
    assert not torch.equal(epoch(0, 7), epoch(0, 8))


@pytest.mark.parametrize(("number", "size", "sizes"), [(10, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3])])
def test_a_short_last_batch_is_dropped_unless_it_is_all(number, size, sizes) -> None:
    drawn = shuffled_batches(number, size, CPU, drop_last=True)
    assert [len(part) for part in drawn] == sizes
    assert len(set(torch.cat(drawn).tolist())) == sum(sizes)
    assert sorted(torch.cat(shuffled_batches(number, size, CPU, drop_last=False)).tolist()) == list(range(number))


def test_every_tenth_training_image_is_held_out_where_no_others_are() -> None:
    train = np.arange(100, 125)
    fit, chosen = held_out(train, train[:0])
    assert chosen.tolist() == [100, 110, 120]
    assert sorted([*fit, *chosen]) == train.tolist()
    fit, chosen = held_out(train, np.array([3, 4]))
    assert fit.tolist() == train.tolist()
    assert chosen.tolist() == [3, 4]
