import pytest
import torch

from retable.nn.backbones import make_backbone


@pytest.mark.parametrize(("size", "parameters"), [(32, 11_168_832), (224, 11_176_512)])
def test_resnet18_has_the_size_of_torchvisions_without_its_head(size: int, parameters: int) -> None:
    assert sum(p.numel() for p in make_backbone("resnet18", 64, size)[0].parameters()) == parameters


def test_the_stem_for_small_images_widens_them() -> None:
    network, _ = make_backbone("resnet18", 64, 32)
    assert network.conv1(torch.rand(1, 3, 32, 32)).shape[2:] == (34, 34)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("small-resnet", 32), ("small-resnet", 16), ("mlp", 16)])
def test_features_have_the_number_said(name: str, size: int) -> None:
    network, features = make_backbone(name, 8, size)
    assert network.eval()(torch.rand(2, 3, size, size)).shape == (2, features)
