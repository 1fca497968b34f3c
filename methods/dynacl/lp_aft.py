"""DYNACL++: linear probing, then adversarial full fine-tuning on pseudo-labels (LP-AFT), all without labels."""

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from retable.cards import CardError
from retable.train.context import Context

from .data import Part, Task
from .models import Classifier, Encoder, make_encoder
from .robustness import representations
from .settings import PretrainSettings
from .tuning import Stage, finetune_trades, train_linear


def lp_aft(encoder: Encoder, task: Task, s: PretrainSettings, context: Context) -> Encoder:
    """The encoder after LP and AFT on the unlabelled images; the classifier is discarded."""
    x = task.unlabelled.x
    pseudo_labels = assign_pseudo_labels(representations(encoder, x, "clean"), s.clusters, context.derive("clusters"))
    classifier = Classifier(make_encoder(s.arch), s.clusters).to(x.device)
    classifier.start_from(encoder)
    # Part of the saved state, so that a resumed run goes on with the same clusters.
    classifier.register_buffer("pseudo_labels", pseudo_labels)
    data = Part(x, pseudo_labels)
    lp = Stage("lp", s.lp_epochs, s.lp_lr, 1e-4, s.tune_batch, lr_drops=(), drop_last=True)
    train_linear(classifier, data, "adv", lp, s, context)
    aft = Stage("aft", s.aft_epochs, s.aft_lr, 1e-4, s.tune_batch, drop_last=True)
    finetune_trades(classifier, data, "adv", "adv", aft, s, context)
    return classifier.encoder


def assign_pseudo_labels(features: Tensor, clusters: int, seed: int) -> Tensor:
    """k-means clusters int64 (N,) of features (N, d): Lloyd from `clusters` random rows, one run."""
    means = KMeans(clusters, init="random", n_init=1, random_state=seed % 2**32)
    return torch.from_numpy(means.fit_predict(features.double().cpu().numpy())).long().to(features.device)


def check_clusters(clusters: int, classes: int) -> None:
    """Raises CardError for a number of pseudo-labels that is not 2 to the number of classes."""
    if not 2 <= clusters <= classes:
        raise CardError(f"clusters is {clusters}; expected 2 to the number of classes, {classes}")
