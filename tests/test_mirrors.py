"""Every module has the test file that CONTRIBUTING.md names for it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEST = re.compile(r"^(    )?def test_", re.MULTILINE)
# Module -> where it is tested instead, and why there.
ELSEWHERE = {
    **dict.fromkeys(
        (f"methods/{paper}/settings.py" for paper in ("contranorm", "gcl", "gind", "lagnn", "map", "ncn", "seqtopk")),
        "tests/retable/test_settings.py",
    ),  # every cell of every paper is held against them
    **dict.fromkeys(
        (f"methods/{paper}/protocols.py" for paper in ("dynacl", "gcl", "umae")), "tests/retable/test_library.py"
    ),  # are asked through `retable.benchmark`
    "retable/experiment.py": "tests/methods/test_contract.py",  # what it asks of a paper is asked of all
    "retable/prove.py": "tests/workflow/test_prove.py",  # needs two checkouts, as Snakemake's tests do
    "retable/replay.py": "tests/workflow/test_prove.py",  # is the process that a proof starts in each of them
}


def modules() -> list[str]:
    found = [path for folder in ("retable", "methods") for path in (ROOT / folder).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name not in ("__init__.py", "__main__.py"))


def mirror_of(module: str) -> str:
    return str(Path("tests", module).with_name(f"test_{Path(module).name}"))


def holds_tests(path: str) -> bool:
    return (ROOT / path).is_file() and bool(TEST.search((ROOT / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_file_of_tests_at_its_place(module: str) -> None:
    place = ELSEWHERE.get(module, mirror_of(module))
    assert holds_tests(place), f"{module} has no test: write {place} (see CONTRIBUTING.md)"


def test_exceptions_are_modules_that_have_no_file_at_their_place() -> None:
    assert ELSEWHERE.keys() <= set(modules())
    assert [module for module in ELSEWHERE if holds_tests(mirror_of(module))] == []
    assert len(modules()) > 100
