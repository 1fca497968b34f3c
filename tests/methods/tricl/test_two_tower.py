import pytest
import torch

from methods.tricl import two_tower
from retable.cards import CardError


def test_towers_see_their_half_only(make) -> None:
    _, towers = two_tower.build(*make("two-tower", "tri-clip-learned"))
    towers.eval()
    x = torch.rand(4, 3, 16, 16)
    changed = x.clone()
    changed[..., 8:] = 0
    left, right = towers(x).chunk(2, dim=1)
    left_again, right_again = towers(changed).chunk(2, dim=1)
    torch.testing.assert_close(left, left_again)
    assert not torch.allclose(right, right_again)


def test_training_finds_the_other_half(make) -> None:
    trained = two_tower.run(*make("two-tower", "tri-clip-learned", epochs=20)).metrics
    untrained = two_tower.run(*make("two-tower", "untrained")).metrics
    assert trained["recall_all"] > 3 * untrained["recall_all"]
    assert trained["precision_all"] > untrained["precision_all"] + 20


def test_clip_has_no_importance(make) -> None:
    _, towers = two_tower.build(*make("two-tower", "clip"))
    assert towers.importance is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "siglip"}, "unknown loss 'siglip'"),
        ({"mode": "paper"}, "the loss 'tri-clip': unknown mode 'paper'"),
        ({"batch_size": 1001}, "batch_size 1001: the split has 1000 training images"),
    ],
)
def test_settings_that_mean_nothing_are_named(make, settings: dict, message: str) -> None:
    cell, context = make("two-tower", "tri-clip-learned", **settings)
    with pytest.raises(CardError, match=message):
        two_tower.run(cell, context)
