"""The meaning hash of an experiment's sources: real edits change it, comments, names of files and texts do not.

It covers the modules of this project that the experiment reaches by import statements, directly or not, but for
`NEUTRAL` ones, and those in `ALWAYS`. A module counts by its syntax tree without docstrings, import statements,
annotations of functions and texts of errors, and by what each imported name that it uses stands for: the content of
the module that defines it, wherever that file lies and whichever module hands it on. So moving a file is free, and
editing one experiment leaves the results of a paper's other experiments as they are.
"""

import ast
import contextlib
import hashlib
import json
import sys
from functools import cache
from pathlib import Path

from retable.homes import place_of
from retable.records import to_json, write_atomically

# These decide when and where a run's numbers are computed and kept, not what they are: cards, plan and config enter a
# cell's identity, parsed data has its own hashes in the record, and the contract tests hold runs, resumed runs and
# reruns to the same bytes. A name that one of them hands on is followed to the module that defines it.
NEUTRAL = ("retable.cards", "retable.config", "retable.data.containers", "retable.data.fetch", "retable.data.load",
           "retable.data.readers", "retable.plan", "retable.records", "retable.train.context",
           "retable.train.checkpoint", "retable")  # fmt: skip
# Every run goes through these, whatever its experiment imports.
ALWAYS = ("retable.train.randomness", "retable.train.determinism")
TOPS = ("retable", "methods")


# Below a checkout: hashes that were computed before, and the digest of the files that they are of.
KEPT = Path("results/.state/sources.json")


@cache
def source_sha256(root: Path, paper: str, experiment: str = "run") -> str:
    """64 hexadecimal digits over what decides the numbers of a paper's recipes with that experiment module."""
    start, files = f"methods.{paper}.{experiment}", _files_at_first(root)
    kept, key = _kept(root, files), f"{start} {_outside(root, paper)}".strip()
    if key in kept:
        return kept[key]
    contents = {name: _content(root, name) for name in imported_modules(root, start)}
    computed = _sha256([contents.get(start, ""), *sorted(set(contents.values()))])
    # An edit meanwhile, or since this process read a file, would be kept under a digest that it does not belong to.
    if (root / "results").is_dir() and _files(root) == files and key == f"{start} {_outside(root, paper)}".strip():
        with contextlib.suppress(OSError):
            kept = {**_kept(root, files), key: computed}
            write_atomically(root / KEPT, to_json({"files": files, "hashes": kept}))
    return computed


def _kept(root: Path, files: str) -> dict[str, str]:
    """Module -> hash as computed before from the same files."""
    try:
        found = json.loads((root / KEPT).read_text(encoding="utf-8"))
        return dict(found["hashes"]) if found["files"] == files else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@cache
def _files_at_first(root: Path) -> str:
    """`_files` before this process read any of them."""
    return _files(root)


def _files(root: Path) -> str:
    """Hash of the project's files of code, and of the version of Python, which parses them."""
    return _sha256([sys.version, *(line for top in TOPS for line in _lines(place_of(root, top)))])


def _outside(root: Path, paper: str) -> str:
    """Hash of the files of a paper from outside the suite; empty for the suite's own, which `_files` has."""
    folder, own = place_of(root, f"methods.{paper}"), place_of(root, "methods")
    return "" if own is None or folder == own / paper else _sha256(_lines(folder))


def _lines(folder: Path | None) -> list[str]:
    """A line for each file of code below a folder."""
    paths = sorted(folder.rglob("*.py")) if folder else []
    return [f"{path.relative_to(folder.parent)} {_sha256_of(path)}" for path in paths if folder]


def forget() -> None:
    """Forget what was read: a paper's id now names another folder."""
    for function in (source_sha256, _file_of, _tree, _imports, _read_from_modules, _definition, _defined, _content,
                     _meaning, _bare):  # fmt: skip
        function.cache_clear()


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def imported_modules(root: Path, start: str) -> dict[str, Path]:
    """The project's modules that `start` reaches, itself, the packages around them and `ALWAYS` included, without the
    neutral ones.
    """
    found: dict[str, Path] = {}
    waiting = [start, *ALWAYS]
    while waiting:
        name = waiting.pop()
        path = _file_of(root, name)
        if path is None or name in found or _neutral(name):
            continue
        found[name] = path
        waiting += _packages(name)
        for _, target, attribute in (*_imports(root, name), *_read_from_modules(root, name)):
            waiting += [target, *_packages(target)]
            if attribute:
                waiting.append(_definition(root, target, attribute)[0])
    return found


