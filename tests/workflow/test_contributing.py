"""The paper that CONTRIBUTING.md shows is a whole one: it is written out as it stands there, measured and asked."""

import re
import shutil
import subprocess
import sys

import pytest

FENCE = re.compile(r"```\w+\n# (methods/toy/\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def toy(root, copy_checkout, tmp_path_factory):
    made = copy_checkout(tmp_path_factory.mktemp("toy") / "retable")
    for path in (made.folder / "methods").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    files = dict(FENCE.findall((root / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert set(files) == {f"methods/toy/{name}" for name in ("card.yaml", "settings.py", "run.py")}
    (made.folder / "methods/toy").mkdir()
    for name, text in files.items():
        (made.folder / name).write_text(text, encoding="utf-8")
    (made.folder / "methods/toy/README.md").touch()
    return made


def test_it_is_measured_and_its_page_drawn(toy):
    done = toy.retable("run", "toy")
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"toy/digits digits-knn (\w+) seed 0: ok, accuracy ([\d.]+)", done.stdout))
    assert float(found["plain"]) > 80
    assert float(found["unit"]) > 80
    assert float(found["majority"]) < 20
    assert toy.retable("report").returncode == 0
    assert "Softmax regression on digits" in (toy.folder / "reports/site/index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_keeps_what_every_paper_promises(toy, root):
    shutil.copytree(root / "tests", toy.folder / "tests", ignore=shutil.ignore_patterns("golden", "__pycache__"))
    shutil.copy(root / "pyproject.toml", toy.folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    done = subprocess.run(
        [*command, "tests/methods/test_contract.py"],
        cwd=toy.folder,
        env=toy.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_a_setting_that_it_does_not_know_is_refused_when_the_plan_is_made(toy):
    card = toy.folder / "methods/toy/card.yaml"
    text = card.read_text(encoding="utf-8")
    try:
        card.write_text(text.replace("lr: {value: 0.1,", "rl: {value: 0.1,"), encoding="utf-8")
        done = toy.retable("plan")
    finally:
        card.write_text(text, encoding="utf-8")
    assert done.returncode != 0
    assert "toy/digits digits-knn plain: unknown setting 'rl'" in done.stderr
