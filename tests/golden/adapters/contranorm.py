"""Adapters of the ContraNorm arrays; see ../test_golden.py."""

import importlib.util
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.contranorm.baselines import make_norm
from methods.contranorm.models import DeepGCN
from methods.contranorm.norm import ContraNorm, FeatureContraNorm, weighted_mean
from methods.contranorm.settings import VisionSettings
from methods.contranorm.token import TokenContraNorm
from methods.contranorm.vision import make_model
from retable.evaluate.spectra import dispersion, effective_rank, feature_variance, mean_cosine_similarity
from retable.nn.graph_layers import GraphAttention
from retable.nn.mask import NeighbourMask
from retable.nn.rows import normalize_rows
from retable.nn.sparse import SparseMatrix, combine, edge_set, l1_normalise, row_normalise, sym_normalise

Arrays = dict[str, np.ndarray]

# The authors' code masks where the row-normalised weight is above this.
WEIGHT_THRESHOLD = 1e-5


def node_norm(arrays: Arrays) -> Iterator[tuple]:
    x, mask = tensor(arrays["x"]), neighbours(arrays["adj_dense"])
    for mode in prefixes(arrays, "/y"):
        name, _, tau = mode.partition("_tau")
        options = {"tau": float(tau)} if tau else {}
        layer = make_norm("none" if name == "None" else name, x.shape[1], arrays["scale"].item(), **options)
        (y, of_y), (key, gradient) = forward_backward(arrays, mode, x, lambda x, layer=layer: layer(x, mask))
        yield y, of_y, {"expected": where_defined(arrays[y], x)}
        if np.isnan(arrays[key]).any():
            yield f"{mode}: finite gradient", gradient.isfinite().all(), {"expected": True}
        else:
            yield key, gradient


def node_norm_edges(arrays: Arrays) -> Iterator[tuple]:
    layer = ContraNorm(arrays["scale"].item())
    for case in prefixes(arrays, "/x"):
        x = tensor(arrays[f"{case}/x"]).requires_grad_()
        mask = neighbours(arrays.get(f"{case}/adj", np.eye(len(x))))
        y = layer(x, mask)
        yield f"{case}/y", y, {"expected": where_defined(arrays[f"{case}/y"], x)}
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        yield f"{case}: finite gradient", gradient.isfinite().all(), {"expected": True}


def feature_form(arrays: Arrays) -> Iterator[tuple]:
    for flags in prefixes(arrays, "/y"):
        center, unit_rows, identity = ("1" in part for part in flags.split("_"))
        layer = FeatureContraNorm(
            arrays["scale"].item(),
            arrays["tau"].item(),
            center=center,
            unit_rows=unit_rows,
            identity=identity,
        )
        yield from forward_backward(arrays, flags, tensor(arrays["x"]), layer)


def token_layer(arrays: Arrays) -> Iterator[tuple]:
    x = tensor(arrays["x"])
    for variant in prefixes(arrays, "/y"):
        learnable = None if "learnable" not in variant else "exp" if "positive" in variant else "linear"
        layer = TokenContraNorm(
            x.shape[-1],
            arrays["scale"].item(),
            arrays["temp"].item(),
            dual="dual" in variant,
            pre_norm="prenorm" in variant,
            identity="identity" in variant,
            learnable=learnable,
            dtype=x.dtype,
        )
        layer.layernorm.weight.data, layer.layernorm.bias.data = (tensor(arrays[f"ln_{k}"]) for k in ("weight", "bias"))
        stored = f"{variant}/scale_param"
        if stored in arrays:
            layer.channel_scale.data = tensor(arrays[stored])
        yield from forward_backward(arrays, variant, x, layer)
        yield f"{variant}/grad_ln_weight", layer.layernorm.weight.grad
        yield f"{variant}/grad_ln_bias", layer.layernorm.bias.grad
        if stored in arrays:
            effective = layer.channel_scale if learnable == "linear" else layer.channel_scale.exp()
            yield f"{variant}: scale of each channel", effective, {"expected": arrays["scale_vec"]}
            yield f"{variant}/grad_scale_param", layer.channel_scale.grad


