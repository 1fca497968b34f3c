"""SeqTopK inside Hugging Face's sparse models: OLMoE, Qwen2-MoE, Qwen3-MoE and Mixtral.

    from methods.seqtopk import patch, unpatch
    handle = patch(model, router="seqtopk")    # forward, backward and generate() now choose experts by sequence
    handle.counts()                            # experts that each layer gave to each token
    unpatch(model)                             # the model as it was

The package's routers go on computing their logits; a hook replaces what they select. Tokens have different numbers of
experts, so slots that a token leaves empty carry the number E of an expert that does not exist, which the package skips
when it is told that some experts live elsewhere. No parameter is added: checkpoints stay interchangeable.
"""

from dataclasses import dataclass, field
from functools import cache as memo
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .online import OnlineState
from .router import SCORES, check_bounds, gate_weights, router_scores
from .routers import route

FAMILIES = {
    "OlmoeTopKRouter": "OLMoE",
    "Qwen2MoeTopKRouter": "Qwen2-MoE",
    "Qwen3MoeTopKRouter": "Qwen3-MoE",
    "MixtralTopKRouter": "Mixtral",
}
ROUTERS = ("seqtopk", "batchtopk", "topk")
MODES = ("offline", "online", "topk")


def patch(
    model: nn.Module,
    router: str = "seqtopk",
    K: int | None = None,
    lower: int = 1,
    upper: int | None = None,
    score: str = "softmax",
    mode: str = "offline",
) -> "Patch":
    """Let a causal language model choose experts by `router`: "seqtopk", "batchtopk" or "topk".

    `K` is the mean number of experts a token, by default the model's own; `lower` and `upper` bound one token's number
    (1 and K + 2); experts are ranked by `score`, and weighted as the model weights them. Padding, taken from a 2-D
    `attention_mask`, gets no experts; `cu_seq_lens_q` separates sequences that are packed into one row.

    The handle's `mode` may be changed at any time: "offline" pools all tokens of a sequence (a prompt, or a training
    sequence; paper, section on the method), "online" is the causal form, token by token after the first `prompt`
    columns, "topk" the rule of a model that was not patched, at K. Once there is a cache of keys and values, as in
    `generate()`, new tokens are always routed online: their competitors are kept beside that cache and follow it
    through beam search.

    The model's balance loss counts each token's best experts whatever is run; `losses.lb_from_mask` with
    `output_router_logits=True` and the handle's `masks` counts the real selection.

    Raises ValueError, with the model left as it was, for a model without mixture-of-experts blocks, an architecture
    other than the four, a router whose interface has changed, K or bounds that cannot be, and a patched model.
    """
    for name, given, known in (("router", router, ROUTERS), ("score", score, SCORES), ("mode", mode, MODES)):
        if given not in known:
            raise ValueError(f"{name} is {given!r}; choose from {', '.join(known)}")
    if "_seqtopk" in model.__dict__:
        raise ValueError(f"{type(model).__name__} is patched already: call unpatch(model) first")
    body, blocks = _find(model)
    _check_interface(body, blocks)
    K = int(blocks[0].gate.top_k) if K is None else K
    check_bounds(K, blocks[0].gate.num_experts, lower, upper)

    handle = Patch(router, K, lower, upper, score, mode, layers=len(blocks))
    add = handle.hooks.append
    add(body.register_forward_pre_hook(partial(_begin, handle), with_kwargs=True))
    add(body.register_forward_hook(partial(_end, handle), with_kwargs=True))
    for layer in body.layers:
        add(layer.self_attn.register_forward_pre_hook(partial(_enter_layer, handle), with_kwargs=True))
    for number, block in enumerate(blocks):
        add(block.gate.register_forward_hook(partial(_reroute, handle, number)))
        handle.flags.append((block.experts, block.experts._is_expert_parallel))
        block.experts._is_expert_parallel = True
    model._seqtopk = handle  # type: ignore[assignment]
    return handle


def unpatch(model: nn.Module) -> None:
    """Give the model its own routing back. Raises ValueError for a model that `patch` has not touched."""
    if "_seqtopk" not in model.__dict__:
        raise ValueError(f"{type(model).__name__} is not patched: nothing to take out")
    handle: Patch = model.__dict__.pop("_seqtopk")
    for hook in handle.hooks:
        hook.remove()
    for experts, flag in handle.flags:
        experts._is_expert_parallel = flag


