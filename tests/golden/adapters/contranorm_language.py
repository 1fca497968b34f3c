"""Adapters of the BERT and ALBERT arrays of ContraNorm; see ../test_golden.py. Merged in contranorm.py."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from methods.contranorm.hf import patch, unpatch

Arrays = dict[str, np.ndarray]


def bert_layer(arrays: Arrays) -> Iterator[tuple]:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(
        hidden_size=arrays["x"].shape[-1],
        num_attention_heads=int(arrays["heads"]),
        intermediate_size=len(arrays["param/intermediate.dense.bias"]),
    )
    config._attn_implementation = "eager"
    form = "feature" if "feature_form" in arrays and bool(arrays["feature_form"]) else "row"
    yield from positions(arrays, BertLayer(config), form)


def albert_layer(arrays: Arrays) -> Iterator[tuple]:
    from transformers import AlbertConfig
    from transformers.models.albert.modeling_albert import AlbertLayer

    config = AlbertConfig(
        hidden_size=arrays["x"].shape[-1],
        num_attention_heads=int(arrays["heads"]),
        intermediate_size=len(arrays["param/ffn.bias"]),
    )
    config._attn_implementation = "eager"
    yield from positions(arrays, AlbertLayer(config), "row")


def positions(arrays: Arrays, layer: nn.Module, form: str) -> Iterator[tuple]:
    stored = {key.removeprefix("param/"): tensor(arrays[key]) for key in arrays if key.startswith("param/")}
    layer = layer.to(tensor(arrays["x"]).dtype).eval()
    layer.load_state_dict(stored)
    for name in (str(position) for position in arrays["positions"]):
        if name != "none":
            patch(layer, float(arrays["scale"]), name, form)
        x = tensor(arrays["x"]).requires_grad_()
        y = layer(x, tensor(arrays["attn_bias"]))
        y.backward(tensor(arrays["grad_out"]))
        yield f"pos{name}/y", y
        yield f"pos{name}/grad_x", x.grad
        if name != "none":
            unpatch(layer)


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


LANGUAGE_KINDS = {"bert_layer": bert_layer, "albert_layer": albert_layer}
