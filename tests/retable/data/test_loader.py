"""Batches from class folders: the same for any number of workers, PIL's pixels, and what happens to broken files."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as V
from PIL import Image
from torchvision.transforms import InterpolationMode

from retable.data import augment
from retable.data.containers import DataError
from retable.data.folder_images import FolderImages
from retable.data.loader import evaluation_batches, training_batches

CLASSES = ("ant", "bee")
SIZES = ((20, 31), (40, 17), (24, 24), (9, 12), (33, 32))


@pytest.fixture
def images(tmp_path) -> FolderImages:
    """Ten images of five sizes in two classes."""
    noise = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for k, (width, height) in enumerate(SIZES):
            coarse = Image.fromarray(noise.integers(256, size=(4, 4, 3), dtype=np.uint8))
            coarse.resize((width, height)).save(tmp_path / name / f"{k}.png")
    return FolderImages(tmp_path, CLASSES)


def epoch(images, seed=7, **options):
    return list(training_batches(images, 16, 4, seed, views=2, **options))


def same(a, b) -> bool:
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


def test_an_epoch_depends_on_its_seed_alone(images):
    first = epoch(images)
    assert [x.shape for x, _ in first] == [(4, 2, 3, 16, 16)] * 2
    assert first[0][0].dtype == torch.uint8
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert same(first, epoch(images))
    assert same(first, epoch(images, workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(first, epoch(images, seed=8))


def test_every_image_comes_at_most_once_in_an_order_that_the_seed_decides(images):
    labels = torch.cat([y for _, y in training_batches(images, 8, 1, seed=1)])
    assert sorted(labels.tolist()) == [0] * 5 + [1] * 5
    others = torch.cat([y for _, y in training_batches(images, 8, 1, seed=2)])
    assert not torch.equal(labels, others)


def test_shares_of_a_batch_are_the_batch(images):
    whole = list(training_batches(images, 4, 4, seed=3))
    shares = [list(training_batches(images, 4, 4, seed=3, share=(k, 2))) for k in range(2)]
    for number, (pixels, labels) in enumerate(whole):
        for k in range(2):
            assert torch.equal(shares[k][number][0], pixels[k::2])
            assert torch.equal(shares[k][number][1], labels[k::2])
    assert len(whole) == len(shares[0]) == len(shares[1]) > 0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_views_are_random_resized_crops(images, interpolation):
    # One image at a time in the order of the seed, so that each is known.
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3)).tolist()
    made = training_batches(images, 16, 1, seed=3, views=2, interpolation=interpolation)
    for index, (x, y) in zip(order, made, strict=True):
        image, label = images[index]
        assert y.tolist() == [label]
        torch.manual_seed(3 + index)
        boxes = augment.draw_boxes(2, image.height, image.width)
        for view, box in zip(x[0], boxes.tolist(), strict=True):
            exact = V.resized_crop(image, *box, [16, 16], interpolation=InterpolationMode(interpolation))
            assert torch.equal(view, V.pil_to_tensor(exact))
        pixels = V.pil_to_tensor(image).expand(2, -1, -1, -1)
        batched = augment.resized_crop(augment.to_float(pixels), boxes, 16, interpolation)
        assert (batched * 255 - x[0]).abs().max() < 2


def test_evaluation_takes_the_middle_of_all_images_in_order(images):
    batches = list(evaluation_batches(images, 14, 4))
    assert torch.cat([y for _, y in batches]).tolist() == images.labels.tolist()
    for x, index in zip(torch.cat([x for x, _ in batches]), range(10), strict=True):
        resized = V.resize(images[index][0], 16, interpolation=InterpolationMode.BILINEAR)
        assert torch.equal(x, V.pil_to_tensor(V.center_crop(resized, [14, 14])))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_stops_the_run_in_one_line_or_is_left_out(images, workers, capsys):
    broken = images.paths[3]
    with open(broken, "wb") as file:
        file.write(b"no image")
    with pytest.raises(DataError) as raised:
        epoch(images, workers=workers)
    assert broken in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    kept = list(training_batches(images, 16, 5, seed=7, workers=workers, unreadable="skip"))
    assert sorted(len(y) for _, y in kept) == [4, 5]
    assert f"left out: {broken}" in capsys.readouterr().err
    with pytest.raises(DataError):
        list(evaluation_batches(images, 14, 4, workers=workers))


def test_a_batch_without_a_readable_image_is_left_out(images):
    for path in images.paths[:5]:
        with open(path, "wb") as file:
            file.write(b"")
    kept = list(training_batches(images, 16, 1, seed=7, unreadable="skip"))
    assert [y.tolist() for _, y in kept] == [[1]] * 5


def test_unknown_names_are_refused(images):
    with pytest.raises(ValueError, match="choose from stop, skip"):
        epoch(images, unreadable="ignore")
    with pytest.raises(ValueError, match="'area': choose from bilinear, bicubic"):
        epoch(images, interpolation="area")
