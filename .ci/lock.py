"""Write requirements.lock: the versions that pip resolves for the package and its extras, as constraints.

Constraints only say which version is taken if a package is installed, so one file serves all platforms and
Python versions. torch differs by platform; the CUDA packages that it pins itself are left out.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The newest that is built for Linux on ARM.
ARM = {"torch": "2.9.1", "torchvision": "0.24.1"}
PINNED_BY_TORCH = re.compile(r"nvidia-|cuda-|triton$")
HEAD = """\
# Versions that were tested together, for `pip install --constraint`. Written by `make lock`.
"""
HASHED_HEAD = """\
# The versions of requirements.lock with the hashes of their files, for installations that are not editable, on x86-64
# Linux with Python 3.11:
#   pip install --require-hashes -r requirements-hashed.lock && pip install --no-deps .
# Written by `make lock`.
"""


def resolve() -> dict[str, str]:
    """Name -> version of what an installation with all extras holds, but for the package itself."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), ".[dev,slurm,fuzz,molecules]"], cwd=ROOT, check=True)
        found = json.loads(report.read_text())["install"]
    versions = {item["metadata"]["name"]: item["metadata"]["version"] for item in found}
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in versions.items() if name != "retable"}


def lines(versions: dict[str, str]) -> list[str]:
    """Constraints in alphabetical order, with markers where platforms differ."""
    out = []
    for name, version in sorted(versions.items()):
        if PINNED_BY_TORCH.match(name):
            continue
        version = version.partition("+")[0]
        if name in ARM:
            out.append(f'{name}=={version}; platform_machine != "aarch64"')
            out.append(f'{name}=={ARM[name]}; platform_machine == "aarch64"')
        else:
            out.append(f"{name}=={version}")
    return out


def write_hashed() -> None:
    """The same versions with the hashes of their files, by uv, for one platform."""
    command = ["uv", "pip", "compile", "--quiet", "pyproject.toml", "--extra", "all", "--python-version", "3.11"]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--constraint", "requirements.lock"]
    command += ["--generate-hashes", "--no-header", "--no-annotate"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (ROOT / "requirements-hashed.lock").write_text(HASHED_HEAD + done.stdout, encoding="utf-8")


if __name__ == "__main__":
    (ROOT / "requirements.lock").write_text(HEAD + "\n".join(lines(resolve())) + "\n", encoding="utf-8")
    if shutil.which("uv"):
        write_hashed()
    else:
        sys.exit("requirements-hashed.lock is as it was: uv writes it, and is not installed")
