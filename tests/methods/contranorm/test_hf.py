import copy
from pathlib import Path

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2Model,
)

from methods.contranorm.hf import patch, patched, unpatch
from methods.contranorm.norm import ContraNorm

SIZE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
QUIET = {"initializer_range": 0.5, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TOKENS = torch.arange(1, 25).reshape(2, 12)


def bert(**options) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SIZE, **QUIET, **options)).eval()


def albert(**options) -> AlbertForSequenceClassification:
    torch.manual_seed(0)
    config = AlbertConfig(embedding_size=8, classifier_dropout_prob=0.0, **SIZE, **QUIET, **options)
    return AlbertForSequenceClassification(config).eval()


@pytest.mark.parametrize("make", [bert, albert])
def test_every_position_changes_the_output_and_unpatch_restores_it_bit_by_bit(make):
    model = make()
    plain, weights = model(TOKENS).logits, copy.deepcopy(model.state_dict())
    seen = []
    for position in "12345678":
        patch(model, 0.3, position)
        seen.append(model(TOKENS).logits)
        unpatch(model)
        assert not patched(model)
        assert torch.equal(model(TOKENS).logits, plain)
    assert not any(torch.allclose(logits, plain, atol=1e-4) for logits in seen)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_layer_adds_no_entry_to_a_checkpoint(tmp_path):
    model = bert()
    patch(model, 0.2, "47")
    model.save_pretrained(tmp_path)
    read = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    assert not torch.allclose(read(TOKENS).logits, model(TOKENS).logits)
    patch(read, 0.2, "47")
    assert torch.equal(read(TOKENS).logits, model(TOKENS).logits)


def test_scale_zero_is_the_plain_model():
    model = bert()
    plain = model(TOKENS).logits
    patch(model, 0.0, "12345678")
    assert torch.equal(model(TOKENS).logits, plain)


def test_position_6_of_the_last_bert_layer_acts_on_the_last_hidden_state():
    model = bert(num_labels=3)
    single = model.bert.encoder.layer[-1]
    plain = model.bert(TOKENS).last_hidden_state
    patch(single, 0.4, "6")
    torch.testing.assert_close(model.bert(TOKENS).last_hidden_state, ContraNorm(0.4)(plain))


def test_gradient_checkpointing_gives_the_same_gradients():
    grads = []
    for checkpointing in (False, True):
        model = bert().train()
        patch(model, 0.3, "157")
        if checkpointing:
            model.activation_checkpointing_enable()
        model(TOKENS, labels=torch.tensor([0, 1])).loss.backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_copied_model_can_be_unpatched():
    model = bert()
    plain = model(TOKENS).logits
    patch(model, 0.3)
    other = copy.deepcopy(model)
    changed = model(TOKENS).logits
    unpatch(other)
    assert torch.equal(other(TOKENS).logits, plain)
    assert torch.equal(model(TOKENS).logits, changed)


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (lambda: GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9)), {}, "no BERT or ALBERT layer"),
        (bert, {"positions": "9"}, "expected distinct digits 1 to 8"),
        (bert, {"positions": ""}, "expected distinct digits 1 to 8"),
        (bert, {"positions": "77"}, "expected distinct digits 1 to 8"),
        (bert, {"form": "columns"}, "expected 'row' or 'feature'"),
        (albert, {"form": "feature"}, "expected 'row'"),
        (lambda: bert(is_decoder=True), {}, "show it later tokens"),
        (lambda: bert(chunk_size_feed_forward=4), {"positions": "5"}, "set it to 0"),
        (lambda: albert(chunk_size_feed_forward=4), {"positions": "6"}, "set it to 0"),
    ],
)
def test_what_cannot_be_patched_is_said_in_one_line_and_left_alone(model, options, says):
    model = model()
    with pytest.raises(ValueError, match=says) as raised:
        patch(model, 0.1, **options)
    assert "\n" not in str(raised.value)
    assert not patched(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_patching_twice_and_unpatching_nothing_are_refused():
    model = bert()
    with pytest.raises(ValueError, match="nothing to take out"):
        unpatch(model)
    patch(model, 0.1)
    with pytest.raises(ValueError, match="call unpatch"):
        patch(model, 0.1)


def test_the_example_of_the_readme_runs():
    readme = (Path(__file__).resolve().parents[3] / "methods" / "contranorm" / "README.md").read_text(encoding="utf-8")
    section = readme.split("## In BERT and ALBERT\n", 1)[1]
    exec(section.split("```python\n", 1)[1].split("```", 1)[0], {})
