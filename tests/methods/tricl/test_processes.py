"""triCL in two gloo processes trains as one process does that normalises by the same shares of the batch."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from methods.tricl.encoder import batch_loss, make_encoder, make_optimiser
from methods.tricl.models import TriCL
from methods.tricl.settings import ImageSettings
from retable.config import Config, Workspace
from retable.plan import recipe_cells
from retable.train.distributed import process_group, rank, world_size
from tests.conftest import torchrun

ROOT = Path(__file__).resolve().parents[3]
WORLD, ROWS, SIZE, STEPS = 2, 6, 16, 3
VARIANTS = ("tri-scl-learned", "tri-simclr", "simclr", "scl")


def settings(variant: str) -> ImageSettings:
    workspace = Workspace(ROOT, Config(device="cpu"))
    recipe = workspace.papers["tricl"].recipe("importance")
    cells = recipe_cells("tricl", recipe, workspace.datasets, "demo")
    demo = ImageSettings.parse(next(c for c in cells if c.variant == variant).settings, "test")
    # With batch normalisation, which the demo's has not.
    return demo.model_copy(update={"backbone": "small-resnet", "width": 8})


def batches() -> list[Tensor]:
    """Two views of a whole batch for each step: (2, WORLD ROWS, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, WORLD * ROWS, 3, SIZE, SIZE, generator=generator) for _ in range(STEPS)]


def trained(variant: str, share: slice) -> dict[str, Tensor]:
    """The weights after some steps on a share of each batch; gradients are averaged over the processes."""
    s = settings(variant)
    torch.manual_seed(0)
    model = make_encoder(s, SIZE)
    step(model, model, s, share)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def step(called: nn.Module, model: TriCL, s: ImageSettings, share: slice) -> None:
    optimiser = make_optimiser(model, s)
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"]
    for first, second in batches():
        optimiser.zero_grad()
        batch_loss(called, first[share], second[share], s)["loss"].backward()
        if world_size() > 1:
            for p in model.parameters():
                if p.grad is not None:
                    dist.all_reduce(p.grad)
                    p.grad /= world_size()
        optimiser.step()


class Shares(nn.Module):
    """Passes each share of a batch by itself, so that batch normalisation sees one at a time."""

    def __init__(self, model: TriCL) -> None:
        super().__init__()
        self.model, self.importance = model, model.importance

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.model(share) for share in images.chunk(WORLD)])


def share_of_the_work(folder: Path) -> None:
    """What a process that torchrun started does."""
    with process_group():
        own = slice(rank() * ROWS, (rank() + 1) * ROWS)
        torch.save({variant: trained(variant, own) for variant in VARIANTS}, folder / f"{rank()}.pt")


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("torchrun")
    torchrun(__file__, folder, WORLD)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORLD)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.slow
def test_several_processes_train_the_weights_of_one(measured, variant):
    s = settings(variant)
    torch.manual_seed(0)
    model = make_encoder(s, SIZE)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(Shares(model), model, s, slice(None))
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    for found in measured:
        for name, p in model.named_parameters():
            torch.testing.assert_close(found[variant][name], p.detach(), rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    share_of_the_work(Path(sys.argv[1]))
