"""Adapters of the SeqTopK arrays; see ../test_golden.py."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from methods.seqtopk.losses import lb_from_mask, lb_hf, z_loss
from methods.seqtopk.moe import MoE
from methods.seqtopk.online import online_mask
from methods.seqtopk.router import gate_weights, router_scores
from methods.seqtopk.routers import route

Arrays = dict[str, np.ndarray]
# Tolerances of the arrays: values computed in float64 or in float32, losses, gradients.
VALUES = {torch.float64: {"rtol": 1e-6, "atol": 1e-10}, torch.float32: {"rtol": 1e-5, "atol": 2e-6}}
SINGLE, GRADIENT = {"rtol": 1e-5, "atol": 2e-5}, {"rtol": 1e-5, "atol": 2e-5}


def routing(arrays: Arrays) -> Iterator[tuple]:
    logits, valid, K = tensor(arrays["logits"]), tensor(arrays["valid"]), arrays["K"].item()
    p = router_scores(logits)
    yield "probs", p, VALUES[p.dtype]
    bounds = {"lower": arrays["lower"].item(), "upper": arrays["upper"].item()}
    free = {"lower": 0, "upper": p.shape[-1]}
    tau = arrays["tau"].item()
    masks = {
        "topk": route(p, K, "topk", valid=valid),
        "seqtopk_free": route(p, K, **free, valid=valid),
        "seqtopk_bounded": route(p, K, **bounds, valid=valid),
        "seqtopk_logits_free": route(router_scores(logits, "logits"), K, **free, valid=valid),
        "batchtopk_free": route(p, K, "batchtopk", **free, valid=valid),
        "batchtopk_bounded": route(p, K, "batchtopk", **bounds, valid=valid),
        "threshold": route(p, K, "threshold", **free, valid=valid, level=tau),
        "threshold_bounded": route(p, K, "threshold", **bounds, valid=valid, level=tau),
        "expert_choice_seq": route(p, K, "expert-choice", valid=valid),
        "expert_choice_batch": route(p, K, "expert-choice-batch", valid=valid),
    }
    for number, level in enumerate(arrays["p_list"]):
        masks[f"topp_{number}"] = route(p, K, "top-p", valid=valid, level=float(level))
    for name in (key.removeprefix("mask_") for key in arrays if key.startswith("mask_")):
        mask = masks[name]
        yield f"mask_{name}", mask
        yield f"count_{name}", mask.sum(-1)
        if f"w_{name}" in arrays:
            yield f"w_{name}", gate_weights(p, mask), VALUES[p.dtype]
            yield f"wnorm_{name}", gate_weights(p, mask, normalise=True), VALUES[p.dtype]
        single = {"topk": "topk", "seqtopk_bounded": "seqtopk", "batchtopk_bounded": "batchtopk"}.get(name)
        if single:
            again = route(router_scores(logits.float()), K, single, **bounds, valid=valid)
            yield f"mask_{name} in float32", again, {"expected": mask}


def routing_edges(arrays: Arrays) -> Iterator[tuple]:
    for case in range(arrays["n"].item()):
        scores, valid = tensor(arrays[f"c{case}_scores"]), tensor(arrays[f"c{case}_valid"])
        K, lower, upper = (arrays[f"c{case}_{name}"].item() for name in ("K", "lower", "upper"))
        upper = max(upper, K)  # "raised to K by the caller", says a case's description
        for kind in ("topk", "seqtopk", "batchtopk"):
            yield f"c{case}_{kind}", route(scores, K, kind, lower, upper, valid)


def routing_packed(arrays: Arrays) -> Iterator[tuple]:
    p, bounds, K = router_scores(tensor(arrays["logits"])), tensor(arrays["cu_seqlens"]), arrays["K"].item()
    yield "mask_free", route(p, K, lower=0, upper=p.shape[-1], cu_seqlens=bounds)
    lower, upper = arrays["lower"].item(), arrays["upper"].item()
    yield "mask_bounded", route(p, K, lower=lower, upper=upper, cu_seqlens=bounds)


def online(arrays: Arrays) -> Iterator[tuple]:
    p, K = router_scores(tensor(arrays["logits"])), arrays["K"].item()
    yield "probs", p, VALUES[p.dtype]
    p = p[None]
    limits = {"free": (0, p.shape[-1]), "bounded": (arrays["lower"].item(), arrays["upper"].item())}
    for form, (lower, upper) in limits.items():
        masks = {f"offline_{form}": route(p, K, "seqtopk", lower, upper)}
        for prompt in arrays["prefills"].tolist():
            for mode in ("virtual", "strict"):
                name = f"{mode}_{form}_pf{prompt}"
                masks[name] = online_mask(p, K, lower, upper, prompt=prompt, mode=mode)
        for name, mask in masks.items():
            yield name, mask[0]
            yield f"cum_{name}", mask[0].sum(-1).cumsum(0)


def losses(arrays: Arrays) -> Iterator[tuple]:
    valid, K = tensor(arrays["attention_mask"]).bool(), arrays["K"].item()
    layers = sum(key.startswith("gate_logits_") for key in arrays)
    masks = [tensor(arrays[f"seq_mask_{layer}"]) for layer in range(layers)]
    forms: dict[str, Callable[[list[Tensor]], Tensor]] = {
        "hf_nomask": lambda logits: lb_hf(logits, K),
        "hf_mask": lambda logits: lb_hf(logits, K, valid),
        "lb_from_mask": lambda logits: lb_from_mask(logits, masks, valid),
        "z_loss": lambda logits: z_loss(logits, valid),
        "z_loss_nomask": lambda logits: z_loss(logits),
    }
    for name, form in forms.items():
        logits = [tensor(arrays[f"gate_logits_{layer}"]).requires_grad_() for layer in range(layers)]
        value = form(logits)
        value.backward()
        yield name, value, SINGLE
        for layer, leaf in enumerate(logits):
            yield f"{name}_grad_{layer}", leaf.grad, GRADIENT
    logits = [tensor(arrays[f"gate_logits_{layer}"]) for layer in range(layers)]
    bounds = arrays["lower"].item(), arrays["upper"].item()
    for layer, rows in enumerate(logits):
        scores = router_scores(rows).view(*valid.shape, -1)
        yield f"seq_mask_{layer}", route(scores, K, "seqtopk", *bounds, valid).flatten(0, 1)
    even = [torch.zeros_like(rows) for rows in logits]
    yield "hf_balanced_value", lb_hf(even, K), SINGLE


def moe_layer(arrays: Arrays) -> Iterator[tuple]:
    stored = {key.removeprefix("param."): tensor(array) for key, array in arrays.items() if key.startswith("param.")}
    K, (experts, d) = arrays["K"].item(), stored["gate.weight"].shape
    shared = stored.get("shared_expert.gate_proj.weight")
    bounds = {"lower": arrays["lower"].item(), "upper": arrays["upper"].item()}
    routes = {
        "topk": {"router": "topk"},
        "seq": {"router": "seqtopk", **bounds},
        "seqfree": {"router": "seqtopk", "lower": 0, "upper": experts},
    }
    for name, options in routes.items():
        layer = MoE(
            d,
            experts=experts,
            width=stored["experts.down_proj"].shape[2],
            K=K,
            shared_width=0 if shared is None else len(shared),
            normalise=bool(arrays["norm"]),
            **options,
        ).to(stored["gate.weight"].dtype)
        layer.load_state_dict(stored)
        x = tensor(arrays["x"]).requires_grad_()
        # The package's TopK block routes padding, too.
        out = layer(x, None if name == "topk" else tensor(arrays["valid"]))
        (out * tensor(arrays["r"])).sum().backward()
        yield f"{name}_out", out, VALUES[x.dtype]
        yield f"{name}_mask", layer.routed.mask
        yield f"{name}_gx", x.grad, GRADIENT
        for parameter, value in layer.named_parameters():
            yield f"{name}_g.{parameter}", value.grad, GRADIENT
        yield "router_probs", router_scores(layer.routed.logits), VALUES[x.dtype]
        if name == "topk":
            yield "topk_hf_out", out, {"rtol": 1e-6, "atol": 2e-6}  # its softmax is float32


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def hugging_face() -> dict[str, Callable]:
    """The kinds of whole models of the package."""
    path = Path(__file__).with_name("seqtopk_hf.py")
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location("golden_adapters_seqtopk_hf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KINDS


KINDS = {
    **hugging_face(),
    "routing": routing,
    "routing_edges": routing_edges,
    "routing_packed": routing_packed,
    "online": online,
    "losses": losses,
    "moe_layer": moe_layer,
}