def vit(arrays: Arrays) -> Iterator[tuple]:
    given = json.loads(arrays["settings"].item())
    layer, images = given["contranorm"], tensor(arrays["images"])
    settings = {
        "image_size": given["img_size"],
        "patch": given["patch_size"],
        "dim": given["embed_dim"],
        "heads": given["num_heads"],
        "depth": given["depth"],
        "mlp_ratio": given["mlp_ratio"],
        "drop_path": 0.0,
        "norm": "CN" if layer["scale"] > 0 else "LN",
        "norm_scale": layer["scale"],
        "dual": layer["dual_norm"],
        "learnable": "none" if not layer["learnable"] else "exp" if layer["positive"] else "linear",
        **{name: layer[name] for name in ("temp", "pre_norm", "identity")},
    }
    model = make_model(VisionSettings.model_construct(**settings), given["num_classes"]).to(images.dtype)
    ours = dict(model.named_parameters())

    def of(name: str) -> Tensor:
        """Names are timm's, but for the layer's own parameter, the scale of each channel."""
        return ours[name if name in ours else f"{name.rpartition('.')[0]}.channel_scale"]

    stored = {key.removeprefix("param/"): tensor(arrays[key]) for key in arrays if key.startswith("param/")}
    assert len(stored) == len(ours)
    for name, value in stored.items():
        of(name).data = value
    logits = model.eval()(images)
    loss = F.cross_entropy(logits, tensor(arrays["targets"]))
    loss.backward()
    yield "logits", logits
    yield "loss", loss
    for key in arrays:
        if key.startswith("grad/"):
            yield key, of(key.removeprefix("grad/")).grad


def lm_layer(arrays: Arrays) -> Iterator[tuple]:
    scale = arrays["scale"].item()
    forms = {
        "bert_row": ContraNorm(scale),
        "bert_feature": FeatureContraNorm(scale),
        "albert_row": ContraNorm(scale, identity=False),
    }
    for form in prefixes(arrays, "/y"):
        yield from forward_backward(arrays, form, tensor(arrays["x"]), forms[form])


def deepgcn(arrays: Arrays) -> Iterator[tuple]:
    edge_index, features = tensor(arrays["edge_index"]), l1_normalise(tensor(arrays["x_raw"]))
    normalised = row_normalise(combine(edge_index, len(features), features.dtype))
    yield "x", features
    yield "adj_dense", normalised.to_dense()
    propagation, mask = SparseMatrix(normalised), NeighbourMask(edge_set(normalised), len(features))
    labels, train = tensor(arrays["labels"]), tensor(arrays["train_mask"])
    stored = {key.removeprefix("param/"): tensor(arrays[key]) for key in arrays if key.startswith("param/")}
    num_classes = stored["out_layer.weight"].shape[1]

    for case, settings in json.loads(arrays["case_settings"].item()).items():
        mode = "none" if settings["norm_mode"] == "None" else settings["norm_mode"]
        for x in (features, SparseMatrix(features.to_sparse_csr())):
            model = DeepGCN(
                features.shape[1],
                arrays["hid"].item(),
                num_classes,
                arrays["nlayer"].item(),
                norm=partial(make_norm, mode, scale=settings["norm_scale"]),
                layer_norm="shared" if settings["use_layer_norm"] else "none",
                dropout=0.0,
                residual=settings["residual"],
            ).to(features.dtype)
            parameters = {k.replace("layer_norms.0", "layer_norm"): p for k, p in model.named_parameters()}
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(stored[name])
            logits = model(x, propagation, mask)
            loss = F.cross_entropy(logits[train], labels[train])
            loss.backward()
            yield f"{case}/logits", logits
            yield f"{case}/loss", loss
            for name, parameter in parameters.items():
                yield f"{case}/grad/{name}", parameter.grad


def graph_prep(arrays: Arrays) -> Iterator[tuple]:
    x = tensor(arrays["x"])
    combined = combine(tensor(arrays["edge_index"]), len(arrays["combined"]), x.dtype)
    yield "combined", combined.to_dense()
    yield "row_norm", row_normalise(combined).to_dense()
    yield "sym_norm", sym_normalise(combined).to_dense()
    yield "x_l1", l1_normalise(x)
    yield "x_l1", l1_normalise(x.to_sparse_csr()).to_dense()


