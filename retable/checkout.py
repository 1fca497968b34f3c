"""Which checkout the running code is from, and what git says of it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from retable.cards import CardError

CODE_ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("retable", "methods")


@dataclass(frozen=True)
class Tree:
    """A checkout's commit and the files outside `results/` that git names as changed or new.

    `commit` is None where the code is in no git repository.
    """

    commit: str | None
    changed: tuple[str, ...] = ()

    @property
    def clean(self) -> bool | None:
        """Whether the commit holds the code that runs; None without a repository."""
        return None if self.commit is None else not self.changed


class GitKilled(OSError):
    """A signal ended git before it answered. No CardError: that would be git's answer."""


def git(root: Path, *arguments: str) -> str:
    """What git prints about the repository at `root`.

    Raises CardError with git's own words, and GitKilled where a signal ended it. Git is in a session of its own: a stop
    that is sent to this process's group does not end it.
    """
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    # Inside a hook these name another repository than `root`'s.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, start_new_session=True
        )
    except FileNotFoundError:
        raise CardError("git is not installed; retable needs it to name commits") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise GitKilled(f"git {arguments[0]} in {root} was ended by {name}; give the command again")
    if done.returncode:
        raise CardError(f"git {arguments[0]} in {root}: {' '.join(done.stderr.split()) or 'failed'}")
    return done.stdout


def tree_of(root: Path) -> Tree:
    """The commit that is checked out at `root` and what differs from it."""
    try:
        top = Path(git(root, "rev-parse", "--show-toplevel").strip())
        if top.resolve() != root.resolve():
            return Tree(None)
        commit = git(root, "rev-parse", "HEAD").strip()
        lines = git(root, "status", "--porcelain", "--untracked-files=all", "--", ".", ":(exclude)results").splitlines()
    except CardError:
        return Tree(None)
    return Tree(commit, tuple(line[3:] for line in lines))


def described(folder: Path) -> str:
    """Which commit holds a paper's folder from outside: `<commit> clean`, `<commit> changed` or `no commit`."""
    try:
        git(folder, "ls-files", "--error-unmatch", "card.yaml")
        commit = git(folder, "rev-parse", "HEAD").strip()
        return f"{commit} {'changed' if git(folder, 'status', '--porcelain', '--', '.') else 'clean'}"
    except CardError:
        return "no commit"


@cache
def running_tree() -> Tree:
    """The checkout of the code that runs, as it was when first asked in this process."""
    return tree_of(CODE_ROOT)


def require_clean(tree: Tree, purpose: str) -> str:
    """The commit of a clean tree; CardError otherwise. `purpose` completes "cannot ..."."""
    if tree.commit is None:
        raise CardError(f"cannot {purpose}: the code is in no git repository, so no commit names it; work in a clone")
    if tree.changed:
        more = f" and {len(tree.changed) - 1} more" if len(tree.changed) > 1 else ""
        raise CardError(
            f"cannot {purpose}: {tree.changed[0]}{more} differ from the commit; commit or stash the changes first"
        )
    return tree.commit


def require_running(root: Path) -> None:
    """Raises CardError where `root` is a checkout but another checkout's code runs: its sources would be hashed."""
    for name in PACKAGES:
        here = root / name
        spec = find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if here.is_dir() and here.resolve() not in places:
            program = "snakemake" if "snakemake" in sys.modules else "retable"
            what = "-m snakemake ..." if program == "snakemake" else "-m retable ..."
            raise CardError(
                f"{root} is a checkout, but `{name}` is imported from {places[0] if places else 'nowhere'}: run "
                f"`PYTHONPATH={root} {sys.executable} {what}` here, or install this checkout with "
                f"`{sys.executable} -m pip install --editable {root}`"
            )


def pass_on(root: Path) -> None:
    """Make the processes that this one starts import the code at `root`."""
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *([others] if others else [])])
