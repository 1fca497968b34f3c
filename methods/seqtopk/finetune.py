"""Fine-tuning of pretrained models with SeqTopK on GSM8K, and its evaluation by generated answers.

The paper's own recipe starts from pretrained weights, which you bring:

    RETABLE_WEIGHTS=~/weights retable run seqtopk/finetune --scale full    # ~/weights/OLMoE-1B-7B-0125/config.json ..

Without them the same path can be walked with a tiny random OLMoE that reads bytes (`--scale reduced`), which solves no
problem.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.cards import CardError, unknown
from retable.data.pretrained import pretrained_folder
from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.schedules import cosine_share, set_lr

from .hf import patch
from .settings import FineTuneSettings

TINY = "tiny-random-olmoe"
PRETRAINED = ("OLMoE-1B-7B-0125", "Qwen1.5-MoE-A2.7B")
# The tiny model's size, in the configuration's names.
TINY_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "initializer_range": 0.1,
}
PROMPT = "Answer the following question.\n\n{question}\n\nAnswer:"
IGNORED = -100  # as a target: no loss


class Bytes:
    """A tokenizer without a vocabulary file: a byte is a token; 0 pads, 1 ends."""

    pad, end, size = 0, 1, 258

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text."""
        return [byte + 2 for byte in text.encode()]

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens; what is no UTF-8 is marked."""
        return bytes(token - 2 for token in tokens if token > 1).decode(errors="replace")


class Pretrained:
    """The tokenizer beside a pretrained model."""

    def __init__(self, model: str) -> None:
        from transformers import AutoTokenizer  # imported on use: it takes seconds

        self.own: Any = AutoTokenizer.from_pretrained(pretrained_folder(model), local_files_only=True)
        self.end = self.own.eos_token_id
        self.pad = self.end if self.own.pad_token_id is None else self.own.pad_token_id

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, without marks of its beginning or end."""
        return self.own(text, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: list[int]) -> str:
        """The text of some tokens."""
        return self.own.decode(tokens, skip_special_tokens=True)


class Problems:
    """Problems as token numbers: prompts end where answers begin, in the same column of a batch."""

    def __init__(self, rows: SentenceSet, split: SentenceSplit, backbone: str, longest: int, device: torch.device):
        self.split, self.device = split, device
        self.tokenizer = Bytes() if backbone == TINY else Pretrained(backbone)
        self.gold = [final_number(answer) for answer in rows.columns["answer"]]
        self.rows: dict[int, tuple[list[int], list[int]]] = {}
        for index in np.concatenate([split.train, split.test]).tolist():
            question, right = self.texts(rows, index)
            prompt, answer = self.tokenizer.encode(question), [*self.tokenizer.encode(right), self.tokenizer.end]
            self.rows[index] = prompt[:longest], answer[: max(longest - len(prompt), 1)]

    def texts(self, rows: SentenceSet, index: int) -> tuple[str, str]:
        """What the model is given of a problem, and what it should add to it."""
        return PROMPT.format(question=rows.columns["question"][index]), " " + rows.columns["answer"][index]

    def batch(self, indices: np.ndarray, answers: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, mask, targets), each (B, T): prompts padded on the left, answers on the right.

        Targets are the answers' tokens at their own columns, IGNORED elsewhere. Without `answers` the prompts alone.
        """
        rows = [self.rows[index] for index in indices.tolist()]
        left = max(len(prompt) for prompt, _ in rows)
        width = left + (max(len(answer) for _, answer in rows) if answers else 0)
        tokens = torch.full((len(rows), width), self.tokenizer.pad)
        mask, targets = torch.zeros_like(tokens), torch.full_like(tokens, IGNORED)
        for row, (prompt, answer) in enumerate(rows):
            tokens[row, left - len(prompt) : left] = torch.tensor(prompt)
            mask[row, left - len(prompt) : left] = 1
            if answers:
                inside = slice(left, left + len(answer))
                tokens[row, inside] = targets[row, inside] = torch.tensor(answer)
                mask[row, inside] = 1
        return tokens.to(self.device), mask.to(self.device), targets.to(self.device)

    def batches(self, order: np.ndarray, size: int) -> Iterator[np.ndarray]:
        """The indices `order` in pieces of `size`; the last may be smaller."""
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def columns(self, indices: np.ndarray) -> int:
        """Columns of the prompts' part of a batch."""
        return max(len(self.rows[index][0]) for index in indices.tolist())


