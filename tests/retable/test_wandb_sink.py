import dataclasses
from pathlib import Path

import pytest

from retable.cards import CardError
from retable.config import Config, Wandb, Workspace
from retable.run import run_cell
from retable.wandb_sink import replay

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    return Workspace(tmp_path, Config(device="cpu", papers=["contranorm"], wandb=Wandb(mode="offline")))


def test_runs_are_replayed_once_without_a_network_under_a_repeatable_id(workspace: Workspace) -> None:
    majority = next(cell for cell in workspace.cells if cell.variant == "majority")
    run_cell(workspace, dataclasses.replace(majority, seeds=(0, 1)))
    assert replay(workspace) == 2
    runs = sorted(
        path.name.rpartition("run-")[2] for path in (workspace.results / "wandb" / "wandb").glob("offline-run-*-*")
    )
    assert [name.rsplit("-", 3)[-3:-1] for name in runs] == [[majority.identity, "0"], [majority.identity, "1"]]
    assert replay(workspace) == 0


def test_disabled_says_so(workspace: Workspace) -> None:
    off = dataclasses.replace(workspace, config=workspace.config.model_copy(update={"wandb": Wandb(mode="disabled")}))
    with pytest.raises(CardError, match=r"wandb\.mode is disabled"):
        replay(off)


def test_online_without_a_key_gets_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nonexistent")
    online = dataclasses.replace(workspace, config=workspace.config.model_copy(update={"wandb": Wandb(mode="online")}))
    with pytest.raises(CardError, match="no key is set"):
        replay(online)
