"""Masks, and mean, maximum and softmax under them: against loops over single sequences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from padded import FILLINGS, INF, NAN, filled, randn
from refusing import refuses
from seeded import F64, gen
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from kexue import masking
from kexue.masking import lengths_of, masked_max, masked_mean, masked_softmax, reverse_sequence, sequence_mask

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# The three operations, and what they are for one sequence without padding.
OPERATIONS = {
    "mean": (masked_mean, lambda x: x.mean(0)),
    "max": (masked_max, lambda x: x.amax(0)),
    "softmax": (masked_softmax, lambda x: torch.softmax(x, 0)),
}


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


def counts_the_padding(x, mask, dim):
    return x.masked_fill(~mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim)), 0.0).mean(dim)


def multiplies(x, mask, dim):
    return (x * mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim))).amax(dim)


def article_s_constant(logits, mask, dim=-1):
    return torch.softmax(logits - (~mask) * 1e10, dim)


def one_too_long(lengths, max_length=None):
    size = int(lengths.max()) if max_length is None else max_length
    return torch.arange(size) <= lengths.unsqueeze(-1)


X, M = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)

test_bad_input_is_named = refuses([
    (lambda: sequence_mask([1, 2]), TypeError, r"lengths must be a torch\.Tensor, got list"),
    (lambda: sequence_mask(torch.tensor([1.0])), TypeError, r"lengths must be integers, got torch\.float32"),
    (lambda: sequence_mask(torch.tensor([1, -1])), ValueError, "lengths must be at least 0, got -1"),
    (lambda: sequence_mask(torch.tensor([1, 4]), 3), ValueError, "lengths must be between 0 and max_length = 3, got 4"),
    (lambda: sequence_mask(torch.zeros(0, dtype=torch.int64)), ValueError, r"max_length must be given for lengths of shape \(0,\)"),
    (lambda: lengths_of(torch.tensor(True)), ValueError, r"mask must have an axis of positions, got shape \(\)"),
    (lambda: lengths_of(torch.tensor([False, True])), ValueError, "mask must be True first and then False in every row, got True after False at position 1$"),
    (lambda: lengths_of(torch.tensor([[[True] * 30 + [False, True]]])), ValueError, "mask must be True first and then False in every row, got True after False at position 31 of row 0, 0"),
    (lambda: masked_mean(X.long(), M, 1), TypeError, r"x must have a floating-point dtype .*, got torch\.int64"),
    (lambda: masked_mean(X, M.float(), 1), TypeError, r"mask must be boolean, True where real, got torch\.float32"),
    (lambda: masked_mean(X, M, 2), ValueError, r"mask must broadcast to the shape of x, \(2, 3, 4\), .*got shape \(2, 3\)"),
    (lambda: masked_max(torch.zeros(2, 0), torch.ones(2, 0, dtype=torch.bool), 1), ValueError, "x must not be empty along dim=1"),
    (lambda: masked_softmax(X, M), ValueError, r"mask must broadcast to the shape of logits"),
    (lambda: masked_softmax(torch.tensor([1.0, NAN]), M[0, :2]), ValueError, "logits must be finite or −∞ where mask is True, got nan"),
    (lambda: lengths_of(M.float()), TypeError, r"mask must be boolean, True where real, got torch\.float32"),
    (lambda: masked_mean(X, M, 3), ValueError, r"dim must be an axis of x, whose shape is \(2, 3, 4\), got 3"),
    (lambda: masked_mean(X, M.to("meta"), 1), ValueError, "mask must be on the device cpu, got meta"),
])  # fmt: skip


FAULTS = [
    (test_the_article_s_mean, "masked_mean", counts_the_padding),
    (test_the_maximum_of_negative_numbers, "masked_max", multiplies),
    (test_the_article_s_softmax_and_its_row_of_padding, "masked_softmax", article_s_constant),
    (test_the_article_s_sequence_its_padding_and_its_mask, "sequence_mask", one_too_long),
]
