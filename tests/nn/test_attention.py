"""kexue.nn.attention beside PyTorch's own attention, and what its masks and positions promise."""

import pytest
import torch
from refusing import refuses
from seeded import F64, randn

from kexue.nn.attention import Attention, Block, causal_mask, rotary


@pytest.fixture
def pair():
    """Our attention and PyTorch's, with the same weights."""
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3).to(F64), torch.nn.MultiheadAttention(12, 3, batch_first=True).to(F64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return ours, theirs


def attend(attention, x, context=None, mask=None, positions=None):
    known = attention.key_values(x if context is None else context, positions)
    return attention.look(x, known, mask, positions)


def test_attention_is_pytorch_s(pair):
    ours, theirs = pair
    x, context = randn(2, 5, 12), randn(2, 7, 12, seed=1)
    torch.testing.assert_close(attend(ours, x), theirs(x, x, x)[0])
    torch.testing.assert_close(attend(ours, x, context), theirs(x, context, context)[0])
    mask = causal_mask(5)
    torch.testing.assert_close(attend(ours, x, mask=mask), theirs(x, x, x, attn_mask=~mask)[0])
    ragged = torch.arange(7) < torch.tensor([[7], [3]])
    torch.testing.assert_close(
        attend(ours, x, context, ragged[:, None, None]),
        theirs(x, context, context, key_padding_mask=~ragged)[0],
    )


def test_keys_and_values_by_head(pair):
    ours, _ = pair
    x, places = randn(2, 5, 12), torch.tensor([4, 0, 7, 1, 2])
    known = ours.key_values(x)
    assert known.keys.shape == known.values.shape == (2, 3, 5, 4)
    for found, flat in zip(known, ours.key_value(x).chunk(2, -1), strict=True):
        torch.testing.assert_close(found.transpose(1, 2).flatten(2), flat)
    turned = ours.key_values(x, places)
    torch.testing.assert_close(turned.keys, rotary(known.keys, places))
    assert torch.equal(turned.values, known.values)


def test_what_is_looked_at_may_have_positions_of_its_own(pair):
    ours, _ = pair
    x, context = randn(2, 5, 12), randn(2, 7, 12, seed=1)
    here, there = torch.arange(5), torch.arange(7).flip(0)
    seen = ours.look(x, ours.key_values(context, there), None, here)
    q = rotary(ours.query(x).unflatten(-1, (3, 4)).transpose(1, 2), here)
    k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in ours.key_value(context).chunk(2, -1))
    weight = (q @ rotary(k, there).transpose(-1, -2) / 2).softmax(-1)
    torch.testing.assert_close(seen, ours.out((weight @ v).transpose(1, 2).flatten(2)))
    moved = ours.look(x, ours.key_values(context, there + 9), None, here + 9)
    torch.testing.assert_close(moved, seen)  # only differences count
    assert not torch.allclose(seen, ours.look(x, ours.key_values(context)), atol=1e-3)


def test_looking_at_part_of_what_is_known_and_at_nothing(pair):
    ours, theirs = pair
    x, context = randn(2, 5, 12), randn(2, 7, 12, seed=1)
    known = ours.key_values(context)
    first, last = ours.key_values(context[:, :3]), ours.key_values(context[:, 3:])
    torch.testing.assert_close(ours.look(x, first), ours.look(x, known, torch.arange(7)[None] < 3))
    for both in (first.append(last), ours.key_values(context[:, 3:], past=first)):
        assert both.length == 7
        torch.testing.assert_close(both, known)
    assert torch.equal(known.select(torch.tensor([1, 0, 1])).keys, known.keys[[1, 0, 1]])
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    mask[1, 0, 4] = False
    torch.testing.assert_close(ours.look(x, known, mask)[1, 4], ours.out.bias)
    assert not ours.weights(x, known, mask)[1, :, 4].any()
    ragged = torch.arange(7) < torch.tensor([[7], [3]])
    for some, theirs_mask in ((None, None), (ragged[:, None, None], ~ragged)):
        _, expected = theirs(x, context, context, key_padding_mask=theirs_mask, average_attn_weights=False)
        torch.testing.assert_close(ours.weights(x, known, some), expected)


def test_each_context_is_looked_at_as_if_it_were_the_only_one(pair):
    ours, _ = pair
    x, contexts = randn(2, 5, 12), randn(2, 4, 7, 12, seed=1)
    mask = torch.arange(7) < torch.tensor([[7, 3, 1, 2], [4, 7, 7, 5]])[..., None]
    each = [ours.key_values(contexts[:, i]) for i in range(4)]
    keys, values = (torch.stack(several, 2) for several in zip(*each, strict=True))
    found = ours.look_at_each(x, keys, values, mask)
    for i, known in enumerate(each):
        torch.testing.assert_close(found[:, :, i], ours.look(x, known, mask[:, i, None, None]))


def test_who_may_look_at_nothing_receives_zeros_and_gives_no_gradient():
    torch.manual_seed(0)
    attention = Attention(12, 3).to(F64)
    x = randn(2, 5, 12).requires_grad_()
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, 0, 2] = False
    out = attend(attention, x, mask=mask)
    torch.testing.assert_close(out[0, 2], attention.out.bias)
    assert torch.isfinite(out).all()
    out.square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_block_is_pytorch_s():
    torch.manual_seed(0)
    ours = Block(12, 3, ffn_size=20).to(F64).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).to(F64)
    with torch.no_grad():
        attention = ours.attention
        theirs.self_attn.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
    for mine, other in (
        (attention.out, theirs.self_attn.out_proj),
        (ours.first_norm, theirs.norm1),
        (ours.second_norm, theirs.norm2),
        (ours.enter, theirs.linear1),
        (ours.leave, theirs.linear2),
    ):
        other.load_state_dict(mine.state_dict())
    x = randn(2, 5, 12)
    torch.testing.assert_close(ours(x, causal_mask(5))[0], theirs(x, src_mask=~causal_mask(5)))


