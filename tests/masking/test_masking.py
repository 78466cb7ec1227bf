"""Mathematics of kexue.masking: against loops over single sequences, packed sequences, and bad input."""

import itertools
import math
import os
from functools import partial

import pytest
import seeded
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from seeded import F64, gen
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from kexue import masking
from kexue.masking import (
    BiRNN,
    TextClassifier,
    lengths_of,
    masked_max,
    masked_mean,
    masked_softmax,
    predict,
    reverse_sequence,
    sequence_mask,
)

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")

randn = partial(seeded.randn, dtype=torch.float32)
NAN, INF = math.nan, math.inf
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FILLINGS = [0.0, 7.0, -1e4, NAN, INF, -INF]


def filled(x, mask, value):
    """x with `value` in its padding, which no operation may see."""
    return x.masked_fill(~mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim)), value)


# The three operations, and what they are for one sequence without padding.
OPERATIONS = {
    "mean": (masked_mean, lambda x: x.mean(0)),
    "max": (masked_max, lambda x: x.amax(0)),
    "softmax": (masked_softmax, lambda x: torch.softmax(x, 0)),
}


# --- Masks and lengths -------------------------------------------------------------------------


@pytest.mark.verifies("masking.eq2", "masking.eq3", "masking.eq4")
def test_the_article_s_sequence_its_padding_and_its_mask():
    x = torch.tensor([1.0, 0.0, 3.0, 4.0, 5.0])
    padded = pad_sequence([x, torch.zeros(8)], batch_first=True)[0]
    assert padded.tolist() == [1, 0, 3, 4, 5, 0, 0, 0]
    mask = masking.sequence_mask(torch.tensor(5), 8)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert torch.equal(padded[mask], x)


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(0, 5))
def test_masks_and_lengths_are_inverse(lengths, more):
    size, tensor = max(lengths, default=0) + more, torch.tensor(lengths, dtype=torch.int64)
    mask = sequence_mask(tensor, size)
    assert mask.shape == (len(lengths), size)
    assert mask.tolist() == [[t < n for t in range(size)] for n in lengths]
    assert torch.equal(lengths_of(mask), tensor)
    if lengths:
        assert torch.equal(sequence_mask(tensor), mask[:, : max(lengths)])
        assert int(lengths_of(mask[0])) == lengths[0]


@pytest.mark.parametrize("size", [3, 256, 300])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.uint16, torch.int32, torch.int64])
def test_lengths_may_have_any_integer_dtype_and_shape(dtype, size):
    """Also one that cannot hold the number of positions."""
    lengths = torch.tensor([[0, min(size, 100)], [3, 1]]).to(dtype)
    mask = sequence_mask(lengths, size)
    assert mask.shape == (2, 2, size)
    assert torch.equal(lengths_of(mask), lengths.long())
    x = torch.arange(2.0 * size).view(2, size)
    assert torch.equal(reverse_sequence(x, lengths[:, 0]), reverse_sequence(x, lengths[:, 0].long()))


# --- Mean, maximum, softmax --------------------------------------------------------------------


@pytest.mark.verifies("masking.eq5", "masking.eq6", "masking.eq7")
def test_the_article_s_mean():
    x = torch.tensor([1.0, 0.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0], dtype=F64)
    assert float(x[:5].mean()) == pytest.approx(2.6)
    assert float(x.mean()) == 1.625
    for more in range(9):
        padded = torch.cat((x[:5], torch.zeros(more, dtype=F64)))
        mask = sequence_mask(torch.tensor(5), 5 + more)
        assert float((padded * mask).sum() / mask.sum()) == pytest.approx(2.6)
        assert float(masking.masked_mean(padded, mask, 0)) == pytest.approx(2.6)


@pytest.mark.verifies("masking.eq8", "masking.eq9", "masking.eq10", "masking.replace")
def test_the_maximum_of_negative_numbers():
    x = torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, 0.0, 0.0, 0.0])
    mask = sequence_mask(torch.tensor(5), 8)
    assert x[:5].max() == -1
    assert x.max() == 0
    for dtype in (torch.bfloat16, torch.float32, F64):
        assert (x.to(dtype) - (~mask).to(dtype) * 1e10).max() == -1
    half = x.half()
    constant = torch.tensor(1e10).half()
    assert torch.isnan((half - (~mask).half() * constant).max())  # 0·∞ at the real positions
    with pytest.raises(RuntimeError, match="without overflow"):
        half.masked_fill(~mask, -1e10)
    for dtype in DTYPES:
        assert masking.masked_max(x.to(dtype), mask, 0) == -1


