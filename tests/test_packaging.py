"""The dependency list, the lock file, the conda front door and the documents agree with each other and the code."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from retable.cli import _parser
from retable.config import Config, Wandb

# Import name -> distribution, where they differ.
DISTRIBUTIONS = {"yaml": "pyyaml", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python", "PIL": "pillow"}
# Needed without being imported: Snakemake runs the package, its report needs pygments, timm needs torchvision's
# matching build, and ogb and timm are there for the papers that are planned.
NOT_IMPORTED = {"snakemake", "pygments", "torchvision", "ogb", "timm", "torch-geometric", "pandas"}


@pytest.fixture(scope="module")
def project(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def lock(root) -> list[Requirement]:
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def requirements(project: dict) -> list[Requirement]:
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in project["dependencies"] + extras]


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


def test_conda_installs_the_package_and_nothing_else(root, project):
    environment = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["--constraint requirements.lock", "--editable ."]}
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
    # The extra `molecules` is imported by one reader, which says what to install where it is missing.
    texts = project["dependencies"] + project["optional-dependencies"]["molecules"]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    assert used <= declared, f"imported but not declared: {used - declared}"
    assert declared <= used | NOT_IMPORTED, f"declared but not used: {declared - used - NOT_IMPORTED}"


def documents(root: Path) -> dict[str, str]:
    names = ("README.md", "CONTRIBUTING.md", "config/README.md", "results/README.md", "reports/README.md")
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
