"""Linters of the workflow itself, and the rules that they do not know."""

import importlib.util
import subprocess
import sys

import pytest
import yaml

PROFILES = {
    "default": "profiles/default",
    "ci": "workflows/profiles/ci",
    "slurm": "workflows/profiles/slurm",
}


def test_snakemake_lint_finds_nothing(checkout):
    done = checkout.snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Lints for" not in done.stdout + done.stderr


def test_the_workflow_is_formatted(root):
    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflows"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scripts_are_thin(root):
    # A changed comment in a script measures everything again, so there is next to nothing in one.
    for path in (root / "workflows" / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 3, path


def test_the_readme_and_make_use_the_profile_that_is_picked_up_unasked(root):
    folders = {path.parent for place in (root, root / "workflows") for path in place.glob("profiles/*/config.yaml")}
    assert {str(folder.relative_to(root)) for folder in folders} == set(PROFILES.values())
    assert "profile" not in (root / "Makefile").read_text()
    commands = [line for line in (root / "README.md").read_text().splitlines() if line.startswith("snakemake ")]
    assert len(commands) > 3
    assert {line for line in commands if "profile" in line} == {line for line in commands if "slurm" in line}


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_plan(checkout, name):
    if name == "slurm" and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip('the Slurm plugin is not installed (pip install -e ".[slurm]")')
    done = checkout.snakemake("--dry-run", "--workflow-profile", PROFILES[name])
    assert done.returncode == 0, done.stderr


def test_the_slurm_profile_asks_for_requeue_and_retries(root):
    settings = yaml.safe_load((root / "workflows/profiles/slurm/config.yaml").read_text())
    assert settings["executor"] == "slurm"
    assert settings["slurm-requeue"] is True
    assert settings["retries"] > 0


def test_the_slurm_profile_asks_for_a_signal_before_a_jobs_time_ends(root):
    settings = yaml.safe_load((root / "workflows/profiles/slurm/config.yaml").read_text())
    assert any("--signal=TERM@120" in each for each in settings["default-resources"])