@pytest.mark.verifies("masking.eq11", "masking.replace")
def test_the_article_s_softmax_and_its_row_of_padding():
    x, mask = randn(6, 9, dtype=F64), sequence_mask(torch.arange(1, 7), 9)
    article = torch.softmax(x - (~mask) * 1e10, -1)
    torch.testing.assert_close(masking.masked_softmax(x, mask), article, atol=1e-15, rtol=1e-12)
    for row, values, real in zip(article, x, mask, strict=True):
        torch.testing.assert_close(row[real], torch.softmax(values[real], -1), atol=1e-5, rtol=0)
        assert row[~real].max() < 1e-15
    garbage = torch.tensor([1.0, 2.0, 3.0, 0.5])
    nothing = torch.zeros(4, dtype=torch.bool)
    assert torch.softmax(garbage - 1e10, -1).tolist() == [0.25] * 4
    assert torch.softmax(garbage.double() - 1e10, -1).max() > 0.6
    assert masking.masked_softmax(garbage, nothing).tolist() == [0] * 4


@pytest.mark.verifies("masking.claim1", "masking.replace")
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("anywhere", [False, True])
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    more=st.integers(0, 9),
    value=st.sampled_from(FILLINGS),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing(name, anywhere, lengths, more, value, seed):
    """At the end, or anywhere."""
    operation, alone = OPERATIONS[name]
    x = randn(len(lengths), max(lengths) + more, 3, seed=seed, dtype=F64)
    mask = sequence_mask(torch.tensor(lengths), x.shape[1])
    if anywhere:
        mask = mask[:, torch.randperm(x.shape[1], generator=gen(seed))]
    out = operation(filled(x, mask, value), mask, 1)
    for row, values, real in zip(out, x, mask, strict=True):
        found = row[real] if name == "softmax" else row
        torch.testing.assert_close(found, alone(values[real]), atol=1e-14, rtol=1e-12)
        assert name != "softmax" or not row[~real].any()


@pytest.mark.verifies("masking.claim1")
@pytest.mark.parametrize("name", OPERATIONS)
def test_without_a_mask_padding_changes_the_result(name):
    operation, _ = OPERATIONS[name]
    x = randn(1, 5, 3) - 5
    short, out, longer = (
        operation(torch.cat((x, torch.zeros(1, more, 3)), 1), torch.ones(1, 5 + more, dtype=torch.bool), 1)
        for more in (0, 4, 8)
    )
    assert not torch.allclose(out[:, :5] if name == "softmax" else out, short, atol=0.1)
    if name == "mean":
        assert (longer > out + 0.1).all()  # with the amount
    if name == "max":
        assert short.max() < 0
        assert not out.any()
    if name == "softmax":
        assert (out[:, 5:].sum(1) > 0.1).all()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1), ((2, 3, 4, 5), 3), ((2, 3, 4, 5), -2), ((6,), 0)],
)
def test_every_axis_and_both_shapes_of_mask(name, shape, dim):
    operation, _ = OPERATIONS[name]
    x, last = randn(*shape, dtype=F64), dim % len(shape)
    leading = torch.rand(shape[: last + 1], generator=gen(1)) < 0.6
    full = leading.view(*leading.shape, *(1,) * (len(shape) - leading.ndim)).expand(shape)
    out = operation(x, leading, dim)
    torch.testing.assert_close(out, operation(x, full.contiguous(), dim))
    # The axis to the end, and every column by itself.
    columns, real = x.movedim(dim, -1).reshape(-1, shape[dim]), full.movedim(dim, -1).reshape(-1, shape[dim])
    expected = torch.stack([operation(c, r, 0) for c, r in zip(columns, real, strict=True)])
    if name == "softmax":
        assert out.shape == x.shape
        out = out.movedim(dim, -1)
    torch.testing.assert_close(out.reshape(expected.shape), expected)


