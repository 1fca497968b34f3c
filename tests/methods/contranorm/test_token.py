import pytest
import torch
from torch import Tensor

from methods.contranorm.norm import ContraNorm, weighted_mean
from methods.contranorm.token import TokenContraNorm, row_mean
from retable.nn.rows import normalize_rows


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def layer(**options) -> TokenContraNorm:
    return TokenContraNorm(5, dtype=torch.float64, **options)


@pytest.mark.parametrize("temp", [1.0, 0.3, 0.02])
def test_the_fused_row_form_equals_the_softmax_of_the_gram_matrix(x, temp):
    values, gradients = [], []
    for form in (row_mean, weighted_mean):
        leaf = x.clone().requires_grad_()
        values.append(form(leaf, temp))
        gradients += torch.autograd.grad(values[-1].square().sum(), leaf)
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


def test_the_row_form_keeps_no_array_of_pairs():
    n = 600
    tokens = torch.randn(2, n, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        row_mean(tokens).sum()
    assert max(kept) < n * n


def test_gradients_of_every_form(x):
    for options in ({}, {"dual": True}, {"identity": True}, {"pre_norm": True}, {"learnable": "exp"}):
        module = layer(scale=0.4, temp=0.5, **options)
        assert torch.autograd.gradcheck(module.update, x[:1, :4].clone().requires_grad_())


def test_scale_zero_is_layer_norm(x):
    module = layer(learnable="linear")
    torch.testing.assert_close(module(x), torch.nn.functional.layer_norm(x, (5,), eps=1e-6), rtol=0, atol=0)
    assert [name for name, _ in module.named_parameters()] == ["layernorm.weight", "layernorm.bias"]


@pytest.mark.parametrize("options", [{}, {"dual": True}, {"identity": True}, {"identity": True, "dual": True}])
def test_it_is_the_graph_layer_without_a_mask(x, options):
    expected = ContraNorm(0.7, 0.6, **{"identity": False} | options)(x)
    torch.testing.assert_close(layer(scale=0.7, temp=0.6, **options).update(x), expected, rtol=1e-12, atol=1e-12)


def test_images_and_the_order_of_tokens_do_not_matter(x):
    module = layer(scale=0.7)
    order = torch.randperm(7)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])
    torch.testing.assert_close(module(x[1:2]), module(x)[1:2])


def test_equal_tokens_are_a_fixed_point_of_the_identity_form(x):
    same = x[:, :1].expand(-1, 7, -1)
    torch.testing.assert_close(layer(scale=0.7, identity=True).update(same), same)
    torch.testing.assert_close(layer(scale=0.7).update(same), 0.3 * same)


def test_plain_and_identity_form_agree_after_layer_norm(x):
    identity, plain = layer(scale=1.0, identity=True), layer(scale=0.5)
    torch.testing.assert_close(identity(x), plain(x), rtol=1e-4, atol=1e-5)


def test_a_learnable_scale_starts_at_the_fixed_one(x):
    for kind in ("linear", "exp"):
        learnt = layer(scale=0.7, learnable=kind)
        torch.testing.assert_close(learnt.update(x), layer(scale=0.7).update(x))
        both = layer(scale=0.7, learnable=kind, identity=True)
        torch.testing.assert_close(both.update(x), 0.7 * (x - row_mean(x)))


def test_half_precision_and_zero_tokens_give_numbers(x):
    tokens = x.to(torch.bfloat16)
    tokens[0, 0] = 0
    module = TokenContraNorm(5, scale=0.5)
    got = module(tokens.requires_grad_())
    got.sum().backward()
    assert got.isfinite().all()
    assert tokens.grad.isfinite().all()
    torch.testing.assert_close(got, module(tokens.detach().float()))
    assert (normalize_rows(tokens[0, 0].float()) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -0.1}, "needs scale >= 0 and temp > 0, got scale -0.1"),
        ({"scale": 0.1, "temp": 0.0}, "temp 0.0"),
        ({"learnable": "log"}, "unknown learnable scale 'log'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TokenContraNorm(5, **options)
