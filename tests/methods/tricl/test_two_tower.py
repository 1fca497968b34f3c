import pytest
import torch

from methods.tricl import two_tower
from methods.tricl.two_tower import tri_clip
from retable.cards import CardError


def test_clip_is_symmetric_and_its_penalty_can_vanish() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 12, 5, dtype=torch.float64, generator=generator)
    s = torch.linspace(0.4, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(tri_clip(image, text, s, 0.2).total, tri_clip(text, image, s, 0.2).total)
    corners = torch.cat([torch.eye(4), -torch.eye(4)])
    assert tri_clip(corners, corners, torch.ones(4), 0.2).decorrelation < 1e-12
    one = tri_clip(image, image, torch.ones(5, dtype=torch.float64), 0.01)
    assert one.contrast < 0.1  # each row finds itself


def test_towers_see_their_half_only(build) -> None:
    towers = build(two_tower, "two-tower", "tri-clip-learned").model.eval()
    x = torch.rand(4, 3, 16, 16)
    changed = x.clone()
    changed[..., 8:] = 0
    left, right = towers(x).chunk(2, dim=1)
    left_again, right_again = towers(changed).chunk(2, dim=1)
    torch.testing.assert_close(left, left_again)
    assert not torch.allclose(right, right_again)


def test_training_finds_the_other_half(make, run) -> None:
    trained = run(*make("two-tower", "tri-clip-learned", epochs=20)).metrics
    untrained = run(*make("two-tower", "untrained")).metrics
    assert trained["recall_all"] > 3 * untrained["recall_all"]
    assert trained["precision_all"] > untrained["precision_all"] + 20


def test_clip_has_no_importance(build) -> None:
    assert build(two_tower, "two-tower", "clip").model.importance is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "siglip"}, "setting 'loss' is 'siglip': Input should be 'clip' or 'tri-clip'"),
        ({"mode": "paper"}, "setting 'mode' is 'paper': Input should be 'none', 'frozen' or 'learned'"),
        ({"mode": "none"}, "the loss 'tri-clip': unknown mode 'none'"),
        ({"batch_size": 1001}, "a batch of 1001 cannot be taken from 1000 training images"),
    ],
)
def test_settings_that_mean_nothing_are_named(make, run, settings: dict, message: str) -> None:
    cell, context = make("two-tower", "tri-clip-learned", **settings)
    with pytest.raises(CardError, match=message):
        run(cell, context)
