"""Tiny random models of the four architectures; nothing is downloaded."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from methods.seqtopk import patch, unpatch
from methods.seqtopk.router import router_scores
from methods.seqtopk.routers import route

SIZE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "eos_token_id": None,
    "bos_token_id": None,
    "initializer_range": 0.3,
}
WIDE = {"num_experts": 8, "moe_intermediate_size": 16, "num_key_value_heads": 2}
FAMILIES = {
    "olmoe": lambda: OlmoeForCausalLM(OlmoeConfig(**SIZE, intermediate_size=16, num_experts=8)),
    "qwen2": lambda: Qwen2MoeForCausalLM(
        Qwen2MoeConfig(**SIZE, **WIDE, shared_expert_intermediate_size=12, mlp_only_layers=[0], intermediate_size=20)
    ),
    "qwen3": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZE, **WIDE, head_dim=8, norm_topk_prob=True)),
    "mixtral": lambda: MixtralForCausalLM(
        MixtralConfig(**SIZE, intermediate_size=16, num_local_experts=8, num_key_value_heads=2)
    ),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
# All that the package has; deepgemm and sonicmoe are kernels for one kind of GPU.
IMPLEMENTATIONS = ("eager", "grouped_mm", "batched_mm")
ON_A_GPU = {"deepgemm", "sonicmoe"}


def make(family: str = "olmoe", seed: int = 0):
    torch.manual_seed(seed)
    return FAMILIES[family]().eval()


def tokens(batch: int = 2, length: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(1, 60, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model, ids: Tensor, **options) -> Tensor:
    return model(ids, **options).logits


@every_family
def test_a_patched_model_spends_exactly_its_budget_and_keeps_its_bounds(family):
    model = make(family)
    plain = logits(model, tokens())
    handle = patch(model)
    changed = logits(model, tokens())
    assert not torch.allclose(changed, plain, atol=1e-3)
    counts = handle.counts()
    assert counts.shape == (1 if family == "qwen2" else 2, 2, 12)
    assert (counts.sum(-1) == 2 * 12).all()
    assert counts.min() >= 1
    assert counts.max() <= 4
    assert (counts != 2).any()


@every_family
def test_mode_topk_is_the_model_itself_and_unpatch_restores_it_bit_by_bit(family):
    model = make(family)
    plain, weights = logits(model, tokens()), copy.deepcopy(model.state_dict())
    inside = {name: set(vars(module)) for name, module in model.named_modules()}
    handle = patch(model, mode="topk")
    assert torch.equal(logits(model, tokens()), plain)
    assert (handle.counts() == 2).all()
    handle.mode = "offline"
    logits(model, tokens())
    unpatch(model)
    assert torch.equal(logits(model, tokens()), plain)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == inside
    assert not any(m._forward_pre_hooks for m in model.modules())


@every_family
def test_equal_bounds_are_topk_by_another_way(family):
    model = make(family)
    plain = logits(model, tokens())
    patch(model, upper=2)
    torch.testing.assert_close(logits(model, tokens()), plain, atol=2e-5, rtol=1e-4)
    unpatch(model)
    patch(model, K=8)
    plain.sub_(logits(model, tokens()))
    assert plain.abs().max() > 1e-3  # all eight experts of a layer are another model


@every_family
def test_masks_are_the_routers_own_choice_for_these_logits(family):
    model = make(family)
    handle = patch(model)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[1, :5] = False
    out = model(tokens(), attention_mask=valid.long(), output_router_logits=True)
    captured = [layer for layer in out.router_logits if layer is not None]
    assert len(captured) == len(handle.masks)
    for layer, mask in zip(captured, handle.masks, strict=True):
        expected = route(router_scores(layer.detach()).view(2, 12, 8), 2, valid=valid)
        assert torch.equal(mask, expected)


@pytest.mark.parametrize("family", ["olmoe", "qwen3"])
def test_every_implementation_of_the_experts_gives_the_same(family):
    assert set(ALL_EXPERTS_FUNCTIONS.valid_keys()) - ON_A_GPU <= set(IMPLEMENTATIONS)
    results = []
    for implementation in IMPLEMENTATIONS:
        model = make(family)
        model.set_experts_implementation(implementation)
        patch(model, upper=5)
        mask = torch.ones(2, 12, dtype=torch.long)
        mask[0, :4] = 0
        out = model(tokens(), attention_mask=mask, labels=tokens().masked_fill(mask == 0, -100))
        out.loss.backward()
        results.append((out.logits.detach()[mask.bool()], [p.grad for p in model.parameters()]))
    for values, gradients in results[1:]:
        torch.testing.assert_close(values, results[0][0], atol=2e-5, rtol=1e-4)
        for ours, theirs in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-3)


@every_family
def test_greedy_generation_equals_a_full_forward_with_the_online_mask(family):
    model, prompt = make(family), tokens(2, 5)
    handle = patch(model)
    made = model.generate(prompt, max_new_tokens=10, do_sample=False, output_logits=True, return_dict_in_generate=True)
    generated = handle.counts()
    assert generated.shape[1:] == (2, 14)
    handle.mode, handle.prompt = "online", 5
    full = logits(model, made.sequences, use_cache=False)
    assert torch.equal(handle.counts()[..., :14], generated)
    torch.testing.assert_close(torch.stack(made.logits, 1), full[:, 4:-1], atol=1e-4, rtol=1e-4)
    handle.mode = "offline"
    assert not torch.allclose(logits(model, made.sequences, use_cache=False), full, atol=1e-3)


@every_family
def test_a_left_padded_batch_equals_single_runs(family):
    model = make(family)
    patch(model)
    rows = [tokens(1, 4, seed=3), tokens(1, 9, seed=4)]
    options = {"max_new_tokens": 6, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    single = [torch.cat(model.generate(row, **options).logits) for row in rows]
    padded = torch.cat([torch.cat([torch.zeros(1, 5, dtype=torch.long), rows[0]], dim=1), rows[1]])
    together = model.generate(padded, attention_mask=(padded != 0).long(), **options)
    for number, alone in enumerate(single):
        torch.testing.assert_close(torch.stack(together.logits, 1)[number], alone, atol=1e-4, rtol=1e-4)


def test_later_tokens_reach_earlier_ones_offline_and_not_online():
    model = make()
    handle = patch(model)
    ids = tokens(1, 16)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 7) % 60
    difference = (logits(model, ids) - logits(model, other))[:, :-1].abs().max()
    assert difference > 1e-3
    handle.mode = "online"
    difference = (logits(model, ids) - logits(model, other))[:, :-1].abs().max()
    assert difference < 1e-5


def test_tokens_given_in_pieces_equal_tokens_given_one_by_one():
    model = make()
    handle = patch(model, mode="online")
    ids = tokens(2, 10)
    whole = logits(model, ids)
    first = model(ids[:, :4], use_cache=True)
    second = model(ids[:, 4:], cache=first.cache, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole, atol=1e-4, rtol=1e-4)
    assert handle.counts().shape == (2, 2, 10)


def test_two_sequences_may_be_decoded_in_turns():
    model = make()
    patch(model)
    one, two = tokens(1, 6, seed=5), tokens(1, 6, seed=6)

    def decode(ids: Tensor):
        out = model(ids[:, :3], use_cache=True)
        for column in range(3, 6):
            yield out.logits[:, -1]
            out = model(ids[:, column : column + 1], cache=out.cache, use_cache=True)
        yield out.logits[:, -1]

    alone = torch.cat(list(decode(one)))
    turns = [first for first, _ in zip(decode(one), decode(two), strict=True)]
    torch.testing.assert_close(torch.cat(turns), alone)


def test_beam_search_reorders_the_competitors():
    model, prompt = make(seed=2), tokens(2, 5)
    handle = patch(model)
    found = model.generate(
        prompt,
        max_new_tokens=8,
        num_beams=3,
        do_sample=False,
        length_penalty=0.0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    handle.mode, handle.prompt = "online", 5
    # The score of a beam is the sum of its tokens' log-probabilities: right only if every step had the right rivals.
    p = logits(model, found.sequences, use_cache=False).log_softmax(-1)
    steps = p[:, 4:-1].gather(2, found.sequences[:, 5:, None]).squeeze(2)
    torch.testing.assert_close(steps.sum(1), found.sequences_scores, atol=1e-3, rtol=1e-4)
    assert (found.beam_indices[:, 1:8].diff() != 0).any()  # some beam was moved


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
def test_gradient_checkpointing_gives_the_same_gradients(family):
    results = []
    for checkpointing in (False, True):
        model = make(family).train()
        patch(model)
        if checkpointing:
            model.activation_checkpointing_enable()
        # Two passes before one backward: each is routed again with its own padding.
        ids, mask = tokens(2, 10), torch.ones(2, 10, dtype=torch.long)
        mask[0, :6] = 0
        labels = ids.masked_fill(mask == 0, -100)
        loss = model(ids, attention_mask=mask, labels=labels).loss + model(tokens(3, 7), labels=tokens(3, 7)).loss
        loss.backward()
        results.append((loss, [p.grad for p in model.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_the_router_learns_through_the_weights():
    model = make().train()
    patch(model)
    model(tokens(), labels=tokens()).loss.backward()
    assert all(layer.mlp.gate.weight.grad.abs().sum() > 0 for layer in model.model.layers)


def test_packed_sequences_are_pools_of_their_own():
    model = make()
    handle = patch(model)
    one, two = tokens(1, 5, seed=7), tokens(1, 8, seed=8)
    bounds = torch.tensor([0, 5, 13])
    logits(model, torch.cat([one, two], dim=1), cu_seq_lens_q=bounds)
    counts = handle.counts()
    assert (counts[:, 0, :5].sum(-1) == 10).all()
    assert (counts[:, 0, 5:].sum(-1) == 16).all()


def test_save_and_load_keep_a_model_that_anybody_can_read(tmp_path):
    model = make()
    patch(model)
    patched = logits(model, tokens())
    model.save_pretrained(tmp_path)
    read = OlmoeForCausalLM.from_pretrained(tmp_path).eval()
    unpatch(model)
    assert torch.equal(logits(read, tokens()), logits(model, tokens()))
    patch(read)
    assert torch.equal(logits(read, tokens()), patched)


def test_a_copied_model_is_patched_on_its_own():
    model = make()
    plain = logits(model, tokens())
    patch(model)
    patched = logits(model, tokens())
    other = copy.deepcopy(model)
    unpatch(model)
    assert torch.equal(logits(other, tokens()), patched)
    unpatch(other)
    assert torch.equal(logits(other, tokens()), plain)


def test_batchtopk_pools_the_batch_and_has_no_causal_form():
    model = make()
    handle = patch(model, router="batchtopk")
    logits(model, tokens(4))
    counts = handle.counts().sum(-1)
    assert (counts.sum(-1) == 2 * 4 * 12).all()
    assert (counts != 24).any()
    with pytest.raises(ValueError, match="no causal form"):
        model.generate(tokens(), max_new_tokens=3, do_sample=False)


class NoExperts(nn.Module):
    def forward(self, x):
        return x


def test_a_model_that_cannot_be_patched_is_named_and_left_alone():
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                         num_attention_heads=2))  # fmt: skip
    deepseek = DeepseekV3ForCausalLM(
        DeepseekV3Config(vocab_size=9, hidden_size=16, intermediate_size=8, moe_intermediate_size=8,
                         num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4,
                         n_group=1, topk_group=1, num_experts_per_tok=2, first_k_dense_replace=0, q_lora_rank=8,
                         kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8)
    )  # fmt: skip
    model = make()
    cases = [
        (llama, {}, "LlamaForCausalLM has no mixture-of-experts block"),
        (NoExperts(), {}, "NoExperts has no mixture-of-experts block"),
        (deepseek, {}, "SeqTopK does not know; it knows those of OLMoE, Qwen2-MoE, Qwen3-MoE, Mixtral"),
        (model.model.layers[0], {}, "only a part of a model"),
        (model, {"K": 9}, "K is 9; each token needs between 1 and 8 of 8 experts"),
        (model, {"upper": 1}, "upper is 1, which cannot hold a budget of K = 2"),
        (model, {"router": "topp"}, "router is 'topp'; choose from seqtopk, batchtopk, topk"),
        (model, {"score": "cosine"}, "score is 'cosine'"),
        (model, {"mode": "causal"}, "mode is 'causal'; choose from offline, online, topk"),
    ]
    for target, options, says in cases:
        with pytest.raises(ValueError, match=says) as raised:
            patch(target, **options)
        assert "\n" not in str(raised.value)
        assert "_seqtopk" not in vars(target)
        assert not any(m._forward_pre_hooks or m._forward_hooks for m in target.modules())


@pytest.mark.parametrize("change", ["two outputs", "other shapes", "no flag"])
def test_a_router_whose_interface_changed_is_named_with_the_version(change, monkeypatch):
    model = make()
    kind = type(model.model.layers[0].mlp.gate)
    own = kind.forward
    if change == "two outputs":
        monkeypatch.setattr(kind, "forward", lambda self, x: own(self, x)[:2])
    elif change == "other shapes":
        monkeypatch.setattr(kind, "forward", lambda self, x: own(self, x)[::-1])
    else:
        for layer in model.model.layers:
            del layer.mlp.experts._is_expert_parallel
    with pytest.raises(ValueError, match=r"OlmoeTopKRouter of transformers .*; SeqTopK was written for") as raised:
        patch(model)
    assert "\n" not in str(raised.value)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_wrong_use_is_said_in_one_line():
    model = make()
    with pytest.raises(ValueError, match="is not patched"):
        unpatch(model)
    filled = model(tokens(1, 3), use_cache=True).cache
    handle = patch(model)
    with pytest.raises(ValueError, match="patched already"):
        patch(model)
    with pytest.raises(ValueError, match="nothing was routed yet"):
        handle.counts()
    with pytest.raises(ValueError, match="mode is 'causal'"):
        handle.mode = "causal"
    with pytest.raises(ValueError, match="the cache holds 3 tokens, of which SeqTopK has routed 0"):
        model(tokens(1, 1), cache=filled)
    with pytest.raises(ValueError, match="2-D attention_mask"):
        model(tokens(1, 3), attention_mask=torch.zeros(1, 1, 3, 3))
    with pytest.raises(ValueError, match="take the default cache"):
        model.generate(tokens(1, 3), max_new_tokens=2, do_sample=False, cache_implementation="static")


@every_family
def test_input_that_cannot_be_routed_is_refused_and_the_model_goes_on_as_before(family):
    model = make(family)
    plain = logits(model, tokens())
    patch(model)
    routed = logits(model, tokens())
    padding = torch.ones(2, 12, dtype=torch.long)
    padding[1] = 0
    with pytest.raises(ValueError, match="sequence 1 is all padding: drop it from the batch") as raised:
        logits(model, tokens(), attention_mask=padding)
    assert "\n" not in str(raised.value)
    gate = next(module.gate for module in model.modules() if hasattr(module, "gate") and hasattr(module, "experts"))
    weight = gate.weight.data.clone()
    gate.weight.data[3, 5] = torch.nan
    with pytest.raises(ValueError, match="router scores are not finite") as raised:
        logits(model, tokens())
    assert "\n" not in str(raised.value)
    gate.weight.data.copy_(weight)
    assert torch.equal(logits(model, tokens()), routed)
    unpatch(model)
    assert torch.equal(logits(model, tokens()), plain)


@pytest.mark.parametrize("score", ["softmax", "logits", "sigmoid"])
def test_experts_are_ranked_by_the_score_that_is_asked_for(score):
    model = make()
    handle = patch(model, score=score)
    out = model(tokens(), output_router_logits=True)
    for layer, mask in zip(out.router_logits, handle.masks, strict=True):
        scores = router_scores(layer.detach(), score).view(2, 12, 8)
        assert torch.equal(mask, route(scores, 2))


@pytest.mark.parametrize(
    ("file", "heading", "lines"), [("README.md", "## Papers", 5), ("methods/seqtopk/README.md", "## Hugging Face", 8)]
)
def test_the_examples_of_the_readmes_run(file, heading, lines, capsys):
    readme = (Path(__file__).resolve().parents[3] / file).read_text(encoding="utf-8")
    example = readme.split(heading, 1)[1].split("```python\n", 1)[1].split("```", 1)[0]
    assert "from methods.seqtopk import patch" in example
    assert len(example.split("\n")) - example.count("\n\n") - 1 <= lines
    exec(example, {})
    assert "tensor([[[" in capsys.readouterr().out
