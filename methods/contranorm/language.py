"""ContraNorm in BERT and ALBERT: fine-tuning on a GLUE task.

The paper's own recipe starts from pretrained weights, which you bring:

    RETABLE_WEIGHTS=~/weights retable run contranorm/glue --scale full     # ~/weights/bert-base-uncased/config.json ..

Without them a tiny random BERT serves as a smoke test (`--scale reduced`); its scores cannot be compared with the
paper's.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.data.pretrained import pretrained_folder
from retable.data.sentence_batches import LabelledBatches
from retable.data.sentence_sets import SentenceSet
from retable.data.tokenizers import PairTokenizer, PretrainedTokenizer, Words
from retable.evaluate.answers import beside
from retable.evaluate.glue import glue_scores
from retable.experiment import BestEpochExperiment
from retable.train.context import Context, Result
from retable.train.schedules import set_lr

from .hf import patch
from .settings import LanguageSettings

TINY = "tiny-random-bert"


def make_tokenizer(backbone: str, rows: SentenceSet, train: np.ndarray) -> PairTokenizer:
    """A pretrained model's own; for the tiny one the words of the training rows."""
    if backbone != TINY:
        return PretrainedTokenizer(backbone)
    return Words(column[i] for column in rows.columns.values() for i in train)


def make_model(s: LanguageSettings, outputs: int, tokenizer: PairTokenizer) -> nn.Module:
    """The network with ContraNorm in it; weights that are not pretrained are drawn from torch's global generator."""
    from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

    model: nn.Module
    if isinstance(tokenizer, Words):
        config = BertConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad,
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
    return model


class FineTuning(BestEpochExperiment[LanguageSettings]):
    """Fine-tuning of all weights; metrics of the last and of the best validation epoch."""

    def __init__(self, settings: LanguageSettings, context: Context) -> None:
        super().__init__(settings, context)
        rows, self.split = context.data()
        self.name = rows.name
        tokenizer = make_tokenizer(settings.backbone, rows, self.split.train)
        self.task = LabelledBatches(rows, tokenizer, settings.max_length, context.device)
        context.seed_torch("weights")
        self.model = make_model(settings, self.task.classes or 1, tokenizer).to(context.device)

    def loss(self, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy; mean squared error for regression (STS-B)."""
        logits = self.model(**inputs).logits
        return F.cross_entropy(logits, labels) if self.task.classes else F.mse_loss(logits.squeeze(1), labels)

    def train(self) -> None:
        s, task, model, train = self.settings, self.task, self.model, self.split.train
        optimiser = torch.optim.AdamW(model.parameters(), lr=s.lr, eps=s.eps, weight_decay=s.weight_decay)
        steps = -(-len(train) // s.batch_size)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, best=self.best):
            order = train[torch.randperm(len(train)).numpy()]
            model.train()
            total = 0.0
            for step, (inputs, labels) in enumerate(task.batches(order, s.batch_size), start=(epoch - 1) * steps):
                set_lr(optimiser, s.lr * (1 - step / (s.epochs * steps)))
                loss = self.loss(inputs, labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * len(labels)
            mean = total / len(order)
            self.context.check_finite(mean, "loss", epoch)
            scores = self.scores("val") | self.scores("test")
            self.best.update(scores["val_score"], epoch, model)
            self.context.log(epoch, loss=mean, **scores)

    def measure(self) -> Result:
        """Scores of the last epoch and of the best one by validation; "test" is the task's development set."""
        last = self.scores("val") | self.scores("test", counts=True)
        metrics = {f"last_{name}": value for name, value in last.items()}
        self.model.load_state_dict(self.best.weights)
        return Result(metrics | {f"best_val_{name}": value for name, value in self.scores("test", counts=True).items()})

    def scores(self, part: str, *, counts: bool = False) -> dict[str, float]:
        """The task's metrics on a part's rows, in percent; `part` is in front of their names.

        With `counts` also what is recorded beside an accuracy.
        """
        indices = getattr(self.split, part)
        predictions = self.predictions(indices)
        found = glue_scores(self.name, self.task.labels.numpy()[indices], predictions)
        scores = {f"{part}_{name}": value for name, value in found.items()}
        return scores | (beside(f"{part}_accuracy", predictions) if counts and "accuracy" in found else {})

    @torch.no_grad()
    def predictions(self, indices: np.ndarray) -> np.ndarray:
        """Classes or scores of some rows, in batches of 8 in the files' order: padding changes the layer's output."""
        self.model.eval()
        logits = torch.cat([self.model(**inputs).logits for inputs, _ in self.task.batches(indices, 8)])
        return (logits.argmax(1) if self.task.classes else logits.squeeze(1)).cpu().numpy()

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training rows, without dropout."""
        self.model.eval()
        inputs, labels = self.task.batch(self.split.train[: self.settings.batch_size])
        return lambda: self.loss(inputs, labels)


EXPERIMENT = FineTuning
