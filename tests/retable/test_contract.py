"""A promise that a paper breaks is named. That the suite's papers keep theirs: tests/methods/test_contract.py."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retable.config import Config, Workspace
from retable.contract import Broken, demo_cells, keep_promises, speakers
from retable.homes import FOLDERS
from retable.scaffold import new_paper


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    new_paper(tmp_path / "promising")
    yield tmp_path / "promising"
    FOLDERS.pop("promising", None)
    for module in [module for module in sys.modules if module.startswith("methods.promising")]:
        del sys.modules[module]


def asked(folder: Path) -> list[str]:
    def workspace_at(name: str) -> Workspace:
        (folder.parent / name).mkdir(exist_ok=True)
        return Workspace(folder.parent / name, Config(device="cpu", papers_from=[str(folder)]))

    workspace = workspace_at("plan")
    (cell,) = speakers(workspace, demo_cells(workspace, "promising"))
    assert (cell.variant, cell.settings["epochs"]) == ("unit", 6)
    return list(keep_promises(workspace_at, cell))


def test_a_paper_that_keeps_all(folder: Path) -> None:
    assert len(asked(folder)) == 4


BROKEN = {
    "does not lower its loss": ("        return self.loss\n", "        return lambda: 0 * self.loss()\n"),
    "gives other bytes": ("lr=self.settings.lr)", "lr=self.settings.lr * torch.rand((), generator=NEW).item())"),
    "needs more than the kept weights": ("        self.x, self.y =", "        self.epoch = 0\n        self.x, self.y ="),  # noqa: E501
    "did not go on": ("in self.context.epochs(self.settings.epochs, model=self.model, optimiser=optimiser)",
                      "in range(1, self.settings.epochs + 1)"),
    "ends in other numbers": ("epochs, model=self.model, optimiser=optimiser)", "epochs, model=self.model)"),
    "does not return 'accuracy'": ('Result({"accuracy": 100 * right, **beside("accuracy", answers)})',
                                   'Result({"right": 100 * right})'),
}  # fmt: skip


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_promise_is_named(said: str, folder: Path) -> None:
    path = folder / "run.py"
    old, new = BROKEN[said]
    text = path.read_text()
    assert old in text
    text = text.replace(old, new).replace(
        "EXPERIMENT = Paper", "NEW = torch.Generator()\nNEW.seed()\nEXPERIMENT = Paper"
    )
    if "kept weights" in said:
        text = text.replace(
            "            optimiser.step()\n", "            optimiser.step()\n            self.epoch = epoch\n"
        )
        text = text.replace('{"accuracy": 100 * right, **', '{"accuracy": right * self.epoch, **')
    path.write_text(text)
    with pytest.raises(Broken, match=said):
        asked(folder)
