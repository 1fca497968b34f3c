"""The networks: shapes, what reaches which weight, positions, and what is refused."""

import pytest
import torch

from methods.umae.losses import uniformity_loss
from methods.umae.models import (
    MAE,
    SIZES,
    Classifier,
    ProbeHead,
    SimMIM,
    Size,
    resized_positions,
    sincos_positions,
)

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


def test_resizing_to_the_same_grid_changes_nothing() -> None:
    table = sincos_positions(16, 4)[None]
    assert torch.equal(resized_positions(table, 4), table)
    assert resized_positions(table, 6).shape == (1, 37, 16)


def test_a_masked_pass_has_the_papers_shapes() -> None:
    model = MAE(TINY, classes=5)
    out = model(images(), model.draw(4, torch.device("cpu")))
    assert out.z.shape == (4, 24)
    assert out.prediction.shape == (4, 16, 48)
    assert (out.hidden.sum(1) == 12).all()


def test_hidden_pixels_do_not_reach_the_encoder() -> None:
    model = MAE(TINY, classes=5).eval()
    x, noise = images(), model.draw(4, torch.device("cpu"))
    hidden = model(x, noise).hidden.bool()
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
    assert not out.hidden.any()
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


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 20, 20), (2, 3, 16, 12)])
@pytest.mark.parametrize("model", [MAE(TINY, 5), SimMIM(TINY, 5, square=8, probe_block=1), Classifier(TINY, 5)])
def test_images_of_another_size_are_refused(model: torch.nn.Module, shape: tuple) -> None:
    features = model.pooled if isinstance(model, Classifier) else model.features
    with pytest.raises(ValueError, match=r"takes images \(N, 3, 16, 16\), got"):
        features(torch.rand(shape))


def test_simmim_sees_the_mask_token_in_place_of_hidden_patches() -> None:
    model = SimMIM(TINY, 5, square=8, probe_block=1).eval()
    x, order = images(), model.draw(4, torch.device("cpu"))
    hidden = model(x, order).hidden.bool()
    assert (hidden.sum(1) == 12).all()  # three of four squares of four patches
    pixels = hidden.view(4, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(pixels, torch.randn_like(x), x)
    assert torch.equal(model.masked_feature(x, order), model.masked_feature(other, order))
    assert model(x, order).prediction.shape == (4, 16, 48)


def test_simmims_patch_features_come_from_an_inner_block() -> None:
    model, x = SimMIM(TINY, 5, square=8, probe_block=1, drop_path=0.0), images()
    before = model.features(x)
    with torch.no_grad():
        model.encoder.blocks[1].gamma_2.add_(1.0)
    after = model.features(x)
    assert torch.equal(before["mean_patch"], after["mean_patch"])
    assert not torch.equal(before["cls"], after["cls"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"square": 6}, "SimMIM hides squares of 6 pixels"),
        ({"square": 8, "probe_block": 3}, "probe_block is one of the blocks 1 to 2, got 3"),
        ({"square": 8, "mask_ratio": 1.0}, "from 0 to below 1"),
    ],
)
def test_simmim_refuses_squares_and_blocks_that_are_not_there(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimMIM(TINY, 5, **{"probe_block": 1} | options)


def test_fine_tuning_takes_over_the_encoder_and_starts_its_head_anew() -> None:
    model, classifier = MAE(TINY, 5), Classifier(TINY, 5)
    torch.nn.init.normal_(model.fc_norm.weight)
    fresh = {name: value.clone() for name, value in classifier.state_dict().items()}
    classifier.load_pretrained(model.state_dict())
    loaded = classifier.state_dict()
    for name in ("cls_token", "patch_embed.proj.weight", "blocks.1.mlp.fc2.weight", "pos_embed"):
        assert torch.equal(loaded[name], model.state_dict()[name])
    for name in ("fc_norm.weight", "head.weight"):
        assert torch.equal(loaded[name], fresh[name])
    assert classifier.pos_embed.requires_grad
    assert not model.pos_embed.requires_grad


def test_fine_tuning_at_another_size_resizes_positions() -> None:
    classifier = Classifier(TINY, 5, image=24)
    classifier.load_pretrained(MAE(TINY, 5).state_dict())
    assert classifier(images(side=24)).shape == (4, 5)


def test_weights_of_another_network_are_refused() -> None:
    state = {name: value for name, value in MAE(TINY, 5).state_dict().items() if not name.startswith("blocks.1")}
    with pytest.raises(ValueError, match=r"not those of an MAE of this size: blocks\.1"):
        Classifier(TINY, 5).load_pretrained(state)


def test_the_probes_head_standardises_its_features() -> None:
    head = ProbeHead(24, 5)
    x = torch.randn(50, 24) * 7 + 3
    torch.testing.assert_close(head(x), head(x * 2 - 1), rtol=1e-3, atol=1e-4)
