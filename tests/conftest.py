import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Properties that tests record.
COUNTED = ("fuzz", "soak", "slurm")


def torchrun(script: str, folder: Path, processes: int) -> str:
    """What so many processes of torch's own (gloo, CPU) print that run a script with a folder to write into."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", script]
    quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*run, str(folder)], env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=Path(__file__).parent / "golden",
        metavar="DIR",
        help="folder with <paper>/index.csv and the arrays it lists (default: tests/golden)",
    )
    parser.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where the contract of the methods is tested (default: cpu)",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """RETABLE_REQUIRE=mirror,browser: tests with these markers fail where they would be skipped."""
    report = yield
    required = os.environ.get("RETABLE_REQUIRE", "").split(",")
    missed = [name for name in required if name and item.get_closest_marker(name)]
    if report.skipped and missed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but RETABLE_REQUIRE names {missed[0]}: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """What tests counted is told at the end: inputs tried, kills survived."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    told = {line for report in reports for kind, line in getattr(report, "user_properties", ()) if kind in COUNTED}
    if told:
        terminalreporter.write_sep("-", "counted")
        for line in sorted(told):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that the tests are of."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data files that RETABLE_MIRROR names."""
    place = os.environ.get("RETABLE_MIRROR")
    if not place or not Path(place).is_dir():
        pytest.skip("RETABLE_MIRROR names no folder with the real files")
    return Path(place)
