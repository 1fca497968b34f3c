"""ContraNorm in BERT and ALBERT: fine-tuning on a GLUE task.

The paper's own recipe starts from pretrained weights, which you bring:

    RETABLE_WEIGHTS=~/weights retable run contranorm/glue --scale full     # ~/weights/bert-base-uncased/config.json ..

Without them a tiny random BERT serves as a smoke test (`--scale reduced`); its scores cannot be compared with the
paper's.
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

from retable.data.pretrained import pretrained_folder
from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.evaluate.answers import beside
from retable.experiment import Experiment
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result
from retable.train.schedules import set_lr

from .hf import patch
from .settings import LanguageSettings

TINY = "tiny-random-bert"
TINY_VOCABULARY = 4000
# [PAD], [UNK], [CLS], [SEP]
PAD, UNKNOWN, START, END = range(4)
Encoded = tuple[list[int], list[int]]  # token ids, segment ids


class Words:
    """A tokenizer without a pretrained vocabulary: the most frequent lower-case words and punctuation of some texts."""

    def __init__(self, texts: Iterable[str], size: int = TINY_VOCABULARY) -> None:
        counts = Counter(word for text in texts for word in self.split(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))[: size - 4]
        self.ids = {word: index for index, word in enumerate(words, start=4)}

    @staticmethod
    def split(text: str) -> list[str]:
        """Words and single punctuation characters."""
        return re.findall(r"\w+|[^\w\s]", text.lower())

    def __len__(self) -> int:
        return len(self.ids) + 4

    def encode(self, first: str, second: str | None, longest: int) -> Encoded:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP]; over `longest` tokens the longer text is truncated."""
        parts = [[self.ids.get(word, UNKNOWN) for word in self.split(text)] for text in (first, second or "")]
        room = longest - (3 if second is not None else 2)
        while len(parts[0]) + len(parts[1]) > room:
            max(parts, key=len).pop()
        tokens = [START, *parts[0], END] + ([*parts[1], END] if second is not None else [])
        return tokens, [0] * (len(parts[0]) + 2) + [1] * (len(tokens) - len(parts[0]) - 2)