def test_a_mask_s_axis_of_size_one_stands_for_all():
    x = randn(2, 3, 4, 5)
    keys = torch.rand(2, 1, 1, 5, generator=gen()) < 0.6
    torch.testing.assert_close(masked_softmax(x, keys), masked_softmax(x, keys.expand(x.shape)))
    row = torch.tensor([[True, True, False]])
    torch.testing.assert_close(masked_mean(x, row, 1), x[:, :2].mean(1))
    for operation, alone in OPERATIONS.values():  # all positions of the first sequence, none of the second
        out = operation(x, torch.tensor([[True], [False]]), 1)
        torch.testing.assert_close(out[0], alone(x[0]))
        assert not out[1].any()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("value", FILLINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_padding_gives_zeros_with_zero_gradient(name, value, dtype):
    operation, _ = OPERATIONS[name]
    x = randn(2, 4, 3, dtype=dtype)
    x[0] = value
    x.requires_grad_()
    out = operation(x, torch.tensor([[False] * 4, [True, True, False, True]]), 1)
    assert out.dtype == dtype
    assert not out[0].any()
    assert out[1].any()
    (out * randn(*out.shape, seed=1, dtype=dtype)).sum().backward()
    assert torch.equal(x.grad[0], torch.zeros_like(x.grad[0]))
    assert torch.isfinite(x.grad).all()
    assert x.grad[1, :2].any()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("value", FILLINGS)
def test_gradients_are_those_without_padding_and_zero_in_it(name, value):
    operation, alone = OPERATIONS[name]
    mask = sequence_mask(torch.tensor([3, 5, 1]), 6)[:, torch.randperm(6, generator=gen())]
    x = filled(randn(3, 6, 2, dtype=F64), mask, value).requires_grad_()
    out = operation(x, mask, 1)
    weight = randn(*out.shape, seed=1, dtype=F64)
    # What comes back at padded positions of a softmax may be anything, too.
    out.backward(filled(weight, mask, NAN) if name == "softmax" else weight)
    assert torch.equal(x.grad[~mask], torch.zeros_like(x.grad[~mask]))
    for row, real in enumerate(mask):
        single = x.detach()[row, real].clone().requires_grad_()
        alone(single).backward(weight[row, real] if name == "softmax" else weight[row])
        torch.testing.assert_close(x.grad[row, real], single.grad, atol=1e-14, rtol=1e-10)


def test_half_precision_is_summed_in_float32():
    mask = torch.ones(1, 4000, dtype=torch.bool)
    # The sum is 400,000; and adding one by one, bfloat16 stops at 256.
    for value, dtype in ((100.0, torch.float16), (1.0, torch.bfloat16)):
        assert masked_mean(torch.full((1, 4000), value, dtype=dtype), mask, 1).item() == value
        weight = masked_softmax(torch.zeros(1, 4000, dtype=dtype), mask)
        assert weight.dtype == dtype
        assert weight.float().sum().item() == pytest.approx(1, abs=0.02)


def test_a_logit_of_minus_infinity_is_impossible():
    logits = torch.tensor([[0.0, -INF, 0.0, 5.0], [-INF, -INF, -INF, 5.0]], requires_grad=True)
    mask = sequence_mask(torch.tensor([3, 3]), 4)
    weight = masked_softmax(logits, mask)
    assert weight.tolist() == [[0.5, 0, 0.5, 0], [0, 0, 0, 0]]
    weight[:, 0].sum().backward()
    assert logits.grad.tolist() == [[0.25, 0, -0.25, 0], [0, 0, 0, 0]]


def test_the_largest_of_infinities():
    x = torch.tensor([[NAN, 1.0, 9.0], [INF, 1.0, 9.0], [-INF, -INF, 9.0]])
    mask = sequence_mask(torch.tensor([2, 2, 2]), 3)
    assert str(masked_max(x, mask, 1).tolist()) == "[nan, inf, -inf]"
    assert math.isnan(masked_mean(x, mask, 1)[0])
    ties = torch.full((1, 3), 2.0, requires_grad=True)  # which share the gradient
    masked_max(ties, torch.tensor([[True, True, False]]), 1).sum().backward()
    assert ties.grad.tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.verifies("masking.eq12")
def test_a_product_with_the_mask_is_enough_for_sums_only():
    x = torch.tensor([2.0, 1.0, 3.0, 4.0, 5.0])
    product = torch.cat((x, torch.zeros(3)))
    assert product.sum() == x.sum()
    assert product.std(correction=0) == pytest.approx((55 / 8 - (15 / 8) ** 2) ** 0.5)
    assert x.std(correction=0) == pytest.approx(2**0.5)
    assert (product.min(), x.min()) == (0, 1)
    # What the package offers gives them all.
    mask = sequence_mask(torch.tensor(5), 8)
    assert -masked_max(-product, mask, 0) == 1
    variance = masked_mean((product - masked_mean(product, mask, 0)) ** 2, mask, 0)
    assert variance.sqrt() == pytest.approx(2**0.5)
    # A convolution that pads with zeros: right once, and wrong the second time, because of its bias.
    torch.manual_seed(0)
    convolution = nn.Conv1d(1, 1, 3, padding=1)
    with torch.no_grad():
        alone, padded = convolution(x.view(1, 1, 5)), convolution(product.view(1, 1, 8))
        torch.testing.assert_close(padded[..., :5], alone)
        assert not torch.allclose(convolution(padded)[..., :5], convolution(alone), atol=1e-3)
        torch.testing.assert_close(convolution(padded * mask)[..., :5], convolution(alone))


@pytest.mark.verifies("masking.ids")
def test_the_recipe_for_ids():
    ids = pad_sequence([torch.tensor([5, 2, 9]), torch.tensor([1])], batch_first=True)
    recipe = (ids > 0).unsqueeze(-1)
    assert recipe.shape == (2, 3, 1)
    assert torch.equal(recipe[..., 0], sequence_mask(torch.tensor([3, 1])))
    x = torch.tensor([1.0, 0.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0])
    assert masked_mean(x, x > 0, 0) == 3.25  # on values it takes a real 0 for padding


# --- Reversal ----------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    dim=st.sampled_from([1, 2, -1, -2]),
    kind=st.sampled_from([torch.int64, torch.bool, torch.float16, torch.float64]),
)
def test_reversal_is_a_loop_and_its_own_inverse(lengths, dim, kind):
    shape = [len(lengths), 4, 3]
    shape[dim] = 7
    x = torch.randint(0, 100, shape, generator=gen()).to(kind)
    y = masking.reverse_sequence(x, torch.tensor(lengths), dim)
    for row, length in enumerate(lengths):
        whole, turned = x[row].movedim(dim % 3 - 1, 0), y[row].movedim(dim % 3 - 1, 0)
        assert torch.equal(turned[:length], whole[:length].flip(0))
        assert torch.equal(turned[length:], whole[length:])
    assert torch.equal(masking.reverse_sequence(y, torch.tensor(lengths), dim), x)


