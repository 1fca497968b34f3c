"""The probe's head, and the network that is fine-tuned: what it loads and what it refuses."""

import pytest
import torch

from methods.umae.classifiers import Classifier, ProbeHead, resized_positions
from methods.umae.mae import MAE
from methods.umae.vit import Size, sincos_positions

TINY = Size(16, 4, 24, 2, 3, 16, 1, 2, mlp_ratio=2.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(n: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randn(n, 3, side, side)


def test_resizing_to_the_same_grid_changes_nothing() -> None:
    table = sincos_positions(16, 4)[None]
    assert torch.equal(resized_positions(table, 4), table)
    assert resized_positions(table, 6).shape == (1, 37, 16)


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
