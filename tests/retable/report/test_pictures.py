"""Pictures beside records, and those of them that the site shows."""

import json

import pytest
from PIL import Image

from retable.report.folder import Folder, drawn
from retable.report.pictures import Shown, of_cell


@pytest.fixture
def cell(world):
    return world.cell("plain", depth=2)


@pytest.fixture
def leave(cell, tmp_path):
    """Leaves pictures of a seed beside its record, as a run does."""

    def leave(seed: int, *names: str, **change) -> None:
        folder = cell.folder(tmp_path / "results")
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for number, name in enumerate(names):
            width, height = 3 + number, 5 + seed
            Image.new("RGB", (width, height), (seed, number, 0)).save(folder / f"seed-{seed}.{name}.png")
            lines.append({"name": name, "caption": f"{name} of {seed}", "width": width, "height": height} | change)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"seed-{seed}.pictures.jsonl").write_text(text)

    return leave


@pytest.fixture
def site(tmp_path):
    return Folder(tmp_path / "site", drawn(tmp_path / "none"))


@pytest.fixture
def show(cell, world, tmp_path, site):
    """What is shown of the cell's records of these seeds."""

    def show(*seeds: int) -> list[Shown]:
        records = [world.measure(cell, [80.0], first_seed=seed)[0] for seed in seeds]
        return of_cell(cell, records, tmp_path / "results", site)

    return show


def test_the_lowest_seed_that_has_pictures_is_shown_with_all_of_them(leave, show, cell, tmp_path):
    for seed in (4, 2, 3):
        leave(seed, "views", "rebuilt-images")
    shown = show(4, 3, 1, 2)
    assert shown == [
        Shown("views", f"{cell.identity}-seed-2.views.png", "views of 2", 2, 3, 7),
        Shown("rebuilt-images", f"{cell.identity}-seed-2.rebuilt-images.png", "rebuilt-images of 2", 2, 4, 7),
    ]
    assert sorted(path.name for path in (tmp_path / "site" / "pictures").iterdir()) == sorted(
        picture.file for picture in shown
    )
    for picture in shown:
        source = cell.folder(tmp_path / "results") / picture.file.removeprefix(f"{cell.identity}-")
        assert (tmp_path / "site" / "pictures" / picture.file).read_bytes() == source.read_bytes()
        assert Image.open(tmp_path / "site" / "pictures" / picture.file).size == (picture.width, picture.height)


def test_seeds_without_a_record_are_not_shown(leave, show):
    leave(0, "views")
    leave(5, "views")
    assert [picture.seed for picture in show(5, 6)] == [5]


def test_a_listed_picture_that_is_gone_gives_way_to_the_next_seeds(leave, show, cell, tmp_path):
    leave(0, "views")
    leave(1, "views")
    (cell.folder(tmp_path / "results") / "seed-0.views.png").unlink()
    assert [picture.seed for picture in show(0, 1)] == [1]


@pytest.mark.parametrize("name", ["../views", "Views", "views.png", "a b", "", "-views", "views\n"])
def test_a_name_of_anything_but_letters_digits_and_hyphens_leaves_the_site_alone(name, leave, show, cell, tmp_path):
    leave(0, "views", name=name)
    place = cell.folder(tmp_path / "results") / f"seed-0.{name}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    (cell.folder(tmp_path / "results") / "seed-0.").mkdir()  # what `../views` would pass through
    place.write_bytes(b"should not be copied")
    assert show(0) == []
    assert not (tmp_path / "site").exists()


def test_without_results_or_pictures_there_is_nothing_to_show(leave, show, cell, world, tmp_path, site):
    assert show(0) == []
    leave(0, "views")
    assert of_cell(cell, world.records, None, site) == []
    assert len(of_cell(cell, world.records, tmp_path / "results", site)) == 1
