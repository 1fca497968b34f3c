"""docs/your-own-paper.md, executed as it stands there in an empty folder: every file is written, every command run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PATH = re.compile(r"# (papers/\S+)\n")


@pytest.fixture(scope="module")
def blocks(root: Path) -> list[tuple[str, str]]:
    return FENCE.findall((root / "docs" / "your-own-paper.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tools(root: Path, tmp_path_factory) -> Path:
    """`retable` and `snakemake` as commands of this checkout."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("retable", "snakemake"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def test_the_user_writes_few_lines(blocks) -> None:
    code = [line for kind, text in blocks if kind != "sh" for line in text.splitlines()[1:] if line.strip()]
    assert 0 < len(code) < 150


@pytest.fixture(scope="module")
def followed(blocks, tools: Path, root: Path, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder after the last step but the removal, and what each command printed."""
    place = tmp_path_factory.mktemp("empty")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RETABLE", "SNAKEMAKE"))}
    environment |= {"PATH": f"{tools}:{environment['PATH']}", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    said = {}
    for kind, text in blocks:
        if kind != "sh":
            head, _, content = text.partition("\n")
            path = place / PATH.match(f"{head}\n")[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
            continue
        for line in text.splitlines():
            if line.startswith("cd "):
                place /= line.removeprefix("cd ")
                continue
            if line.startswith("rm -r "):
                pages = (place / "reports" / "site" / "index.html").read_text(encoding="utf-8")
                said["leaderboard"] = pages
                said["paper page"] = (place / "reports/site/papers/logitnorm.html").read_text(encoding="utf-8")
                said["explorations"] = (place / "reports/site/explorations.html").read_text(encoding="utf-8")
            done = subprocess.run(
                line, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            said[line] = done.stdout
    return place, said


@pytest.mark.slow
def test_it_ends_on_the_leaderboard_with_the_verdicts_that_the_page_names(followed) -> None:
    _, said = followed
    assert "all is well" in said["retable check papers/logitnorm"]
    assert "Mitigating Neural Network Overconfidence" in said["leaderboard"]
    assert said["retable run logitnorm"].count(": ok, ") == 10
    page = said["paper page"]
    for sentence in ("less sure of what it never saw", "unseen classes from seen ones"):
        entry = page[page.index(sentence) :].partition("</li>")[0]
        words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", entry))
        assert " demo ✓ holds " in words, words


@pytest.mark.slow
def test_what_if_has_a_page_of_its_own(followed) -> None:
    _, said = followed
    assert said["explorations"].count("temperature: 0.3 →") == 2
    assert "logit-norm" in said["retable plan --papers logitnorm --variants logit-norm --set temperature=0.1"]


@pytest.mark.slow
def test_deleting_the_folder_removes_it(followed) -> None:
    place, _ = followed
    index = (place / "reports" / "site" / "index.html").read_text(encoding="utf-8")
    assert "logitnorm" not in index
    assert list((place / "results").glob("demo/logitnorm/*"))
