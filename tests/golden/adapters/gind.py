"""Adapters of GIND's arrays; see ../test_golden.py."""

import json
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.gind.implicit import Diffusion, ImplicitLayer, SignNorm, cut, node_scale, regularised, regulariser
from methods.gind.model import GIND, Iterations

Arrays = dict[str, np.ndarray]

DOUBLE = {"rtol": 1e-9, "atol": 1e-9}


def tensor(arrays: Arrays, key: str) -> Tensor:
    return torch.from_numpy(arrays[key])


def norms(arrays: Arrays) -> Iterator[tuple]:
    torch.set_default_dtype(torch.float64)
    try:
        for key in [key for key in arrays if key.startswith("norm_") and key[-3:-1] == "sl"]:
            isolated = "_iso" if "_iso" in key else ""
            edges = tensor(arrays, f"edge_index{isolated}")
            yield key, node_scale(edges, len(arrays[key]), self_loops=key.endswith("1")), DOUBLE
        if "norm_cut" in arrays:
            edges, s = cut(tensor(arrays, "edge_index"), len(arrays["norm_cut"]), self_loops=True)
            yield "norm_cut", s, DOUBLE
            yield (
                "edge_index_cut",
                torch.unique(edges, dim=1),
                {"expected": torch.unique(tensor(arrays, "edge_index_cut"), dim=1)},
            )
    finally:
        torch.set_default_dtype(torch.float32)
    if "nx" not in arrays:
        return
    x, graph = tensor(arrays, "nx"), tensor(arrays, "nbatch")
    for key, kind, edge_graph in (
        ("ln", "LayerNorm", None),
        ("ln_b", "LayerNorm", graph),
        ("inn", "InstanceNorm", None),
        ("inn_b", "InstanceNorm", graph),
    ):
        if key in arrays:
            norm = SignNorm(kind, x.shape[1]).double()
            norm.weight.data = tensor(arrays, "nweight")
            yield key, norm(x, edge_graph, int(graph.max()) + 1), DOUBLE


def ours(name: str) -> str:
    return name.replace("extractor.", "encoder.").replace("implicit_module.Fs.", "layers.")


def load(module: nn.Module, arrays: Arrays, rename: dict[str, str]) -> dict[str, str]:
    """Our name of each of theirs, but for a bias of InstanceNorm's that is never used."""
    names = {key[2:]: rename.get(key[2:], ours(key[2:])) for key in arrays if key.startswith("p:")}
    names = {theirs: own for theirs, own in names.items() if not theirs.endswith("norm.bias")}
    module.load_state_dict({own: tensor(arrays, f"p:{theirs}") for theirs, own in names.items()})
    return names


def gradients(module: nn.Module, arrays: Arrays, names: dict[str, str]) -> Iterator[tuple]:
    own = dict(module.named_parameters())
    for theirs, name in names.items():
        if f"g:{theirs}" in arrays and arrays[f"g:{theirs}"].size:
            yield f"g:{theirs}", own[name].grad, DOUBLE


def implicit_step(arrays: Arrays) -> Iterator[tuple]:
    z, x = (tensor(arrays, name).requires_grad_() for name in ("z", "x"))
    graph = Diffusion(tensor(arrays, "edge_index"), tensor(arrays, "norm"))
    layer = ImplicitLayer(
        z.shape[1],
        float(arrays["alpha"]),
        "LayerNorm",
        double=bool(arrays["double_linear"]),
        rescale=bool(arrays["rescale"]),
    ).double()
    names = load(layer, arrays, {})
    out = layer(x, graph)(z)
    yield "out", out, DOUBLE
    (out * tensor(arrays, "cot")).sum().backward()
    yield "gz", z.grad, DOUBLE
    yield "gx", x.grad, DOUBLE
    yield from gradients(layer, arrays, names)


def regulariser_step(arrays: Arrays) -> Iterator[tuple]:
    z, graph = tensor(arrays, "z"), Diffusion(tensor(arrays, "edge_index"), tensor(arrays, "norm"))
    for kind in ("Lap", "Dec"):
        if f"loss_{kind}" in arrays:
            yield f"loss_{kind}", regulariser(kind, z, graph), DOUBLE
            yield f"out_{kind}", regularised(kind, z, graph, float(arrays[f"coeff_{kind}"])), DOUBLE


def model(arrays: Arrays, node_graph: Tensor | None = None) -> tuple[GIND, Tensor, Tensor, dict[str, str]]:
    config = json.loads(str(arrays["config"]))
    heads = 1 if config["linear"] else 2
    made = GIND(
        config["in_channels"],
        config["hidden_channels"],
        config["out_channels"],
        layers=config["num_layers"],
        alpha=config["alpha"],
        iterations=Iterations(*config["iter_nums"]),
        norm=config["norm"],
        double=config["double_linear"],
        rescale=config["rescale"],
        residual=config["residual"],
        regulariser=config.get("reg_type") or "none",
        rate=config.get("reg_coeff", 0.0),
        head_layers=heads,
        activation=config.get("act_exp", "elu"),
        pooled=node_graph is not None,
    ).double()
    last = f"last_layer.lins.{heads - 1}"
    rename = {f"{last}.{kind}": f"out.{kind}" for kind in ("weight", "bias")}
    rename |= {f"last_layer.lins.0.{kind}": f"head.0.{kind}" for kind in ("weight", "bias") if heads == 2}
    names = load(made.eval(), arrays, rename)
    x = tensor(arrays, "x").requires_grad_()
    graphs = 1 if node_graph is None else int(node_graph.max()) + 1
    graph = Diffusion(tensor(arrays, "edge_index"), tensor(arrays, "norm"), node_graph, graphs)
    return made, x, made(x, graph), names


def node_model(arrays: Arrays) -> Iterator[tuple]:
    made, x, logits, names = model(arrays)
    yield "logits", logits, DOUBLE
    mask = tensor(arrays, "mask")
    yield from trained(arrays, made, x, F.cross_entropy(logits[mask], tensor(arrays, "y")[mask]), names)


def graph_model(arrays: Arrays) -> Iterator[tuple]:
    made, x, logits, names = model(arrays, tensor(arrays, "batch"))
    yield "logits", logits, DOUBLE
    yield from trained(arrays, made, x, F.cross_entropy(logits, tensor(arrays, "y")), names)


def trained(arrays: Arrays, made: GIND, x: Tensor, loss: Tensor, names: dict[str, str]) -> Iterator[tuple]:
    yield "loss", loss, DOUBLE
    loss.backward()
    yield "gx", x.grad, DOUBLE
    yield from gradients(made, arrays, names)


KINDS = {
    "norms": norms,
    "implicit_step": implicit_step,
    "regulariser": regulariser_step,
    "node_model": node_model,
    "graph_model": graph_model,
}
