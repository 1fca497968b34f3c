"""The dependency list, the lock file, the conda front door and the documents agree with each other and the code."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from retable.cli import _parser
from retable.config import Config, Wandb
from retable.extras import DISTRIBUTIONS

# Needed without being imported: Snakemake runs the package, its report needs pygments, timm needs torchvision's
# matching build, and ogb and timm are there for the papers that are planned.
NOT_IMPORTED = {
    "snakemake",
    "pygments",
    "torchvision",
    "ogb",
    "timm",
    "torch-geometric",
    "pandas",
    "tensorboard",
    "atheris",
    "tabulate",
}
HASHED = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n?)+)", re.MULTILINE)
# Extras of those who work on the suite, or run it elsewhere.
NOT_OURS = {"dev", "slurm"}


@pytest.fixture(scope="module")
def project(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def lock(root) -> list[Requirement]:
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def requirements(project: dict) -> list[Requirement]:
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    found = [Requirement(text) for text in project["dependencies"] + extras]
    return [requirement for requirement in found if requirement.name != "retable"]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "arm64"])
def test_the_lock_pins_every_dependency_inside_its_range(project, lock, machine):
    pins: dict[str, str] = {}
    for pin in lock:
        if pin.marker is None or pin.marker.evaluate({"platform_machine": machine}):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"{name} is pinned twice on {machine}"
            pins[name] = next(iter(pin.specifier)).version
    for wanted in requirements(project):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


def test_the_lock_names_no_hosts_and_no_paths(root):
    for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r'#.*|[a-z0-9-]+==[0-9a-z.]+(; platform_machine (==|!=) "aarch64")?', line), line


def test_the_lock_with_hashes_has_the_same_versions(root, lock):
    text = (root / "requirements-hashed.lock").read_text(encoding="utf-8")
    hashed = {entry[1]: (entry[2], entry[3]) for entry in HASHED.finditer(text)}
    here = {"platform_machine": "x86_64", "sys_platform": "linux"}
    pins = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in lock
        if pin.marker is None or pin.marker.evaluate(here)
    }
    assert len(hashed) > 100
    for name, (version, hashes) in hashed.items():
        assert "--hash=sha256:" in hashes, name
        if name in pins:  # what torch pins itself is in the one with hashes only
            assert version == pins[name], name
    assert {"torch", "snakemake", "pydantic"} <= set(hashed)
    assert "://" not in text


def test_conda_installs_the_package_and_nothing_else(root, project):
    environment = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["--constraint requirements.lock", "--editable .[all]"]}
    python = next(Requirement(text.replace("=", "==")) for text in conda if text.startswith("python"))
    version = next(iter(python.specifier)).version
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)
    assert conda == [f"python={version}", "pip"]


def test_imports_and_dependencies_agree(root, project):
    imported = set()
    for folder in ("retable", "methods"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.split(".")[0])
    imported -= {"retable", "methods", *sys.stdlib_module_names}
    used = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in imported}
    groups = project["optional-dependencies"]
    texts = [text for name, group in groups.items() if name not in NOT_OURS for text in group]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"] + texts} - {"retable"}
    assert used <= declared, f"imported but not declared: {used - declared}"
    assert declared <= used | NOT_IMPORTED, f"declared but not used: {declared - used - NOT_IMPORTED}"


def test_patching_a_model_needs_few_packages(project):
    assert {Requirement(text).name for text in project["dependencies"]} == {
        "torch", "numpy", "pydantic", "pyyaml", "filelock",
    }  # fmt: skip
    code = (
        "import builtins\n"
        "original, ours = builtins.__import__, ('retable', 'methods')\n"
        "few = ('torch', 'numpy', 'pydantic', 'yaml', 'filelock', 'transformers', *ours)\n"
        "def strict(name, globals=None, locals=None, fromlist=(), level=0):\n"
        "    by, top = (globals or {}).get('__name__', '').split('.')[0], name.split('.')[0]\n"
        "    assert by not in ours or level or top in few or top in sys.stdlib_module_names, f'{by} imports {name}'\n"
        "    return original(name, globals, locals, fromlist, level)\n"
        "import sys\n"
        "builtins.__import__ = strict\n"
        "import retable, methods.seqtopk.hf, methods.contranorm.hf, retable.cli, retable.scaffold\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory) -> Path:
    """What a wheel would hold, laid out as its configuration says."""
    site = tmp_path_factory.mktemp("site")
    wheel = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    ignored = shutil.ignore_patterns("__pycache__", "raw")
    for name in wheel["only-include"]:
        shutil.copytree(root / name, site / wheel["sources"].get(name, name), ignore=ignored)
    for name, target in wheel["force-include"].items():
        shutil.copy(root / name, site / target)
    return site


def test_a_wheel_has_one_package_and_works_outside_of_a_checkout(installed, tmp_path):
    assert [path.name for path in installed.iterdir()] == ["retable"]
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def call(*arguments: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("-m", "retable", "init", "lab")
    lab = tmp_path / "lab"
    assert {"Snakefile", "config", "profiles", "workflows", "papers"} <= {path.name for path in lab.iterdir()}
    said = call("-m", "retable", "run", "contranorm/node-depth", "--variants", "majority", "--seeds", "1", cwd=lab)
    assert "contranorm/node-depth digits-knn majority seed 0: ok" in said
    assert "cora " in call("-m", "retable", "data", "list", cwd=lab)
    code = "import retable, methods.seqtopk; print(methods.seqtopk.__file__)"
    assert call("-c", code).strip() == str(installed / "retable/suite/methods/seqtopk/__init__.py")


def documents(root: Path) -> dict[str, str]:
    names = ("README.md", "CONTRIBUTING.md", "config/README.md", "results/README.md", "reports/README.md")
    names += ("docs/your-own-paper.md", "docs/installing.md")
    return {name: (root / name).read_text(encoding="utf-8") for name in names}


def test_documents_name_make_targets_that_exist(root):
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name, text in documents(root).items():
        named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
        assert named <= targets, name


def test_documents_name_commands_that_exist(root):
    commands = set(re.findall(r"[a-z]+", str(_parser()._subparsers._group_actions[0].choices.keys())))
    for name, text in documents(root).items():
        named = set(re.findall(r"`retable ([a-z]+)", text)) | set(re.findall(r"^retable ([a-z]+)", text, re.MULTILINE))
        assert named <= commands, name


def test_documents_link_files_that_exist(root):
    for name, text in documents(root).items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert ((root / name).parent / target).exists(), f"{name} links {target}"


def test_the_readme_lists_every_paper_that_has_a_card(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    for card in (root / "methods").glob("*/card.yaml"):
        assert f"](methods/{card.parent.name}/README.md)" in readme, f"README.md lists no {card.parent.name}"


def test_the_settings_page_lists_every_setting(root):
    rows = re.findall(r"^\| `([a-z_.]+)`", (root / "config/README.md").read_text(encoding="utf-8"), re.MULTILINE)
    nested = {f"wandb.{key}" for key in Wandb.model_fields}
    assert set(rows) == (set(Config.model_fields) - {"wandb"}) | nested
