"""Two commits of a small paper run side by side: a clean-up is proved equal, every mutant is told apart."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HEART = '''"""The idea."""

SCALE = 0.5


def loss(weights, target):
    """Half the squared distance."""
    return SCALE * ((weights - target) ** 2).sum()


def rate(epoch, epochs):
    """The learning rate, lower at the last step."""
    if epoch == epochs:
        return 0.01
    return 0.1


def best(values):
    """Index of the largest value; the earliest wins a tie."""
    return max(range(len(values)), key=values.__getitem__)
'''
RUN = '''"""Two phases."""

import torch

from methods.tiny.heart import best, loss, rate
from retable.experiment import Experiment
from retable.train.context import Result

from .settings import TinySettings


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(3))


class Numbers(Experiment[TinySettings]):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        context.seed_torch("weights")
        self.model = Model()
        self.target = torch.ones(3)
        if context.cell.dataset == "digits-16":
            self.target = self.target + 1

    def train(self):
        s, weights = self.settings, self.model.weights
        for epoch in self.context.epochs(s.epochs, phase="early", model=self.model):
            self.descend(epoch, rate(epoch, s.epochs))
        for epoch in self.context.epochs(s.late_epochs, phase="late", model=self.model):
            with torch.no_grad():
                weights *= 0.9
            self.descend(epoch, 0.0)

    def descend(self, epoch, lr):
        weights = self.model.weights
        value = loss(weights, self.target)
        value.backward()
        with torch.no_grad():
            weights -= lr * weights.grad
        weights.grad = None
        self.context.log(epoch, loss=value.item())

    def measure(self):
        # Equal digits: which one is chosen is a matter of the tie rule.
        chosen = best([1.0, 2.0, 2.0, 0.0])
        return Result({"accuracy": float(self.model.weights.sum()), "chosen": float(chosen)})


EXPERIMENT = Numbers
'''
CHANGES: dict[str, tuple[str, str, str]] = {
    "a constant in a loss": ("heart.py", "SCALE = 0.5", "SCALE = 0.6"),
    "the last step of a schedule": ("heart.py", "return 0.01", "return 0.02"),
    "a late phase": ("run.py", "*= 0.9", "*= 0.8"),
    "a tie rule in evaluation": ("heart.py", "max(range(len(values))", "max(reversed(range(len(values)))"),
    "a line that only one data set reaches": ("run.py", "self.target + 1", "self.target + 2"),
}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(checkout) -> str:
    git(checkout.folder, "add", "--all")
    git(checkout.folder, "commit", "--quiet", "--message", "A change.")
    return git(checkout.folder, "rev-parse", "HEAD")


@pytest.fixture(scope="session")
def published_source(tiny_source, tmp_path_factory):
    """A repository with the small paper measured on two data sets and published."""
    made = type(tiny_source)(Path(shutil.copytree(tiny_source.folder, tmp_path_factory.mktemp("base") / "retable")))
    (made.folder / "methods/tiny/heart.py").write_text(HEART)
    (made.folder / "methods/tiny/run.py").write_text(RUN)
    made.edit("methods/tiny/settings.py", "    epochs: int", "    epochs: int\n    late_epochs: int")
    made.edit(
        "methods/tiny/card.yaml",
        "hyper: {epochs: {value: 3, source: ours}}",
        "hyper: {epochs: {value: 12, source: ours}, late_epochs: {value: 8, source: ours}}",
    )
    made.edit("methods/tiny/card.yaml", "{digits-knn: default}", "{digits-knn: default, digits-16: default}")
    shutil.copy(Path(__file__).parents[2] / ".gitignore", made.folder / ".gitignore")
    git(made.folder, "init", "--quiet")
    commit(made)
    assert made.retable("run").returncode == 0
    done = made.retable("publish", "tiny")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(made.folder / "results/demo")
    commit(made)
    return made


@pytest.fixture
def published(published_source, tmp_path):
    return type(published_source)(Path(shutil.copytree(published_source.folder, tmp_path / "retable")))


@pytest.fixture
def proved(published) -> Callable[..., subprocess.CompletedProcess[str]]:
    base = git(published.folder, "rev-parse", "HEAD")

    def prove(*arguments: str) -> subprocess.CompletedProcess[str]:
        return published.retable("prove", "--base", base, *arguments)

    return prove


def test_a_clean_up_leaves_all_records_current_by_proof(published, proved):
    base = git(published.folder, "rev-parse", "HEAD")
    (published.folder / "methods/tiny/inner").mkdir()
    (published.folder / "methods/tiny/inner/__init__.py").touch()
    (published.folder / "methods/tiny/heart.py").rename(published.folder / "methods/tiny/inner/idea.py")
    published.edit("methods/tiny/run.py", "from methods.tiny.heart import", "from methods.tiny.inner.idea import")
    for name, old, new in (("inner/idea.py", "def best(", "def earliest_best("), ("run.py", "best(", "earliest_best(")):
        published.edit(f"methods/tiny/{name}", old, new)
    published.edit("methods/tiny/run.py", "import best,", "import earliest_best,")
    published.edit("methods/tiny/run.py", "        chosen = ", "        unused = 1\n        chosen = ")
    published.edit("methods/tiny/run.py", '"chosen": float(chosen)', '"chosen": float(chosen), "more": 1.0')
    head = commit(published)
    assert "published: 2 stale" in published.retable("verify").stdout

    done = proved()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  equal  ") == 3  # both cells, and one of them whole
    assert f"base {base}" in done.stdout
    assert f"tree {head} at {published.folder}" in done.stdout
    (line,) = (published.folder / "results/equivalence.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert entry["added"] == ["metrics more"]
    assert (entry["base"]["commit"], entry["tree"]["commit"]) == (base, head)
    assert next(iter(entry["reference"].values())).startswith("the same bytes")
    assert "published: 2 ok" in published.retable("verify").stdout
    assert published.retable("report").returncode == 0
    page = next((published.folder / "reports/site/cells").glob("*.html")).read_text()
    assert f"measured at {git(published.folder, 'rev-parse', 'HEAD~2')[:9]}; equal by proof of {entry['date']}" in page
    # The ledger's line is the next commit; then there is nothing left to prove.
    commit(published)
    assert "already current" in proved().stderr


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=() if number == 0 else pytest.mark.slow) for number, name in enumerate(CHANGES)]
)
def test_a_mutant_is_told_apart(published, proved, change):
    name, old, new = CHANGES[change]
    published.edit(f"methods/tiny/{name}", old, new)
    commit(published)
    done = proved()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "  DIFFERS  " in done.stdout
    assert not (published.folder / "results/equivalence.jsonl").exists()
    assert "published: 2 stale" in published.retable("verify").stdout


def test_whole_seeds_prove_the_cells_that_a_change_leaves_alone(published, proved):
    name, old, new = CHANGES["a line that only one data set reaches"]
    published.edit(f"methods/tiny/{name}", old, new)
    commit(published)
    assert "--whole proves each by a whole seed" in proved().stdout
    done = proved("--whole")
    assert done.returncode == 1
    assert "1 cell equal, 1 not" in done.stdout
    entry = json.loads((published.folder / "results/equivalence.jsonl").read_text())
    assert [[cell["whole"] for cell in cells] for cells in entry["cells"].values()] == [[True]]
    assert "published: 1 ok, 1 stale" in published.retable("verify").stdout


@pytest.mark.slow
def test_runs_that_do_not_fit_side_by_side_run_one_after_the_other(published, proved, tmp_path):
    killed = tmp_path / "killed"
    published.edit(
        "methods/tiny/run.py",
        "    def train(self):\n",
        "    def train(self):\n        import os\n        import pathlib\n        import signal\n\n"
        f"        if not (mark := pathlib.Path({str(killed)!r})).exists():\n"
        "            mark.touch()\n            os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    commit(published)
    done = proved()
    assert killed.exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  equal  ") == 3


def test_what_cannot_be_proved_gets_one_line(published, proved):
    def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1

    refused(proved(), "a tree compared with itself proves nothing")
    published.edit("methods/tiny/heart.py", "SCALE = 0.5", "SCALE = 1 / 2")
    refused(proved(), "cannot prove: methods/tiny/heart.py differ")
    commit(published)
    refused(published.retable("prove", "--base", "v9"), "--base v9: no commit of")
    refused(proved("tiny/sums"), "unknown recipe 'sums'")
    refused(proved("toy"), "unknown paper 'toy'")
    refused(proved("--datasets", "korea"), "unknown data set 'korea'")
    refused(proved("--variants", "large"), "unknown variant 'large'")
    (published.folder / "results/equivalence.jsonl").write_text("{}\n")
    done = published.retable("verify")
    assert "results/equivalence.jsonl:1: no ledger entry" in done.stderr
    assert "restore the line from git or prove again" in done.stderr


def test_a_base_that_imports_this_tree_is_found_out(published, tmp_path):
    from retable.cards import CardError
    from retable.prove import Tree

    empty = tmp_path / "empty"
    empty.mkdir()
    tree = Tree(empty, "0" * 40, tmp_path / "log")
    try:
        with pytest.raises(CardError, match="instead; nothing is proved"):
            tree.check_imports()
    finally:
        tree.close()
