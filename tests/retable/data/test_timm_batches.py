import numpy as np
import pytest
import torch
from PIL import Image

from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.timm_batches import TimmBatches


@pytest.fixture
def batches(tmp_path) -> TimmBatches:
    """Ten grey images of two classes, each of its own brightness."""
    for part in ("train", "val"):
        for number in range(10):
            folder = tmp_path / part / f"n{number // 5}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    split = FolderSplit(*(FolderImages(tmp_path / part, ("n0", "n1")) for part in ("train", "val")))

    def still(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image)).float().permute(2, 0, 1)

    def moved(image: Image.Image) -> torch.Tensor:
        return still(image) + 100

    def mix(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.eye(2)[y]

    data = FolderSet("made-up", ("n0", "n1"), {"official": split})
    return TimmBatches(data, split, (moved, still), mix, torch.device("cpu"), batch=4, repeats=3, workers=0)


def test_an_epoch_is_of_repeated_images_moved_and_mixed_in_full_batches(batches):
    torch.manual_seed(0)
    x, y = zip(*batches.training(4), strict=True)
    assert [len(part) for part in x] == [4, 4]  # 10 images, the last two left out
    numbers = (torch.cat(x)[:, 0, 0, 0] - 100).long()
    assert 1 < numbers.bincount().max() <= 3
    assert torch.equal(torch.cat(y), torch.eye(2)[numbers // 5])


def test_the_order_follows_torchs_stream(batches):
    def epoch(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([x for x, _ in batches.training(2)])

    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))


def test_evaluation_is_still_and_in_order(batches):
    x, y = (torch.cat(part) for part in zip(*batches.part("test"), strict=True))
    assert x[:, 0, 0, 0].tolist() == list(range(10))
    assert y.tolist() == [0] * 5 + [1] * 5
