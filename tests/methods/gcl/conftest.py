"""A project in a temporary folder whose own data sets are made of archives in OGB's format, written here."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from methods.gcl.settings import GraphSettings
from retable.config import Config, Workspace
from retable.data.adopt import KNOWN, write_card
from retable.data.fetch import fetch

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())

SMALL_GRAPH_METHOD = {
    "method": "graphcl",
    "loss": "contrast",
    "encoder": "gin",
    "trained": True,
    "augmentation": "drop-nodes",
    "ratio": 0.1,
    "noise_variance": 1e-4,
    "official_quirks": False,
    "hidden": 4,
    "layers": 2,
    "tau": 0.5,
    "lr": 0.01,
    "epochs": 2,
    "batch_size": 6,
}


@pytest.fixture
def graph_settings() -> Callable[..., GraphSettings]:
    """Gives small settings of a method on sets of graphs, with changes."""
    return lambda **changes: GraphSettings.parse(SMALL_GRAPH_METHOD | changes, "gcl/graph")


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str, dict[str, str]], Workspace]:
    """The workspace with a card for the data set, made of an archive of these tables (path: text), and its files."""

    def own(name: str, tables: dict[str, str]) -> Workspace:
        for folder in ("methods", "retable"):
            (tmp_path / folder).symlink_to(ROOT / folder)
        (tmp_path / "datasets").mkdir()
        for card in (ROOT / "datasets").glob("*.yaml"):
            (tmp_path / "datasets" / card.name).symlink_to(card)
        mirror = tmp_path / "mirror" / KNOWN[name].folder
        mirror.mkdir(parents=True)
        archive = mirror / KNOWN[name].url.rsplit("/", 1)[1]
        top = KNOWN[name].members[0].split("/")[0]
        with zipfile.ZipFile(archive, "w") as bundle:
            for path, text in tables.items():
                bundle.writestr(f"{top}/{path}.csv.gz", gzip.compress(text.encode(), mtime=0))
        write_card(name, archive, tmp_path)
        workspace = Workspace(tmp_path, Config(device="cpu"))
        fetch(workspace.datasets[name], workspace.raw, mirror=str(tmp_path / "mirror"))
        return workspace

    return own
