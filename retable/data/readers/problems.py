"""Problems with a written answer: one JSON object a line, as their authors publish them."""

import gzip
import json
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard
from retable.data.containers import DataError
from retable.data.readers.splits import named_order
from retable.data.sentence_sets import SentenceSet, SentenceSplit

# Name of a split -> problems for training, for choosing (both from the training part) and for testing.
SUBSETS = {"subset-256": (256, 32, 64)}


def json_lines(card: DatasetCard, raw: Path) -> SentenceSet:
    """Read the columns that the option `columns` names, separated by spaces, from `.jsonl` or `.jsonl.gz` files.

    Files whose name begins with `train` are the training part and come first. Splits: `official`, and, where there are
    problems enough, `subset-256`; which ones, the names of data set and split decide. Raises DataError that names file
    and line for a line that is no such object.
    """
    names = str(card.options["columns"]).split()
    files = sorted((file.path for file in card.files), key=lambda path: not _is_train(path))
    parts = [_rows(raw, path, names) for path in files]
    rows = [row for part in parts for row in part]
    train = sum(len(part) for path, part in zip(files, parts, strict=True) if _is_train(path))
    columns = {name: tuple(row[name] for row in rows) for name in names}
    return SentenceSet(card.name, columns, None, (), _splits(card.name, train, len(rows)))


def code_problems(card: DatasetCard, raw: Path) -> SentenceSet:
    """Instructions with code to learn from, and HumanEval's functions to write: CodeAlpaca and HumanEval together.

    The training part is a `.json` list of objects with `instruction`, `input` and `output`, the test part a `.jsonl.gz`
    file as HumanEval's. Columns: `question`, `answer`, and, empty in the training part, `test` and `entry_point`.
    Splits as in `json_lines`. Raises DataError that names the file, and the line or the place in the list.
    """
    train, test = (next(file.path for file in card.files if file.path.endswith(end)) for end in (".json", ".jsonl.gz"))
    rows = [
        {
            "question": f"{row['instruction']}\n{row['input']}".strip(),
            "answer": row["output"],
            "test": "",
            "entry_point": "",
        }
        for row in _list(raw, train, ["instruction", "input", "output"])
    ]
    fitted = len(rows)
    for row in _rows(raw, test, ["prompt", "canonical_solution", "test", "entry_point"]):
        names = {"question": "prompt", "answer": "canonical_solution", "test": "test", "entry_point": "entry_point"}
        rows.append({ours: row[theirs] for ours, theirs in names.items()})
    columns = {name: tuple(row[name] for row in rows) for name in rows[0]}
    return SentenceSet(card.name, columns, None, (), _splits(card.name, fitted, len(rows)))


def _is_train(path: str) -> bool:
    return Path(path).name.startswith("train")


def _splits(dataset: str, train: int, rows: int) -> dict[str, SentenceSplit]:
    places = np.arange(rows)
    splits = {"official": SentenceSplit(places[:train], places[:0], places[train:])}
    for name, (fitted, chosen, tested) in SUBSETS.items():
        if fitted + chosen <= train and tested <= rows - train:
            order = named_order(dataset, name, rows)
            first, last = order[order < train], order[order >= train]
            parts = first[:fitted], first[fitted : fitted + chosen], last[:tested]
            splits[name] = SentenceSplit(*(np.sort(part) for part in parts))
    return splits


def _rows(raw: Path, path: str, names: list[str]) -> list[dict[str, str]]:
    content = (raw / path).read_bytes()
    try:
        text = (gzip.decompress(content) if path.endswith(".gz") else content).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not UTF-8 text{' in gzip' * path.endswith('.gz')}: {error}") from None
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON: {error}") from None
        if not isinstance(row, dict) or any(not isinstance(row.get(name), str) for name in names):
            raise DataError(f"{path}: line {number} lacks texts named {', '.join(names)}")
        rows.append({name: row[name] for name in names})
    return rows


def _list(raw: Path, path: str, names: list[str]) -> list[dict[str, str]]:
    try:
        rows = json.loads((raw / path).read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise DataError(f"{path} holds no list")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or any(not isinstance(row.get(name), str) for name in names):
            raise DataError(f"{path}: object {number} lacks texts named {', '.join(names)}")
    return rows
