"""Next-symbol prediction on texts: the loss, and what is counted on the test part."""

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.data.text_batches import TextBatches
from retable.evaluate.answers import beside

from .model import MoELM

BATCH = 128


def majority(task: TextBatches) -> dict[str, float]:
    """The metrics of always answering with the training part's shares, among answers for answers."""
    shares = torch.bincount(task.train, minlength=task.symbols).double()
    targets = task.rows[:, 1:].flatten()
    metrics = {"nll": _unigram(shares, targets)[0]}
    if task.answer.any():
        hard = targets[task.answer[targets]]
        nll, right = _unigram(shares * task.answer, hard)
        metrics |= {"hard_accuracy": 100 * right, "hard_nll": nll}
        metrics |= beside("hard_accuracy", (shares * task.answer).argmax().expand(len(hard)))
    return metrics


def _unigram(shares: Tensor, targets: Tensor) -> tuple[float, float]:
    p = shares / shares.sum()
    return float(-p[targets].log().mean()), float((targets == p.argmax()).double().mean())


def loss(logits: Tensor, rows: Tensor) -> Tensor:
    """Mean cross-entropy of the next symbol, in nats: logits (B, T, V) of rows (B, T + 1)."""
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def measure(model: MoELM, task: TextBatches, causal: bool) -> tuple[dict[str, float], list[Tensor]]:
    """Test metrics, and each layer's masks (rows, T, E).

    `causal` routes as decoding would. Without it a token's experts may depend on later tokens, so that a number can
    profit from what it should predict.
    """
    was_training = model.training
    model.eval()
    losses, answers, masks = [], [], []
    for rows in task.rows.split(BATCH):
        logits = model(rows[:, :-1], causal=causal)
        targets = rows[:, 1:]
        losses.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets))
        answers.append(logits.argmax(-1))
        masks.append(torch.stack([layer.routed.mask for layer in model.moe_layers()]))
    model.train(was_training)
    nll, answer, mask = torch.cat(losses).double(), torch.cat(answers), torch.cat(masks, dim=1)
    correct = (answer == task.rows[:, 1:]).double()
    used = mask.sum(-1).double().mean(0)  # (rows, T), mean over layers
    metrics = {"nll": nll.mean().item(), "experts_used": used.mean().item()}
    hard = task.answer[task.rows[:, 1:]]
    if hard.any():
        metrics |= {
            "hard_nll": nll[hard].mean().item(),
            "hard_accuracy": 100 * correct[hard].mean().item(),
            "experts_on_hard": used[hard].mean().item(),
        }
        metrics |= beside("hard_accuracy", answer[hard])
    return metrics, list(mask)
