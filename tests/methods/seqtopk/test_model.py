"""The language model: causal, blind to padding, and clear about input that it cannot take."""

import pytest
import torch

from methods.seqtopk.model import MoELM

SMALL = {"d": 16, "heads": 2, "experts": 8, "width": 4, "K": 2, "gate_scale": 4.0}


def model(**options) -> MoELM:
    torch.manual_seed(0)
    made = MoELM(11, 12, **(SMALL | options)).eval()
    for layer in made.moe_layers():
        layer.gate.weight.data *= 10
    return made


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_a_later_token_moves_earlier_logits_offline_but_not_by_causal_routing(positions):
    lm = model(positions=positions)
    ids = torch.randint(11, (2, 12))
    other = ids.clone()
    other[:, 9:] = (ids[:, 9:] + 1) % 11
    with torch.no_grad():
        causal = [lm(rows, causal=True)[:, :9] for rows in (ids, other)]
        offline = [lm(rows)[:, :9] for rows in (ids, other)]
    torch.testing.assert_close(*causal)
    assert (offline[0] - offline[1]).abs().max() > 1e-3


def test_topk_is_causal_by_itself():
    lm = model(router="topk")
    ids = torch.randint(11, (2, 12))
    with torch.no_grad():
        torch.testing.assert_close(lm(ids), lm(ids, causal=True))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_logit_of_rotary_models(side, causal):
    lm = model(positions="rope")
    ids, pads = torch.randint(11, (1, 8)), torch.randint(11, (1, 4))
    valid = torch.arange(12)[None] < 8
    rows = torch.cat([ids, pads], dim=1)
    if side == "left":
        rows, valid = rows.roll(4, 1), valid.roll(4, 1)
    with torch.no_grad():
        torch.testing.assert_close(lm(rows, valid, causal)[valid], lm(ids, causal=causal)[0], rtol=1e-4, atol=1e-5)


def test_a_shared_expert_joins_every_layer():
    lm = model(shared_width=4)
    assert sum("shared_expert_gate" in name for name, _ in lm.named_parameters()) == 2
    assert lm(torch.randint(11, (1, 5))).shape == (1, 5, 11)


def test_bad_input_is_told():
    lm, ids = model(), torch.randint(11, (2, 6))
    valid = torch.tensor([[True] * 6, [False] * 6])
    with pytest.raises(ValueError, match="sequence 1 is all padding"):
        lm(ids, valid)
    with pytest.raises(ValueError, match="choose from learned, rope"):
        model(positions="sine")
    with pytest.raises(ValueError, match="does not divide into 3 heads"):
        model(heads=3)
    with pytest.raises(ValueError, match="K is 9"):
        model(K=9)
    lm.token.weight.data[ids[0, 0]] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        lm(ids)
