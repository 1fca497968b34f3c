"""ContraNorm in BERT and ALBERT: fine-tuning on a GLUE task.

The paper's own recipe starts from pretrained weights, which you bring:

    RETABLE_WEIGHTS=~/weights retable run contranorm/glue --scale full     # ~/weights/bert-base-uncased/config.json ..

Without them the same path can be walked with a tiny random BERT (`--scale reduced`), whose scores say nothing about
the paper.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor, nn

from methods.contranorm.hf import patch
from retable.cards import CardError, Scalar, unknown
from retable.data.pretrained import pretrained_folder
from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.plan import Cell
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result
from retable.train.schedules import set_rate

TINY = "tiny-random-bert"
# The tiny model's size, in the configuration's names.
TINY_SIZE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}
TINY_VOCABULARY = 4000
# [PAD], unknown, [CLS], [SEP]
PAD, UNKNOWN, START, END = range(4)
Encoded = tuple[list[int], list[int]]  # token numbers, segment numbers


class Words:
    """A tokenizer for models without a pretrained one: lower-case words and signs, the most frequent of some texts."""

    def __init__(self, texts: Iterable[str], size: int = TINY_VOCABULARY) -> None:
        counts = Counter(word for text in texts for word in self.split(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))[: size - 4]
        self.number = {word: number for number, word in enumerate(words, start=4)}

    @staticmethod
    def split(text: str) -> list[str]:
        """Words and single signs."""
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def __len__(self) -> int:
        return len(self.number) + 4

    def encode(self, first: str, second: str | None, longest: int) -> Encoded:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP]; of too much text the longer part loses its end."""
        parts = [[self.number.get(word, UNKNOWN) for word in self.split(text)] for text in (first, second or "")]
        room = longest - (3 if second is not None else 2)
        while len(parts[0]) + len(parts[1]) > room:
            max(parts, key=len).pop()
        tokens = [START, *parts[0], END] + ([*parts[1], END] if second is not None else [])
        return tokens, [0] * (len(parts[0]) + 2) + [1] * (len(tokens) - len(parts[0]) - 2)


