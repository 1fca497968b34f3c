"""Adapter of the whole models of Hugging Face under SeqTopK; see ../test_golden.py. Merged in seqtopk.py."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from methods.seqtopk import patch, unpatch
from methods.seqtopk.losses import lb_from_mask

Arrays = dict[str, np.ndarray]
LOGITS, LOSS = {"rtol": 0.0, "atol": 5e-5}, {"rtol": 0.0, "atol": 2e-5}
# What the arrays do not carry: README of the arrays.
HEADS, COEFFICIENT = 2, 0.01


def hf_model(arrays: Arrays) -> Iterator[tuple]:
    from transformers import OlmoeConfig, OlmoeForCausalLM

    assert str(arrays["kind"]) == "olmoe", f"no adapter for models of kind {arrays['kind']}"
    stored = {key.removeprefix("param."): tensor(arrays[key]) for key in arrays if key.startswith("param.")}
    layers = sum(key.endswith("mlp.gate.weight") for key in stored)
    vocabulary, hidden = stored["model.embed_tokens.weight"].shape
    experts, _, width = stored["model.layers.0.mlp.experts.down_proj"].shape
    K = int(arrays["K"])
    config = OlmoeConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=int(arrays.get("heads", HEADS)),
        num_experts=experts,
        num_experts_per_tok=K,
        router_aux_loss_coef=float(arrays.get("router_aux_loss_coef", COEFFICIENT)),
        pad_token_id=0,
        eos_token_id=None,
    )
    model = OlmoeForCausalLM(config).eval()
    model.load_state_dict(stored)
    valid = tensor(arrays["attention_mask"]).bool()
    inputs = {name: tensor(arrays[name]) for name in ("input_ids", "attention_mask", "labels")}
    bounds = {"seq": (int(arrays["lower"]), K + int(arrays["extra"])), "seqfree": (0, experts)}
    for name in ("topk", *bounds):
        handle = patch(model, "seqtopk", None, *bounds[name]) if name in bounds else None
        with torch.no_grad():
            out = model(**inputs, output_router_logits=True)
        yield f"{name}_logits", out.logits[valid], {"expected": arrays[f"{name}_logits"][valid.numpy()], **LOGITS}
        yield f"{name}_loss", out.loss, LOSS
        if handle is None:
            yield "topk_aux", out.aux_loss, LOSS
            for layer, logits in enumerate(out.router_logits):
                yield f"topk_router_logits_{layer}", logits, LOGITS
            continue
        yield f"{name}_aux_hf", out.aux_loss, LOSS
        yield f"{name}_aux_from_mask", lb_from_mask(out.router_logits, handle.masks, valid), LOSS
        for layer, mask in enumerate(handle.masks):
            yield f"{name}_mask_{layer}", mask
        unpatch(model)


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


KINDS = {"hf_model": hf_model}
