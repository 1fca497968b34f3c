"""SeqTopK in a small language model: trained from scratch, or a TopK model fine-tuned with another router.

On generated facts with 4 of 32 experts a token, about 98 % of the answers are right after 15 seconds on one CPU core:

    retable run seqtopk/facts --scale reduced
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from methods.seqtopk.losses import lb_from_mask, next_l1_weight, relu_l1
from methods.seqtopk.model import MoELM
from methods.seqtopk.pictures import heat_map
from methods.seqtopk.routers import nested_budgets
from methods.seqtopk.tasks import Task, loss, measure
from retable.cards import Scalar
from retable.plan import Cell
from retable.train.context import Context, Measured
from retable.train.schedules import set_rate, warmup_cosine_tail

# What `route` runs for a variant's router: MRL-TopK differs from TopK in training alone, dense is TopK of all experts.
SAME_RULE = {"mrl": "topk", "dense": "topk"}
FIRST_L1_WEIGHT = 1e-8  # ReMoE's
LONGEST_COUNT = 16
PICTURED_LAYERS, PICTURED_TOKENS = 2, 128


class Router:
    """A variant's rule and budget, and the loss terms that come with it."""

    def __init__(self, settings: dict[str, Scalar], name: str, K: int) -> None:
        s = settings
        self.name, self.K = name, int(s["experts"]) if name == "dense" else K
        self.lower, self.upper = int(s["lower"]), self.K + int(s["extra"])
        self.balance = float(s["balance"])
        self.l1_weight = FIRST_L1_WEIGHT

    def install(self, model: MoELM) -> None:
        """Route `model` by this rule."""
        model.set_router(SAME_RULE.get(self.name, self.name), self.K, self.lower, self.upper)

    def loss(self, model: MoELM, rows: Tensor) -> Tensor:
        """Cross-entropy and balance of a batch; the selection is left in the model's layers."""
        if self.name != "mrl":
            return self._loss(model, rows)
        losses = []
        for K in reversed(nested_budgets(self.K)):
            model.set_router("topk", K, 1, K)
            losses.append(self._loss(model, rows))
        return torch.stack(losses).mean()

    def _loss(self, model: MoELM, rows: Tensor) -> Tensor:
        total = loss(model(rows[:, :-1]), rows)
        layers = [layer.routed for layer in model.moe_layers()]
        if self.name == "relu":
            return total + self.l1_weight * relu_l1([layer.p for layer in layers], self.K)
        for layer in layers:
            total = total + self.balance * lb_from_mask([layer.logits], [layer.mask]) / _used(layer.mask)
        return total

    def after_step(self, model: MoELM) -> float:
        """Experts a token used in the last batch; steers ReMoE's penalty."""
        used = sum(_used(layer.routed.mask) for layer in model.moe_layers()) / len(model.moe_layers())
        if self.name == "relu":
            self.l1_weight = next_l1_weight(self.l1_weight, used, self.K)
        return used

    def state_dict(self) -> dict[str, float]:
        return {"l1_weight": self.l1_weight}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.l1_weight = state["l1_weight"]


def _used(mask: Tensor) -> float:
    """Mean number of experts of a token."""
    return max(mask.sum().item(), 1) / mask[..., 0].numel()


# Training -------------------------------------------------------------------------------------------------------------


