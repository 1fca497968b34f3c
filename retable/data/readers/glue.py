"""GLUE's tab-separated files (Wang et al., ICLR 2019, https://arxiv.org/abs/1804.07461)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retable.cards import DatasetCard, unknown
from retable.data.containers import DataError
from retable.data.readers.splits import named_order
from retable.data.sentence_sets import SentenceSet, SentenceSplit

# Name of a split -> rows for training and for choosing, both from the training part.
SUBSETS = {"subset-2000": (2000, 400)}


@dataclass(frozen=True)
class Layout:
    """Where a task's files keep what: names of columns (or their numbers, without a header line) and the classes."""

    texts: dict[str, str | int]
    label: str | int
    classes: dict[str, str]  # as written in the file -> what it means; none for a score
    header: bool = True


PAIR: dict[str, str | int] = {"sentence1": "sentence1", "sentence2": "sentence2"}
TASKS = {
    "CoLA": Layout({"sentence1": 3}, 1, {"0": "unacceptable", "1": "acceptable"}, header=False),
    "RTE": Layout(PAIR, "label", {"entailment": "entailment", "not_entailment": "not_entailment"}),
    "SST-2": Layout({"sentence1": "sentence"}, "label", {"0": "negative", "1": "positive"}),
    "STS-B": Layout(PAIR, "score", {}),
    "WNLI": Layout(PAIR, "label", {"0": "not_entailment", "1": "entailment"}),
}


def glue(card: DatasetCard, raw: Path) -> SentenceSet:
    """Read `train.tsv` and `dev.tsv` of the option `task`; quotes are characters like others, as GLUE has them.

    The test part has no labels and is not read: papers report on the development rows, which are `test` in every split
    here. `official`: all training rows, none to choose on. `held-out`: a tenth of the training rows to choose on.
    `subset-2000`: 2,000 and 400 training rows, where there are more. The names of data set and split decide which.
    Raises DataError that names file and line for a row that has no such columns or label.
    """
    task = str(card.options["task"])
    if task not in TASKS:
        raise DataError(f"{card.name}: {unknown('GLUE task', task, list(TASKS))}")
    layout = TASKS[task]
    files = {Path(file.path).name: file.path for file in card.files}
    if missing := {"train.tsv", "dev.tsv"} - set(files):
        raise DataError(f"{card.name}: the card lacks the GLUE files {sorted(missing)}")
    train, dev = (_rows(raw, files[name], layout) for name in ("train.tsv", "dev.tsv"))
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


def _rows(raw: Path, path: str, layout: Layout) -> list[tuple[tuple[str, ...], float]]:
    # Not splitlines: a few sentences hold characters that it takes for line ends.
    lines = (raw / path).read_bytes().decode("utf-8").removesuffix("\n").split("\n")
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
        if len(fields) != len(names):
            raise DataError(f"{path}: line {number} has {len(fields)} fields, line 1 has {len(names)}")
        try:
            value = float(classes.index(fields[label]) if classes else fields[label])
        except ValueError:
            raise DataError(f"{path}: line {number} has the label {fields[label]!r}") from None
        rows.append((tuple(fields[place] for place in places), value))
    return rows