# --- BiRNN -------------------------------------------------------------------------------------

T = 12
LENGTHS = torch.arange(1, T + 1)
KINDS = {
    "LSTM": lambda **more: nn.LSTM(4, 5, batch_first=True, **more),
    "GRU": lambda **more: nn.GRU(4, 5, batch_first=True, **more),
    "RNN": lambda **more: nn.RNN(4, 5, batch_first=True, **more),
    "ReLU": lambda **more: nn.RNN(4, 5, batch_first=True, nonlinearity="relu", **more),
    "projected": lambda **more: nn.LSTM(4, 5, proj_size=3, batch_first=True, **more),
    "no bias": lambda **more: nn.GRU(4, 5, bias=False, batch_first=True, **more),
}


def twins(kind, dtype=torch.float32, merge="concat"):
    """A BiRNN, and PyTorch's bidirectional network with copies of its weights."""
    torch.manual_seed(0)
    birnn = BiRNN(KINDS[kind](), merge).to(dtype)
    both = KINDS[kind](bidirectional=True).to(dtype)
    for name, value in birnn.forward_rnn.named_parameters():
        getattr(both, name).data = value.data.clone()
        getattr(both, f"{name}_reverse").data = getattr(birnn.backward_rnn, name).data.clone()
    return birnn, both