def final_number(text: str) -> str:
    """The last number of a text, without thousands' commas; "" if it has none. GSM8K answers end in theirs."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return found[-1].replace(",", "") if found else ""


def target_loss(model: nn.Module, tokens: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over target tokens, as the sister code of the paper's recipe sums it."""
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    flat = logits[:, :-1].flatten(0, 1).float()
    return F.cross_entropy(flat, targets[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def lr_factor(step: int, steps: int, warmup_share: float, schedule: str) -> float:
    """The share of the learning rate at a step: linear warm-up, then by "linear" or "cosine" down to 0."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 1 - done if schedule == "linear" else cosine_share(done)


def make_model(backbone: str) -> Any:
    """The network of a name, in float32; a random one comes from torch's global stream."""
    from transformers import AutoModelForCausalLM, OlmoeConfig, OlmoeForCausalLM

    if backbone == TINY:
        config = OlmoeConfig(vocab_size=Bytes.size, pad_token_id=Bytes.pad, eos_token_id=Bytes.end, **TINY_SIZE)
        return OlmoeForCausalLM(config)
    if backbone not in PRETRAINED:
        raise CardError(unknown("backbone", backbone, [TINY, *PRETRAINED]))
    return AutoModelForCausalLM.from_pretrained(pretrained_folder(backbone), dtype=torch.float32, local_files_only=True)


def precision(name: str, device: torch.device) -> AbstractContextManager:
    """Products in "bfloat16" over float32 weights, or "float32" throughout."""
    return torch.autocast(device.type, torch.bfloat16) if name == "bfloat16" else nullcontext()


class FineTune(Experiment[FineTuneSettings]):
    """All weights learn the training part's answers with the variant's router; evaluation routes causally."""

    settings_class = FineTuneSettings
    problems_class = Problems
    model: Any
    """Of transformers, whose classes have no useful types."""

    def __init__(self, settings: FineTuneSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        rows, split = context.data()
        self.problems = self.problems_class(rows, split, s.backbone, s.max_length, context.device)
        context.seed_torch("weights")
        self.model = make_model(s.backbone).to(context.device)
        if s.checkpointing:
            self.model.activation_checkpointing_enable()
        self.handle = patch(self.model, router=s.router, K=s.k, lower=s.lower, upper=s.k + s.extra)

    def train(self) -> None:
        s, problems, model = self.settings, self.problems, self.model
        train = problems.split.train
        optimiser = torch.optim.AdamW(model.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        steps = -(-len(train) // s.batch_size)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser):
            order = train[torch.randperm(len(train)).numpy()]
            model.train()
            total, count = 0.0, 0
            for step, indices in enumerate(problems.batches(order, s.batch_size), start=(epoch - 1) * steps):
                set_lr(optimiser, s.lr * lr_factor(step, s.epochs * steps, s.warmup_share, s.schedule))
                optimiser.zero_grad()
                for piece in problems.batches(indices, s.micro_batch):
                    batch = problems.batch(piece)
                    with precision(self.settings.precision, self.context.device):
                        loss = target_loss(model, *batch)
                    loss.backward()
                    total, count = total + loss.item(), count + int((batch[2] != IGNORED).sum())
                optimiser.step()
            self.context.check_finite(total / count, "loss", epoch)
            self.context.log(epoch, loss=total / count)

    def measure(self) -> Result:
        """Exact match of generated answers in percent, and the costs of the right answers."""
        gold = self.problems.gold
        right = sum(final_number(text) == gold[index] for index, text in self.generated())
        return Result({"exact_match": 100 * right / len(self.problems.split.test)} | self.answer_costs())

    def fixed_batch(self) -> Callable[[], Tensor]:
        batch = self.problems.batch(self.problems.split.train[: self.settings.micro_batch])
        return lambda: target_loss(self.model.eval(), *batch)

    @torch.no_grad()
    def generated(self) -> Iterator[tuple[int, str]]:
        """Places of the test part with the text that the model adds to the prompt, greedily.

        Prompts are known and routed together, answers token by token; BatchTopK, which has no such form, is routed as
        SeqTopK, a sequence at a time.
        """
        problems, handle = self.problems, self.handle
        self.model.eval()
        handle.router, handle.mode = "topk" if handle.router == "topk" else "seqtopk", "offline"
        for indices in problems.batches(problems.split.test, self.settings.micro_batch):
            prompt, mask, _ = problems.batch(indices, answers=False)
            with precision(self.settings.precision, self.context.device):
                made = self.model.generate(
                    prompt,
                    attention_mask=mask,
                    max_new_tokens=self.settings.new_tokens,
                    do_sample=False,
                    pad_token_id=problems.tokenizer.pad,
                    eos_token_id=problems.tokenizer.end,
                )
            for index, answer in zip(indices.tolist(), made[:, prompt.shape[1] :].tolist(), strict=True):
                yield index, problems.tokenizer.decode(answer)

    @torch.no_grad()
    def answer_costs(self) -> dict[str, float]:
        """What a token of the right answers costs in nats and uses in experts, routed as in `generated`.

        `offline_nll` lets later tokens take part.
        """
        problems, handle = self.problems, self.handle
        self.model.eval()
        handle.router = "topk" if handle.router == "topk" else "seqtopk"
        nll, used, tokens_seen = {"online": 0.0, "offline": 0.0}, 0, 0
        for indices in problems.batches(problems.split.test, self.settings.micro_batch):
            tokens, mask, targets = problems.batch(indices)
            counted = targets != IGNORED
            handle.prompt = problems.columns(indices)
            for mode in ("offline", "online"):
                handle.mode = mode
                with precision(self.settings.precision, self.context.device):
                    nll[mode] += float(target_loss(self.model, tokens, mask, targets))
            used += int(handle.counts()[:, counted].sum())
            tokens_seen += int(counted.sum())
        return {
            "online_nll": nll["online"] / tokens_seen,
            "offline_nll": nll["offline"] / tokens_seen,
            "experts_used": used / tokens_seen / handle.layers,
        }


EXPERIMENT = FineTune