@dataclass(eq=False)
class Patch:
    """What `patch` returns: the mode, which may be set, and what the last forward pass selected."""

    router: str
    K: int
    lower: int
    upper: int | None
    score: str
    mode: str
    layers: int
    prompt: int = 0  # columns that mode `online` routes together before it goes on token by token
    masks: list[Tensor] = field(default_factory=list)  # of the last pass: bool (B, T, E), one a layer
    hooks: list[RemovableHandle] = field(default_factory=list, repr=False)
    flags: list[tuple[Any, bool]] = field(default_factory=list, repr=False)
    call: "Call | None" = field(default=None, repr=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "mode" and value not in MODES:
            raise ValueError(f"mode is {value!r}; choose from {', '.join(MODES)}")
        super().__setattr__(name, value)

    def counts(self) -> Tensor:
        """Experts of each token in each layer: int64 (layers, B, T), of the whole sequence if it is being generated."""
        experts = self.call.experts if self.call else None
        counts = experts.counts if experts and all(len(c) for c in experts.counts) else [m.sum(-1) for m in self.masks]
        if not counts:
            raise ValueError("nothing was routed yet: run the model first")
        return torch.stack(list(counts))

    def select(self, layer: int, scores: Tensor, call: "Call") -> Tensor:
        """The mask (B, T, E) of new tokens with scores (B, T, E) in one layer, given what its cache holds."""
        kind = "topk" if self.mode == "topk" else self.router
        if kind == "topk":
            return route(scores, self.K, "topk", valid=call.valid)
        if call.cu_seqlens is not None:
            if self.mode == "online":
                raise ValueError(
                    "mode 'online' needs one sequence a row; sequences packed into a row are routed offline"
                )
            return route(scores[0], self.K, kind, self.lower, self.upper, cu_seqlens=call.cu_seqlens)[None]
        if kind == "batchtopk" and call.start:
            raise ValueError("batchtopk has no causal form: generate with router 'seqtopk', or with use_cache=False")
        if kind == "batchtopk" or (call.experts is None and self.mode == "offline"):
            return route(scores, self.K, kind, self.lower, self.upper, call.valid)
        together = scores.shape[1] if self.mode == "offline" else min(self.prompt, scores.shape[1])
        state = call.experts.states[layer] if call.experts else OnlineState(self.K, self.lower, self.upper)
        return state.advance(scores, call.valid, 0 if call.start else together)


# What travels with a forward pass ---------------------------------------------------------------------------------


class ExpertCache:
    """The competitors of later tokens in every layer; lives beside a cache of keys and values."""

    def __init__(self, handle: Patch) -> None:
        self.states = [OnlineState(handle.K, handle.lower, handle.upper) for _ in range(handle.layers)]
        self.counts: list[Tensor] = [torch.empty(0)] * handle.layers
        self.columns = 0

    def reorder(self, index: Tensor) -> None:
        """Keep the sequences `index`, in that order."""
        for state in self.states:
            state.reorder(index)
        self.counts = [counts[index] if len(counts) else counts for counts in self.counts]


@dataclass(eq=False)
class Call:
    """One pass through the model: (B, T) new tokens after `start` columns; `valid` bool (B, T), None for all."""

    shape: tuple[int, int]
    start: int
    valid: Tensor | None
    cu_seqlens: Tensor | None
    experts: ExpertCache | None


class _Followed:
    """Mixed into a key/value cache: what happens to its sequences happens to their competitors for experts."""

    _experts: ExpertCache

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)  # type: ignore[misc]
        self._experts.reorder(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)  # type: ignore[misc]
        self._experts.reorder(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)  # type: ignore[misc]
        for counts in self._experts.counts[:1]:
            self._experts.reorder(torch.arange(len(counts), device=counts.device).repeat_interleave(repeats))


@memo
def _followed(kind: Any) -> Any:
    return kind if issubclass(kind, _Followed) else type(kind.__name__, (_Followed, kind), {})


# Hooks ------------------------------------------------------------------------------------------------------------


