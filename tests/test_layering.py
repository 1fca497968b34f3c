"""Who may import whom: the graph and the pages are built without torch, and the engine knows no method by name."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = ("torch", "torch_geometric", "pandas", "timm", "transformers", "wandb", "sklearn")
# The job graph imports the first four at every start; jobs, cli and the pages come before and after training.
LIGHT = (
    "retable.cards",
    "retable.plan",
    "retable.config",
    "retable.sources",
    "retable.records",
    "retable.rows",
    "retable.significance",
    "retable.orders",
    "retable.states",
    "retable.statements",
    "retable.verdicts",
    "retable.background",
    "retable.checkout",
    "retable.currency",
    "retable.ledger",
    "retable.looks",
    "retable.publishing",
    "retable.tasks",
    "retable.renames",
    "retable.preflight",
    "retable.bundles",
    "retable.progress",
    "retable.output",
    "retable.cluster",
    "retable.doctor",
    "retable.schemas",
    "retable.jobs",
    "retable.homes",
    "retable.outside",
    "retable.whatif",
    "retable.extras",
    "retable.scaffold",
    "retable.compare",
    "retable.sending",
    "retable.cli",
    "retable.report",
    "retable.assessments",
    "retable.frames",
)
RUNNING = ("data", "nn", "train", "evaluate", "run.py", "children.py")
READING = (
    "retable.assessments",
    "retable.frames",
    "retable.rows",
    "retable.orders",
    "retable.states",
    "retable.statements",
    "retable.verdicts",
    "retable.significance",
    "retable.report",
    "retable.cli",
    "retable.jobs",
)
VERDICTS_MAY = {"scipy", "numpy", "retable"}
VERDICTS_OF_RETABLE = {
    f"retable.{name}"
    for name in (
        "cards",
        "currency",
        "looks",
        "orders",
        "plan",
        "records",
        "rows",
        "significance",
        "statements",
        "states",
    )
}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # What is imported relatively lies in the same folder, and keeps its dots.
            above = "." * node.level
            yield f"{above}{node.module or ''}"
            yield from (f"{above}{node.module or ''}.{alias.name}" for alias in node.names)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_light_modules_import_no_heavy_library(root):
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [h for h in {HEAVY!r} if h in sys.modules]\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_engine_imports_no_method(root):
    for path in sources(root / "retable"):
        assert not [name for name in imports(path) if name.split(".")[0] == "methods"], path


def test_methods_are_loaded_in_one_place(root):
    loaders = {
        path.relative_to(root).as_posix()
        for path in sources(root / "retable")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func)
        if "methods" in ast.unparse(node)
    }
    assert loaders == {"retable/settings.py"}


# Layers that another paper's variants contain: they stay in the folder of the paper that they come from.
SHARED_LAYERS = ("methods.contranorm.norm",)


def test_a_paper_imports_no_other_paper(root):
    for folder in sorted(path.parent for path in (root / "methods").glob("*/card.yaml")):
        for path in sources(folder):
            others = [
                name
                for name in imports(path)
                if name.startswith("methods.") and name.split(".")[1] != folder.name
                if not name.startswith(SHARED_LAYERS)
            ]
            assert not others, path


def test_verdicts_need_only_scipy(root):
    for name in ("verdicts", "statements", "states", "orders", "rows", "looks", "significance"):
        for module in imports(root / "retable" / f"{name}.py"):
            top = module.split(".")[0]
            assert top in VERDICTS_MAY or top in sys.stdlib_module_names, f"{name} imports {module}"
            if top == "retable":
                assert any(module == ok or module.startswith(f"{ok}.") for ok in VERDICTS_OF_RETABLE), module


@pytest.mark.parametrize("part", RUNNING)
def test_what_runs_knows_nothing_of_what_reads_records(root, part):
    place = root / "retable" / part
    for path in sources(place) if place.is_dir() else [place]:
        assert not [name for name in imports(path) if name.startswith(READING)], path
