"""A paper in a folder elsewhere is part of the job graph and of the leaderboard while the folder is there."""

import shutil

import pytest

from tests.workflow.conftest import CARD, RUN, SETTINGS


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "elsewhere" / "visitor"
    made.mkdir(parents=True)
    for name, text in {"card.yaml": CARD.replace("tiny", "visitor"), "run.py": RUN, "settings.py": SETTINGS}.items():
        (made / name).write_text(text)
    return made


@pytest.mark.slow
def test_it_is_measured_stands_on_the_leaderboard_and_goes_with_its_folder(tiny, folder):
    option = f"papers_from={folder}"
    done = tiny.snakemake("--cores", "1", "--config", option)
    assert done.returncode == 0, done.stderr
    page = tiny.folder / "reports" / "site" / "index.html"
    assert "A visitor paper" in page.read_text()
    assert [path.parts[-5] for path in tiny.results("seed-0.json")] == ["tiny", "visitor"]
    # A job of a cluster reads the same configuration.
    done = tiny.snakemake("--dry-run", "--forcerun", "measure", "--config", option)
    assert "Measuring visitor" in done.stdout

    (folder / "card.yaml").write_text("id: [")
    done = tiny.snakemake("--cores", "1", "--config", option)
    assert done.returncode != 0
    assert f"{folder}/card.yaml: not YAML" in done.stderr

    shutil.rmtree(folder)
    assert tiny.snakemake("--cores", "1").returncode == 0
    assert "visitor" not in page.read_text()
