"""Positions of patches, and what images are refused."""

import pytest
import torch

from methods.umae.classifiers import Classifier
from methods.umae.mae import MAE
from methods.umae.simmim import SimMIM
from methods.umae.vit import Size, sincos_positions

TINY = Size(16, 4, 24, 2, 3, 16, 1, 2, mlp_ratio=2.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_positions_encode_the_column_first() -> None:
    table = sincos_positions(16, 3)
    assert table.shape == (10, 16)
    assert not table[0].any()
    # Patches 0 and 3 lie in one column, 0 and 1 in one row.
    assert torch.equal(table[1, :8], table[4, :8])
    assert torch.equal(table[1, 8:], table[2, 8:])


def test_positions_need_a_width_of_quarters() -> None:
    with pytest.raises(ValueError, match="a width that 4 divides, got 18"):
        sincos_positions(18, 3)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 20, 20), (2, 3, 16, 12)])
@pytest.mark.parametrize("model", [MAE(TINY, 5), SimMIM(TINY, 5, square=8, probe_block=1), Classifier(TINY, 5)])
def test_images_of_another_size_are_refused(model: torch.nn.Module, shape: tuple) -> None:
    features = model.pooled if isinstance(model, Classifier) else model.features
    with pytest.raises(ValueError, match=r"takes images \(N, 3, 16, 16\), got"):
        features(torch.rand(shape))
