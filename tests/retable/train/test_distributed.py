"""Two gloo processes on the CPU give the gradients of one process with the whole batch."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from methods.tricl.baselines import scl, scl_original, simclr
from methods.tricl.loss import tri_scl, tri_scl_paper, tri_simclr, tri_simclr_paper
from methods.tricl.two_tower import tri_clip
from methods.umae.losses import uniformity_loss
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.distributed import all_gather_with_grad, process_group, rank, world_size
from tests.conftest import torchrun

WORLD, ROWS, IN, OUT = 2, 3, 5, 4


def gathered_views(z: Tensor) -> Tensor:
    """All first views, then all second ones, of z with this process's first ones, then its second ones."""
    return torch.cat([all_gather_with_grad(view) for view in z.chunk(2)])


def importance() -> Tensor:
    return torch.linspace(0.5, 2.0, OUT, dtype=torch.float64)


# Each takes the local features (2 ROWS, OUT), or those of the whole batch.
LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "uniformity": uniformity_loss,
    "nt_xent": lambda z: nt_xent_interleaved(all_gather_with_grad(z), 0.5),
    "simclr": lambda z: simclr(gathered_views(z), 0.2),
    "scl": lambda z: scl(gathered_views(z), 0.2),
    "scl_original": lambda z: sum(scl_original(*gathered_views(z).chunk(2))),
    "tri_simclr": lambda z: tri_simclr(gathered_views(z), importance(), 0.2).total,
    "tri_scl": lambda z: tri_scl(gathered_views(z), importance()).total,
    "tri_simclr_paper": lambda z: tri_simclr_paper(gathered_views(z), importance(), 0.2).total,
    "tri_scl_paper": lambda z: tri_scl_paper(gathered_views(z), importance()).total,
    "tri_clip": lambda z: tri_clip(*gathered_views(z).chunk(2), importance(), 0.2).total,
    # Only own rows are anchors, so every process has another loss; their mean is the whole batch's.
    "own_anchors": lambda z: torch.logsumexp(z @ all_gather_with_grad(z).T, dim=1).mean(),
}


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(IN, 6), nn.Tanh(), nn.Linear(6, OUT)).double()


def batch() -> Tensor:
    """The whole batch (views, processes, ROWS, IN)."""
    return torch.randn(2, WORLD, ROWS, IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def threads() -> list[str]:
    """The names of this process's threads, those of C++ too."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def losses_and_gradients() -> dict[str, Any]:
    model = DistributedDataParallel(make_model())
    x = batch()[:, rank()]
    found: dict[str, Any] = {"values": {}, "gradients": {}}
    for name, loss_of in LOSSES.items():
        model.zero_grad()
        # DYNACL's views lie next to each other, the others' one after the other.
        rows = x.transpose(0, 1) if name == "nt_xent" else x
        loss = loss_of(model(rows.reshape(-1, IN)))
        loss.backward()
        dist.all_reduce(value := loss.detach().clone())
        found["values"][name] = value.item() / world_size()
        found["gradients"][name] = [p.grad.tolist() for p in model.parameters()]
    return found


def share_of_the_work(folder: Path) -> None:
    """What a process that torchrun started does: values and gradients of all losses, as JSON in `folder`."""
    with process_group() as device:
        found = losses_and_gradients()
        found |= {"device": device.type, "world_size": world_size(), "threads": threads()}
        place = folder / f"{rank()}.json"
    place.write_text(json.dumps(found | {"threads afterwards": threads()}))


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> list[dict]:
    """What the processes of one torchrun found, by rank."""
    folder = tmp_path_factory.mktemp("torchrun")
    torchrun(__file__, folder, WORLD)
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(WORLD)]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_nothing_of_the_group_runs_on_after_it(measured):
    for found in measured:
        assert any("gloo" in name for name in found["threads"])
        assert not any("gloo" in name for name in found["threads afterwards"]), found["threads afterwards"]


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(measured, name):
    model, whole = make_model(), batch()
    rows = whole.permute(1, 2, 0, 3) if name == "nt_xent" else whole
    loss = LOSSES[name](model(rows.reshape(-1, IN)))
    loss.backward()
    for found in measured:
        assert (found["device"], found["world_size"]) == ("cpu", WORLD)
        assert found["values"][name] == pytest.approx(loss.item(), rel=1e-12)
        for p, gradient in zip(model.parameters(), found["gradients"][name], strict=True):
            torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), p.grad, rtol=1e-10, atol=1e-13)


def test_one_process_gathers_its_own_rows():
    z = torch.randn(3, 2)
    assert all_gather_with_grad(z) is z
    assert (world_size(), rank()) == (1, 0)


def test_a_script_that_torchrun_did_not_start_stays_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with process_group() as device:
        assert device == torch.device("cpu")
        assert not dist.is_initialized()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RuntimeError, match="process 2 of this machine has no GPU: it has 2"), process_group():
        pass


if __name__ == "__main__":
    share_of_the_work(Path(sys.argv[1]))
