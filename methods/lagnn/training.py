"""The generator is trained on all edges, and the state on which a scorer disagrees least may be kept."""

import torch
from torch import Tensor

from retable.train.best import BestCheckpoint
from retable.train.context import Context, Stateful

from .generator import CVAE, Sampler, cvae_loss, disagreement
from .model import LAGCN
from .settings import CopiesSettings
from .task import Task

SCORER_HIDDEN, SCORER_DROPOUT, SCORER_LR, SCORER_DECAY, SCORER_EPOCHS = 32, 0.5, 0.01, 5e-4, 100
SCORER_EXTRA = 20


def train_generator(generator: CVAE, task: Task, s: CopiesSettings, context: Context) -> None:
    """Train the generator in the phases "scorer" and "generator"; where states are scored, the best one is taken.

    The authors raise the best score in the first `score_from` batches too, without keeping a copy, so that none may be
    kept at all; here these batches are not scored.
    """
    scorer, kept = _train_scorer(task, s, context), BestCheckpoint()
    optimiser = torch.optim.Adam(generator.parameters(), lr=s.generator_lr)
    scorer_optimiser = torch.optim.Adam(scorer.parameters(), lr=SCORER_LR, weight_decay=SCORER_DECAY)
    parts: dict[str, Stateful] = {"generator": generator, "optimiser": optimiser, "kept": kept}
    if s.score_passes:
        parts |= {"scorer": scorer, "scorer optimiser": scorer_optimiser}
    centre, neighbour = task.edges
    batches = -(-len(centre) // s.generator_batch)
    for epoch in context.epochs(s.generator_epochs, phase="generator", **parts):
        losses = []
        for number, rows in enumerate(torch.randperm(len(centre)).to(centre.device).split(s.generator_batch)):
            x, c = task.x[neighbour[rows]], task.x[centre[rows]]
            loss = cvae_loss(generator(x, c, torch.randn(len(x), s.latent, device=x.device)), x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
            done = (epoch - 1) * batches + number + 1
            if s.score_passes and done > s.score_from and done % s.score_every == 0:
                _score(task, s, generator, scorer, scorer_optimiser, kept, done)
        context.log(epoch, generator_loss=torch.stack(losses).mean().item())
    if kept.weights:
        generator.load_state_dict(kept.weights)


def _train_scorer(task: Task, s: CopiesSettings, context: Context) -> LAGCN:
    """A GCN with dropout, trained on the real features."""
    context.seed_torch("scorer")
    scorer = LAGCN(task.x.shape[1], SCORER_HIDDEN, task.classes, 1, dropout=SCORER_DROPOUT, init="xavier")
    scorer = scorer.to(context.device)
    if not s.score_passes:
        return scorer
    optimiser = torch.optim.Adam(scorer.parameters(), lr=SCORER_LR, weight_decay=SCORER_DECAY)
    for epoch in context.epochs(SCORER_EPOCHS, phase="scorer", scorer=scorer, optimiser=optimiser):
        context.log(epoch, scorer_loss=_scorer_step(task, scorer, optimiser, task.normalised))
    return scorer


def _scorer_step(task: Task, scorer: LAGCN, optimiser: torch.optim.Optimizer, x: Tensor) -> float:
    loss = task.nll(scorer.train()([x], task.adjacency), "train")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _score(
    task: Task,
    s: CopiesSettings,
    generator: CVAE,
    scorer: LAGCN,
    optimiser: torch.optim.Optimizer,
    kept: BestCheckpoint,
    batch: int,
) -> None:
    """Keep the generator if the scorer disagrees less about its features, and go on training the scorer on these."""
    x = Sampler(generator, task.x).draw()
    nodes = task.nodes["train"]
    with torch.no_grad():
        scorer.train()
        logits = torch.stack([scorer([x], task.adjacency)[nodes] for _ in range(s.score_passes)])
    if kept.update(disagreement(logits, task.y[nodes]).item(), batch, generator):
        for _ in range(SCORER_EXTRA):
            _scorer_step(task, scorer, optimiser, x)
