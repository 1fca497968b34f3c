"""The paper's main trend on real data, from the job graph's first step to the records it leaves."""

import os
import shutil
import statistics
import subprocess
import sys

import pytest

from retable.records import load_records

PARTS = ("Snakefile", "config", "datasets", "methods", "retable", "workflows")


@pytest.fixture(scope="module")
def means(root, mirror, tmp_path_factory) -> dict[tuple[str, int], float]:
    """(variant, depth) -> mean test accuracy in percent over two seeds, on Cora."""
    folder = tmp_path_factory.mktemp("trends")
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "raw"))
        else:
            shutil.copy(root / part, folder / part)
    (folder / "config" / "config.yaml").write_text("scale: reduced\nwandb: {mode: disabled}\n")
    command = [sys.executable, "-m", "snakemake", "--cores", str(os.cpu_count() or 1), "--config"]
    selection = ["recipes=node-depth", "variants=none,contranorm", "datasets=cora", "seeds=2", f"mirror={mirror}"]
    done = subprocess.run(
        [*command, *selection],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    accuracies: dict[tuple[str, int], list[float]] = {}
    for record in load_records(folder / "results").records:
        assert record.state == "ok", record.error
        if "depth" in record.axes:
            key = record.variant, int(record.axes["depth"])
            accuracies.setdefault(key, []).append(record.metrics["last_test_accuracy"])
    assert all(len(values) == 2 for values in accuracies.values())
    return {key: statistics.mean(values) for key, values in accuracies.items()}


pytestmark = [pytest.mark.slow, pytest.mark.mirror, pytest.mark.timeout(1200)]


def test_at_depth_2_the_plain_network_is_ahead(means):
    assert means["none", 2] > means["contranorm", 2]


def test_at_depth_8_the_plain_network_collapses_and_contranorm_does_not(means):
    assert means["none", 8] < 40
    assert means["contranorm", 8] > 68
    assert means["contranorm", 8] >= means["none", 8] + 20
