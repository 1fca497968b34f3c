"""Adapters of NCN's arrays; see ../test_golden.py."""

import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from methods.ncn.encoder import PureGCN
from methods.ncn.overlap import Members, Neighbours
from methods.ncn.predictor import Completion, Predictor, link_loss

Arrays = dict[str, np.ndarray]

DOUBLE = {"rtol": 1e-9, "atol": 1e-11}


def graph_of(arrays: Arrays, nodes: int) -> Neighbours:
    return Neighbours(torch.from_numpy(arrays["edge_index"]), nodes)


def overlap(arrays: Arrays) -> Iterator[tuple]:
    pairs, nodes = torch.from_numpy(arrays["targets"]), int(arrays["n"])

    def dense(members: Members) -> Tensor:
        assert (members.pair.diff() >= 0).all()
        return torch.zeros(pairs.shape[1], nodes).index_put_(members, torch.ones(len(members.pair)), accumulate=True)

    found = graph_of(arrays, nodes).overlap(pairs)
    for key, members in zip(("cn", "res1", "res2"), found, strict=True):
        yield key, dense(members).double(), {"rtol": 0.0, "atol": 0.0}


def load(module: nn.Module, arrays: Arrays, renamed: dict[str, str], unused: tuple[str, ...] = ()) -> None:
    state = {key[2:]: torch.from_numpy(value) for key, value in arrays.items() if key.startswith("p:")}
    state = {renamed.get(name, name): value for name, value in state.items() if not name.startswith(unused or "-")}
    module.load_state_dict(state)


def gradients(module: nn.Module, arrays: Arrays, renamed: dict[str, str]) -> Iterator[tuple]:
    own = dict(module.named_parameters())
    for key, value in arrays.items():
        name = renamed.get(key[2:], key[2:])
        if not key.startswith("g:") or name not in own:
            continue
        if value.size:
            yield key, own[name].grad, DOUBLE
        else:
            assert own[name].grad is None, f"{key}: a gradient where the authors have none"


def predictor(arrays: Arrays) -> Iterator[tuple]:
    config = json.loads(str(arrays["config"]))
    completion = None
    if "alpha" in config:
        completion = Completion(config.get("depth", 1), *(config[name] for name in ("alpha", "scale", "offset", "pt")))
    neighbourless = all(not value.size for key, value in arrays.items() if key.startswith("g:xcnlin"))
    model = Predictor(
        arrays["x"].shape[1],
        common=not neighbourless,
        completion=completion,
        xlin=config.get("use_xlin", False),
        tail=config.get("tailact", False),
        layer_norm=config.get("ln", False),
        two_layers=config.get("twolayerlin", False),
        beta=config.get("beta", 1.0),
    ).double()
    load(model, arrays, {}, unused=("ptlin",) if model.xlin is not None else ("ptlin", "xlin"))
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    graph = graph_of(arrays, len(x))
    positive, negative = (torch.from_numpy(arrays[name]) for name in ("pos", "neg"))

    def logits(pairs: Tensor) -> Tensor:
        return model(x, graph, pairs)

    yield "pos_out", logits(positive)[:, None], DOUBLE
    yield "neg_out", logits(negative)[:, None], DOUBLE
    loss = link_loss(logits, positive, negative)
    loss.backward()
    yield "loss", loss, DOUBLE
    yield "gx", x.grad, DOUBLE
    yield from gradients(model, arrays, {})


def encoder(arrays: Arrays) -> Iterator[tuple]:
    renamed = {"xemb.1.weight": "linear.weight", "xemb.1.bias": "linear.bias"}
    out_dim, in_dim = arrays["p:xemb.1.weight"].shape
    model = PureGCN(in_dim, out_dim, layers=len(arrays["p:jkparams"])).double()
    load(model, arrays, renamed)
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    out = model(x, graph_of(arrays, len(x)))
    yield "out", out, DOUBLE
    (out * torch.from_numpy(arrays["cot"])).sum().backward()
    yield "gx", x.grad, DOUBLE
    yield from gradients(model, arrays, renamed)


KINDS = {"overlap": overlap, "predictor": predictor, "encoder": encoder}
