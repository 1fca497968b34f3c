"""What Snakemake would run, for every target and scale; nothing runs here."""

import json
import re

import pytest

from retable.bundles import list_path
from retable.config import Workspace, parse_config

CONFIGS = [
    {"scale": "demo"},
    {"scale": "demo", "seeds": 1},
    {"scale": "reduced", "papers": "contranorm"},
    pytest.param({"scale": "full", "datasets": "cora,citeseer"}, marks=pytest.mark.slow),
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
    (listed,) = (checkout.folder / "results/bundles").glob(f"{list_path(workspace).stem}.json")
    bundles = json.loads(listed.read_text())["bundles"]
    assert jobs["measure"] == len(bundles)
    assert jobs.get("download", 0) == len(fetched)
    assert jobs["site"] == 1
    for bundle in bundles:
        line = f": Measuring {bundle['paper']}, {workspace.config.scale} scale: {bundle['name']}\n"
        assert done.stdout.count(line) == 1
    seeds = [(cell, seed) for bundle in bundles for cell, listed in bundle["seeds"].items() for seed in listed]
    assert sorted(seeds) == sorted((cell.identity, seed) for cell in workspace.cells for seed in cell.seeds)


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
        ("wandb={mode: online}", "wandb.mode is online, but no key is set"),
        ("datasets=cora", "nothing to run at scale demo for datasets=cora; the scale offers: "),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(checkout, config, message):
    done = checkout.snakemake("--dry-run", "--config", config)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith(("Config file ", "Using workflow "))]
    assert len(said) == 1
    assert said[0].startswith(f"retable: {message}")


def test_a_mirror_that_is_not_there_is_found_before_anything_runs(checkout):
    config = ["--config", "scale=reduced", "papers=contranorm", "recipes=node-depth", "mirror=/nowhere"]
    done = checkout.snakemake("--dry-run", *config)
    assert done.returncode == 2
    assert "retable: the mirror '/nowhere' is neither a folder nor an http address" in done.stderr
    # Data that are derived here need none.
    assert checkout.snakemake("--dry-run", "--config", "mirror=/nowhere", "papers=tricl").returncode == 0
