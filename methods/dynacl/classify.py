"""Training of classifiers: pseudo-labels with LP-AFT (DYNACL++), the linear and full evaluations, supervised TRADES.

All are SGD with momentum 0.9 on cross-entropy, with a rate that falls tenfold twice.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from methods.dynacl.data import Part, batches, training_images
from methods.dynacl.models import Classifier, Encoder, fixed
from methods.dynacl.trades import trades_examples, trades_loss
from retable.cards import CardError, Scalar
from retable.data.augment import to_float
from retable.evaluate.attacks import pgd_examples
from retable.train.schedules import set_rate

CHUNK = 1000


@torch.no_grad()
def representations(encoder: Encoder, x: Tensor, route: str) -> Tensor:
    """Features (N, d) of images uint8 (N, 3, H, W) as they are, the network at rest."""
    with fixed(encoder, route):
        return torch.cat([encoder(to_float(part), route) for part in x.split(CHUNK)])


def pseudo_labels(features: Tensor, clusters: int, classes: int, seed: int) -> Tensor:
    """k-means clusters int64 (N,) of features (N, d): Lloyd from `clusters` random rows, one run (paper, LP-AFT).

    Raises CardError for a number of clusters that is not 2 to the number of classes.
    """
    check_clusters(clusters, classes)
    means = KMeans(clusters, init="random", n_init=1, random_state=seed % 2**32)
    answer = means.fit_predict(features.double().cpu().numpy())
    return torch.from_numpy(answer).long().to(features.device)


def check_clusters(clusters: int, classes: int) -> None:
    """Raises CardError for a number of pseudo-labels that is not 2 to the number of classes."""
    if not 2 <= clusters <= classes:
        raise CardError(f"clusters is {clusters}; expected 2 to the number of classes, {classes}")


class PseudoLabels(nn.Module):
    """The clusters y int64 (N,) of the training images, part of a saved state."""

    y: Tensor

    def __init__(self, number: int) -> None:
        super().__init__()
        self.register_buffer("y", torch.zeros(number, dtype=torch.int64))


@dataclass(frozen=True)
class Plan:
    """How a classifier is trained: `what` is `linear` (clean images), `linear-attacked` or `trades`."""

    what: str
    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    drops: tuple[float, ...] = (0.4, 0.8)
    clean_route: str = "pgd"
    route: str = "pgd"
    views: int = 1

    def rate(self, epoch: int) -> float:
        """The rate in an epoch (from 1): a tenth behind each of `drops`, which are shares of all epochs."""
        return self.lr * 0.1 ** sum(epoch > round(drop * self.epochs) for drop in self.drops)


class Training:
    """A classifier and its optimiser; images and labels are given to `epoch`."""

    def __init__(self, classifier: Classifier, plan: Plan, settings: dict[str, Scalar]) -> None:
        self.classifier, self.plan, self.settings = classifier, plan, settings
        trained = classifier if plan.what == "trades" else classifier.linear
        self.optimiser = torch.optim.SGD(trained.parameters(), plan.lr, 0.9, weight_decay=plan.weight_decay)
        self._kept: dict[int, Tensor] = {}

    def epoch(self, epoch: int, data: Part, seed: int) -> float:
        """One pass; the mean loss of a step. `seed` decides the augmentations that linear epochs share."""
        plan, s = self.plan, self.settings
        set_rate(self.optimiser, plan.rate(epoch))
        if plan.what == "linear":
            return self._linear_epoch(epoch, data, seed)
        losses = []
        for rows in batches(len(data), plan.batch_size, data.x.device, drop_last=True):
            x, y = training_images(data.x[rows], s), data.y[rows]
            losses.append(self._update(self.loss(x, self.attack(x, y), y)))
        return float(torch.stack(losses).mean())

    def _linear_epoch(self, epoch: int, data: Part, seed: int) -> float:
        """The encoder is at rest, so its features of a view of all images are computed at once, and kept if reused."""
        number = (epoch - 1) % self.plan.views
        if number not in self._kept:
            if self.plan.views >= self.plan.epochs:
                self._kept.clear()
            self._kept[number] = self._view(data, seed + number)
        features, losses = self._kept[number], []
        for rows in batches(len(data), self.plan.batch_size, data.x.device, drop_last=True):
            loss = F.cross_entropy(self.classifier.linear(features[rows]), data.y[rows])
            losses.append(self._update(loss))
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def _view(self, data: Part, seed: int) -> Tensor:
        """Features of one augmentation of all images, drawn from the stream of `seed`."""
        encoder, route = self.classifier.encoder, self.plan.route
        with torch.random.fork_rng([data.x.device] if data.x.is_cuda else []), fixed(encoder, route):
            torch.manual_seed(seed)
            return torch.cat([encoder(training_images(x, self.settings), route) for x in data.x.split(CHUNK)])

    def _update(self, loss: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def attack(self, x: Tensor, y: Tensor) -> Tensor:
        """What stands beside images (B, 3, H, W) in the loss: TRADES' examples, or those of cross-entropy."""
        plan, s = self.plan, self.settings
        eps, step = float(s["eps"]), float(s["step_size"])
        if plan.what == "trades":
            start = float(s["trades_noise"]) * torch.randn_like(x)
            iterations = int(s["trades_iters"])
            return trades_examples(
                self.classifier, x, plan.clean_route, eps=eps, step=step, iterations=iterations, start=start
            )
        with fixed(self.classifier, plan.route):
            iterations = int(s["alf_iters"])
            return pgd_examples(
                lambda images: self.classifier(images, plan.route), x, y, eps=eps, step=step, iterations=iterations
            )

    def loss(self, x: Tensor, attacked: Tensor, y: Tensor) -> Tensor:
        """The loss on images (B, 3, H, W), their adversarial versions and labels (B,)."""
        plan, classifier = self.plan, self.classifier
        if plan.what == "trades":
            classifier.train()
            clean = classifier(x, plan.clean_route)
            return trades_loss(clean, classifier(attacked, plan.route), y, float(self.settings["beta"]))
        with torch.no_grad(), fixed(classifier.encoder, plan.route):
            features = classifier.encoder(attacked, plan.route)
        return F.cross_entropy(classifier.linear(features), y)
