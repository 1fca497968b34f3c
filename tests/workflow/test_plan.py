"""What Snakemake would run, for every target and scale; nothing runs here."""

import re

import pytest

from retable.config import Workspace, parse_config

CONFIGS = [
    {"scale": "demo"},
    {"scale": "demo", "seeds": 1},
    {"scale": "reduced", "papers": "contranorm"},
    {"scale": "full", "datasets": "cora,citeseer"},
    {"scale": "full", "recipes": "depth-16-study"},
]


def planned(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table that a dry run prints."""
    return {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def as_arguments(config: dict) -> list[str]:
    return ["--config", *(f"{key}={value}" for key, value in config.items())]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: " ".join(str(value) for value in config.values()))
def test_every_cell_and_data_set_of_a_selection_is_planned_once(checkout, root, config):
    done = checkout.snakemake("--dry-run", *as_arguments(config))
    assert done.returncode == 0, done.stderr
    workspace = Workspace(root, parse_config(config))
    fetched = {cell.dataset for cell in workspace.cells if not workspace.datasets[cell.dataset].embedded}
    jobs = planned(done.stdout)
    assert jobs["measure"] == len(workspace.cells)
    assert jobs.get("download", 0) == len(fetched)
    assert jobs["site"] == 1
    for cell in workspace.cells:
        name = f"{cell.paper}/{cell.recipe} on {cell.dataset}, {cell.scale} scale: {cell.slug}"
        assert done.stdout.count(f": Measuring {name}\n") == 1


@pytest.mark.parametrize(
    ("targets", "rules"),
    [
        ("paper_contranorm", {"download", "measure", "paper_contranorm"}),
        ("leaderboard", {"download", "measure", "site", "leaderboard"}),
        ("download_all", {"download", "download_all"}),
        ("preflight verify", {"preflight", "verify"}),
    ],
)
def test_targets(checkout, targets, rules):
    done = checkout.snakemake("--dry-run", *targets.split(), "--config", "scale=reduced", "papers=contranorm")
    assert done.returncode == 0, done.stderr
    assert set(planned(done.stdout)) - {"total"} == rules


def test_it_runs_from_any_folder(checkout, tmp_path):
    done = checkout.snakemake("--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("scale=ful", "config: unknown scale 'ful'; did you mean 'full'? valid: demo, full, reduced"),
        ("papers=contranrom", "unknown paper 'contranrom'; did you mean 'contranorm'? valid: "),
        ("datasets=coraa", "unknown data set 'coraa'; did you mean 'cora'? valid: "),
        ("paper=contranorm", "config: unknown key 'paper'; did you mean 'papers'? valid: "),
        ("seeds=0", "config: seeds: "),
        ("datasets=cora", "nothing to run at scale demo for datasets=cora; the scale offers: "),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(checkout, config, message):
    done = checkout.snakemake("--dry-run", "--config", config)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("Config file ")]
    assert len(said) == 1
    assert said[0].startswith(f"retable: {message}")