def gat_layer(arrays: Arrays) -> Iterator[tuple]:
    x, adjacency = tensor(arrays["x"]), tensor(arrays["adj_dense"]).to_sparse_csr()
    heads = arrays["heads"].item()
    layer = GraphAttention(x.shape[1], arrays["y"].shape[1], heads, dropout=0.0).to(x.dtype)
    with torch.no_grad():
        for head in range(heads):
            layer.weight[head] = tensor(arrays[f"param/graph_atts.{head}.weight"])
            layer.a[head] = tensor(arrays[f"param/graph_atts.{head}.a"])
    propagation = SparseMatrix(adjacency)
    yield from forward_backward(arrays, "", x, lambda x: layer(x, propagation))
    for head in range(heads):
        yield f"grad/graph_atts.{head}.weight", layer.weight.grad[head]
        yield f"grad/graph_atts.{head}.a", layer.a.grad[head]
    y = layer(x, propagation)
    normed = ContraNorm(arrays["cn_scale"].item())(y, neighbours(arrays["adj_dense"]))
    yield "after_cn_elu", F.elu(normed), {"expected": where_defined(arrays["after_cn_elu"], F.elu(y))}


def metrics(arrays: Arrays) -> Iterator[tuple]:
    for case in prefixes(arrays, "/x"):
        x = tensor(arrays[f"{case}/x"])
        # The arrays come from float32 arithmetic.
        tolerance = {"rtol": 1e-3 if "lowrank" in case else 1e-4, "atol": 1e-6}
        yield f"{case}/sim", mean_cosine_similarity(x).mean(), tolerance
        yield f"{case}/erank", effective_rank(x).mean(), tolerance
        yield f"{case}/var", feature_variance(x).mean(), tolerance


def theory(arrays: Arrays) -> Iterator[tuple]:
    h, tau = tensor(arrays["H"]).requires_grad_(), arrays["tau"].item()
    # With both softmaxes the weighted mean is the gradient of the uniformity loss, up to 1 / tau.
    yield "uniformity_raw_grad", weighted_mean(h, tau, similarity="dot", dual=True) / tau
    u = normalize_rows(h)
    (through_unit,) = torch.autograd.grad(u, h, weighted_mean(u, tau, dual=True) / tau)
    yield "uniformity_normalised_grad", through_unit
    yield "attention @ H", weighted_mean(h, similarity="dot"), {"expected": arrays["attention"] @ arrays["H"]}
    after = ContraNorm(arrays["s"].item(), similarity="dot")(h)
    yield "H_after", after
    yield "var_before", dispersion(h)
    yield "var_after", dispersion(after)
    yield "erank_before", effective_rank(tensor(arrays["H_scaled"]))
    yield "erank_after", effective_rank(tensor(arrays["H_linear_after"]))


def where_defined(expected: np.ndarray, unchanged: Tensor) -> Tensor:
    """The authors' code gives NaN for a node that is adjacent to all; ours is to return its row unchanged."""
    rows = tensor(expected)
    return torch.where(rows.isnan().any(1, keepdim=True), unchanged.to(rows.dtype), rows)


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


def neighbours(adjacency: np.ndarray) -> NeighbourMask:
    return NeighbourMask(edge_set(tensor(adjacency).to_sparse_csr(), WEIGHT_THRESHOLD), len(adjacency))


def prefixes(arrays: Arrays, ending: str) -> list[str]:
    return [key.removesuffix(ending) for key in arrays if key.endswith(ending)]


def forward_backward(arrays: Arrays, case: str, x: Tensor, function: nn.Module) -> Iterator[tuple]:
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(tensor(arrays["grad_out"]))
    slash = "/" if case else ""
    yield f"{case}{slash}y", y
    yield f"{case}{slash}grad_x", x.grad


def beside(name: str) -> ModuleType:
    """Another file of adapters in this folder."""
    spec = importlib.util.spec_from_file_location(f"golden_adapters_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = {
    **beside("contranorm_language").LANGUAGE_KINDS,
    "node_norm": node_norm,
    "node_norm_edges": node_norm_edges,
    "feature_form": feature_form,
    "token_layer": token_layer,
    "lm_layer": lm_layer,
    "lm_layer_zero_row": lm_layer,
    "deepgcn": deepgcn,
    "graph_prep": graph_prep,
    "gat_layer": gat_layer,
    "metrics": metrics,
    "theory": theory,
    "vit_small": vit,
}