def packed(both, x, lengths):
    batch = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(both(batch)[0], batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.slow
@pytest.mark.verifies("masking.birnn")
@pytest.mark.parametrize("value", FILLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_birnn_is_the_packed_path(kind, value):
    mask = sequence_mask(LENGTHS, T)
    for dtype, tolerance in ((torch.float32, 1e-6), (F64, 1e-14)):
        birnn, both = twins(kind, dtype)
        clean = randn(T, T, 4, dtype=dtype).requires_grad_()
        padded = filled(clean.detach(), mask, value).requires_grad_()
        ours, theirs = birnn(padded, mask), packed(both, clean, LENGTHS)
        assert ours.shape == (T, T, 6 if kind == "projected" else 10)
        assert not ours[~mask].any()
        assert (ours - theirs).abs().max() <= tolerance
        weight = randn(*ours.shape, seed=1, dtype=dtype) / T  # the gradients are of the order of 1
        (ours * weight).sum().backward()
        (theirs * weight).sum().backward()
        assert torch.equal(padded.grad[~mask], torch.zeros_like(padded.grad[~mask]))
        assert (padded.grad - filled(clean.grad, mask, 0.0)).abs().max() <= tolerance
        for rnn, suffix in ((birnn.forward_rnn, ""), (birnn.backward_rnn, "_reverse")):
            for name, parameter in rnn.named_parameters():
                assert parameter.grad.abs().max() > 1e-3
                right = getattr(both, name + suffix).grad
                assert (parameter.grad - right).abs().max() <= 4 * tolerance


@pytest.mark.verifies("masking.birnn")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_flipping_the_padding_as_well_is_wrong(kind):
    birnn, both = twins(kind)
    mask = sequence_mask(LENGTHS, T)
    x = filled(randn(T, T, 4), mask, 0.0)
    naive, right = birnn(x, torch.ones_like(mask)), packed(both, x, LENGTHS)
    error = ((naive - right) * mask[..., None]).abs().amax((1, 2))
    assert (error[:-1] > 1e-3).all()
    assert error[-1] < 1e-6


def test_both_directions_are_networks_of_their_own_and_may_be_added():
    torch.manual_seed(0)
    rnn = nn.GRU(4, 5, batch_first=True, dtype=F64).requires_grad_(False)
    birnn, added = BiRNN(rnn), BiRNN(rnn, "sum")
    assert birnn.forward_rnn is rnn
    assert birnn.backward_rnn.weight_ih_l0.dtype == F64
    assert not torch.equal(birnn.backward_rnn.weight_ih_l0, rnn.weight_ih_l0)
    assert len({id(p) for p in birnn.parameters()}) == 8
    assert not any(p.requires_grad for p in birnn.forward_rnn.parameters())
    assert all(p.requires_grad for p in birnn.backward_rnn.parameters())
    added.load_state_dict(birnn.state_dict())
    x, mask = randn(2, 6, 4, dtype=F64), sequence_mask(torch.tensor([6, 2]))
    torch.testing.assert_close(added(x, mask), sum(birnn(x, mask).chunk(2, -1)))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_padding_and_no_rows(kind):
    birnn, _ = twins(kind)
    x = torch.full((2, 3, 4), NAN)
    x[1] = 1
    x.requires_grad_()
    mask = sequence_mask(torch.tensor([0, 2]), 3)
    out = birnn(x, mask)
    assert not out[0].any()
    assert out[1, :2].all() or kind == "ReLU"
    out.backward(filled(torch.ones_like(out), mask, NAN))  # what comes back at padded outputs is stopped
    assert not x.grad[0].any()
    assert all(torch.isfinite(v.grad).all() for v in (x, *birnn.parameters()))
    assert not birnn(x, torch.zeros_like(mask)).any()
    assert birnn(x[:0], mask[:0]).shape == (0, 3, out.shape[-1])


def test_a_state_that_explodes_in_the_padding_reaches_nothing():
    birnn, _ = twins("ReLU")
    for rnn in (birnn.forward_rnn, birnn.backward_rnn):
        rnn.weight_hh_l0.data = 9 * torch.eye(5)
    alone = birnn(torch.ones(1, 2, 4), sequence_mask(torch.tensor([2])))
    assert not torch.isfinite(birnn(torch.ones(1, 90, 4), sequence_mask(torch.tensor([90])))).all()  # 9⁹⁰
    out = birnn(torch.ones(1, 90, 4), sequence_mask(torch.tensor([2]), 90))
    torch.testing.assert_close(out[:, :2], alone)
    assert not out[:, 2:].any()
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in birnn.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_birnn_on_a_gpu(kind):
    # In float64: in float32 cuDNN may multiply in TensorFloat-32, with ten bits.
    birnn, both = (module.cuda() for module in twins(kind, F64))
    mask = sequence_mask(LENGTHS, T).cuda()
    x = randn(T, T, 4, dtype=F64).cuda()
    torch.testing.assert_close(birnn(filled(x, mask, NAN), mask), packed(both, x, LENGTHS))


# --- The classifier ----------------------------------------------------------------------------


def classifier(**more):
    torch.manual_seed(0)
    return TextClassifier(30, 2, 8, 6, **more).eval()


TEXTS = [torch.randint(1, 30, (n,), generator=gen(n)) for n in (3, 9, 1, 3, 14)]


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_with_masks_everywhere_a_text_does_not_know_its_batch(pooling):
    model, texts = classifier(pooling=pooling), 2 * TEXTS
    together = model(ids := pad_sequence(texts, batch_first=True), ids > 0)
    alone = torch.cat([model(text[None], text[None] > 0) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    for added, batch_size in itertools.product((0, 1, 40), (1, 3, 100)):
        found = predict(model, texts, added, batch_size)
        assert not found.requires_grad
        torch.testing.assert_close(found, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_masks_for_the_pooling_leave_the_backward_network_to_the_padding(pooling):
    by_masks = {}
    for masks in ("none", "pooling", "everywhere"):
        model = classifier(pooling=pooling, masks=masks)
        by_masks[masks] = [predict(model, TEXTS, added) for added in (0, 40)]
    for masks in ("none", "pooling"):
        torch.testing.assert_close(by_masks[masks][0], by_masks["everywhere"][0], atol=1e-6, rtol=1e-5)
        assert not torch.allclose(by_masks[masks][1], by_masks["everywhere"][1], atol=1e-3)
    assert not torch.allclose(by_masks["none"][1], by_masks["pooling"][1], atol=1e-3)


def test_the_classifier_is_its_formula():
    model = classifier()
    text = TEXTS[1][None]
    h = model.rnn(model.embedding(text), text > 0)
    hidden, out = model.score[0], model.score[2]
    weight = torch.softmax(out(torch.tanh(hidden(h)))[..., 0], -1)
    torch.testing.assert_close(model(text, text > 0), model.out(torch.einsum("bt,bth->bh", weight, h)))


def test_dropout_is_for_training_and_at_both_places():
    model = classifier(dropout=0.5)
    ids = TEXTS[1][None]
    assert torch.equal(model(ids, ids > 0), model(ids, ids > 0))
    model.train()
    for place in ("rnn", "out"):
        seen = []
        hook = getattr(model, place).register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # noqa: B023
        model(ids, ids > 0)
        hook.remove()
        assert 0.2 < (seen[0] == 0).double().mean() < 0.8


def test_padding_has_an_embedding_that_is_trained_without_masks():
    for masks in ("none", "everywhere"):
        model = classifier(masks=masks)
        assert model.embedding.weight[0].abs().max() > 0
        ids = torch.tensor([[3, 4, 0, 0]])
        model(ids, ids > 0).square().sum().backward()
        assert bool(model.embedding.weight.grad[0].any()) == (masks == "none")


# --- Layers of layers --------------------------------------------------------------------------


@pytest.mark.verifies("masking.eq1", "masking.reuse")
def test_a_layer_of_two_dense_layers_is_the_formula_and_has_four_weights():
    import keras

    class Parent(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "tanh")

        def call(self, x):
            return self.outer(self.inner(x))

    keras.utils.set_random_seed(0)
    x, parent = randn(6, 4), Parent()
    out = parent(x)
    w1, b1, w2, b2 = map(torch.from_numpy, parent.get_weights())
    torch.testing.assert_close(out, torch.tanh(torch.relu(x @ w1 + b1) @ w2 + b2), atol=1e-6, rtol=0)
    assert len(parent.trainable_weights) == 4
    hidden = keras.layers.Dense(2)

    class Unseen(keras.layers.Layer):
        def call(self, x):
            return hidden(x)

    unseen = Unseen()
    right = unseen(x)
    assert len(hidden.trainable_weights) == 2
    assert not unseen.trainable_weights

    class Adopting(Unseen):
        """The article's `reuse`, for today's Keras, which closes a layer's list of weights once it is built."""

        def call(self, x):
            out = super().call(x)
            known = {id(weight) for weight in self.weights}
            self._tracker.unlock()
            for weight in hidden.weights:
                if id(weight) not in known:
                    self._track_variable(weight)
            self._tracker.lock()
            return out

    adopting = Adopting()
    for _ in range(2):  # once, however often it is called
        torch.testing.assert_close(adopting(x), right)
        assert [id(w) for w in adopting.trainable_weights] == [id(w) for w in hidden.trainable_weights]


@pytest.mark.verifies("masking.claim3")
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_keras_reverses_with_the_mask_and_not_without(cell):
    from keras import layers

    both = layers.Bidirectional(getattr(layers, cell)(5, return_sequences=True))
    x = randn(3, 7, 4)
    mask = sequence_mask(torch.tensor([3, 5, 7]))
    padded = filled(x, mask, 2.0)
    with torch.no_grad():
        masked, bare = both(padded, mask=mask), both(padded)
        read, call = [], both.backward_layer.cell.call
        both.backward_layer.cell.call = lambda v, *args, **kw: read.append(v) or call(v, *args, **kw)
        assert torch.equal(both(padded, mask=mask), masked)
        assert torch.equal(torch.stack(read[-7:], 1), padded.flip(1))  # to the letter, whole rows
        both.backward_layer.cell.call = call
        alone = [both(x[i : i + 1, :n])[0] for i, n in enumerate((3, 5, 7))]
    for row, expected in enumerate(alone):
        torch.testing.assert_close(masked[row, : len(expected)], expected, atol=1e-6, rtol=0)
        assert torch.allclose(bare[row, : len(expected)], expected, atol=1e-2) == (row == 2)
    assert not masked[~mask].any()


@pytest.mark.verifies("masking.claim4")
def test_some_keras_layers_lose_a_mask_and_one_passes_it_on_unused():
    from keras import layers

    ids = torch.tensor([[3, 1, 2, 0, 0], [2, 3, 1, 1, 3]])
    embedding = layers.Embedding(4, 4, mask_zero=True)
    with torch.no_grad():
        x = embedding(ids)
        assert torch.equal(x._keras_mask, ids > 0)
        with pytest.warns(UserWarning, match="destroy the mask"):
            y = layers.Conv1D(3, 3, padding="same")(x)
        assert getattr(y, "_keras_mask", None) is None
        norm = layers.GroupNormalization(2)
        before = norm(x)
        assert torch.equal(before._keras_mask, ids > 0)
        weights = embedding.get_weights()[0]
        weights[0] = 9
        embedding.set_weights([weights])
        assert not torch.allclose(norm(embedding(ids))[0, :3], before[0, :3], atol=0.1)


# --- Bad input ---------------------------------------------------------------------------------

X, M = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)


test_bad_input_is_named = refuses([
    (lambda: sequence_mask([1, 2]), TypeError, r"lengths must be a torch\.Tensor, got list"),
    (lambda: sequence_mask(torch.tensor([1.0])), TypeError, r"lengths must be integers, got torch\.float32"),
    (lambda: sequence_mask(torch.tensor([1, -1])), ValueError, "lengths must be at least 0, got -1"),
    (lambda: sequence_mask(torch.tensor([1, 4]), 3), ValueError, "lengths must be between 0 and max_length = 3, got 4"),
    (lambda: sequence_mask(torch.zeros(0, dtype=torch.int64)), ValueError, r"max_length must be given for lengths of shape \(0,\)"),
    (lambda: lengths_of(torch.tensor(True)), ValueError, r"mask must have an axis of positions, got shape \(\)"),
    (lambda: lengths_of(torch.tensor([False, True])), ValueError, "got True after False at position 1$"),
    (lambda: lengths_of(torch.tensor([[[True] * 30 + [False, True]]])), ValueError, "position 31 of row 0, 0"),
    (lambda: masked_mean(X.long(), M, 1), TypeError, r"x must have a floating-point dtype .*, got torch\.int64"),
    (lambda: masked_mean(X, M.float(), 1), TypeError, r"mask must be boolean, True where real, got torch\.float32"),
    (lambda: masked_mean(X, M, 2), ValueError, r"mask must broadcast to the shape of x, \(2, 3, 4\), .*got shape \(2, 3\)"),
    (lambda: masked_max(torch.zeros(2, 0), torch.ones(2, 0, dtype=torch.bool), 1), ValueError, "x must not be empty along dim=1"),
    (lambda: masked_softmax(X, M), ValueError, r"mask must broadcast to the shape of logits"),
    (lambda: masked_softmax(torch.tensor([1.0, NAN]), M[0, :2]), ValueError, "logits must be finite or −∞ where mask is True, got nan"),
    (lambda: reverse_sequence(X, torch.tensor([1, 2]), 0), ValueError, "dim must not be 0, the axis of the sequences"),
    (lambda: reverse_sequence(X, torch.tensor([1, 4])), ValueError, "lengths must be between 0 and T = 3, got 4"),
    (lambda: reverse_sequence(X, torch.tensor([1])), ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
    (lambda: BiRNN(nn.Linear(2, 2)), TypeError, "rnn must be an nn.LSTM, nn.GRU or nn.RNN, got Linear"),
    (lambda: BiRNN(nn.GRU(4, 5)), ValueError, "rnn must have batch_first=True, got False"),
    (lambda: BiRNN(nn.GRU(4, 5, batch_first=True, bidirectional=True)), ValueError, "rnn must have bidirectional=False, got True"),
    (lambda: BiRNN(nn.GRU(4, 5, batch_first=True), "mean"), ValueError, "merge must be one of .*, got 'mean'"),
    (lambda: lengths_of(M.float()), TypeError, r"mask must be boolean, True where real, got torch\.float32"),
    (lambda: RNN(X.long(), M), TypeError, "x must have a floating-point dtype"),
    (lambda: classifier()(torch.tensor([[1, 30]]), M[:1, :2]), ValueError, "ids must be between 0 and 29, got 30"),
    (lambda: TextClassifier(9, masks="all"), ValueError, "masks must be one of .*, got 'all'"),
    (lambda: predict(classifier(), TEXTS, -1), ValueError, "added must be at least 0, got -1"),
    (lambda: masked_mean(X, M, 3), ValueError, r"dim must be an axis of x, whose shape is \(2, 3, 4\), got 3"),
    (lambda: RNN(X[..., :3], M), ValueError, r"x must have shape \(B, T, 4\), got \(2, 3, 3\)"),
    (lambda: RNN(X, M[:1]), ValueError, r"mask must have shape \(2, 3\), got \(1, 3\)"),
    (lambda: RNN(X, torch.tensor([[True, False, True], [True] * 3])), ValueError, "True after False at position 2 of row 0"),
    (lambda: masked_mean(X, M.to("meta"), 1), ValueError, "mask must be on the device cpu, got meta"),
    (lambda: classifier()(torch.ones(2).long(), M[0, :2]), ValueError, r"ids must have shape \(B, T\), got \(2,\)"),
    (lambda: TextClassifier(0), ValueError, "vocab_size must be at least 1, got 0"),
    (lambda: TextClassifier(9, pooling="sum"), ValueError, "pooling must be one of .*, got 'sum'"),
    (lambda: TextClassifier(9, dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1.0"),
    (lambda: predict(classifier(), [TEXTS[0], TEXTS[0][:0]]), ValueError, r"got lengths \[3, 0\]"),
    (lambda: predict(classifier(), TEXTS, 0, 0), ValueError, "batch_size must be at least 1, got 0"),
])  # fmt: skip


RNN = BiRNN(nn.GRU(4, 5, batch_first=True))


# --- Faults: under each, its verifier fails ----------------------------------------------------


def counts_the_padding(x, mask, dim):
    return x.masked_fill(~mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim)), 0.0).mean(dim)


def multiplies(x, mask, dim):
    return (x * mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim))).amax(dim)


def article_s_constant(logits, mask, dim=-1):
    return torch.softmax(logits - (~mask) * 1e10, dim)


def flips_everything(x, lengths, dim=1):
    return x.flip(dim)


def runs_on(rnn, x, lengths):
    return rnn(x)[0]


def one_too_long(lengths, max_length=None):
    size = int(lengths.max()) if max_length is None else max_length
    return torch.arange(size) <= lengths.unsqueeze(-1)


FAULTS = [
    (test_the_article_s_mean, "masked_mean", counts_the_padding),
    (test_the_maximum_of_negative_numbers, "masked_max", multiplies),
    (test_the_article_s_softmax_and_its_row_of_padding, "masked_softmax", article_s_constant),
    (lambda: test_birnn_is_the_packed_path("LSTM", 0.0), "reverse_sequence", flips_everything),
    (test_reversal_is_a_loop_and_its_own_inverse, "reverse_sequence", flips_everything),
    (test_a_state_that_explodes_in_the_padding_reaches_nothing, "_run", runs_on),
    (test_the_article_s_sequence_its_padding_and_its_mask, "sequence_mask", one_too_long),
]
