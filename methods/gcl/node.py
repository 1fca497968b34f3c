"""Graph contrastive learning on nodes: an encoder trained without labels on one graph, then a linear probe.

GRACE without one term of its loss loses little on Cora as long as the encoder is a graph network; an MLP loses
everything. 200 epochs on Cora take a minute or less on one CPU core:

    retable run gcl/node --scale reduced --datasets cora
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from retable.evaluate import contrast
from retable.evaluate.spectra import mean_cosine_similarity
from retable.experiment import Experiment
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result
from retable.train.schedules import set_lr

from .nodes.learner import Learner
from .nodes.learners import LEARNERS
from .nodes.task import NodeTask
from .settings import NodeSettings
from .task import controls


class Node(Experiment[NodeSettings]):
    """Train a method's encoder on the whole graph and score its frozen representations."""

    task_class: ClassVar[type[NodeTask]] = NodeTask
    controls = controls(NodeTask.load)
    model: Learner

    def __init__(self, settings: NodeSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = self.task_class.load(settings, context)
        context.seed_torch("weights")
        self.model = LEARNERS[settings.method](self.task, settings).to(context.device)

    def train(self) -> None:
        s, model = self.settings, self.model
        optimiser, best = model.optimiser(), BestCheckpoint()
        for epoch in self.context.epochs(s.epochs if s.trained else 0, learner=model, optimiser=optimiser, best=best):
            loss = model.loss(epoch)
            if s.patience:
                best.update(-loss.item(), epoch, model)
            set_lr(optimiser, model.lr(epoch))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            model.after_step(epoch)
            self.context.log(epoch, loss=loss.item())
            if s.patience and epoch - best.epoch >= s.patience:
                break
        if best.weights:
            model.load_state_dict(best.weights)

    @torch.no_grad()
    def measure(self) -> Result:
        """Scores of the frozen representations in percent, and what the loss did to them."""
        z = self.model.eval().embed()
        return Result(self.task.evaluate(z) | self.view_geometry())

    def view_geometry(self) -> dict[str, float]:
        """Alignment and uniformity of two projected views."""
        self.context.seed_torch("views to measure")
        views = self.model.projected_views()
        if views is None:
            return {}
        h1, h2 = views
        return {
            "projected_alignment": contrast.alignment(h1, h2).item(),
            "projected_uniformity": contrast.uniformity(h1).item(),
            "projected_mean_cosine": mean_cosine_similarity(h1).item(),
        }

    @torch.no_grad()
    def representations(self, places: Tensor) -> Tensor:
        return self.model.eval().embed()[places]

    def fixed_batch(self) -> Callable[[], Tensor]:
        return lambda: self.model.loss(1)


EXPERIMENT = Node
