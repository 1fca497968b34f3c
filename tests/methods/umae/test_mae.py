"""MAE: sizes, shapes, what reaches which weight, and what is refused."""

import pytest
import torch

from methods.umae.losses import uniformity_loss
from methods.umae.mae import MAE
from methods.umae.vit import SIZES, Size

TINY = Size(16, 4, 24, 2, 3, 16, 1, 2, mlp_ratio=2.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(n: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randn(n, 3, side, side)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [
        ("vit-b-16", 85.6e6, 26.0e6),
        ("vit-l-16", 303.1e6, 26.1e6),
        ("vit-ti-2", 5.3e6, 1.8e6),
        ("vit-s-4", 21.3e6, 25.4e6),
    ],
)
def test_sizes_have_the_published_numbers_of_weights(name: str, encoder: float, decoder: float) -> None:
    with torch.device("meta"):
        model = MAE(SIZES[name], classes=10)
    trained = {key: weight.numel() for key, weight in model.named_parameters() if weight.requires_grad}
    own = sum(n for key, n in trained.items() if key.startswith(("decoder", "mask_token")))
    rest = sum(n for key, n in trained.items() if not key.startswith(("decoder", "mask_token", "fc")))
    assert rest == pytest.approx(encoder, rel=0.02)
    assert own == pytest.approx(decoder, rel=0.02)


def test_the_largest_size_is_defined() -> None:
    with torch.device("meta"):
        assert MAE(SIZES["vit-h-14"], classes=10).length == 256


def test_a_masked_pass_has_the_papers_shapes() -> None:
    model = MAE(TINY, classes=5)
    out = model(images(), model.draw(4, torch.device("cpu")))
    assert out.z.shape == (4, 24)
    assert out.prediction.shape == (4, 16, 48)
    assert (out.mask.sum(1) == 12).all()


def test_hidden_pixels_do_not_reach_the_encoder() -> None:
    model = MAE(TINY, classes=5).eval()
    x, noise = images(), model.draw(4, torch.device("cpu"))
    hidden = model(x, noise).mask.bool()
    pixels = hidden.view(4, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(pixels, torch.randn_like(x), x)
    assert torch.equal(model.masked_feature(x, noise), model.masked_feature(other, noise))
    assert torch.equal(model(x, noise).prediction, model(other, noise).prediction)


def test_losses_do_not_depend_on_the_order_of_the_batch() -> None:
    model = MAE(TINY, classes=5).double()
    x, noise = images(6).double(), model.draw(6, torch.device("cpu")).double()
    order = torch.randperm(6)
    one, other = model(x, noise), model(x[order], noise[order])
    torch.testing.assert_close(one.loss, other.loss)
    torch.testing.assert_close(uniformity_loss(one.z), uniformity_loss(other.z))


def test_the_training_feature_is_normed_twice_and_the_evaluation_once() -> None:
    model = MAE(TINY, classes=5, mask_ratio=0.0).double()
    torch.nn.init.normal_(model.norm.weight)
    x = images().double()
    # The order of tokens does not matter to attention, so without masking only the norms differ.
    z = model(x, model.draw(4, torch.device("cpu")).double()).z
    once = model.features(x)["cls"]
    torch.testing.assert_close(model.norm(once), z)
    assert not torch.allclose(once, z)


def test_without_masking_all_patches_are_reconstructed() -> None:
    model, x = MAE(TINY, classes=5, mask_ratio=0.0), images()
    out = model(x, model.draw(4, torch.device("cpu")))
    assert not out.mask.any()
    torch.testing.assert_close(out.loss, (out.prediction - model.target(x)).square().mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_ratio": 1.0}, "from 0 to below 1; got 1.0"),
        ({"mask_ratio": -0.5}, "from 0 to below 1; got -0.5"),
        ({"mask_ratio": 0.97}, "mask_ratio 0.97 leaves none of 16 patches visible; take a smaller one"),
        ({"image": 18}, "images of side 18 cannot be cut into patches of side 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MAE(TINY, classes=5, **options)
