"""Adapter of the whole models of Hugging Face under SeqTopK; see ../test_golden.py. Merged in seqtopk.py."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.seqtopk import patch, unpatch
from methods.seqtopk.losses import lb_from_mask

Arrays = dict[str, np.ndarray]
LOGITS, LOSS = {"rtol": 0.0, "atol": 5e-5}, {"rtol": 0.0, "atol": 2e-5}
# Beginning of an array's `kind` -> the package's name of the family.
FAMILIES = {"olmoe": "Olmoe", "qwen2": "Qwen2Moe", "qwen3": "Qwen3Moe", "mixtral": "Mixtral"}


def hf_model(arrays: Arrays) -> Iterator[tuple]:
    model = stored_model(arrays)
    # A sequence that is all padding is refused by ours; sequences do not depend on each other.
    kept = arrays["attention_mask"].any(1)
    valid = tensor(arrays["attention_mask"])[kept].bool()
    names = ("input_ids", "attention_mask", "labels", "position_ids")
    inputs = {name: tensor(arrays[name])[kept] for name in names if name in arrays}
    K, experts = int(arrays["K"]), model.config.num_experts
    bounds = {"seq": (int(arrays["lower"]), K + int(arrays["extra"])), "seqfree": (0, experts)}
    for name in ("topk", *bounds):
        handle = patch(model, "seqtopk", None, *bounds[name]) if name in bounds else None
        with torch.no_grad():
            out = model(**inputs, output_router_logits=True)
        router_logits = [logits for logits in out.router_logits if logits is not None]
        expected = arrays[f"{name}_logits"][kept][valid.numpy()]
        yield f"{name}_logits", out.logits[valid], {"expected": expected, **LOGITS}
        if f"{name}_loss" in arrays:
            yield f"{name}_loss", out.loss, LOSS
        if handle is None:
            yield "topk_aux", out.aux_loss, LOSS
            for layer, logits in enumerate(router_logits):
                expected = arrays[f"topk_router_logits_{layer}"].reshape(len(kept), -1, experts)[kept]
                yield f"topk_router_logits_{layer}", logits.view(expected.shape), {"expected": expected, **LOGITS}
            continue
        yield f"{name}_aux_hf", out.aux_loss, LOSS
        yield f"{name}_aux_from_mask", lb_from_mask(router_logits, handle.masks, valid), LOSS
        for layer, mask in enumerate(handle.masks):
            yield f"{name}_mask_{layer}", mask, {"expected": arrays[f"{name}_mask_{layer}"][kept]}
        unpatch(model)


def stored_model(arrays: Arrays) -> Any:
    """The package's model with the stored weights.

    Its sizes are those of the weights. They do not tell the number of heads, whether weights of experts are normalised
    and what share of the balance loss is added: where no array gives them, they are what makes the package's own TopK
    model, which is not ours, give the stored TopK logits and loss.
    """
    import transformers

    family = next(FAMILIES[name] for name in FAMILIES if str(arrays["kind"]).lower().startswith(name))
    stored = {key.removeprefix("param."): tensor(arrays[key]) for key in arrays if key.startswith("param.")}
    inputs = {name: tensor(arrays[name]) for name in ("input_ids", "attention_mask", "labels") if name in arrays}
    expected, valid = tensor(arrays["topk_logits"]), tensor(arrays["attention_mask"]).bool()
    found = None
    for heads, normalise in product(possible_heads(arrays, stored), possible(arrays, ("norm_topk_prob", "norm"), 0, 1)):
        config = getattr(transformers, f"{family}Config")(**sizes(arrays, stored, family, heads, bool(normalise)))
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval().to(stored["model.norm.weight"].dtype)
        model.set_experts_implementation("eager")  # the package's faster ones refuse widths such as 5
        model.load_state_dict(stored)
        with torch.no_grad():
            out = model(**inputs, output_router_logits=True)
        found = found or model
        if torch.allclose(out.logits[valid], expected[valid], rtol=0, atol=LOGITS["atol"]):
            found = model
            break
    if "topk_loss" in arrays and "router_aux_loss_coef" not in arrays:
        plain = out.loss - found.router_aux_loss_coef * out.aux_loss
        shares = (found.router_aux_loss_coef, 0.01, 0.001, 0.0)
        errors = [abs(float(plain + share * out.aux_loss) - float(arrays["topk_loss"])) for share in shares]
        found.router_aux_loss_coef = shares[int(np.argmin(errors))]
    return found


def sizes(arrays: Arrays, stored: dict[str, Tensor], family: str, heads: int, normalise: bool) -> dict[str, Any]:
    """Arguments of the configuration, in the names of `family`."""
    vocabulary, hidden = stored["model.embed_tokens.weight"].shape
    layers = 1 + max(int(key.split(".")[2]) for key in stored if key.startswith("model.layers."))
    sparse = [layer for layer in range(layers) if f"model.layers.{layer}.mlp.gate.weight" in stored]
    block = f"model.layers.{sparse[0]}"
    experts, _, width = stored[f"{block}.mlp.experts.down_proj"].shape
    head_width = len(stored[f"{block}.self_attn.q_proj.weight"]) // heads
    config: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": len(stored[f"{block}.self_attn.k_proj.weight"]) // head_width,
        "num_experts_per_tok": int(arrays["K"]),
        "pad_token_id": 0,
        "eos_token_id": None,
        "bos_token_id": None,
        "tie_word_embeddings": "lm_head.weight" not in stored,
        ("num_local_experts" if family == "Mixtral" else "num_experts"): experts,
        ("moe_intermediate_size" if family.startswith("Qwen") else "intermediate_size"): width,
    }
    if family != "Mixtral":
        config["norm_topk_prob"] = normalise
    if family in ("Qwen3Moe", "Mixtral"):
        config["head_dim"] = head_width
    if family.startswith("Qwen"):
        dense = [layer for layer in range(layers) if layer not in sparse]
        config["mlp_only_layers"] = dense
        if dense:
            config["intermediate_size"] = len(stored[f"model.layers.{dense[0]}.mlp.gate_proj.weight"])
    if family == "Qwen2Moe":
        config["shared_expert_intermediate_size"] = len(stored[f"{block}.mlp.shared_expert.gate_proj.weight"])
        config["qkv_bias"] = f"{block}.self_attn.q_proj.bias" in stored
    names = ("router_aux_loss_coef", "rms_norm_eps", "rope_theta")
    return config | {name: float(arrays[name]) for name in names if name in arrays}


def possible_heads(arrays: Arrays, stored: dict[str, Tensor]) -> list[int]:
    """The number of heads as given, as Qwen3's norm of a head has it, or those that fit the widths."""
    query = next(value for key, value in stored.items() if key.endswith("self_attn.q_proj.weight"))
    keys = next(value for key, value in stored.items() if key.endswith("self_attn.k_proj.weight"))
    norm = next((value for key, value in stored.items() if key.endswith("self_attn.q_norm.weight")), query)
    if len(norm) < len(query):
        return [len(query) // len(norm)]
    fitting = [n for n in range(1, len(query) + 1) if len(query) % (2 * n) == 0 and len(keys) % (len(query) // n) == 0]
    return possible(arrays, ("heads", "num_heads", "num_attention_heads"), *sorted(fitting, key=lambda n: n != 2))


def possible(arrays: Arrays, names: tuple[str, ...], *others: int) -> list[int]:
    """The value of an array of one of these names, or the others if there is none."""
    return next(([int(arrays[name])] for name in names if name in arrays), list(others))


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


KINDS = {"hf_model": hf_model}
