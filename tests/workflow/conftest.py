"""A copy of the checkout to run Snakemake in, with the project's papers or with one small invented paper."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

PARTS = ("Snakefile", "config", "datasets", "methods", "profiles", "retable", "workflows")
IGNORED = shutil.ignore_patterns("__pycache__", "raw", "*.npz")
CONFIG = "scale: demo\nwandb: {mode: disabled}\n"
CARD = """
id: tiny
title: A tiny paper
venue: Nowhere
year: 2020
link: https://example.org/paper
code: https://example.org/code
summary: It draws numbers.
statements:
  - {id: constant, text: It is constant., refuted_by: It varies., scope: digits, parts: [numbers/constant]}
tables: {T1: {title: Numbers, where: Table 1}}
recipes:
  - name: numbers
    title: Numbers
    task: drawing
    protocol: {name: last, version: 1, description: The last number., spread: seeds}
    metric: accuracy
    unit: "%"
    variants: {plain: {label: plain}}
    hyper: {epochs: {value: 3, source: ours}}
    states: [{id: constant, variant: plain, kind: constant answer, source: ours}]
    scales:
      demo: {datasets: {digits-knn: default}, seeds: 1, cost: seconds}
"""
# A random walk: its end depends on every epoch, so a lost or repeated one changes the result.
RUN = '''"""A walk."""

import time

import torch

from retable.experiment import Experiment
from retable.train.context import Result

from .settings import TinySettings


class Walk:
    """A number."""

    def __init__(self):
        self.place = torch.zeros((), dtype=torch.float64)

    def state_dict(self):
        return {"place": self.place.clone()}

    def load_state_dict(self, state):
        self.place = state["place"]


class Numbers(Experiment[TinySettings]):
    """Walk."""

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.model = Walk()

    def train(self):
        walk = self.model
        for epoch in self.context.epochs(self.settings.epochs, walk=walk):
            walk.place = walk.place + torch.rand((), dtype=torch.float64)
            self.context.log(epoch, place=float(walk.place))
            time.sleep(0.01)

    def measure(self):
        walk = self.model
        return Result({"accuracy": float(walk.place)})


EXPERIMENT = Numbers
'''
SETTINGS = """from retable.settings import Settings


class TinySettings(Settings):
    epochs: int


EXPERIMENTS = {"run": TinySettings}
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the project; Snakemake in it uses the copy's code."""

    folder: Path

    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RETABLE", "SNAKEMAKE"))}
        return kept | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--snakefile", str(self.folder / "Snakefile"), *arguments]

    def snakemake(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd or self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def retable(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "retable", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False
        )

    def results(self, name: str) -> list[Path]:
        """Files of that name in the folders of cells."""
        return sorted((self.folder / "results").glob(f"*/*/*/*/*/{name}"))

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def copy_checkout(root) -> Callable[[Path], Checkout]:
    """Copy what a run needs into a folder, nothing that runs or tools wrote."""

    def copy(folder: Path) -> Checkout:
        for part in PARTS:
            if (root / part).is_dir():
                shutil.copytree(root / part, folder / part, ignore=IGNORED)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / part, folder / part)
        (folder / "config" / "config.yaml").write_text(CONFIG)
        return Checkout(folder)

    return copy


@pytest.fixture(scope="session")
def checkout(copy_checkout, tmp_path_factory) -> Checkout:
    """The project as it is; tests only plan in it."""
    return copy_checkout(tmp_path_factory.mktemp("checkout") / "retable")


@pytest.fixture(scope="session")
def tiny_source(copy_checkout, tmp_path_factory) -> Checkout:
    """The project with one invented paper in place of its own: one cell, one seed, three epochs."""
    made = copy_checkout(tmp_path_factory.mktemp("tiny") / "retable")
    for path in (made.folder / "methods").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    paper = made.folder / "methods" / "tiny"
    paper.mkdir()
    (paper / "__init__.py").touch()
    (paper / "card.yaml").write_text(CARD)
    (paper / "settings.py").write_text(SETTINGS)
    (paper / "run.py").write_text(RUN)
    return made


@pytest.fixture
def tiny(tiny_source, tmp_path) -> Checkout:
    """A fresh copy of the tiny project, nothing measured yet."""
    return Checkout(Path(shutil.copytree(tiny_source.folder, tmp_path / "retable")))


@pytest.fixture(scope="session")
def measured_source(tiny_source, tmp_path_factory) -> Checkout:
    made = Checkout(Path(shutil.copytree(tiny_source.folder, tmp_path_factory.mktemp("measured") / "retable")))
    done = made.snakemake("--cores", "1")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def measured(measured_source, tmp_path) -> Checkout:
    """A copy of the tiny project with its cell measured and the page drawn."""
    return Checkout(Path(shutil.copytree(measured_source.folder, tmp_path / "retable")))