def _begin(handle: Patch, body: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Before the model's body: note padding and the past, and send the note along to the layers."""
    names = ("input_ids", "attention_mask", "position_ids", "cache", "inputs_embeds")
    given = dict(zip(names, args, strict=False)) | kwargs
    tokens = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
    batch, columns = tokens.shape[:2]
    valid = given.get("attention_mask")
    if valid is not None:
        if not isinstance(valid, Tensor) or valid.dim() != 2:
            raise ValueError(
                "SeqTopK needs a 2-D attention_mask (batch, tokens) to know the padding, or none; generate() with a "
                "static cache hides it: take the default cache"
            )
        if bool((empty := ~valid.bool().any(1)).any()):
            raise ValueError(f"sequence {int(empty.nonzero()[0])} is all padding: drop it from the batch")
        valid = valid[:, -columns:].bool()
        valid = None if bool(valid.all()) else valid

    cache = given.get("cache", given.get("past_key_values"))
    start = 0 if cache is None else int(cache.get_seq_length())
    use_cache = body.config.use_cache if given.get("use_cache") is None else given["use_cache"]
    experts = None
    if handle.mode != "topk" and handle.router == "seqtopk" and not body.training and (use_cache or start):
        experts = getattr(cache, "_experts", None) if start else ExpertCache(handle)
        if experts is None or experts.columns != start:
            seen = experts.columns if experts else 0
            raise ValueError(
                f"the cache holds {start} tokens, of which SeqTopK has routed {seen}: start the sequence anew (a cache "
                "that is cropped, or filled before patch() or in mode 'topk', cannot be continued)"
            )
    packed = given.get("cu_seq_lens_q") if batch == 1 and not start else None
    call = Call((batch, columns), start, valid, packed, None if packed is not None else experts)
    handle.masks = [torch.empty(0)] * handle.layers
    return args, kwargs | {"_seqtopk_call": call}


def _enter_layer(handle: Patch, attention: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    # Among the layer's arguments the note is there again when gradient checkpointing runs the layer a second time.
    handle.call = kwargs.pop("_seqtopk_call")
    return args, kwargs


def _end(handle: Patch, body: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
    """After the model's body: tie the competitors to the cache that the caller gets."""
    experts = handle.call.experts if handle.call else None
    if experts is None:
        return
    cache = output.cache if hasattr(output, "cache") else getattr(output, "past_key_values", None)  # 5.24, 5.23
    if cache is None:
        return
    experts.columns = int(cache.get_seq_length())
    kind: Any = type(cache)
    cache._experts, cache.__class__ = experts, _followed(kind)


def _reroute(handle: Patch, number: int, gate: nn.Module, args: tuple, output: tuple) -> tuple | None:
    """Replace a router's selection: (logits (N, E), weights (N, k), experts (N, k)), with k the largest number here."""
    logits, weights, _ = output
    call = handle.call
    assert call is not None
    scores = router_scores(logits.detach(), handle.score).view(*call.shape, -1)
    mask = handle.select(number, scores, call)
    handle.masks[number] = mask
    if call.experts is not None:
        before, counts = call.experts.counts[number], mask.sum(-1)
        call.experts.counts[number] = torch.cat([before, counts], dim=1) if len(before) else counts
    if (handle.mode == "topk" or handle.router == "topk") and gate.top_k == handle.K:
        return None
    p, mask = router_scores(logits), mask.flatten(0, 1)
    width = max(int(mask.sum(-1).max()), 1)
    chosen = p.detach().masked_fill(~mask, -1.0).topk(width, dim=-1).indices
    # Mixtral has no such switch: it always divides by the sum.
    gates = gate_weights(p, mask, normalise=bool(getattr(gate, "norm_topk_prob", True)))
    indices = chosen.masked_fill(~mask.gather(1, chosen), mask.shape[-1])
    return logits, gates.gather(1, chosen).to(weights.dtype), indices


# What is patched --------------------------------------------------------------------------------------------------


def _find(model: nn.Module) -> tuple[Any, list[Any]]:
    """The module that runs the layers, and their mixture-of-experts blocks in order."""
    blocks: list[Any] = []
    for module in model.modules():
        router = getattr(module, "gate", None) or getattr(module, "router", None)
        if isinstance(getattr(module, "experts", None), nn.Module) and isinstance(router, nn.Module):
            if not any(kind.__name__ in FAMILIES for kind in type(router).__mro__):
                raise ValueError(
                    f"{type(model).__name__} routes with {type(router).__name__}, which SeqTopK does not know; it "
                    f"knows those of {', '.join(FAMILIES.values())}"
                )
            blocks.append(module)
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no mixture-of-experts block: there is nothing to route")
    for module in model.modules():
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList) and set(layers.modules()) >= set(blocks):
            return module, blocks
    raise ValueError(f"{type(model).__name__} is only a part of a model: pass the one that owns the layers")


def _check_interface(body: Any, blocks: list[Any]) -> None:
    """Whether layers and routers are still what the hooks suppose: tried on one token."""
    problem = ""
    for block in blocks:
        gate = block.gate
        try:
            with torch.no_grad():
                shapes = [tuple(part.shape) for part in gate(gate.weight.new_zeros(1, gate.weight.shape[-1]))]
            if shapes != [(1, gate.num_experts), (1, gate.top_k), (1, gate.top_k)]:
                problem = f"gives {shapes} for one token"
            elif not hasattr(block.experts, "_is_expert_parallel"):
                problem = "has experts without the switch that lets them skip a slot"
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            problem = f"fails on one token ({' '.join(str(error).split())})"
    if not all(hasattr(layer, "self_attn") for layer in body.layers):
        problem = "has layers without self_attn"
    if problem:
        import transformers  # on use: it takes seconds

        raise ValueError(
            f"{type(blocks[0].gate).__name__} of transformers {transformers.__version__} {problem}; SeqTopK was "
            "written for (logits (N, E), weights (N, K), experts (N, K)) of versions 5.23 and 5.24"
        )
