"""Speed of batched augmentation against PIL in a torch DataLoader: README.md records the ratios.

Both make two views of 32 x 32 images as SimCLR does, into batches of 512. PIL gets two worker processes, ours one
thread; whole passes in turns (A B A B) in one process, and the median ratio of neighbours. On a busy machine the
processor seconds of all processes are the steadier figure, wall time the one that PIL's second core counts in.

    python benchmarks/augment.py         # 5 rounds; about a minute
    python benchmarks/augment.py single  # each operation alone, one thread, against torchvision's on tensors
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as V
from interleave import medians
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from retable.data import augment

IMAGES, SIDE, BATCH = 4096, 32, 512
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def bytes_of(n: int) -> Tensor:
    """Smooth random images, uint8 (n, 3, 32, 32)."""
    torch.manual_seed(0)
    coarse = torch.rand(n, 3, 8, 8)
    return (torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


# PIL ------------------------------------------------------------------------------------------------------------------


class Blur:
    """PIL's Gaussian blur with a random radius."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """A blurred copy."""
        return image.filter(ImageFilter.GaussianBlur(float(torch.empty(1).uniform_(0.1, 2.0))))


PIL = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIDE, scale=(0.08, 1.0), interpolation=InterpolationMode.BICUBIC),
        transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        transforms.RandomGrayscale(0.2),
        transforms.RandomApply([Blur()], p=0.5),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)


class Pairs(Dataset):
    """Two views of each image by PIL."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.permute(0, 2, 3, 1).numpy()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Two tensors (3, 32, 32)."""
        image = Image.fromarray(self.images[index])
        return PIL(image), PIL(image)


# Ours -----------------------------------------------------------------------------------------------------------------


def view(images: Tensor) -> Tensor:
    """What `PIL` does to one image, to a batch (N, 3, 32, 32) of bytes."""
    x = augment.random_resized_crop(augment.to_float(images), SIDE, (0.08, 1.0), interpolation="bicubic")
    x = augment.color_jitter(x, 0.8, 0.8, 0.8, 0.2, p=0.8)
    x = augment.gaussian_blur(augment.grayscale(x, 0.2), 0.5)
    return augment.normalise(augment.horizontal_flip(x), MEAN, STD)


def ours(images: Tensor) -> Tensor:
    """One pass; returns the per-channel sum, (3,), to compare what was made."""
    total = torch.zeros(3, dtype=torch.float64)
    for batch in images[torch.randperm(len(images))].split(BATCH):
        for made in (view(batch), view(batch)):
            total += made.double().mean((0, 2, 3)) * len(made)
    return total / (2 * len(images))


def workers(loader: DataLoader, count: int) -> Tensor:
    """The same through PIL and the loader's processes."""
    total = torch.zeros(3, dtype=torch.float64)
    for pair in loader:
        for made in pair:
            total += made.double().mean((0, 2, 3)) * len(made)
    return total / (2 * count)


# Measuring ------------------------------------------------------------------------------------------------------------


def timed(function: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """Wall seconds, processor seconds with child processes, and the result."""
    wall, before = time.perf_counter(), os.times()
    result = function()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4]), result


def compare(rounds: int = 5) -> None:
    """Print medians and ratios of whole passes."""
    torch.set_num_threads(1)
    images = bytes_of(IMAGES)
    # The workers' processor time is counted once they have ended, so they are started for each pass; a pass of no
    # images says how long that alone takes, and is taken off.
    seconds: dict[str, list[tuple[float, float]]] = {"pil": [], "ours": [], "start": []}
    means: dict[str, Tensor] = {}
    ours(images)
    for _ in range(rounds):
        for name, count in (("pil", IMAGES), ("start", 2), ("ours", IMAGES)):
            if name == "ours":
                wall, cpu, means[name] = timed(lambda: ours(images))
            else:
                loader = DataLoader(Pairs(images[:count]), BATCH, shuffle=True, num_workers=2)
                wall, cpu, made = timed(lambda loader=loader, count=count: workers(loader, count))
                means.setdefault(name, made)
            seconds[name].append((wall, cpu))
    wall, cpu = (
        [
            (pil[k] - start[k]) / our[k]
            for pil, start, our in zip(seconds["pil"], seconds["start"], seconds["ours"], strict=True)
        ]
        for k in (0, 1)
    )
    assert (means["pil"] - means["ours"]).abs().max() < 0.05, f"different views: {means}"
    print(f"| {IMAGES} images, two views | PIL, 2 workers | ours, 1 thread | PIL / ours |\n|---|---|---|---|")
    for k, (what, ratios) in enumerate((("wall", wall), ("processor", cpu))):
        pil, our = (statistics.median(s[k] for s in seconds[name]) for name in ("pil", "ours"))
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        print(f"| {what} time | {pil:.2f} s | {our:.3f} s | {statistics.median(ratios):.1f} ({spread}) |")


def single(rounds: int = 15) -> None:
    """Each operation on one batch against a loop of torchvision's, one thread, processor time."""
    torch.set_num_threads(1)
    x = augment.to_float(bytes_of(BATCH))
    boxes, jitter = augment.draw_boxes(BATCH, SIDE, SIDE), augment.draw_jitter(BATCH, 0.8, 0.8, 0.8, 0.2)
    adjust = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)

    def crops() -> Tensor:
        rows = zip(x, boxes.tolist(), strict=True)
        return torch.stack([V.resized_crop(image, *box, [SIDE, SIDE], antialias=True) for image, box in rows])

    def colours() -> Tensor:
        out = x.clone()
        for k in jitter.chosen.nonzero().squeeze(1).tolist():
            for operation in jitter.order[k].tolist():
                out[k] = adjust[operation](out[k], jitter.factors[k, operation].item())
        return out

    print("| operation, 512 images | one by one | ours | one by one / ours |\n|---|---|---|---|")
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "crop and resize": (crops, lambda: augment.resized_crop(x, boxes, SIDE)),
        "colour jitter": (colours, lambda: augment.jitter(x, jitter)),
    }
    for name, alternatives in pairs.items():
        results = [function() for function in alternatives]
        torch.testing.assert_close(*results, rtol=0, atol=1e-3)
        slow, fast = medians({"one by one": alternatives[0], "ours": alternatives[1]}, rounds).values()
        print(f"| {name} | {slow:.0f} ms | {fast:.1f} ms | {slow / fast:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["single"]):
        sys.exit("usage: python benchmarks/augment.py [single]")
    single() if sys.argv[1:] else compare()
