import copy

import pytest
import torch

from methods.dynacl.models import BN_BRANCHES, Classifier, NormedLayer, Pair, Projector, folded_batchnorm, make_encoder


@pytest.fixture
def network():
    """A small projector whose two branches have statistics and affine maps of their own."""
    torch.manual_seed(0)
    made = Projector(make_encoder("small"))
    for bn_branch in BN_BRANCHES:
        for _ in range(3):
            made(torch.rand(16, 3, 32, 32) * torch.rand(1), bn_branch)
    for name, parameter in made.named_parameters():
        if ".norms." in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return made


def buffers(network, bn_branch):
    return {name: value.clone() for name, value in network.named_buffers() if f".norms.{bn_branch}." in name}


@pytest.mark.parametrize("bn_branch", BN_BRANCHES)
def test_a_branch_leaves_the_others_statistics_alone(network, bn_branch):
    other = next(name for name in BN_BRANCHES if name != bn_branch)
    before, mine = buffers(network, other), buffers(network, bn_branch)
    network.train()(torch.rand(8, 3, 32, 32), bn_branch)
    assert all(torch.equal(value, before[name]) for name, value in buffers(network, other).items())
    assert any(not torch.equal(value, mine[name]) for name, value in buffers(network, bn_branch).items())


@pytest.mark.parametrize("bn_branch", BN_BRANCHES)
def test_a_folded_network_has_the_values_and_input_gradients_of_eval_mode(network, bn_branch):
    x = torch.rand(6, 3, 32, 32, requires_grad=True)
    expected = network.eval()(x, bn_branch)
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with folded_batchnorm(network, bn_branch):
        actual = network(x, bn_branch)
        (ours,) = torch.autograd.grad(actual.square().sum(), x)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours, gradient, rtol=1e-3, atol=1e-5)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module.folded for module in network.modules() if isinstance(module, NormedLayer))


def test_a_folded_network_has_no_gradients_of_weights(network):
    with folded_batchnorm(network, "adv"):
        assert not network(torch.rand(4, 3, 32, 32), "adv").requires_grad


def test_a_network_is_as_before_when_the_block_fails(network):
    with pytest.raises(KeyError), folded_batchnorm(network, "adv"):
        raise KeyError
    assert network.training
    assert network(torch.rand(4, 3, 32, 32), "adv").requires_grad


@pytest.mark.parametrize("bn_branch", BN_BRANCHES)
def test_a_single_branch_gives_what_both_give(network, bn_branch):
    encoder, x = network.encoder.eval(), torch.rand(4, 3, 32, 32)
    classifier = Classifier(make_encoder("small", bn_branch), 5)
    classifier.start_from(encoder)
    single = classifier.encoder.eval()
    assert torch.equal(single(x, bn_branch), encoder(x, bn_branch))
    assert sum(p.numel() for p in single.parameters()) < sum(p.numel() for p in encoder.parameters())
    other = next(name for name in BN_BRANCHES if name != bn_branch)
    with pytest.raises(ValueError, match=f"no batch norm for the branch '{other}'; this network has {bn_branch}"):
        single(x, other)


def test_rows_alternate_between_the_networks_of_a_pair(network):
    pair = Pair(network, 0.9).eval()
    torch.nn.init.normal_(pair.k.head.layers[0].layer.weight)
    x = torch.rand(6, 3, 32, 32)
    z = pair(x, "clean")
    torch.testing.assert_close(z[0::2], pair.q(x[0::2], "clean"))
    torch.testing.assert_close(z[1::2], pair.k(x[1::2], "clean"))


def test_the_moving_average_follows_parameters_but_not_statistics(network):
    pair = Pair(network, 0.75)
    with torch.no_grad():
        for parameter in pair.q.parameters():
            parameter += 1
    old = copy.deepcopy(pair.k)
    pair.q(torch.rand(8, 3, 32, 32), "adv")
    pair.update()
    for new, before in zip(pair.k.parameters(), old.parameters(), strict=True):
        torch.testing.assert_close(new, before + 0.25)
    assert all(torch.equal(a, b) for a, b in zip(pair.k.buffers(), old.buffers(), strict=True))
    assert pair.encoder is pair.k.encoder


def test_without_a_momentum_one_network_sees_all_rows(network):
    pair = Pair(network, None).eval()
    x = torch.rand(4, 3, 32, 32)
    assert torch.equal(pair(x, "clean"), network(x, "clean"))
    pair.update()
    assert pair.encoder is network.encoder


def test_sizes_of_the_papers_network():
    encoder = make_encoder("resnet18")
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(11.18e6, rel=1e-3)
    assert sum(p.numel() for p in Projector(encoder).parameters()) == pytest.approx(11.97e6, rel=1e-3)
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 32, 32), "adv").shape == (1, 512)
        assert make_encoder("resnet18-stl")(torch.rand(1, 3, 96, 96), "adv").shape == (1, 512)


def test_a_classifier_starts_from_a_linear_layer_of_zeros():
    classifier = Classifier(make_encoder("tiny"), 5)
    classifier.start_from(make_encoder("tiny"))
    assert not classifier(torch.rand(2, 3, 16, 16), "adv").any()


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(2, 1, 16, 16\); expected \(B, 3, H, W\)"):
        make_encoder("tiny")(torch.rand(2, 1, 16, 16), "adv")
    with pytest.raises(ValueError, match=r"momentum of the moving average is 1\.5"):
        Pair(Projector(make_encoder("tiny")), 1.5)
