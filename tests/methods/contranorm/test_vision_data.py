import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from methods.contranorm.settings import VisionSettings
from methods.contranorm.vision import Vision
from methods.contranorm.vision_data import in_folder, in_memory
from retable.cards import CardError
from retable.config import Config, Workspace
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_sets import ImageSet, ImageSplit
from retable.plan import recipe_cells
from retable.run import make_context

CPU = torch.device("cpu")
SMALL = {"batch": 4, "augment": "crop-flip"}
DEIT = {
    "batch": 4, "augment": "deit", "workers": 0, "image_size": 32, "color_jitter": 0.3,
    "auto_augment": "rand-m9-mstd0.5-inc1", "erasing": 0.25, "repeats": 3, "mixup": 0.8, "cutmix": 1.0,
    "mix_switch": 0.5, "label_smoothing": 0.1,
}  # fmt: skip


def settings_of(values: dict, **changes) -> VisionSettings:
    """Those that batches read; a model's are left out."""
    return VisionSettings.model_construct(**values | changes)


@pytest.fixture
def images() -> tuple[ImageSet, ImageSplit]:
    pixels = np.random.default_rng(0).integers(0, 256, (14, 3, 8, 8), dtype=np.uint8)
    split = ImageSplit(np.arange(10), np.arange(0), np.arange(10, 14))
    return ImageSet("made-up", pixels, np.arange(14) % 3, ("a", "b", "c"), {"official": split}), split


def write_folder(folder, side: int, each: int, classes: tuple[str, ...] = ("n0", "n1")) -> None:
    """A folder for each class in train/ and val/ with images of noise."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 256, (side, side + number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.JPEG")


@pytest.fixture
def folder(tmp_path) -> tuple[FolderSet, FolderSplit]:
    write_folder(tmp_path / "imagenet", 40, 5)
    parts = (FolderImages(tmp_path / "imagenet" / part, ("n0", "n1")) for part in ("train", "val"))
    split = FolderSplit(*parts)
    return FolderSet("made-up", ("n0", "n1"), {"official": split}), split


def test_an_epoch_shows_every_training_image_once(images):
    task = in_memory(*images, settings_of(SMALL, augment="none"), CPU)
    assert set(task.parts) == {"train", "test"}
    torch.manual_seed(0)
    x, y = (torch.cat(parts) for parts in zip(*task.training(4), strict=True))
    still = next(task.part("train"))
    order = [int((still[0] == image).flatten(1).all(1).nonzero()) for image in x]
    assert sorted(order) == list(range(10))
    assert order != sorted(order)
    assert torch.equal(y, still[1][order])


def test_training_pixels_are_normalised_by_channel(images):
    task = in_memory(*images, settings_of(SMALL), CPU)
    x, _ = next(task.part("train"))
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    test, _ = next(task.part("test"))
    assert test.mean((0, 2, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("make", ["memory", "folder"])
def test_augmentation_follows_torchs_stream(make, images, folder):
    def epoch(seed: int) -> list[torch.Tensor]:
        task = (
            in_memory(*images, settings_of(SMALL), CPU)
            if make == "memory"
            else in_folder(*folder, settings_of(DEIT), CPU)
        )
        torch.manual_seed(seed)
        return [tensor for batch in task.training(4) for tensor in batch]

    first, again, other = epoch(0), epoch(0), epoch(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_deits_batches_are_mixed_targets_of_repeated_images(folder):
    task = in_folder(*folder, settings_of(DEIT), CPU)
    torch.manual_seed(0)
    batches = list(task.training(4))
    assert [tuple(x.shape) for x, _ in batches] == [(4, 3, 32, 32)] * 2  # 10 images, the last two left out
    for _, target in batches:
        torch.testing.assert_close(target.sum(1), torch.ones(4))
        assert target.min() >= 0.05 - 1e-6
    shown = list(task.sampler)
    assert len(shown) == 10
    assert np.bincount(shown).max() == 3


def test_folder_evaluation_is_still_and_in_order(folder):
    task = in_folder(*folder, settings_of(DEIT), CPU)
    runs = [[tensor for batch in task.part("test") for tensor in batch] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert torch.cat(runs[0][1::2]).tolist() == [0] * 5 + [1] * 5


def test_an_augmentation_that_does_not_go_with_the_data_is_named(images, folder):
    with pytest.raises(CardError, match=r"unknown augment \(of images in memory\) 'deit'"):
        in_memory(*images, settings_of(SMALL, augment="deit"), CPU)
    with pytest.raises(CardError, match=r"unknown augment \(of images in folders\) 'none'"):
        in_folder(*folder, settings_of(DEIT, augment="none"), CPU)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["layernorm", "contranorm"])
def test_the_full_recipe_takes_two_steps_at_24_layers_and_224_pixels(root, tmp_path, monkeypatch, variant):
    for name in ("methods", "retable"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "datasets").mkdir()
    for path in (root / "datasets").glob("*.yaml"):
        (tmp_path / "datasets" / path.name).symlink_to(path)
    workspace = Workspace(tmp_path, Config(device="cpu"))
    classes = tuple(str(workspace.datasets["imagenet-100"].options["classes"]).split())
    write_folder(workspace.raw / "imagenet", 260, 1, classes)
    recipe = workspace.papers["contranorm"].recipe("vision")
    cells = recipe_cells("contranorm", recipe, workspace.datasets, "full")
    point = ("imagenet-100", variant, 24)
    cell = next(cell for cell in cells if (cell.dataset, cell.variant, cell.axes["depth"]) == point)
    changes = {"batch": 4, "workers": 0, "epochs": 1, "start_lr": cell.settings["lr"]}
    cell = dataclasses.replace(cell, settings=cell.settings | changes)

    context = make_context(workspace, cell, 0, CPU)
    experiment = Vision(VisionSettings.parse(cell.settings, "vision"), context)
    assert len(experiment.model.blocks) == 24
    before = [p.detach().clone() for p in experiment.model.parameters()]
    two_batches = itertools.islice(experiment.images.training(4), 2)
    monkeypatch.setattr(experiment.images, "training", lambda batch_size: two_batches)
    experiment.train()
    assert 4 < json.loads(context.curve.read_text())["loss"] < 6  # chance: log(100)
    moved = [not torch.equal(a, b) for a, b in zip(before, experiment.model.parameters(), strict=True)]
    assert all(moved)
