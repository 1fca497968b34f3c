"""DYNACL's pre-training in two gloo processes trains as one process does that normalises by the same shares."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from methods.dynacl.attack import adversarial_views
from methods.dynacl.models import Branch, Pair
from methods.dynacl.pretrain import contrastive_loss, make_optimiser, make_pair
from methods.dynacl.settings import PretrainSettings
from retable.train.distributed import process_group, rank, world_size
from tests.conftest import torchrun

WORLD, ROWS, STEPS = 2, 8, 3  # rows of a share: two views of four images
# With and without the adversarial half, with and without the moving average.
CASES = [(adversarial, momentum) for adversarial in (True, False) for momentum in (True, False)]


def settings(adversarial: bool, momentum: bool) -> PretrainSettings:
    return PretrainSettings.model_construct(
        arch="tiny", head_layers=2, momentum_encoder=momentum, momentum=0.9, lr=0.2, adversarial=adversarial,
        eps=0.03, step_size=0.01, temperature=0.5, attack_iters=2, optimiser="sgd", weight_decay=1e-4,
    )  # fmt: skip


def untrained(s: PretrainSettings) -> Pair:
    torch.manual_seed(0)
    return make_pair(s).double()


class Shares(nn.Module):
    """Passes each share of the views by itself, so that batch normalisation sees one at a time.

    Its running statistics are those of the first, as DistributedDataParallel takes them from the first process.
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, views: Tensor, bn_branch: Branch) -> Tensor:
        first, *others = views.chunk(WORLD)
        passed = [self.pair(first, bn_branch)]
        norms = [module for module in self.pair.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        passed += [self.pair(share, bn_branch) for share in others]
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return torch.cat(passed)


def train(pair: Pair, called: nn.Module, s: PretrainSettings, share: slice) -> None:
    """Some steps on a share of each batch; gradients are averaged over the processes."""
    optimiser, generator = make_optimiser(pair, s), torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        views = torch.rand(WORLD * ROWS, 3, 16, 16, generator=generator, dtype=torch.float64)
        start = torch.empty_like(views).uniform_(-s.eps, s.eps, generator=generator)
        pair.train()
        adversarial = None
        if s.adversarial:
            ball = {"eps": s.eps, "step": s.step_size, "iterations": s.attack_iters}
            adversarial = adversarial_views(pair, views[share], s.temperature, **ball, start=start[share])
        loss = contrastive_loss(called, views[share], adversarial, 0.4, s.temperature)
        pair.update()
        optimiser.zero_grad()
        loss.backward()
        if world_size() > 1:
            for p in pair.q.parameters():
                if p.grad is not None:
                    dist.all_reduce(p.grad)
                    p.grad /= world_size()
            for buffer in pair.buffers():
                dist.broadcast(buffer, 0)
        optimiser.step()


def share_of_the_work(folder: Path) -> None:
    """What a process that torchrun started does."""
    with process_group():
        found = {}
        for case in CASES:
            pair = untrained(settings(*case))
            train(pair, pair, settings(*case), slice(rank() * ROWS, (rank() + 1) * ROWS))
            found[str(case)] = pair.state_dict()
        torch.save(found, folder / f"{rank()}.pt")


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("torchrun")
    torchrun(__file__, folder, WORLD)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORLD)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_several_processes_train_the_weights_of_one(measured, case):
    s = settings(*case)
    pair, before = untrained(s), untrained(s).state_dict()
    train(pair, Shares(pair), s, slice(None))
    state = pair.state_dict()
    assert any(not torch.equal(state[f"q.{name}"], before[f"q.{name}"]) for name, _ in pair.q.named_parameters())
    for found in measured:
        for name, value in state.items():
            if name.endswith("num_batches_tracked"):
                continue
            torch.testing.assert_close(found[str(case)][name], value, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    share_of_the_work(Path(sys.argv[1]))
