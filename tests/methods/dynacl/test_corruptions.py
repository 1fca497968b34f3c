import torch
import torch.nn.functional as F

from methods.dynacl.corruptions import KINDS, corrupted


def test_every_kind_changes_images_more_with_its_severity_and_stays_in_the_box():
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(20, 3, 8, 8), 32, mode="bilinear")
    distances = {name: [] for name in KINDS}
    for name, severity, images in corrupted(x):
        assert images.shape == x.shape
        assert images.min() >= 0
        assert images.max() <= 1
        distances[name].append(float((images - x).square().mean()))
        assert len(distances[name]) == severity
    assert all(0 < a < b < c for a, b, c in distances.values())


def test_the_same_images_are_corrupted_in_the_same_way_whatever_was_drawn_before():
    x = torch.rand(4, 3, 16, 16)
    first = [images for _, _, images in corrupted(x)]
    torch.rand(3)
    assert all(torch.equal(a, images) for a, (_, _, images) in zip(first, corrupted(x), strict=True))
