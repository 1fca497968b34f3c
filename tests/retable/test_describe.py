"""The results as RO-Crate and Croissant, read back by the libraries of both."""

import json

import pytest

from retable.cards import CardError
from retable.config import Config, Workspace
from retable.describe import write_crate
from retable.frames import load

pytest.importorskip("rocrate")
mlc = pytest.importorskip("mlcroissant")


@pytest.fixture(scope="module")
def crate(root, tmp_path_factory):
    """A checkout with the published records, described."""
    place = tmp_path_factory.mktemp("described")
    for name in ("methods", "datasets", "retable", "workflows", "config", "Snakefile"):
        (place / name).symlink_to(root / name)
    (place / "results").mkdir()
    (place / "results" / "published").symlink_to(root / "results" / "published")
    workspace = Workspace(place, Config())
    return workspace, write_crate(workspace, place / "crate").parent


def test_the_crate_names_every_file_and_every_paper(crate) -> None:
    from rocrate.rocrate import ROCrate

    workspace, folder = crate
    read = ROCrate(folder)
    files = {entity.id for entity in read.get_by_type("File")}
    assert files == {path.name for path in folder.iterdir()} - {"ro-crate-metadata.json"}
    titles = {entity["name"] for entity in read.get_by_type("ScholarlyArticle")}
    assert titles == {paper.title for paper in workspace.papers.values()}
    assert read.root_dataset["license"] == "https://spdx.org/licenses/Apache-2.0"


def test_croissant_gives_the_frames_back(crate) -> None:
    workspace, folder = crate
    described = mlc.Dataset(folder / "croissant.json")
    frames = load(workspace.root)
    for name in ("records", "rows", "verdicts"):
        frame = getattr(frames, name)
        lines = list(described.records(name))
        assert len(lines) == len(frame) > 0
        assert [key.partition("/")[2] for key in lines[0]] == list(frame.columns)
    values = [line["records/value"] for line in described.records("records")]
    assert values == frames.records.value.tolist()
    states = [line["verdicts/state"].decode() for line in described.records("verdicts")]
    assert states == frames.verdicts.state.tolist()
    assert len(set(states)) > 3


def test_a_folder_that_holds_something_is_left_alone(crate) -> None:
    workspace, folder = crate
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CardError, match="is there already, and not empty; choose another place"):
        write_crate(workspace, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert json.loads(before["croissant.json"])["@type"] == "sc:Dataset"
