"""Pseudo-labels and the two stages on them; runs of DYNACL++ are in test_run.py."""

from types import SimpleNamespace

import pytest
import torch

from methods.dynacl import lp_aft
from methods.dynacl.data import Part
from methods.dynacl.lp_aft import assign_pseudo_labels, check_clusters
from methods.dynacl.models import make_encoder
from methods.dynacl.settings import PretrainSettings
from retable.cards import CardError

SETTINGS = PretrainSettings.model_construct(
    arch="tiny", clusters=3, lp_epochs=2, lp_lr=0.1, aft_epochs=5, aft_lr=0.2, tune_batch=8
)


def test_pseudo_labels_find_clusters_and_their_number_must_fit():
    torch.manual_seed(0)
    y = torch.arange(30) % 3
    features = 10 * torch.eye(3)[y] + torch.randn(30, 3) * 0.1
    found = assign_pseudo_labels(features, 3, seed=2**40)
    assert len({(a, b) for a, b in zip(y.tolist(), found.tolist(), strict=True)}) == 3
    assert torch.equal(found, assign_pseudo_labels(features, 3, seed=2**40))
    for clusters in (1, 11):
        with pytest.raises(CardError, match=f"clusters is {clusters}; expected 2 to the number of classes, 10"):
            check_clusters(clusters, 10)


def test_pseudo_labels_are_learned_from_a_linear_layer_of_zeros(monkeypatch):
    seen = []

    def train_linear(classifier, data, bn_branch, stage, s, context):
        assert not classifier.linear.weight.any()
        assert not classifier.linear.bias.any()
        assert torch.equal(classifier.encoder.stem.layer.weight, encoder.stem.layer.weight)
        assert torch.equal(classifier.state_dict()["pseudo_labels"], data.y)
        seen.append((stage, data, bn_branch))

    def finetune_trades(classifier, data, clean_branch, adv_branch, stage, s, context):
        seen.append((stage, data, clean_branch, adv_branch, classifier.encoder))

    monkeypatch.setattr(lp_aft, "train_linear", train_linear)
    monkeypatch.setattr(lp_aft, "finetune_trades", finetune_trades)
    torch.manual_seed(0)
    encoder = make_encoder("tiny")
    images = Part(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8), torch.full((40,), -1))
    tuned = lp_aft.lp_aft(encoder, SimpleNamespace(unlabelled=images), SETTINGS, SimpleNamespace(derive=lambda name: 3))
    (lp, data, branch), (aft, same, *branches, last) = seen
    assert (lp.name, lp.epochs, lp.lr, lp.lr_at(2), branch) == ("lp", 2, 0.1, 0.1, "adv")
    assert (aft.name, aft.epochs, aft.lr, branches) == ("aft", 5, 0.2, ["adv", "adv"])
    assert aft.lr_at(3) == pytest.approx(0.02)
    assert lp.weight_decay == aft.weight_decay == 1e-4
    assert lp.drop_last
    assert aft.drop_last
    assert not lp.nesterov
    assert not aft.nesterov
    assert data is same
    assert sorted(data.y.unique().tolist()) == [0, 1, 2]
    assert tuned is last
    assert tuned is not encoder
