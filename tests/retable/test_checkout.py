import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retable import checkout, prove
from retable.background import Background
from retable.cards import CardError
from retable.checkout import PACKAGES, GitKilled, Tree, described, git, require_clean, require_running, tree_of

NAME = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine, and none of a repository whose hook runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of `methods/run.py` and `results/README.md`."""
    root = tmp_path / "checkout"
    for name in ("methods/run.py", "results/README.md"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("before\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, *NAME, "commit", "--quiet", "--message", "One")
    return root


# What git says --------------------------------------------------------------------------------------------------------


def test_a_clean_checkout_names_its_commit(repository: Path) -> None:
    tree = tree_of(repository)
    assert tree == Tree(git(repository, "rev-parse", "HEAD").strip())
    assert tree.commit is not None
    assert len(tree.commit) == 40
    assert tree.clean is True


def test_a_changed_and_a_new_file_are_named(repository: Path) -> None:
    (repository / "methods/run.py").write_text("after\n")
    (repository / "retable").mkdir()
    (repository / "retable/new.py").touch()
    tree = tree_of(repository)
    assert tree.commit == git(repository, "rev-parse", "HEAD").strip()
    assert tree.changed == ("methods/run.py", "retable/new.py")
    assert tree.clean is False


@pytest.mark.parametrize("staged", [False, True])
def test_a_deleted_file_is_a_change(repository: Path, staged: bool) -> None:
    (repository / "methods/run.py").unlink()
    if staged:
        git(repository, "add", "--all")
    assert tree_of(repository).changed == ("methods/run.py",)


def test_results_and_what_git_ignores_are_no_change(repository: Path) -> None:
    (repository / ".git/info/exclude").write_text("*.log\n")
    (repository / "run.log").touch()
    (repository / "results/README.md").write_text("after\n")
    (repository / "results/full").mkdir()
    (repository / "results/full/seed-0.json").touch()
    assert tree_of(repository).clean is True
    (repository / "methods/results").mkdir()
    (repository / "methods/results/run.py").touch()
    assert tree_of(repository).changed == ("methods/results/run.py",)


def test_without_a_repository_of_its_own_a_folder_has_no_commit(repository: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for folder in (plain, repository / "methods", tmp_path / "absent"):
        tree = tree_of(folder)
        assert tree == Tree(None)
        assert tree.clean is None


def test_without_a_commit_there_is_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert tree_of(tmp_path) == Tree(None)


def test_a_linked_checkout_is_its_repositorys(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repository)
    assert tree_of(tmp_path / "link") == tree_of(repository)


def test_git_that_fails_gets_one_line(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CardError, match=r"git rev-parse in .*checkout: fatal: ") as caught:
        git(repository, "rev-parse", "--verify", "no-such-branch")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CardError, match="git is not installed"):
        git(repository, "rev-parse", "HEAD")
    assert tree_of(repository) == Tree(None)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Another git in PATH: a Python program of these lines."""
    folder.mkdir()
    (folder / "git").write_text("\n".join([f"#!{sys.executable}", "import os", *lines]))
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_stop_of_the_process_group_does_not_reach_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "bin", monkeypatch, "print(os.getpgid(0))")
    assert int(git(tmp_path, "status")) != os.getpgid(0)


@pytest.mark.parametrize(
    "ask",
    [
        tree_of,
        described,
        lambda root: prove._commit(root, "HEAD"),
        lambda root: Background(root)._commit("HEAD"),
    ],
    ids=["tree", "paper", "proof", "background"],
)
def test_a_killed_git_is_not_taken_for_no_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], object]
) -> None:
    stand_in(tmp_path / "bin", monkeypatch, "os.kill(os.getpid(), 15)")
    with pytest.raises(GitKilled, match=r"git [a-z-]+ in .*checkout was ended by SIGTERM; give the command again"):
        ask(repository)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (Tree(None), "cannot publish: the code is in no git repository, so no commit names it; work in a clone"),
        (
            Tree("a" * 40, ("run.py",)),
            "cannot publish: run.py differ from the commit; commit or stash the changes first",
        ),
        (
            Tree("a" * 40, ("run.py", "b.py", "c.py")),
            "cannot publish: run.py and 2 more differ from the commit; commit or stash the changes first",
        ),
    ],
    ids=["no repository", "one change", "three changes"],
)
def test_only_a_clean_checkout_will_do(tree: Tree, words: str) -> None:
    with pytest.raises(CardError) as caught:
        require_clean(tree, "publish")
    assert str(caught.value) == words
    assert require_clean(Tree("a" * 40), "publish") == "a" * 40


def test_a_process_asks_git_once(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "CODE_ROOT", repository)
    checkout.running_tree.cache_clear()
    try:
        before = checkout.running_tree()
        assert before == tree_of(repository)
        (repository / "new.py").touch()
        assert checkout.running_tree() is before
    finally:
        checkout.running_tree.cache_clear()


# Whose code runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGES)
def test_another_checkouts_code_is_refused(tmp_path: Path, root: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CardError) as caught:
        require_running(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path} is a checkout, but `{name}` is imported from {root / name}: run ")
    assert f"`PYTHONPATH={tmp_path} {sys.executable} -m retable ...` here" in message
    assert "\n" not in message


def test_this_checkout_links_to_it_and_folders_without_code_are_accepted(tmp_path: Path, root: Path) -> None:
    require_running(root)
    require_running(tmp_path)
    for name in PACKAGES:
        (tmp_path / name).symlink_to(root / name)
    require_running(tmp_path)
    require_running(tmp_path / "absent")


def test_the_remedy_works(tmp_path: Path, root: Path) -> None:
    """PYTHONPATH puts the other checkout's code first."""
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, tmp_path / name, ignore=ignored)
    script = "import sys; from pathlib import Path; from retable.checkout import require_running as r; r(Path.cwd())"
    for place, status in ((str(tmp_path), 0), (str(root), 1)):
        environment = {**os.environ, "PYTHONPATH": place}
        done = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == status, done.stderr