def _neutral(name: str) -> bool:
    return name in NEUTRAL


def _packages(name: str) -> list[str]:
    """`a`, `a.b` of `a.b.c`: Python runs them first."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


@cache
def _file_of(root: Path, module: str) -> Path | None:
    base = place_of(root, module)
    if base is None:
        return None
    # A paper's folder may lie anywhere: a file beside it that is called like it is not its code.
    files = () if module.count(".") == 1 and module.startswith("methods.") else (base.with_suffix(".py"),)
    for path in (*files, base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(root: Path, name: str) -> tuple[tuple[str, str, str], ...]:
    """(local name, module, attribute) of each imported name; the attribute is empty where a module is imported."""
    path = _file_of(root, name)
    if path is None:
        return ()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append((alias.asname or alias.name.split(".")[0], alias.name, ""))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                local, inner = alias.asname or alias.name, f"{base}.{alias.name}"
                found.append((local, inner, "") if _file_of(root, inner) else (local, base, alias.name))
    return tuple(found)


@cache
def _read_from_modules(root: Path, name: str) -> tuple[tuple[str, str, str], ...]:
    """As `_imports`: names that a module reads from one that it imports (`losses.loss`) and that hands them on."""
    path = _file_of(root, name)
    if path is None:
        return ()
    modules = {local: target for local, target, attribute in _imports(root, name) if not attribute}
    found = []
    for node in ast.walk(_bare(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            if _definition(root, module, node.attr)[0] != module:
                found.append((f"{node.value.id}.{node.attr}", module, node.attr))
    return tuple(found)


@cache
def _definition(root: Path, module: str, attribute: str) -> tuple[str, str]:
    """The module that defines what `from module import attribute` gives, and its name there; "" for a whole module."""
    seen = set()
    while (module, attribute) not in seen:
        seen.add((module, attribute))
        path = _file_of(root, module)
        if path is None or attribute in _defined(path):
            break
        handed = [(target, name) for local, target, name in _imports(root, module) if local == attribute]
        if not handed:
            break
        module, attribute = handed[-1]
        if not attribute:
            break
    return module, attribute


@cache
def _defined(path: Path) -> frozenset[str]:
    """Names that a module binds at its top level other than by imports."""
    found: set[str] = set()
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return frozenset(found)


@cache
def _content(root: Path, name: str) -> str:
    """Hash of a module: its own meaning and what the imported names that it uses stand for."""
    path = _file_of(root, name)
    assert path is not None
    used = {node.id for node in ast.walk(_bare(path)) if isinstance(node, ast.Name)}
    names = [*(imported for imported in _imports(root, name) if imported[0] in used), *_read_from_modules(root, name)]
    bindings = {json.dumps([local, *_stands_for(root, *where)]) for local, *where in names}
    return _sha256([_meaning(path), *sorted(bindings)])


def _stands_for(root: Path, module: str, attribute: str) -> list[str]:
    """What an imported name means: a module's content and a name in it; for foreign modules their name."""
    if attribute:
        module, attribute = _definition(root, module, attribute)
    path = _file_of(root, module)
    if path is None:
        return [module, attribute]
    return ["neutral" if _neutral(module) else _meaning(path), attribute]


@cache
def _meaning(path: Path) -> str:
    """Hash of a file's syntax tree without docstrings, imports, annotations of functions and texts of errors."""
    return _sha256([json.dumps(_plain(_bare(path)))])


@cache
def _bare(path: Path) -> ast.Module:
    return _Bare().visit(ast.parse(path.read_text(encoding="utf-8")))


class _Bare(ast.NodeTransformer):
    """Takes out what decides no number."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        # A field keeps its annotation: settings are parsed by it.
        members = [member if isinstance(member, ast.AnnAssign) else self.visit(member) for member in _body(node)]
        node.body = [member for member in members if member is not None]
        return node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self._without_docstring(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        named = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if named == ["__all__"] else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def _without_docstring(self, node):
        node.body = _body(node)
        return self.generic_visit(node)


def _body(node) -> list[ast.stmt]:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return node.body


def _plain(node: object) -> object:
    """A syntax tree as lists, the same on every Python version: newer ones add fields that are empty in older code."""
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node) if value not in (None, [])}
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return f"{type(node).__name__} {node!r}"


def _sha256(parts: list[str]) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()