class Task:
    """Rows of a GLUE task as token numbers, ready to be cut into batches."""

    def __init__(self, rows: SentenceSet, split: SentenceSplit, settings: dict[str, Scalar], device: torch.device):
        self.name, self.classes, self.split, self.device = rows.name, len(rows.classes), split, device
        assert rows.labels is not None
        self.labels = torch.from_numpy(rows.labels).to(torch.long if rows.classes else torch.float32)
        firsts, seconds = rows.columns["sentence1"], rows.columns.get("sentence2")
        longest, backbone = int(settings["max_length"]), str(settings["backbone"])
        self.vocabulary = 0
        if backbone == TINY:
            words = Words(text for column in rows.columns.values() for text in (column[i] for i in split.train))
            self.vocabulary, self.pad = len(words), PAD
            pairs = zip(firsts, seconds or [None] * len(firsts), strict=True)
            self.encoded = [words.encode(first, second, longest) for first, second in pairs]
        else:
            from transformers import AutoTokenizer  # imported on use: it takes seconds

            tokenizer: Any = AutoTokenizer.from_pretrained(pretrained_folder(backbone), local_files_only=True)
            texts = (list(firsts), list(seconds)) if seconds else (list(firsts),)
            got = tokenizer(*texts, truncation=True, max_length=longest, return_token_type_ids=True)
            self.pad = tokenizer.pad_token_id
            self.encoded = list(zip(got["input_ids"], got["token_type_ids"], strict=True))

    def batch(self, places: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """The model's input and the labels (B,) of some rows, padded to a multiple of 8 as the authors pad them."""
        rows = [self.encoded[place] for place in places]
        width = -(-max(len(tokens) for tokens, _ in rows) // 8) * 8
        tokens = torch.full((len(rows), width), self.pad)
        segments, mask = torch.zeros_like(tokens), torch.zeros_like(tokens)
        for row, (numbers, kinds) in enumerate(rows):
            tokens[row, : len(numbers)] = torch.tensor(numbers)
            segments[row, : len(kinds)] = torch.tensor(kinds)
            mask[row, : len(numbers)] = 1
        inputs = {"input_ids": tokens, "token_type_ids": segments, "attention_mask": mask}
        labels = self.labels[torch.from_numpy(places)]
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}, labels.to(self.device)

    def batches(self, order: np.ndarray, size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Batches of the rows `order`, one after the other; the last may be smaller."""
        for start in range(0, len(order), size):
            yield self.batch(order[start : start + size])

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy; for scores the mean squared error."""
        logits = model(**inputs).logits
        return F.cross_entropy(logits, labels) if self.classes else F.mse_loss(logits.squeeze(1), labels)

    @torch.no_grad()
    def answers(self, model: nn.Module, places: np.ndarray) -> np.ndarray:
        """Classes or scores of some rows: batches of 8 in the files' order, since padding takes part in the layer."""
        model.eval()
        logits = torch.cat([model(**inputs).logits for inputs, _ in self.batches(places, 8)])
        return (logits.argmax(1) if self.classes else logits.squeeze(1)).cpu().numpy()

    def scores(self, model: nn.Module, part: str) -> dict[str, float]:
        """`<part>_score`, the task's own metric, and beside it the accuracy of classes or scores' Pearson correlation.

        All in percent, as `<part>_accuracy` and `<part>_pearson`.
        """
        places = getattr(self.split, part)
        right = self.labels.numpy()[places]
        answers = self.answers(model, places)
        scores = {f"{part}_score": task_score(self.name, right, answers)}
        if self.classes:
            return scores | {f"{part}_accuracy": 100 * float((right == answers).mean())}
        return scores | {f"{part}_pearson": correlation(pearsonr, right, answers)}


def task_score(task: str, right: np.ndarray, answers: np.ndarray) -> float:
    """GLUE's metric of a data set `glue-<task>` in percent, as the paper's table has it (section on GLUE).

    Matthews correlation for CoLA, F1 of the second class for MRPC and QQP, Spearman correlation for STS-B, accuracy for
    all others. A constant answer has no correlation: 0.
    """
    if task == "glue-cola":
        return 100 * float(matthews_corrcoef(right, answers))
    if task in ("glue-mrpc", "glue-qqp"):
        return 100 * float(f1_score(right, answers))
    if task == "glue-sts-b":
        return correlation(spearmanr, right, answers)
    return 100 * float((right == answers).mean())


def correlation(kind: Callable[[np.ndarray, np.ndarray], Any], right: np.ndarray, answers: np.ndarray) -> float:
    """A correlation of scipy's in percent; 0 for answers that are all the same."""
    return 100 * float(kind(right, answers).statistic) if np.ptp(answers) > 0 else 0.0


def make_model(settings: dict[str, Scalar], task: Task) -> nn.Module:
    """The network with ContraNorm in it; what is not pretrained comes from torch's global stream."""
    from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

    outputs, backbone = task.classes or 1, str(settings["backbone"])
    model: Any
    if backbone == TINY:
        config = BertConfig(vocab_size=task.vocabulary, pad_token_id=PAD, **TINY_SIZE)
        config.num_labels = outputs
        model = BertForSequenceClassification(config)
    elif backbone in ("bert-base-uncased", "albert-base-v2"):
        model = AutoModelForSequenceClassification.from_pretrained(
            pretrained_folder(backbone), num_labels=outputs, local_files_only=True
        )
    else:
        raise CardError(unknown("backbone", backbone, [TINY, "bert-base-uncased", "albert-base-v2"]))
    if float(settings["norm_scale"]) > 0:
        patch(model, float(settings["norm_scale"]), str(settings["position"]), str(settings["form"]))
    return model.to(task.device)


def build(cell: Cell, context: Context) -> tuple[Task, nn.Module]:
    """Data and untrained model of a cell."""
    rows, split = context.data()
    task = Task(rows, split, cell.settings, context.device)
    context.seed_torch("weights")
    return task, make_model(cell.settings, task)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model and a loss without chance in it, for the test that one step of learning lowers the loss."""
    task, model = build(cell, context)
    model.eval()
    inputs, labels = task.batch(task.split.train[: int(cell.settings["batch_size"])])
    return model, lambda: task.loss(model, inputs, labels)


def run(cell: Cell, context: Context) -> Result:
    """Fine-tune one seed and measure it after the last epoch and after the best one by validation."""
    s = cell.settings
    task, model = build(cell, context)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=float(s["lr"]), eps=float(s["eps"]), weight_decay=float(s["weight_decay"])
    )
    best = BestCheckpoint()

    epochs, size = int(s["epochs"]), int(s["batch_size"])
    steps = -(-len(task.split.train) // size)
    for epoch in context.epochs(epochs, model=model, optimiser=optimiser, best=best):
        order = task.split.train[torch.randperm(len(task.split.train)).numpy()]
        model.train()
        total = 0.0
        for step, (inputs, labels) in enumerate(task.batches(order, size), start=(epoch - 1) * steps):
            set_rate(optimiser, float(s["lr"]) * (1 - step / (epochs * steps)))
            loss = task.loss(model, inputs, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(labels)
        mean = total / len(order)
        context.check_finite(mean, "loss", epoch)
        scores = task.scores(model, "val") | task.scores(model, "test")
        best.update(scores["val_score"], epoch, model)
        context.log(epoch, loss=mean, **scores)

    context.save_weights("last", model.state_dict())
    context.save_weights("best", best.weights)
    return measure(task, model, best.weights)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    task, model = build(cell, context)
    model.load_state_dict(context.load_weights("last"))
    return measure(task, model, context.load_weights("best"))


def measure(task: Task, model: nn.Module, best: dict[str, Tensor]) -> Result:
    """Scores of the last epoch and of the best one by validation; `test` is the task's development part."""
    metrics = {f"last_{name}": value for part in ("val", "test") for name, value in task.scores(model, part).items()}
    model.load_state_dict(best)
    return Result(metrics | {f"best_val_{name}": value for name, value in task.scores(model, "test").items()})