def build(cell: Cell, context: Context) -> tuple[Task, MoELM, Router]:
    """Data, untrained model and the variant's router; the weights depend on the seed only."""
    s = cell.settings
    data, split = context.data()
    task = Task(data, split, int(s["tokens"]), int(s["test_windows"]), context.device)
    router = Router(s, str(s["router"]), int(s["k"]))
    context.seed_torch("weights")
    model = MoELM(
        task.symbols,
        task.width - 1,
        d=int(s["d"]),
        layers=int(s["layers"]),
        heads=int(s["heads"]),
        positions=str(s["positions"]),
        experts=int(s["experts"]),
        width=int(s["width"]),
        K=router.K,
        router=SAME_RULE.get(router.name, router.name),
        lower=router.lower,
        upper=router.upper,
        shared_width=int(s["shared_width"]),
        gate_scale=float(s["gate_scale"]),
    )
    return task, model.to(context.device), router


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model and its loss on one batch, with the level of a threshold held."""
    task, model, router = build(cell, context)
    context.seed_torch("fixed batch")
    rows = task.batch(int(cell.settings["batch_size"]))
    router.loss(model, rows)
    model.eval()
    return model, lambda: router.loss(model, rows)


def run(cell: Cell, context: Context) -> Measured:
    """Train one seed and measure it; a picture shows the experts of a test sequence's tokens."""
    s = cell.settings
    if s["router"] == "majority":
        return control(cell, context)
    task, model, router = build(cell, context)
    before = Router(s, "topk", int(s["pretraining_k"]))
    lr, decay, betas = float(s["lr"]), float(s["weight_decay"]), (0.9, 0.95)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=betas, weight_decay=decay, fused=True)

    # The first `pretraining` epochs train a TopK model, the others go on with the variant's router.
    pretraining, epochs, steps = int(s["pretraining_epochs"]), int(s["epochs"]), int(s["steps_per_epoch"])
    model.train()
    for epoch in context.epochs(pretraining + epochs, model=model, optimiser=optimiser, router=router):
        fresh = epoch <= pretraining
        rule, peak, warmup = (before, "pretraining_lr", "pretraining_warmup") if fresh else (router, "lr", "warmup")
        first, last = (0, pretraining) if fresh else (pretraining, pretraining + epochs)
        if epoch == pretraining + 1 and pretraining:
            context.keep("pretrained", model.state_dict())
            optimiser.state.clear()
        rule.install(model)
        losses, used = 0.0, 0.0
        for step in range((epoch - 1 - first) * steps, (epoch - first) * steps):
            set_rate(optimiser, warmup_cosine_tail(step, float(s[peak]), int(s[warmup]), (last - first) * steps))
            value = rule.loss(model, task.batch(int(s["batch_size"])))
            optimiser.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            used += rule.after_step(model) / steps
            losses += value.item() / steps
        context.log(epoch, loss=losses, experts_used=used)

    context.keep("last", model.state_dict())
    measured = evaluate(cell, context)
    router.install(model)
    model.load_state_dict(context.kept("last"))
    draw(task, model, router, context)
    return measured


def evaluate(cell: Cell, context: Context) -> Measured:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["router"] == "majority":
        return control(cell, context)
    task, model, router = build(cell, context)
    metrics = {}
    if int(cell.settings["pretraining_epochs"]):
        # The new router in the TopK model, before any step of training with it.
        model.load_state_dict(context.kept("pretrained"))
        router.install(model)
        untuned, _ = numbers(task, model, router)
        metrics = {f"untuned_{name}": value for name, value in untuned.items() if "nll" in name or "hard_acc" in name}
    model.load_state_dict(context.kept("last"))
    router.install(model)
    tuned, series = numbers(task, model, router)
    return Measured(tuned | metrics, series)


# Evaluation -----------------------------------------------------------------------------------------------------------


def numbers(task: Task, model: MoELM, router: Router) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Test metrics by causal routing, `offline_` ones by the rule that training used, and what the routers did."""
    metrics, masks = measure(model, task, causal=True)
    offline, _ = measure(model, task, causal=False)
    metrics |= {f"offline_{name}": value for name, value in offline.items()}
    mask = torch.stack(masks).double()  # (layers, rows, T, E)
    used = mask.sum(-1)
    loads = mask.sum((1, 2))
    relative = loads / loads.mean(1, keepdim=True).clamp(min=1e-9)
    metrics |= {
        "largest_load": relative.max(1).values.mean().item(),
        "load_deviation": relative.std(1).mean().item(),
        "unused_experts": (loads == 0).sum(1).double().mean().item(),
        "largest_budget_used": (used.sum(2) / (router.K * used.shape[2])).max().item(),
    }
    places = torch.arange(1, used.shape[2] + 1, device=used.device)
    counts = used.flatten().long().clamp(max=LONGEST_COUNT).bincount(minlength=LONGEST_COUNT + 1).double()
    series = {
        "budget_used": (used.cumsum(2) / (router.K * places)).mean((0, 1)).tolist(),
        "load_by_rank": relative.sort(1, descending=True).values.mean(0).tolist(),
        "share_of_tokens_by_experts": (100 * counts / counts.sum()).tolist(),
    }
    return metrics, series


@torch.no_grad()
def draw(task: Task, model: MoELM, router: Router, context: Context) -> None:
    """A heat map of the experts of each token of the first test sequence, by causal routing."""
    model.eval()
    row = task.rows[:1, : PICTURED_TOKENS + 1]
    model(row[:, :-1], causal=True)
    counts = torch.stack([layer.routed.mask[0].sum(-1) for layer in model.moe_layers()[:PICTURED_LAYERS]])
    text = task.text.alphabet.decode(row[0, :-1].cpu().numpy())
    caption = f"Experts of each token of a test sequence, one line a layer, {router.K} on average being the budget"
    context.picture("experts-per-token", heat_map(text, counts.cpu().numpy(), router.K), caption)


def control(cell: Cell, context: Context) -> Measured:
    """Shares of the training part's symbols as the answer to everything."""
    s = cell.settings
    data, split = context.data()
    task = Task(data, split, int(s["tokens"]), int(s["test_windows"]), context.device)
    return Measured(task.majority())