class Task:
    """Rows of a GLUE task as token ids."""

    def __init__(self, rows: SentenceSet, split: SentenceSplit, backbone: str, max_length: int, device: torch.device):
        self.name, self.classes, self.split, self.device = rows.name, len(rows.classes), split, device
        assert rows.labels is not None
        self.labels = torch.from_numpy(rows.labels).to(torch.long if rows.classes else torch.float32)
        firsts, seconds = rows.columns["sentence1"], rows.columns.get("sentence2")
        self.vocabulary = 0
        if backbone == TINY:
            words = Words(text for column in rows.columns.values() for text in (column[i] for i in split.train))
            self.vocabulary, self.pad = len(words), PAD
            pairs = zip(firsts, seconds or [None] * len(firsts), strict=True)
            self.encoded = [words.encode(first, second, max_length) for first, second in pairs]
        else:
            from transformers import AutoTokenizer  # imported on use: it takes seconds

            tokenizer = AutoTokenizer.from_pretrained(pretrained_folder(backbone), local_files_only=True)
            texts = (list(firsts), list(seconds)) if seconds else (list(firsts),)
            encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_token_type_ids=True)
            self.pad = tokenizer.pad_token_id
            self.encoded = list(zip(encoded["input_ids"], encoded["token_type_ids"], strict=True))

    def batch(self, indices: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """The model's input (B, T) and the labels (B,) of some rows; T is a multiple of 8 as in the authors' code."""
        rows = [self.encoded[index] for index in indices]
        width = -(-max(len(tokens) for tokens, _ in rows) // 8) * 8
        input_ids = torch.full((len(rows), width), self.pad)
        token_types, mask = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
        for row, (tokens, segments) in enumerate(rows):
            input_ids[row, : len(tokens)] = torch.tensor(tokens)
            token_types[row, : len(segments)] = torch.tensor(segments)
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": input_ids, "token_type_ids": token_types, "attention_mask": mask}
        labels = self.labels[torch.from_numpy(indices)]
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}, labels.to(self.device)

    def batches(self, order: np.ndarray, size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Batches of the rows `order`, one after the other; the last may be smaller."""
        for start in range(0, len(order), size):
            yield self.batch(order[start : start + size])

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy; mean squared error for regression (STS-B)."""
        logits = model(**inputs).logits
        return F.cross_entropy(logits, labels) if self.classes else F.mse_loss(logits.squeeze(1), labels)

    @torch.no_grad()
    def predictions(self, model: nn.Module, indices: np.ndarray) -> np.ndarray:
        """Classes or scores of some rows, in batches of 8 in the files' order: padding changes the layer's output."""
        model.eval()
        logits = torch.cat([model(**inputs).logits for inputs, _ in self.batches(indices, 8)])
        return (logits.argmax(1) if self.classes else logits.squeeze(1)).cpu().numpy()

    def scores(self, model: nn.Module, part: str, *, counts: bool = False) -> dict[str, float]:
        """`<part>_score`, the task's own metric, and `<part>_accuracy`, or `<part>_pearson` for regression.

        All in percent. With `counts` also what is recorded beside an accuracy.
        """
        indices = getattr(self.split, part)
        labels = self.labels.numpy()[indices]
        predictions = self.predictions(model, indices)
        scores = {f"{part}_score": task_score(self.name, labels, predictions)}
        if self.classes:
            scores |= {f"{part}_accuracy": 100 * float((labels == predictions).mean())}
            return scores | (beside(f"{part}_accuracy", predictions) if counts else {})
        return scores | {f"{part}_pearson": correlation(pearsonr, labels, predictions)}


def task_score(task: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """GLUE's metric of a data set `glue-<task>` in percent, as in the paper's GLUE table.

    Matthews correlation for CoLA, F1 of the second class for MRPC and QQP, Spearman correlation for STS-B, accuracy for
    all others. 0 for the undefined correlation of a constant prediction.
    """
    if task == "glue-cola":
        return 100 * float(matthews_corrcoef(labels, predictions))
    if task in ("glue-mrpc", "glue-qqp"):
        return 100 * float(f1_score(labels, predictions))
    if task == "glue-sts-b":
        return correlation(spearmanr, labels, predictions)
    return 100 * float((labels == predictions).mean())


def correlation(kind: Callable[..., Any], labels: np.ndarray, predictions: np.ndarray) -> float:
    """One of scipy's correlations in percent; 0 for a constant prediction."""
    return 100 * float(kind(labels, predictions).statistic) if np.ptp(predictions) > 0 else 0.0


def make_model(s: LanguageSettings, task: Task) -> nn.Module:
    """The network with ContraNorm in it; weights that are not pretrained are drawn from torch's global generator."""
    from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

    outputs = task.classes or 1
    model: nn.Module
    if s.backbone == TINY:
        config = BertConfig(
            vocab_size=task.vocabulary,
            pad_token_id=PAD,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=128,
        )
        config.num_labels = outputs
        model = BertForSequenceClassification(config)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            pretrained_folder(s.backbone), num_labels=outputs, local_files_only=True
        )
    if s.norm_scale > 0:
        patch(model, s.norm_scale, s.position, s.form)
    return model.to(task.device)


class FineTuning(Experiment[LanguageSettings]):
    """Fine-tuning of all weights; metrics of the last and of the best validation epoch."""

    settings_class = LanguageSettings

    def __init__(self, settings: LanguageSettings, context: Context) -> None:
        super().__init__(settings, context)
        rows, split = context.data()
        self.task = Task(rows, split, settings.backbone, settings.max_length, context.device)
        context.seed_torch("weights")
        self.model = make_model(settings, self.task)
        self.best = BestCheckpoint()

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        optimiser = torch.optim.AdamW(model.parameters(), lr=s.lr, eps=s.eps, weight_decay=s.weight_decay)
        steps = -(-len(task.split.train) // s.batch_size)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, best=self.best):
            order = task.split.train[torch.randperm(len(task.split.train)).numpy()]
            model.train()
            total = 0.0
            for step, (inputs, labels) in enumerate(task.batches(order, s.batch_size), start=(epoch - 1) * steps):
                set_lr(optimiser, s.lr * (1 - step / (s.epochs * steps)))
                loss = task.loss(model, inputs, labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * len(labels)
            mean = total / len(order)
            self.context.check_finite(mean, "loss", epoch)
            scores = task.scores(model, "val") | task.scores(model, "test")
            self.best.update(scores["val_score"], epoch, model)
            self.context.log(epoch, loss=mean, **scores)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"last": self.model.state_dict(), "best": self.best.weights}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.model.load_state_dict(weights["last"])
        self.best.weights = weights["best"]

    def measure(self) -> Result:
        """Scores of the last epoch and of the best one by validation; "test" is the task's development set."""
        task, model = self.task, self.model
        last = task.scores(model, "val") | task.scores(model, "test", counts=True)
        metrics = {f"last_{name}": value for name, value in last.items()}
        model.load_state_dict(self.best.weights)
        best = task.scores(model, "test", counts=True)
        return Result(metrics | {f"best_val_{name}": value for name, value in best.items()})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training rows, without dropout."""
        self.model.eval()
        inputs, labels = self.task.batch(self.task.split.train[: self.settings.batch_size])
        return lambda: self.task.loss(self.model, inputs, labels)


EXPERIMENT = FineTuning
