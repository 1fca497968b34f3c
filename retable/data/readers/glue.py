"""GLUE's tab-separated files (Wang et al., ICLR 2019, https://arxiv.org/abs/1804.07461)."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard, unknown
from retable.data.containers import DataError
from retable.data.readers.splits import named_order
from retable.data.sentence_sets import SentenceSet, SentenceSplit

# Name of a split -> rows for training and for choosing, both from the training part.
SUBSETS = {"subset-2000": (2000, 400)}
Row = tuple[tuple[str, ...], float]  # texts, label


@dataclass(frozen=True)
class Layout:
    """Where a task's files keep what: names of columns (or their numbers, without a header line) and the classes."""

    texts: dict[str, str | int]
    label: str | int
    classes: dict[str, str]  # as written in the file -> what it means; none for a score
    header: bool = True
    dev: str = "dev.tsv"
    broken_rows: bool = False  # rows with too few fields are left out, as GLUE's users do


PAIR: dict[str, str | int] = {"sentence1": "sentence1", "sentence2": "sentence2"}
ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
THREE = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
TASKS = {
    "CoLA": Layout({"sentence1": 3}, 1, {"0": "unacceptable", "1": "acceptable"}, header=False),
    "MNLI-m": Layout(PAIR, "gold_label", THREE, dev="dev_matched.tsv"),
    "MNLI-mm": Layout(PAIR, "gold_label", THREE, dev="dev_mismatched.tsv"),
    "QNLI": Layout({"sentence1": "question", "sentence2": "sentence"}, "label", ENTAILMENT),
    "QQP": Layout(
        {"sentence1": "question1", "sentence2": "question2"},
        "is_duplicate",
        {"0": "not_duplicate", "1": "duplicate"},
        broken_rows=True,
    ),
    "RTE": Layout(PAIR, "label", ENTAILMENT),
    "SST-2": Layout({"sentence1": "sentence"}, "label", {"0": "negative", "1": "positive"}),
    "STS-B": Layout(PAIR, "score", {}),
    "WNLI": Layout(PAIR, "label", {"0": "not_entailment", "1": "entailment"}),
}
# MRPC comes as its authors' training file and a list of the rows that GLUE has set aside as development rows.
MRPC = Layout(
    {"sentence1": "#1 String", "sentence2": "#2 String", "id1": "#1 ID", "id2": "#2 ID"},
    "Quality",
    {"0": "not_equivalent", "1": "equivalent"},
)


def glue(card: DatasetCard, raw: Path) -> SentenceSet:
    """Read `train.tsv` and `dev.tsv` of the option `task`; quotes are characters like others, as GLUE has them.

    MNLI has two development files, each a task of its own (`MNLI-m`, `MNLI-mm`); MRPC is read from
    `msr_paraphrase_train.txt` and `mrpc_dev_ids.tsv`.

    The test part has no labels and is not read: papers report on the development rows, which are `test` in every split
    here. `official`: all training rows, none to choose on. `held-out`: a tenth of the training rows to choose on.
    `subset-2000`: 2,000 and 400 training rows, where there are more. The names of data set and split decide which.
    Raises DataError that names file and line for a row that has no such columns or label.
    """
    task = str(card.options["task"])
    if task not in (*TASKS, "MRPC"):
        raise DataError(f"{card.name}: {unknown('GLUE task', task, [*TASKS, 'MRPC'])}")
    layout = MRPC if task == "MRPC" else TASKS[task]
    names = ("msr_paraphrase_train.txt", "mrpc_dev_ids.tsv") if task == "MRPC" else ("train.tsv", layout.dev)
    files = {Path(file.path).name: file.path for file in card.files}
    if missing := set(names) - set(files):
        raise DataError(f"{card.name}: the card lacks the GLUE files {sorted(missing)}")
    first, second = (files[name] for name in names)
    if task == "MRPC":
        train, dev = _mrpc(raw, first, second)
        layout = replace(layout, texts=PAIR)
    else:
        train, dev = _rows(raw, first, layout), _rows(raw, second, layout)
    texts, labels = zip(*train, *dev, strict=True)
    columns = dict(zip(layout.texts, zip(*texts, strict=True), strict=True))
    splits = _splits(card.name, len(train), len(dev))
    return SentenceSet(card.name, columns, np.array(labels), tuple(layout.classes.values()), splits)


def _splits(dataset: str, train: int, dev: int) -> dict[str, SentenceSplit]:
    test = np.arange(train, train + dev)
    splits = {"official": SentenceSplit(np.arange(train), np.arange(0), test)}
    sizes = {"held-out": (train - train // 10, train // 10)} | SUBSETS
    for name, (fitted, chosen) in sizes.items():
        if fitted + chosen <= train and (name == "held-out" or fitted + chosen < train):
            order = named_order(dataset, name, train)
            first, second = np.sort(order[:fitted]), np.sort(order[fitted : fitted + chosen])
            splits[name] = SentenceSplit(first, second, test)
    return splits


def _mrpc(raw: Path, train: str, dev: str) -> tuple[list[Row], list[Row]]:
    """The rows of `train`, parted by the pairs of numbers that `dev` lists."""
    listed = {tuple(pair) for line in _lines(raw, dev) if (pair := line.split("\t"))[0].isdigit()}
    parts: tuple[list[Row], list[Row]] = ([], [])
    for (first, second, *numbers), label in _rows(raw, train, MRPC):
        parts[tuple(numbers) in listed].append(((first, second), label))
    if len(parts[1]) != len(listed):
        raise DataError(f"{dev}: lists {len(listed)} pairs, of which {train} holds {len(parts[1])}")
    return parts


def _lines(raw: Path, path: str) -> list[str]:
    # Not splitlines: a few sentences hold characters that it takes for line ends.
    return (raw / path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")


def _rows(raw: Path, path: str, layout: Layout) -> list[Row]:
    lines = _lines(raw, path)
    start = 1 if layout.header else 0
    names: list[str | int] = list(lines[0].split("\t")) if layout.header else list(range(lines[0].count("\t") + 1))
    try:
        places, label = [names.index(column) for column in layout.texts.values()], names.index(layout.label)
    except ValueError as error:
        raise DataError(f"{path}: line 1 has the columns {names}, not all that are needed: {error}") from None
    classes = list(layout.classes)
    rows = []
    for number, line in enumerate(lines[start:], start=start + 1):
        fields = line.split("\t")
        if layout.broken_rows and len(fields) < len(names):
            continue
        if len(fields) != len(names):
            raise DataError(f"{path}: line {number} has {len(fields)} fields, line 1 has {len(names)}")
        try:
            value = float(classes.index(fields[label]) if classes else fields[label])
        except ValueError:
            raise DataError(f"{path}: line {number} has the label {fields[label]!r}") from None
        rows.append((tuple(fields[place] for place in places), value))
    return rows
