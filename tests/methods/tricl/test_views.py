import pytest
import torch

from methods.tricl.views import VIEWS


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_views_are_random_from_the_global_stream_and_leave_the_image_alone(name: str) -> None:
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    kept, (_, view) = x.clone(), VIEWS[name]
    torch.manual_seed(1)
    first, second = view(x), view(x)
    torch.manual_seed(1)
    assert torch.equal(view(x), first)
    assert torch.equal(x, kept)
    assert first.shape == x.shape
    assert not torch.allclose(first, second)


def test_digits_stay_grey() -> None:
    x = torch.rand(6, 1, 16, 16).expand(6, 3, 16, 16)
    view = VIEWS["digit"][1](x)
    torch.testing.assert_close(view[:, 0], view[:, 2])
