"""Whether two trainings of an encoder find the same features: the paper's theorem tested on images.

A seed trains several encoders on the same images, each with its own initialisation, order and views, and compares
their features on the test images:

    retable run tricl/agreement --scale demo
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from retable.experiment import Experiment
from retable.train.context import Context, Result

from .encoder import extract_features, fixed_batch_loss, make_encoder, make_optimiser, train_epoch
from .importance import agreement, importance_order
from .models import TriCL
from .settings import AgreementSettings
from .task import MemoryTask


class Agreement(Experiment[AgreementSettings]):
    """Train the encoders of one seed side by side, and compare them."""

    model: nn.ModuleList

    def __init__(self, settings: AgreementSettings, context: Context) -> None:
        super().__init__(settings, context)
        images, split = context.data()
        self.task = MemoryTask(images, split, settings.view, context.device)
        self.encoders: list[TriCL] = []
        for run in range(settings.runs):
            context.seed_torch("weights", run)
            self.encoders.append(make_encoder(settings, images.images.shape[2]).to(context.device))
        self.model = nn.ModuleList(self.encoders).to(memory_format=torch.channels_last)

    def train(self) -> None:
        s, context = self.settings, self.context
        optimisers = [make_optimiser(encoder, s) for encoder in self.encoders]
        saved = {f"optimiser {run}": optimiser for run, optimiser in enumerate(optimisers)}
        for epoch in context.epochs(s.epochs if s.trained else 0, phase="", model=self.model, **saved):
            losses = []
            for run, (encoder, optimiser) in enumerate(zip(self.encoders, optimisers, strict=True)):
                context.seed_torch("epoch", epoch, "run", run)
                losses.append(train_epoch(encoder, optimiser, self.task, epoch, s)["loss"])
            context.log(epoch, loss=sum(losses) / len(losses))

    def measure(self) -> Result:
        """Mean |correlation| over all pairs of encoders.

        Of features of equal rank and after the best matching, of the first `top_dims` and of all.
        """
        top = self.settings.top_dims
        pairs = list(itertools.combinations([self._ordered_features(encoder) for encoder in self.encoders], 2))
        of_top = [agreement(one[:, :top], other[:, :top]) for one, other in pairs]
        of_all = [agreement(one, other) for one, other in pairs]
        by_rank = [[agreement(one[:, [k]], other[:, [k]]).at_equal_ranks for k in range(top)] for one, other in pairs]
        metrics = {
            "agreement": _mean([found.at_equal_ranks for found in of_top]),
            "matched_agreement": _mean([found.matched for found in of_top]),
            "agreement_all": _mean([found.at_equal_ranks for found in of_all]),
            "matched_agreement_all": _mean([found.matched for found in of_all]),
        }
        return Result(metrics, {"agreement_by_rank": torch.tensor(by_rank).mean(0).tolist()})

    def _ordered_features(self, encoder: TriCL) -> Tensor:
        """Features (N, D) of the test images, the most important column first."""
        features = extract_features(encoder, self.task)
        return features.projected[2][:, importance_order(features.importance)]

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The loss of the first encoder."""
        return fixed_batch_loss(self.encoders[0], self.task, self.settings)


EXPERIMENT = Agreement


def _mean(values: list[Tensor]) -> float:
    return torch.stack(values).mean().item()
