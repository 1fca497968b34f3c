from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from methods.tricl import imagenet, task
from methods.tricl.encoder import make_optimiser, train_epoch
from methods.tricl.settings import ImageNetSettings
from retable.cards import CardError
from retable.evaluate.probes import probe

# Of width 8, since oneDNN writes beyond its memory for a strided 1 x 1 convolution of 4 channels, channels last, on
# processors with AVX2 only.
SMALL = {"backbone": "small-resnet", "width": 8, "hidden": 8, "dim": 16, "top_dims": 4, "workers": 0,
         "precision": "float32", "batch_size": 100, "epochs": 2, "warmup_epochs": 1}  # fmt: skip


@pytest.fixture
def folder(make, tmp_path: Path) -> None:
    """Two training images and one validation image of noise for each of the 100 classes."""
    context = make("imagenet", "scl", scale="full")[1]
    rng = np.random.default_rng(0)
    for name in str(context._card.options["classes"]).split():
        for part, number in (("train", 2), ("val", 1)):
            place = context._raw / "imagenet" / part / name
            place.mkdir(parents=True)
            for index in range(number):
                Image.fromarray(rng.integers(0, 256, (40, 44, 3), dtype=np.uint8)).save(place / f"{index}.JPEG")


@pytest.fixture
def make(make, tmp_path: Path):
    """As the folder's `make`, over a `datasets` folder of its own, so that images can lie below it."""
    root = (tmp_path / "datasets").resolve()
    (tmp_path / "datasets").unlink()
    (tmp_path / "datasets").mkdir()
    for path in root.glob("*.yaml"):
        (tmp_path / "datasets" / path.name).symlink_to(path)
    return make


@pytest.fixture
def small(monkeypatch) -> None:
    """Crops of 32 pixels and a probe of one penalty, for speed."""
    monkeypatch.setattr(imagenet, "SIDE", 32)
    monkeypatch.setattr(task, "probe", lambda *rows: probe(*rows, penalties=(1e-1,)))


def test_folders_are_learned_from_and_come_back_from_kept_weights(make, run, evaluated, folder, small) -> None:
    cell, context = make("imagenet", "tri-scl-learned", scale="full", **SMALL)
    found = run(cell, context)
    assert {"probe_first", "probe_gap", "precision_all", "knn_accuracy"} <= set(found.metrics)
    assert len(found.series["retrieval_best_first"]) == 16
    assert evaluated(cell, context).metrics == found.metrics


def test_an_epochs_views_are_decided_by_its_number(build, folder, small) -> None:
    task = build(imagenet, "imagenet", "scl", scale="full", **SMALL).task
    assert [len(labels) for labels in task.part_labels] == [180, 20, 100]

    def views(epoch: int) -> torch.Tensor:
        torch.manual_seed(0)
        return torch.stack(next(task.batches(100, epoch))[:2])

    once = views(1)
    assert once.shape == (2, 100, 3, 32, 32)
    assert torch.equal(once, views(1))
    assert not torch.equal(once, views(2))
    assert not torch.equal(once[0], once[1])


def test_a_network_is_evaluated_in_order_and_in_its_mode(build, folder, small) -> None:
    task = build(imagenet, "imagenet", "scl", scale="full", **SMALL).task

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return x.mean((2, 3))

    mean = Mean()
    rows = task.features(mean)
    assert [part.shape for part in rows] == [(180, 3), (20, 3), (100, 3)]
    assert mean.training
    assert torch.equal(task.features(mean)[1], rows[1])


def test_images_in_memory_are_for_the_other_recipe(make) -> None:
    cell, _ = make("imagenet", "scl", scale="full", **SMALL)
    context = make("importance", "scl")[1]
    with pytest.raises(CardError, match="reads images from folders; use importance"):
        imagenet.ImageNet(ImageNetSettings.parse(cell.settings, "test"), context)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_steps_of_the_full_recipe(build, folder) -> None:
    """ResNet-18 at 224 pixels, the wide projector, LARS in its warm-up; 4 images instead of 128."""
    settings = {"workers": 0, "batch_size": 4, "precision": "float32"}
    experiment = build(imagenet, "imagenet", "tri-scl-learned", scale="full", **settings)
    task, model = experiment.task, experiment.model
    assert sum(p.numel() for p in model.backbone.parameters()) == 11_176_512
    assert sum(p.numel() for p in model.projector.parameters()) == 4_198_912
    before = [p.detach().clone() for p in model.parameters()]
    whole = task.batches
    task.steps = lambda batch: 2
    task.batches = lambda batch, epoch: (views for _, views in zip(range(2), whole(batch, epoch), strict=False))
    means = train_epoch(model, make_optimiser(model, experiment.settings), task, 1, experiment.settings)
    assert all(np.isfinite(value) for value in means.values())
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
