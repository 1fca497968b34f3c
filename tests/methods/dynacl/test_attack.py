import pytest
import torch

from methods.dynacl.attack import adversarial_views
from methods.dynacl.models import Pair, Projector, make_encoder
from retable.nn.nt_xent import nt_xent_interleaved

SETTINGS = {"eps": 0.03, "step": 0.01, "iterations": 3}


@pytest.fixture
def pair():
    torch.manual_seed(0)
    made = Pair(Projector(make_encoder("tiny")), 0.9)
    for bn_branch in ("clean", "adv"):
        made(torch.rand(32, 3, 16, 16), bn_branch)
    return made


@pytest.mark.parametrize("momentum", [True, False])
def test_raises_the_loss_within_its_bounds(pair, momentum):
    pair = pair if momentum else Pair(pair.q, None)
    x = torch.rand(20, 3, 16, 16)
    attacked = adversarial_views(pair, x, 0.5, **SETTINGS)
    assert (attacked - x).abs().max() <= SETTINGS["eps"] + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    pair.eval()
    noise = (x + torch.empty_like(x).uniform_(-SETTINGS["eps"], SETTINGS["eps"])).clamp(0, 1)
    clean, noisy, adversarial = (nt_xent_interleaved(pair(images, "adv"), 0.5) for images in (x, noise, attacked))
    assert adversarial > max(clean, noisy)


def test_attacks_the_views_of_both_networks(pair):
    x = torch.rand(8, 3, 16, 16)
    change = adversarial_views(pair, x, 0.5, start=torch.zeros_like(x), **SETTINGS) - x
    assert change[0::2].any()
    assert change[1::2].any()


def test_leaves_networks_and_gradients_alone(pair):
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    adversarial_views(pair, torch.rand(8, 3, 16, 16), 0.5, **SETTINGS)
    assert pair.training
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_eps_and_images_must_fit(pair):
    x = torch.rand(4, 3, 16, 16)
    with pytest.raises(ValueError, match="eps is 8"):
        adversarial_views(pair, x, 0.5, eps=8, step=2 / 255, iterations=1)
    with pytest.raises(ValueError, match=r"images lie in \[-2"):
        adversarial_views(pair, x - 2, 0.5, **SETTINGS)
