"""The generator's training."""

import torch

from methods.lagnn.generator import CVAE, cvae_loss
from methods.lagnn.task import Task
from methods.lagnn.training import train_generator


def loss_of(generator: CVAE, task: Task) -> float:
    centre, neighbour = task.edges
    torch.manual_seed(0)
    with torch.no_grad():
        x, c = task.x[neighbour], task.x[centre]
        return cvae_loss(generator(x, c, torch.randn(len(x), generator.latent)), x).item()


def test_training_lowers_the_loss_and_a_scored_state_is_kept(make) -> None:
    settings, context = make("lagcn", score_passes=2, score_every=4, score_from=4, generator_epochs=1)
    task = Task(context)
    torch.manual_seed(1)
    generator = CVAE(task.x.shape[1], settings.generator_hidden, settings.latent)
    before = loss_of(generator, task)
    train_generator(generator, task, settings, context)
    assert loss_of(generator, task) < 0.8 * before
    assert (context.folder / "phase-scorer.pt").exists()
    assert (context.folder / "phase-generator.pt").exists()
