"""What a site is drawn from, as one digest a paper: a redraw leaves alone what has the digest of before.

Imports nothing heavy: a redraw with nothing changed ends here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retable.cards import SCALES
from retable.config import Workspace
from retable.outside import named_folders, offered
from retable.probed import PROBES
from retable.report.folder import hash_files
from retable.sending import OTHERS

CODE = ("retable/**/*.*", "methods/**/*.py")
INPUTS = (".yaml", ".csv", ".bib", ".md")
# Records that stand on pages of their own.
BESIDE = ("explorations", OTHERS)
SHARED = ("datasets/*.yaml", "results/equivalence.jsonl", "results/renames.yaml", "results/published/looks.csv")


@dataclass(frozen=True)
class Keys:
    """For each paper a digest of its card, claims and records and of all code, for "" one of everything; `bases` are
    those of the papers without their records.
    """

    of: dict[str, str]
    bases: dict[str, str]


def keys_of(workspace: Workspace) -> Keys:
    """What the site would be drawn from now.

    Records that were run here count by name, size and time: there may be 100,000 of them.
    """
    root = workspace.root
    shared = hashlib.sha256(repr(workspace.config.seeds).encode())
    for pattern in (*CODE, *SHARED):
        hash_files((path for path in sorted(root.glob(pattern)) if _counts(path)), root, shared)
    keys, bases = {}, {}
    folders = {card.parent.name: card.parent for card in (root / "methods").glob("*/card.yaml")}
    # Reading all cards takes longer than all the rest, so it is done only where a paper can be elsewhere.
    elsewhere = named_folders(root, workspace.config.papers_from or ()) or offered()
    outside = workspace.outside.folders if elsewhere else {}
    for name, folder in sorted((folders | outside).items()):
        own = shared.copy()
        suffixes = (*INPUTS, ".py") if name in outside else INPUTS
        found = (path for path in sorted(folder.rglob("*")) if _counts(path) and path.suffix in suffixes)
        hash_files(found, folder, own)
        bases[name] = own.hexdigest()
        hash_files(sorted((workspace.results / "published" / name).glob("*.jsonl")), root, own)
        for scale in SCALES:
            _stamp((workspace.results / scale / name).rglob("seed-*"), own)
        keys[name] = own.hexdigest()
    whole = hashlib.sha256(repr(sorted(keys.items())).encode())
    for beside in BESIDE:
        _stamp((path for path in (workspace.results / beside).rglob("*.json*") if path.is_file()), whole)
    hash_files([*strays(workspace.results, set(keys)), *root.glob(PROBES)], root, whole)
    return Keys(keys | {"": whole.hexdigest()}, bases)


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _stamp(paths: Iterable[Path], digest: "hashlib._Hash") -> None:
    for path in sorted(paths):
        state = path.stat()
        digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())


def strays(results: Path, papers: set[str]) -> list[Path]:
    """Published files of papers that have no card: they are troubles."""
    return [path for path in sorted((results / "published").glob("*/*.jsonl")) if path.parent.name not in papers]
