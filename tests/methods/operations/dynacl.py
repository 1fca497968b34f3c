"""How much there is to compute in one seed of a recipe at full scale; the card keeps the numbers."""

import torch
from torch import Tensor, nn

from methods.dynacl.few_labels import share_of_labels
from methods.dynacl.models import Classifier, folded_batchnorm, make_encoder
from methods.dynacl.pretrain import contrastive_loss, make_pair
from methods.dynacl.settings import FewLabelsSettings, PretrainSettings
from methods.dynacl.trades import trades_loss
from methods.dynacl.tuning import alf_iterations
from retable.operations import counted
from retable.plan import Cell

# Training images of CIFAR-10.
IMAGES, SIDE, CLASSES = 50_000, 32, 10


def of_seed(cell: Cell) -> float:
    """Floating-point operations of all training steps; attacks on test images come on top and are left out."""
    few_labels = FewLabelsSettings.parse(cell.settings, cell.slug) if cell.recipe == "few-labels" else None
    s = few_labels or PretrainSettings.parse(cell.settings, cell.slug)
    if s.method == "majority":
        return 0.0
    # All operations below are those of two images.
    x, y = torch.rand(2, 3, SIDE, SIDE), torch.zeros(2, dtype=torch.long)
    classifier = Classifier(make_encoder(s.arch), CLASSES)
    with torch.no_grad():
        forward = counted(lambda: classifier.encoder(x, "adv"))
    attack = _attack_step(classifier, x)
    trades = counted(lambda: trades_loss(classifier(x, "clean"), classifier(x, "adv"), y, s.beta))
    total = 0.0
    if s.method == "contrastive":
        total += s.epochs * _pretraining(s)
        if s.lp_aft:
            total += min(s.lp_epochs, s.probe_views) * forward
            # TRADES' attack needs the clean predictions once.
            total += s.aft_epochs * (s.trades_iters * attack + forward + trades)
    if few_labels:
        teacher = counted(lambda: classifier(x, "clean").sum())
        total += few_labels.teacher_epochs * share_of_labels(few_labels.labels) * teacher
        total += few_labels.student_epochs * (few_labels.student_iters * attack + forward + trades)
    elif s.method == "supervised":
        total += s.supervised_epochs * (s.trades_iters * attack + forward + trades)
    else:
        evaluations = {
            "slf": min(s.probe_epochs, s.probe_views) * forward,
            "alf": s.probe_epochs * (alf_iterations(s) * attack + forward),
            "aff": s.aff_epochs * (s.trades_iters * attack + forward + trades),
        }
        total += sum(evaluations[name] for name in s.evaluations.split("+"))
    return IMAGES / 2 * total


def _pretraining(s: PretrainSettings) -> int:
    """Operations of a step of pre-training on two images."""
    pair, views = make_pair(s), torch.rand(4, 3, SIDE, SIDE)
    loss = counted(lambda: contrastive_loss(pair, views, views if s.adversarial else None, 1.0, s.temperature))
    return loss + (s.attack_iters * _attack_step(pair, views) if s.adversarial else 0)


def _attack_step(network: nn.Module, x: Tensor) -> int:
    """Operations of one step of an attack: a forward pass, and a backward one to the images alone."""
    # The counter cannot be asked for gradients of what a module is given itself, so the images are a product.
    images = x.clone().requires_grad_()
    with folded_batchnorm(network, "adv"):
        return counted(lambda: network(images * 1.0, "adv").sum())
