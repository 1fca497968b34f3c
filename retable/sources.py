"""The meaning hash of a paper's sources: real edits change it, comments, docstrings and formatting do not.

It covers the modules that the story of a recipe, `methods.<paper>.run` by default, imports, directly or not, from this
project, but for `NEUTRAL` ones. So editing one story leaves the results of a paper's other stories as they are.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

# These decide when and where a run's numbers are computed and kept, not what they are: cards, plan and config enter a
# cell's identity, parsed data has its own hashes in the record, and the contract tests hold runs, resumed runs and
# reruns to the same bytes.
NEUTRAL = ("retable.cards", "retable.config", "retable.data.containers", "retable.data.fetch", "retable.data.load",
           "retable.data.readers", "retable.plan", "retable.records", "retable.train.context",
           "retable.train.checkpoint", "retable")  # fmt: skip


@cache
def source_sha256(root: Path, paper: str, story: str = "run") -> str:
    """64 hexadecimal digits over the syntax trees that decide the numbers of a paper's recipes with that story."""
    digest = hashlib.sha256()
    for name, path in sorted(imported_modules(root, f"methods.{paper}.{story}").items()):
        digest.update(f"{name}\x00{_meaning(path)}\x00".encode())
    return digest.hexdigest()


def imported_modules(root: Path, start: str) -> dict[str, Path]:
    """The project's modules that `start` reaches by import statements, itself included, without the neutral ones."""
    found: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        path = _file_of(root, name)
        if path is None or name in found or name in NEUTRAL:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _file_of(root: Path, module: str) -> Path | None:
    if module.split(".")[0] not in ("retable", "methods"):
        return None
    base = root.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _meaning(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return json.dumps(_plain(tree))


def _plain(node: object) -> object:
    """A syntax tree as lists, the same on every Python version: newer ones add fields that are empty in older code."""
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node) if value not in (None, [])}
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return f"{type(node).__name__} {node!r}"