def test_a_causal_block_step_by_step_is_the_whole():
    torch.manual_seed(0)
    block = Block(12, 3).to(F64).eval()
    x, places = randn(2, 6, 12), torch.arange(6)
    for positions in (None, places):
        whole, _ = block(x, causal_mask(6), positions)
        past, steps = None, []
        for t in range(6):
            here = None if positions is None else places[t : t + 1]
            step, past = block(x[:, t : t + 1], None, here, past)
            steps.append(step)
        torch.testing.assert_close(torch.cat(steps, 1), whole)
        assert past.keys.shape == (2, 3, 6, 4)


def test_a_causal_block_does_not_look_ahead():
    torch.manual_seed(0)
    block = Block(12, 3).to(F64).eval()
    x = randn(1, 6, 12)
    other = x.clone()
    other[:, 3] = randn(12, seed=1)
    moved = (block(other, causal_mask(6))[0] - block(x, causal_mask(6))[0]).abs().amax((0, 2))
    assert moved[:3].max() == 0
    assert moved[3:].min() > 1e-6


def test_rotary_positions_are_relative():
    q, k = randn(1, 8), randn(1, 8, seed=1)

    def product(i, j):
        return (rotary(q, torch.tensor([i])) * rotary(k, torch.tensor([j]))).sum()

    torch.testing.assert_close(product(3, 1), product(10**6 + 3, 10**6 + 1), atol=1e-8, rtol=0)
    torch.testing.assert_close(product(0, 0), (q * k).sum())
    assert abs(float(product(3, 1) - product(3, 2))) > 1e-3
    x = randn(4, 8)
    torch.testing.assert_close(rotary(x, torch.arange(4)).norm(dim=-1), x.norm(dim=-1))


def test_rotary_turns_each_pair_by_its_angle():
    x = torch.zeros(1, 4, dtype=F64)
    x[0, 0] = x[0, 2] = 1
    turned = rotary(x, torch.tensor([3]), base=100.0)[0]
    angles = torch.tensor([3.0, 3 * 100**-0.5])
    expected = torch.stack([angles.cos(), angles.sin()], 1).flatten().to(F64)
    torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


def test_rotary_positions_reach_the_scores():
    torch.manual_seed(0)
    attention = Attention(12, 3).to(F64)
    x = randn(1, 5, 12)
    plain, moved = attend(attention, x), attend(attention, x, positions=torch.arange(5))
    assert not torch.allclose(plain, moved, atol=1e-3)
    shifted = attend(attention, x, positions=torch.arange(5) + 40)
    torch.testing.assert_close(moved, shifted, atol=1e-10, rtol=0)


def test_dropout_only_in_training():
    torch.manual_seed(0)
    block, x = Block(12, 3, dropout=0.5).to(F64), randn(1, 5, 12)
    assert not torch.equal(block(x)[0], block(x)[0])
    block.eval()
    assert torch.equal(block(x)[0], block(x)[0])
    assert block.enter.out_features == 48
    for part in (block.leave, block.attention.out):  # on either branch
        alone = Block(12, 3, dropout=0.5).to(F64)
        last = alone.leave if part is block.leave else alone.attention.out
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        assert not torch.equal(alone(x)[0], alone(x)[0])
    assert Block(12, 3, ffn_size=7).enter.out_features == 7


test_bad_input_is_named = refuses([
    (lambda: Attention(10, 3), ValueError, "num_heads must divide hidden_size = 10, got 3"),
    (lambda: Attention(0, 1), ValueError, "hidden_size must be at least 1, got 0"),
    (lambda: Block(8, 2, dropout=1.5), ValueError, r"dropout must lie in \[0, 1\), got 1.5"),
    (lambda: Block(8, 2, ffn_size=0), ValueError, "ffn_size must be at least 1, got 0"),
    (lambda: causal_mask(0), ValueError, "length must be at least 1, got 0"),
    (lambda: rotary(torch.zeros(2, 4).long(), torch.arange(2)), TypeError, "x must have a floating-point dtype"),
    (lambda: rotary(torch.zeros(2, 4), torch.arange(2), base=-1.0), ValueError, "base must be positive and finite, .* got -1.0"),
    (lambda: rotary(torch.zeros(2, 3), torch.arange(2)), ValueError, "x must have an even last dimension, got 3"),
    (lambda: rotary(torch.zeros(2, 4), torch.arange(3)), ValueError, r"positions must have shape \(2,\), got \(3,\)"),
    (lambda: Attention(8, 2).look(torch.zeros(1, 3, 8), Attention(8, 2).key_values(torch.zeros(1, 2, 8)), torch.zeros(3, 2)), TypeError, "mask must be boolean, got torch.float32"),
])  # fmt: skip


@pytest.mark.unchecked
def test_vectors_without_an_axis_of_positions_are_named():
    with pytest.raises(ValueError, match=r"x must have the shape \(..., length, size\), got \(4,\)"):
        rotary(torch.randn(4), torch.arange(1))
