import pytest
import torch

from retable.nn.attention import CausalAttention, rotate


def test_rotation_depends_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    turned = rotate(q.expand(1, 9, 8)) @ rotate(k.expand(1, 9, 8)).transpose(1, 2)
    torch.testing.assert_close(turned[0, 5, 3], turned[0, 8, 6])
    assert not torch.isclose(turned[0, 5, 3], turned[0, 5, 2])


@pytest.mark.parametrize("rope", [False, True])
def test_a_token_sees_those_before_it_alone_and_padding_is_not_seen(rope: bool) -> None:
    torch.manual_seed(0)
    layer, x = CausalAttention(8, 2, rope), torch.randn(2, 6, 8)
    changed = torch.cat([x[:, :4], torch.randn(2, 2, 8)], dim=1)
    torch.testing.assert_close(layer(changed, None)[:, :4], layer(x, None)[:, :4])
    valid = torch.arange(6).expand(2, -1) < 5
    torch.testing.assert_close(layer(x, valid)[:, :5], layer(x, None)[:, :5])
    first = torch.arange(6).expand(2, -1) > 0
    other = torch.cat([torch.randn(2, 1, 8), x[:, 1:]], dim=1)
    torch.testing.assert_close(layer(x, first)[:, 1:], layer(other, first)[:, 1:])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 8 does not divide into 3 heads"):
        CausalAttention(8, 3, False)
    with pytest.raises(ValueError, match="of even width"):
        CausalAttention(6, 2, True)
