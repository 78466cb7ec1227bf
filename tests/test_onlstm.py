"""Mathematics of kexue.onlstm: against loops in plain Python, torch's LSTM, enumeration, and bad input."""

import copy
import itertools
import math
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replacing import replace
from torch import nn
from torch.autograd import gradcheck
from torch.nn.functional import one_hot

from kexue import data, onlstm
from kexue.experiments import onlstm_language_model
from kexue.onlstm import (
    HGRN,
    LSTM,
    ONLSTM,
    LanguageModel,
    LSTMCell,
    ONLSTMCell,
    balanced,
    best_tree,
    bracket_f1,
    brackets,
    corpus_f1,
    cumax,
    leaves,
    left_branching,
    locked_dropout,
    recurrence,
    reverse_cumax,
    right_branching,
    segmented_update,
    split_tree,
    tree_from_levels,
)

ROOT = Path(__file__).parents[1]
F64 = torch.float64
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
VARIANTS = ["cumsum", "complement"]
KINDS = ["lstm", *VARIANTS]

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")

logit_lists = st.lists(st.floats(-60, 60), min_size=1, max_size=9)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=gen(seed), dtype=F64).to(dtype)


def shaken(module, scale=1.0, seed=0, dtype=F64):
    """With parameters large enough for the gates to differ."""
    module = module.to(dtype)
    for i, parameter in enumerate(module.parameters()):
        parameter.data.copy_(scale * randn(*parameter.shape, seed=1000 * seed + i))
    return module


def cell_of(kind, width=3, hidden=6, levels=3, **options):
    if kind == "lstm":
        return shaken(LSTMCell(width, hidden), **options)
    return shaken(ONLSTMCell(width, hidden, levels, kind), **options)


def stack_of(kind, width=3, sizes=(6, 4), chunk=2, scale=1.0, dtype=F64, **options):
    if kind == "lstm":
        return shaken(LSTM(width, sizes, **options), scale, dtype=dtype)
    return shaken(
        ONLSTM(width, hidden_sizes=sizes, chunk_size=chunk, master_input=kind, **options), scale, dtype=dtype
    )


# --- Master gates ------------------------------------------------------------------------------


@pytest.mark.verifies("onlstm.eq8")
@given(logit_lists)
def test_cumax_is_a_loop_over_the_softmax(values):
    weights = [math.exp(v - max(values)) for v in values]
    p = [w / sum(weights) for w in weights]
    logits = torch.tensor(values, dtype=F64)
    n = len(p)
    torch.testing.assert_close(
        onlstm.cumax(logits), torch.tensor([math.fsum(p[: k + 1]) for k in range(n)], dtype=F64)
    )
    torch.testing.assert_close(
        onlstm.reverse_cumax(logits), torch.tensor([math.fsum(p[k:]) for k in range(n)], dtype=F64)
    )


@pytest.mark.verifies("onlstm.eq8")
@given(logit_lists, st.sampled_from(DTYPES))
def test_master_gates_are_monotone_within_0_and_1_and_end_at_1(values, dtype):
    logits = torch.tensor(values, dtype=F64).to(dtype)
    up, down = cumax(logits), reverse_cumax(logits)
    assert up.dtype == down.dtype == dtype
    assert (up.diff() >= 0).all()
    assert (down.diff() <= 0).all()
    for gate in (up, down):
        assert (gate >= 0).all()
        assert (gate <= 1).all()
    tolerance = 4 * len(values) * torch.finfo(dtype).eps
    assert float(up[-1]) == pytest.approx(1, abs=tolerance)
    assert float(down[0]) == pytest.approx(1, abs=tolerance)


def test_rounding_never_carries_a_master_gate_beyond_1():
    logits = 3 * randn(2000, 50, dtype=torch.float32)
    assert (logits.softmax(-1).cumsum(-1) > 1).any()  # what it would be
    for gate in (cumax(logits), reverse_cumax(logits)):
        assert (gate <= 1).all()


@pytest.mark.verifies("onlstm.eq8", "onlstm.eq3")
@given(st.lists(st.integers(-30, 30), min_size=1, max_size=9, unique=True))
def test_scaled_logits_give_the_cumulative_sum_of_a_one_hot(values):
    logits = torch.tensor(values, dtype=F64)
    top = int(logits.argmax())
    assert cumax(logits * 1000).tolist() == [float(k >= top) for k in range(len(values))]
    assert reverse_cumax(logits * 1000).tolist() == [float(k <= top) for k in range(len(values))]
    softer = [(cumax(logits * s) - cumax(logits * 1000)).abs().max() for s in (0.1, 1, 10)]
    assert softer == sorted(softer, reverse=True)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_any_axis_of_logits(dim):
    logits = randn(3, 4, 5)
    moved = logits.movedim(dim, -1)
    torch.testing.assert_close(cumax(logits, dim).movedim(dim, -1), cumax(moved))
    torch.testing.assert_close(reverse_cumax(logits, dim).movedim(dim, -1), reverse_cumax(moved))


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits(dtype):
    largest = torch.finfo(dtype).max
    for values, up in (
        ([largest, 0.0, -largest], [1, 1, 1]),
        ([-largest, 0.0, largest], [0, 0, 1]),
        ([-math.inf, 0.0, -math.inf], [0, 1, 1]),
        ([largest, -largest, largest], [0.5, 0.5, 1]),
    ):
        logits = torch.tensor(values, dtype=dtype, requires_grad=True)
        gate = cumax(logits)
        assert gate.tolist() == up
        assert reverse_cumax(logits.flip(0)).tolist() == up[::-1]
        (gradient,) = torch.autograd.grad(gate[0], logits)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    even = torch.zeros(3000, dtype=dtype)  # a sum in half precision stands still long before 3,000
    assert torch.equal(cumax(even), cumax(even.float()).to(dtype))
    assert float(cumax(even)[-1]) == pytest.approx(1, abs=1e-3)


def test_master_gates_have_the_right_gradient():
    logits = randn(2, 3, 4).requires_grad_()
    for gate in (cumax, reverse_cumax):
        for dim in (0, -1):
            assert gradcheck(lambda x, g=gate, d=dim: g(x, d), logits)


@pytest.mark.verifies("onlstm.eq11")
@given(logit_lists)
def test_the_paper_s_input_gate_is_the_article_s_shifted_by_one_level(values):
    logits = torch.tensor(values, dtype=F64)
    article, paper = onlstm.reverse_cumax(logits), 1 - onlstm.cumax(logits)
    shifted = torch.cat([article[1:], torch.zeros(1, dtype=F64)])
    torch.testing.assert_close(paper, shifted, atol=1e-14, rtol=0)
    assert float((article - paper).abs().sum()) == pytest.approx(1, abs=1e-13)
    assert not torch.equal(article, paper)
    torch.testing.assert_close(article - paper, logits.softmax(0), atol=1e-14, rtol=0)
    assert float((article - paper).abs().mean()) == pytest.approx(
        1 / len(logits), abs=1e-13
    )  # little, of many
    assert (paper.diff() <= 1e-15).all()


@pytest.mark.verifies("onlstm.eq9")
def test_a_forget_gate_ends_in_1_and_an_input_gate_begins_with_1():
    logits = 20 * randn(10_000, 2)
    up, down = cumax(logits), reverse_cumax(logits)
    assert (up[:, -1] - 1).abs().max() < 1e-15
    assert (down[:, 0] - 1).abs().max() < 1e-15
    for gate in (up, down):
        assert (gate - torch.tensor([0.1, 0.9], dtype=F64)).abs().amax(-1).min() > 0.099


# --- The hard update ---------------------------------------------------------------------------

PAIRS = [(n, d_f, d_i) for n in range(1, 13) for d_f in range(n) for d_i in range(n)]


def three_segments(c_prev, c_hat, forget, input, d_f, d_i):
    """The article's two cases, level by level."""
    c = []
    for k in range(len(c_prev)):
        if d_f <= d_i:
            if k < d_f:
                value = c_hat[k]
            elif k <= d_i:
                value = forget[k] * c_prev[k] + input[k] * c_hat[k]
            else:
                value = c_prev[k]
        elif k <= d_i:
            value = c_hat[k]
        elif k < d_f:
            value = 0.0
        else:
            value = c_prev[k]
        c.append(value)
    return c


def operands(n, *batch):
    c_prev, c_hat, forget, input = (randn(*batch, n, seed=s) for s in range(4))
    return c_prev, c_hat, forget.sigmoid(), input.sigmoid()


@pytest.mark.verifies("onlstm.eq4", "onlstm.eq5")
def test_the_update_is_the_three_segments_for_every_pair():
    for n, d_f, d_i in PAIRS:
        given = operands(n)
        found = segmented_update(*given, d_f, d_i).tolist()
        assert found == pytest.approx(three_segments(*(v.tolist() for v in given), d_f, d_i), abs=1e-15)
        if d_f > d_i:
            assert found[d_i + 1 : d_f] == [0.0] * (d_f - d_i - 1)


@pytest.mark.slow
@pytest.mark.verifies("onlstm.eq6", "onlstm.eq7")
def test_the_unified_formula_is_the_three_segments():
    for n, d_f, d_i in PAIRS:
        given = operands(n)
        c_prev, c_hat, forget, input = given
        starts, ends = (one_hot(torch.tensor(d), n).double() for d in (d_f, d_i))
        right, left = [0.0] * n, [0.0] * n
        for k in range(n):
            right[k] = float(starts[k]) + (right[k - 1] if k else 0.0)
        for k in reversed(range(n)):
            left[k] = float(ends[k]) + (left[k + 1] if k + 1 < n else 0.0)
        keep, write = torch.tensor(right, dtype=F64), torch.tensor(left, dtype=F64)
        assert torch.equal(keep, starts.cumsum(0))
        assert torch.equal(write, ends.flip(0).cumsum(0).flip(0))
        assert torch.equal(keep, cumax(1e4 * starts))
        assert torch.equal(write, reverse_cumax(1e4 * ends))
        both = keep * write
        c = both * (forget * c_prev + input * c_hat) + (keep - both) * c_prev + (write - both) * c_hat
        assert c.tolist() == pytest.approx(three_segments(*(v.tolist() for v in given), d_f, d_i), abs=1e-15)
        torch.testing.assert_close(segmented_update(*given, d_f, d_i), c, atol=1e-15, rtol=0)


@pytest.mark.verifies("onlstm.segments")
def test_each_statement_about_the_segments_holds_in_one_case_only():
    for n, d_f, d_i in PAIRS:
        level = torch.arange(n)
        keep, write = (level >= d_f).int(), (level <= d_i).int()
        both = keep * write
        low, high = min(d_f, d_i), max(d_f, d_i)
        kept, written = keep - both, write - both
        from_highest = torch.equal(kept, (level >= high).int())
        below_lowest = torch.equal(written, (level < low).int())
        if d_f <= d_i:
            assert torch.equal(kept, (level > high).int())
            assert torch.equal(written, (level < low).int())
            assert not from_highest  # ones from d_i + 1 on, not from d_i
            assert below_lowest
        else:
            assert from_highest
            assert torch.equal(written, (level <= low).int())
            assert not below_lowest  # d_i itself is written, too
            assert not both.any()


@pytest.mark.verifies("onlstm.eq3")
def test_levels_may_be_a_number_or_one_for_each_row():
    given = operands(5, 4, 3)
    d_f, d_i = (torch.randint(5, (4, 3), generator=gen(s)) for s in (7, 8))
    found = segmented_update(*given, d_f, d_i)
    for row in itertools.product(range(4), range(3)):
        alone = segmented_update(*(v[row] for v in given), int(d_f[row]), int(d_i[row]))
        assert torch.equal(found[row], alone)
    assert torch.equal(segmented_update(*given, 2, d_i), segmented_update(*given, torch.full((4, 3), 2), d_i))
    narrow = segmented_update(*given, d_f.to(torch.uint8), d_i.to(torch.int32))
    assert torch.equal(narrow, found)


@pytest.mark.unchecked  # the annotation is narrower
def test_a_level_may_be_a_tensor_without_axes():
    given = operands(5, 4, 3)
    one = torch.tensor(3)
    assert torch.equal(segmented_update(*given, one, 1), segmented_update(*given, 3, 1))
    assert torch.equal(segmented_update(*given, 1, one), segmented_update(*given, 1, 3))


def test_what_is_not_owned_may_be_anything():
    c_prev = torch.tensor([math.nan, 1.0, 2.0])
    c_hat = torch.tensor([5.0, math.nan, math.inf])
    gates = torch.full((3,), math.nan)
    assert segmented_update(c_prev, c_hat, gates, gates, 1, 0).tolist() == [5, 1, 2]
    assert segmented_update(c_prev, c_hat, gates, gates, 2, 0).tolist() == [5, 0, 2]


def test_the_update_has_the_right_gradient():
    given = [v.requires_grad_() for v in operands(5, 4)]
    d_f, d_i = torch.tensor([0, 3, 2, 4]), torch.tensor([4, 1, 2, 0])
    assert gradcheck(lambda *v: segmented_update(*v, d_f, d_i), given)


V = torch.zeros(2, 3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cumax([1.0]), TypeError, r"logits must be a torch\.Tensor, got list"),
        (lambda: cumax(V.long()), TypeError, r"logits must have a floating-point dtype .*, got torch\.int64"),
        (lambda: cumax(V, 2), ValueError, r"dim must be an axis of logits, whose shape is \(2, 3\), got 2"),
        (lambda: cumax(V, 0.0), TypeError, "dim must be an int, got float"),
        (lambda: cumax(V[:, :0]), ValueError, r"logits must not be empty along dim=-1"),
        (lambda: cumax(torch.tensor(1.0)), ValueError, "dim must be an axis of logits"),
        (lambda: reverse_cumax(None), TypeError, r"logits must be a torch\.Tensor, got NoneType"),
        (lambda: reverse_cumax(V.bool()), TypeError, "logits must have a floating-point dtype"),
        (lambda: reverse_cumax(V, -3), ValueError, r"dim must be an axis of logits, whose shape is \(2, 3\), got -3"),
        (lambda: reverse_cumax(V[:0], 0), ValueError, r"logits must not be empty along dim=0, got shape \(0, 3\)"),
        (lambda: segmented_update([1.0], V, V, V, 0, 0), TypeError, r"c_prev must be a torch\.Tensor, got list"),
        (lambda: segmented_update(V, V.int(), V, V, 0, 0), TypeError, "c_hat must have a floating-point dtype"),
        (lambda: segmented_update(V, V, 1.0, V, 0, 0), TypeError, r"forget must be a torch\.Tensor, got float"),
        (lambda: segmented_update(V, V, V, V.bool(), 0, 0), TypeError, "input must have a floating-point dtype"),
        (lambda: segmented_update(V, V[:1], V, V, 0, 0), ValueError, r"c_hat must have c_prev's shape \(2, 3\), got \(1, 3\)"),
        (lambda: segmented_update(V, V, V, V.T, 0, 0), ValueError, r"input must have c_prev's shape \(2, 3\), got \(3, 2\)"),
        (lambda: segmented_update(V[:, :0], V[:, :0], V[:, :0], V[:, :0], 0, 0), ValueError, "c_prev must not be empty along dim=-1"),
        (lambda: segmented_update(V, V, V, V, 3, 0), ValueError, "d_f must be between 0 and n − 1 = 2, got 3"),
        (lambda: segmented_update(V, V, V, V, 0, -1), ValueError, "d_i must be between 0 and n − 1 = 2, got -1"),
        (lambda: segmented_update(V, V, V, V, torch.tensor([0, 3]), 0), ValueError, "d_f must be between 0 and n − 1 = 2, got 3"),
        (lambda: segmented_update(V, V, V, V, 0, torch.tensor([-2, 0])), ValueError, "d_i must be between 0 and n − 1 = 2, got -2"),
        (lambda: segmented_update(V, V, V, V, 1.0, 0), TypeError, "d_f must be an int or a tensor of integers, got float"),
        (lambda: segmented_update(V, V, V, V, 0, True), TypeError, "d_i must be an int or a tensor of integers, got bool"),
        (lambda: segmented_update(V, V, V, V, torch.ones(2), 0), TypeError, r"d_f must be integers, got torch\.float32"),
        (lambda: segmented_update(V, V, V, V, 0, torch.ones(2) > 0), TypeError, r"d_i must be integers, got torch\.bool"),
        (lambda: segmented_update(V, V, V, V, torch.tensor([0, 1, 2]), 0), ValueError, r"d_f must have shape \(2,\), got \(3,\)"),
    ],
)  # fmt: skip
def test_bad_input_of_the_updates_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- Cells -------------------------------------------------------------------------------------


def reorder(rows, hidden):
    """Rows in our order (output, cell, input, forget), as torch has them: input, forget, cell, output."""
    o, g, i, f = rows.split(hidden)
    return torch.cat([i, f, g, o])


def torch_lstm(stack):
    """nn.LSTM, or nn.LSTMCell, with the same weights."""
    cells = [stack] if isinstance(stack, LSTMCell) else stack.layers
    hidden, width = cells[0].hidden_size, cells[0].input_size
    if isinstance(stack, LSTMCell):
        theirs, suffixes = nn.LSTMCell(width, hidden), [""]
    else:
        theirs, suffixes = nn.LSTM(width, hidden, len(cells)), [f"_l{i}" for i in range(len(cells))]
    theirs = theirs.to(cells[0].ih.weight.dtype)
    with torch.no_grad():
        for cell, suffix in zip(cells, suffixes, strict=True):
            for name, layer in (("ih", cell.ih), ("hh", cell.hh)):
                for kind in ("weight", "bias"):
                    own = getattr(layer, kind)[2 * cell.num_levels :]
                    getattr(theirs, f"{kind}_{name}{suffix}").copy_(reorder(own, hidden))
    return theirs


@pytest.mark.verifies("onlstm.eq1")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_lstm_is_torch_s_cell(dtype):
    cell = cell_of("lstm", 5, 7, dtype=dtype)
    theirs = torch_lstm(cell)
    x, h, c = (randn(4, d, seed=d, dtype=dtype).requires_grad_() for d in (5, 7, 7))
    h.data.tanh_()
    for state in (None, (h, c)):
        found, right = cell(x, state), theirs(x, state)
        torch.testing.assert_close(found, right)
    torch.testing.assert_close(
        torch.autograd.grad(sum(v.sin().sum() for v in cell(x, (h, c))), (x, h, c)),
        torch.autograd.grad(sum(v.sin().sum() for v in theirs(x, (h, c))), (x, h, c)),
    )


@pytest.mark.verifies("onlstm.eq1")
@pytest.mark.parametrize("layers", [1, 3])
def test_the_lstm_is_torch_s_in_outputs_states_and_gradients(layers):
    stack = stack_of("lstm", 4, (5,) * layers, scale=0.7)
    theirs = torch_lstm(stack)
    x = randn(9, 3, 4, seed=1).requires_grad_()
    start = [(randn(3, 5, seed=2 * i).tanh(), randn(3, 5, seed=2 * i + 1)) for i in range(layers)]
    packed = tuple(torch.stack(part) for part in zip(*start, strict=True))
    for own, right in ((None, None), (start, packed)):
        output, states = stack(x, own)
        expected, (h, c) = theirs(x, right)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(torch.stack([s[0] for s in states]), h)
        torch.testing.assert_close(torch.stack([s[1] for s in states]), c)
    weight = randn(9, 3, 5, seed=9)
    last = sum(s[1].sin().sum() + s[0].cos().sum() for s in states)
    stack.zero_grad()
    (dx,) = torch.autograd.grad((output * weight).sum() + last, x, retain_graph=True)
    right_loss = (expected * weight).sum() + c.sin().sum() + h.cos().sum()
    torch.testing.assert_close(dx, torch.autograd.grad(right_loss, x, retain_graph=True)[0])
    ((output * weight).sum() + last).backward()
    right_loss.backward()
    for i, cell in enumerate(stack.layers):
        for name, layer in (("ih", cell.ih), ("hh", cell.hh)):
            for kind in ("weight", "bias"):
                own = reorder(getattr(layer, kind).grad, 5)
                torch.testing.assert_close(own, getattr(theirs, f"{kind}_{name}_l{i}").grad)


def saturate(cell, d_f, d_i, by=1e4):
    """Master gates 0 … 0 1 … 1 from d_f on, and 1 … 1 0 … 0 up to d_i, whatever the input."""
    n = cell.num_levels
    with torch.no_grad():
        for layer in (cell.ih, cell.hh):
            layer.weight[: 2 * n] = 0
            layer.bias[: 2 * n] = 0
        cell.ih.bias[d_i] = by
        cell.ih.bias[n + d_f] = by
    return cell


@pytest.mark.verifies("onlstm.eq2")
def test_with_all_levels_owned_by_both_the_cell_is_an_lstm():
    cell = saturate(cell_of("cumsum", 5, 8, 4), 0, 3)
    theirs = torch_lstm(cell)
    x, h, c = (randn(4, d, seed=d) for d in (5, 8, 8))
    torch.testing.assert_close(cell(x, (h, c)), theirs(x, (h, c)))
    torch.testing.assert_close(cell(x), theirs(x))


def softmax(values):
    weights = [math.exp(v - max(values)) for v in values]
    return [w / math.fsum(weights) for w in weights]


def by_hand(weights, n, complement, x, h, c):
    """A step from the formulas, for one row, in plain Python: lists of h, c, f̃ and ĩ."""
    wx, bx, wh, bh = weights
    hidden = len(h)
    z = [
        sum(a * b for a, b in zip(wx[r], x, strict=True))
        + sum(a * b for a, b in zip(wh[r], h, strict=True))
        + bx[r]
        + bh[r]
        for r in range(2 * n + 4 * hidden)
    ]
    p_i, p_f = softmax(z[:n]), softmax(z[n : 2 * n])
    sigma = lambda v: 0.5 * (1 + math.tanh(v / 2))  # noqa: E731
    new_h, new_c, keeps, writes = [], [], [], []
    for k in range(n):
        keeps.append(sum(p_f[: k + 1]))
        writes.append(sum(p_i[k + 1 :]) if complement else sum(p_i[k:]))
    for u in range(hidden):
        o, g, i, f = (z[2 * n + block * hidden + u] for block in range(4))
        level = u // (hidden // n)
        keep, write = keeps[level], writes[level]
        omega = keep * write
        c_hat = math.tanh(g)
        value = omega * (sigma(f) * c[u] + sigma(i) * c_hat) + (keep - omega) * c[u] + (write - omega) * c_hat
        new_c.append(value)
        new_h.append(sigma(o) * math.tanh(value))
    return new_h, new_c, keeps, writes


def weights_of(cell):
    return [v.double().tolist() for v in (cell.ih.weight, cell.ih.bias, cell.hh.weight, cell.hh.bias)]


@pytest.mark.verifies("onlstm.eq9", "onlstm.eq10", "onlstm.group")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (F64, 1e-12)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("hidden", "levels"), [(6, 6), (6, 3), (6, 1), (10, 2)])
def test_the_cell_is_the_formulas_in_plain_python(variant, hidden, levels, dtype, tolerance):
    cell = cell_of(variant, 4, hidden, levels, scale=0.8, dtype=dtype)
    x, h, c = (randn(3, d, seed=d + i, dtype=dtype) for i, d in enumerate((4, hidden, hidden)))
    h = h.tanh()
    found = cell(x, (h, c))
    weights = weights_of(cell)
    for row in range(3):
        right = by_hand(
            weights, levels, variant == "complement", *(v[row].double().tolist() for v in (x, h, c))
        )
        for own, expected in zip(found, right[:2], strict=True):
            assert own.dtype == dtype
            assert own[row].tolist() == pytest.approx(expected, abs=tolerance)


@pytest.mark.verifies("onlstm.eq3", "onlstm.eq9", "onlstm.eq10")
@pytest.mark.parametrize("kind", ["step", "loop"])
def test_the_soft_cell_tends_to_the_hard_one(kind):
    n, q, rows = 5, 3, 40
    cell = cell_of("cumsum", 4, n * q, n)
    x, h, c = (randn(rows, d, seed=i) for i, d in enumerate((4, n * q, n * q)))
    z = cell.ih(x) + cell.hh(h)
    master_i, master_f, o, g, i, f = z.split([n, n, *[n * q] * 4], -1)
    d_i, d_f = master_i.argmax(-1), master_f.argmax(-1)
    assert {int(a <= b) for a, b in zip(d_f, d_i, strict=True)} == {0, 1}  # both cases
    for d in (d_f, d_i):
        assert not d.is_floating_point()
        assert set(d.tolist()) == set(range(n))
    wide = [v.unflatten(-1, (n, q)).transpose(1, 2) for v in (c, g.tanh(), f.sigmoid(), i.sigmoid())]
    hard = segmented_update(*wide, d_f[:, None].expand(-1, q), d_i[:, None].expand(-1, q))
    hard = hard.transpose(1, 2).flatten(1)
    far = []
    for scale in (1, 4, 100, 1e5):
        scaled = copy.deepcopy(cell)
        with torch.no_grad():
            for parameter in scaled.parameters():
                parameter[: 2 * n] *= scale
        if kind == "step":
            found_h, found_c = scaled(x, (h, c))
        else:
            trace = recurrence.run_cell(scaled, x[None], (h, c))
            found_h, found_c = trace.h[0], trace.c[0]
        far.append((found_c - hard).abs().mean().item())
    assert far == sorted(far, reverse=True)
    assert far[0] > 0.05
    torch.testing.assert_close(found_c, hard)
    torch.testing.assert_close(found_h, o.sigmoid() * hard.tanh())


@pytest.mark.verifies("onlstm.eq10")
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_cell_is_right(kind):
    cell = cell_of(kind, 2, 4, 2)
    names, parameters = zip(*cell.named_parameters(), strict=True)
    x, h, c = (randn(2, d, seed=d + i).requires_grad_() for i, d in enumerate((2, 4, 4)))

    def step(x, h, c, *values):
        return torch.func.functional_call(cell, dict(zip(names, values, strict=True)), (x, (h, c)))

    assert gradcheck(step, (x, h, c, *parameters))


class Layer(nn.Module):
    """A cell over all times, as a module."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, h, c):
        return tuple(part for part in recurrence.run_cell(self.cell, x, (h, c)) if part.numel())


@pytest.mark.slow
@pytest.mark.verifies("onlstm.eq10")
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_by_hand_of_the_loop_is_right(kind):
    layer = Layer(cell_of(kind, 2, 4, 2))
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = randn(3, 2, 2, seed=9).requires_grad_()
    h, c = (randn(2, 4, seed=i).requires_grad_() for i in (10, 11))

    def run(x, h, c, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, h, c))

    assert gradcheck(run, (x, h, c, *parameters))


@pytest.mark.verifies("onlstm.perm")
def test_the_order_of_an_lstm_s_neurons_does_not_matter():
    order = torch.randperm(6, generator=gen())
    cell = cell_of("lstm")
    x, h, c = randn(4, 3), randn(4, 6, seed=1), randn(4, 6, seed=2)
    found = permuted(cell, order)(x, (h[:, order], c[:, order]))
    for own, before in zip(found, cell(x, (h, c)), strict=True):
        torch.testing.assert_close(own, before[:, order])
    # In a stack nobody sees it from outside.
    stack = stack_of("lstm")
    other = copy.deepcopy(stack)
    other.cells[0] = permuted(stack.layers[0], order)
    other.layers[1].ih.weight.data = stack.layers[1].ih.weight.data[:, order]
    x = randn(7, 2, 3, seed=3)
    torch.testing.assert_close(other(x)[0], stack(x)[0])
    other.layers[1].ih.weight.data = stack.layers[1].ih.weight.data
    assert (other(x)[0] - stack(x)[0]).abs().max() > 0.01


def permuted(cell, order, levels=None):
    """The same cell with its neurons in another order, and, if given, the levels of its master gates."""
    n, hidden = cell.num_levels, cell.hidden_size
    levels = torch.arange(n) if levels is None else levels
    rows = torch.cat([levels, n + levels, *(2 * n + block * hidden + order for block in range(4))])
    other = copy.deepcopy(cell)
    for layer, own in ((other.ih, cell.ih), (other.hh, cell.hh)):
        layer.weight.data, layer.bias.data = own.weight.data[rows], own.bias.data[rows]
    other.hh.weight.data = other.hh.weight.data[:, order]
    return other


@pytest.mark.verifies("onlstm.perm")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_an_on_lstm_s_levels_does_matter(variant):
    cell = cell_of(variant, 3, 6, 3)  # levels 0 1 | 2 3 | 4 5
    x, h, c = randn(4, 3), randn(4, 6, seed=1), randn(4, 6, seed=2)
    before = cell(x, (h, c))

    def difference(order, levels=None):
        order = torch.tensor(order)
        found = permuted(cell, order, levels)(x, (h[:, order], c[:, order]))
        return max((a - b[:, order]).abs().max().item() for a, b in zip(found, before, strict=True))

    assert difference([1, 0, 2, 3, 5, 4]) < 1e-14  # inside of levels
    assert difference([2, 1, 0, 3, 4, 5]) > 0.01  # across
    assert difference([2, 3, 0, 1, 4, 5]) > 0.01  # whole levels
    assert difference([2, 3, 0, 1, 4, 5], torch.tensor([1, 0, 2])) > 0.01  # with their master gates


@pytest.mark.verifies("onlstm.group")
@pytest.mark.parametrize(("width", "hidden", "levels"), [(5, 12, 12), (5, 12, 4), (5, 12, 1), (7, 20, 2)])
def test_levels_cost_two_rows_each(width, hidden, levels):
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(LSTMCell(width, hidden)) == 4 * hidden * (width + hidden + 2)
    assert count(nn.LSTMCell(width, hidden)) == count(LSTMCell(width, hidden))
    assert count(ONLSTMCell(width, hidden, levels)) == (2 * levels + 4 * hidden) * (width + hidden + 2)
    stack = ONLSTM(width, hidden, levels, 2)
    assert count(stack) == (2 * levels + 4 * hidden) * (width + hidden + 2 + 2 * hidden + 2)
    (trace,) = ONLSTM(width, hidden, levels).trace(torch.zeros(3, 2, width))
    assert trace.h.shape == trace.c.shape == (3, 2, hidden)
    assert trace.master_forget.shape == trace.master_input.shape == (3, 2, levels)


@pytest.mark.verifies("onlstm.group")
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_neurons_of_a_level_share_its_master_gates(variant):
    """What the traced gates say, repeated q times, gives c from the previous c."""
    n, q = 3, 4
    stack = stack_of(variant, 3, (n * q,), q)
    (cell,) = stack.layers
    x = randn(5, 2, 3)
    (trace,) = stack.trace(x)
    h, c = (torch.cat([v.new_zeros(1, 2, n * q), v[:-1]]) for v in (trace.h, trace.c))
    o, g, i, f = (cell.ih(x) + cell.hh(h))[..., 2 * n :].chunk(4, -1)
    keep, write = (
        torch.stack([v[..., u // q] for u in range(n * q)], -1)
        for v in (trace.master_forget, trace.master_input)
    )
    both = keep * write
    lstm = f.sigmoid() * c + i.sigmoid() * g.tanh()
    right = both * lstm + (keep - both) * c + (write - both) * g.tanh()
    torch.testing.assert_close(trace.c, right)
    torch.testing.assert_close(trace.h, o.sigmoid() * right.tanh())


@pytest.mark.verifies("onlstm.claim7")
@pytest.mark.parametrize("step", ["cell", "loop"])
def test_the_paper_s_last_level_stays_empty(step):
    """In exact arithmetic; 1 − cumax rounds, so that here some units in the last place arrive."""
    for variant in VARIANTS:
        largest = []
        for seed in range(5):
            cell = cell_of(variant, 3, 8, 4, scale=3.0, seed=seed)
            x = 5 * randn(60, 4, 3, seed=seed)
            if step == "loop":
                c = recurrence.run_cell(cell, x, (torch.zeros(4, 8, dtype=F64),) * 2).c
            else:
                state, cs = None, []
                for value in x:
                    state = cell(value, state)
                    cs.append(state[1])
                c = torch.stack(cs)
            largest.append(c[..., -2:].abs().max().item())
            assert c[..., :-2].abs().max() > 0.5
        if variant == "complement":
            assert max(largest) < 60 * 1e-15
        else:
            assert min(largest) > 0.1


@pytest.mark.verifies("onlstm.claim7")
def test_what_is_in_the_paper_s_last_level_can_only_fade():
    cell = cell_of("complement", 3, 8, 4, scale=3.0)
    c = randn(1, 4, 8, seed=1)
    trace = recurrence.run_cell(cell, 5 * randn(60, 4, 3), (torch.zeros(4, 8, dtype=F64), c[0]))
    last = torch.cat([c, trace.c])[..., -2:]
    # f̃ is 1 there and ĩ is 0: it is carried over as it is.
    torch.testing.assert_close(last, last[:1].expand_as(last))


# --- The loop over time ------------------------------------------------------------------------


def step_by_step(stack, x, state=None):
    """h, c, f̃ and ĩ of each layer from the cells' own steps, with torch's gradient."""
    found = []
    for layer, cell in enumerate(stack.layers):
        n = cell.num_levels
        h, c = state[layer] if state else (x.new_zeros(x.shape[1], cell.hidden_size) for _ in range(2))
        parts = []
        for value in x:
            z = cell.ih(value) + cell.hh(h)
            h, c = cell(value, (h, c))
            p_i, p_f = (z[:, a : a + n].softmax(-1) for a in (0, n))
            write = p_i.flip(-1).cumsum(-1).flip(-1)
            parts.append((h, c, p_f.cumsum(-1), write - p_i if cell.complement else write))
        found.append([torch.stack(part) for part in zip(*parts, strict=True)])
        x = found[-1][0]
    return found


def starts(stack, batch, seed=0):
    return [
        tuple(randn(batch, cell.hidden_size, seed=seed + 2 * i + j).requires_grad_() for j in range(2))
        for i, cell in enumerate(stack.layers)
    ]


USES = {"h": [0], "c": [1], "master_forget": [2], "master_input": [3], "all": [0, 1, 2, 3]}


def compare_with_steps(kind, use="all"):
    stack = stack_of(kind)
    x = randn(6, 3, 3, seed=1).requires_grad_()
    state = starts(stack, 3, 20)
    found = [list(trace) for trace in stack.trace(x, state)]
    right = step_by_step(stack, x, state)
    torch.testing.assert_close(found, right)
    inputs = [x, *itertools.chain(*state), *stack.parameters()]
    gradients = []
    for traces in (found, right):
        loss = sum(
            (trace[j] * randn(*trace[j].shape, seed=50 + 7 * i + j)).sum()
            for i, trace in enumerate(traces)
            for j in USES[use]
        )
        gradients.append(torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True))
    for own, expected, value in zip(*gradients, inputs, strict=True):
        pair = (torch.zeros_like(value) if g is None else g for g in (own, expected))
        torch.testing.assert_close(*pair)


@pytest.mark.verifies("onlstm.eq1", "onlstm.eq10")
@pytest.mark.parametrize(
    ("kind", "use"),
    [(kind, use) for kind in KINDS for use in USES if kind != "lstm" or not use.startswith("master")],
)
def test_the_loop_is_the_cells_in_values_and_gradients(kind, use):
    compare_with_steps(kind, use)


@pytest.mark.verifies("onlstm.eq10", "onlstm.eq15")
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_states_and_levels_are_those_of_the_cells(variant):
    stack = stack_of(variant)
    x = randn(6, 3, 3, seed=1).requires_grad_()
    output, states, levels = stack(x)
    right = step_by_step(stack, x)
    torch.testing.assert_close(output, right[-1][0])
    for state, trace in zip(states, right, strict=True):
        torch.testing.assert_close(state, (trace[0][-1], trace[1][-1]))
    depth = torch.stack([1 - trace[2].mean(-1) for trace in right])
    torch.testing.assert_close(levels, depth)
    inputs = [x, *stack.parameters()]
    weight = randn(*levels.shape, seed=5)
    losses = [
        (o * o).sum() + (s * weight).sum() + c.sin().sum()
        for o, s, c in ((output, levels, states[0][1]), (right[-1][0], depth, right[0][1][-1]))
    ]
    torch.testing.assert_close(*(torch.autograd.grad(loss, inputs) for loss in losses))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 4), (7, 1), (2, 0)])
def test_short_sequences_and_small_batches(kind, steps, batch):
    stack = stack_of(kind)
    x = randn(steps, batch, 3).requires_grad_()
    found = stack(x)
    assert found[0].shape == (steps, batch, 4)
    if batch:
        right = step_by_step(stack, x)
        torch.testing.assert_close(found[0], right[-1][0])
        torch.testing.assert_close(
            torch.autograd.grad(found[0].sin().sum(), x), torch.autograd.grad(right[-1][0].sin().sum(), x)
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_the_state_carries_over_chunks(kind, cut):
    stack = stack_of(kind)
    x = randn(7, 3, 3, seed=1).requires_grad_()
    whole = stack(x)
    first = stack(x[:cut])
    second = stack(x[cut:], first[1])
    pieces = torch.cat([first[0], second[0]])
    torch.testing.assert_close(pieces, whole[0])
    torch.testing.assert_close(second[1], whole[1])
    if kind != "lstm":
        torch.testing.assert_close(torch.cat([first[2], second[2]], 1), whole[2])
    inputs = [x, *stack.parameters()]
    torch.testing.assert_close(*(torch.autograd.grad((v * v).sum(), inputs) for v in (pieces, whole[0])))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_may_be_changed_in_place(kind):
    stack = stack_of(kind)
    x = randn(5, 2, 3).requires_grad_()
    (right,) = torch.autograd.grad((3 * stack(x)[0]).sum(), x)
    output, states, *_ = stack(x)
    states[-1][1].add_(1)
    (found,) = torch.autograd.grad(output.mul_(3).sum(), x)
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("kind", KINDS)
def test_single_and_double_precision_agree(kind):
    double = stack_of(kind)
    single = copy.deepcopy(double).float()
    x = randn(20, 3, 3)
    found, right = single(x.float()), double(x)
    assert found[0].dtype == torch.float32
    assert right[0].dtype == F64
    torch.testing.assert_close(found[0].double(), right[0], atol=1e-4, rtol=0)
    assert all(v.dtype == torch.float32 for state in found[1] for v in state)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_near_to_single_precision(kind):
    stack = stack_of(kind, 8, (16, 12), 4, scale=0.3, dtype=torch.float32)
    x = randn(12, 4, 8, dtype=torch.float32).requires_grad_()
    weight = randn(12, 4, 12, seed=3, dtype=torch.float32)
    inputs = [x, *stack.parameters()]
    gradients = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = stack(x)
        assert output[0].dtype == torch.float32
        gradients.append((output[0], *torch.autograd.grad((output[0] * weight).sum(), inputs)))
    for own, right in zip(*gradients, strict=True):
        assert own.dtype == torch.float32
        assert 0 < (own - right).norm() < 0.02 * right.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_multiplies_by_the_recurrent_weights_in_the_lower_precision(kind):
    stack = stack_of(kind, 8, (12,), 4, scale=0.3, dtype=torch.float32)
    weight = stack.layers[0].hh.weight
    rounded = weight.detach().bfloat16().float()
    x = randn(12, 4, 8, dtype=torch.float32).requires_grad_()
    found = []
    for factor in (1, 1 + 2**-12):  # bfloat16 does not see the difference
        weight.data = rounded * factor
        for enabled in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                output = stack(x)[0]
            found.append((output, *torch.autograd.grad(output.sin().sum(), (x, weight))))
    for lower, same, full, other in zip(found[0], found[2], found[1], found[3], strict=True):
        assert torch.equal(lower, same)
        assert not torch.equal(full, other)
    assert torch.equal(found[0][2], found[0][2].bfloat16().float())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_result_and_no_step_sees_the_future(kind):
    stack = stack_of(kind)
    x = randn(6, 2, 3)
    later = x.clone()
    later[4] += 1
    before, after = stack(x)[0], stack(later)[0]
    assert torch.equal(before, stack(x)[0])
    assert torch.equal(before[:4], after[:4])
    assert ((before[4:] - after[4:]).abs().amax((1, 2)) > 0).all()
    # Nor another row of the batch.
    other = x.clone()
    other[:, 1] += 1
    torch.testing.assert_close(stack(other)[0][:, 0], before[:, 0])


# --- Lengths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_as_if_each_sequence_were_alone(kind):
    stack = stack_of(kind)
    lengths = torch.tensor([3, 6, 1, 5])
    x = randn(6, 4, 3)
    for value in (0.0, 1e4):
        padded = x.masked_fill(~(torch.arange(6)[:, None] < lengths).unsqueeze(-1), value)
        found = stack(padded, starts(stack, 4, 5), lengths)
        for row, length in enumerate(lengths.tolist()):
            start = [tuple(v[row : row + 1] for v in state) for state in starts(stack, 4, 5)]
            alone = stack(x[:length, row : row + 1], start)
            torch.testing.assert_close(found[0][:length, row], alone[0][:, 0])
            assert (found[0][length:, row] == 0).all()
            for state, right in zip(found[1], alone[1], strict=True):
                torch.testing.assert_close(tuple(v[row] for v in state), tuple(v[0] for v in right))
            if kind != "lstm":
                torch.testing.assert_close(found[2][:, :length, row], alone[2][:, :, 0])
                assert (found[2][:, length:, row] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_comes_from_padding(kind):
    stack = stack_of(kind)
    lengths = torch.tensor([3, 6, 1])
    real = (torch.arange(6)[:, None] < lengths).unsqueeze(-1)
    x = randn(6, 3, 3)
    gradients = []
    for value in (0.0, 7.0):
        padded = x.masked_fill(~real, value).requires_grad_()
        found = stack(padded, None, lengths)
        loss = found[0].sin().sum() + sum(v.cos().sum() for state in found[1] for v in state)
        loss = loss + found[2].sum() if kind != "lstm" else loss
        gradients.append(torch.autograd.grad(loss, [padded, *stack.parameters()]))
        assert (gradients[-1][0].masked_select(~real) == 0).all()
        assert (gradients[-1][0].abs().amax(-1)[real[..., 0]] > 0).all()
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_lengths_of_any_integer_dtype_and_of_whole_sequences(dtype):
    stack = stack_of("cumsum")
    x = randn(4, 2, 3)
    torch.testing.assert_close(stack(x, None, torch.tensor([4, 4], dtype=dtype)), stack(x))


# --- Dropout -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_dropout_in_evaluation(kind):
    stack = stack_of(kind, dropout=0.5, recurrent_dropout=0.5).eval()
    x = randn(5, 2, 3)
    torch.testing.assert_close(stack(x)[0], stack_of(kind)(x)[0])
    stack.train()
    assert not torch.equal(stack(x)[0], stack(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_dropout_drops_the_same_weights_at_all_times(kind):
    stack = stack_of(kind, sizes=(6,), recurrent_dropout=0.4)
    x = randn(8, 2, 3)
    torch.manual_seed(3)
    found = stack(x)[0]
    torch.manual_seed(3)
    assert torch.equal(found, stack(x)[0])
    assert not torch.equal(found, stack(x)[0])
    (cell,) = stack.layers
    torch.manual_seed(3)
    dropped = nn.functional.dropout(cell.hh.weight, 0.4, True)
    share = float((dropped == 0).double().mean())
    assert 0.2 < share < 0.6
    alone = copy.deepcopy(stack)
    alone.recurrent_dropout = 0.0
    alone.layers[0].hh.weight.data = dropped.detach()
    torch.testing.assert_close(step_by_step(alone, x)[0][0], found)


def test_recurrent_dropout_has_the_right_gradient():
    stack = stack_of("cumsum", sizes=(4,), recurrent_dropout=0.5)
    weight = stack.layers[0].hh.weight
    x = randn(3, 2, 3)

    def run(value):
        torch.manual_seed(1)
        return torch.func.functional_call(stack, {"cells.0.hh.weight": value}, (x,))[0]

    assert gradcheck(run, weight)
    (gradient,) = torch.autograd.grad(run(weight).sum(), weight)
    torch.manual_seed(1)
    dropped = nn.functional.dropout(weight, 0.5, True)
    assert (gradient[dropped == 0] == 0).all()


def test_locked_dropout_has_one_mask_for_all_times():
    x = torch.ones(6, 40, 30)
    torch.manual_seed(0)
    found = locked_dropout(x, 0.25, True)
    assert (found == found[:1]).all()
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float((found[0] == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert found[0].unique(dim=0).shape[0] == 40  # rows differ
    assert locked_dropout(x, 0.25, False) is x
    assert locked_dropout(x, 0.0, True) is x


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_between_the_layers_only(kind):
    x = randn(5, 2, 3)
    one = stack_of(kind, sizes=(6,), dropout=0.5)
    assert torch.equal(one(x)[0], one(x)[0])
    two = stack_of(kind, dropout=0.5)
    torch.manual_seed(2)
    traces = two.trace(x)
    torch.manual_seed(2)
    between = locked_dropout(traces[0].h, 0.5, True)
    assert torch.equal(traces[0].h, two.eval().trace(x)[0].h)
    (right,) = type(two).trace(single_layer(two, 1), between)
    torch.testing.assert_close(traces[1], right)


def single_layer(stack, layer):
    other = copy.deepcopy(stack)
    other.cells = nn.ModuleList([stack.layers[layer]])
    return other


# --- The paper's weights -----------------------------------------------------------------------


def paper_state_dict(width, sizes, chunk, prefix):
    """Random weights in the published layout, with other entries beside them."""
    found = {"encoder.weight": np.zeros((9, width)), "decoder.bias": np.zeros(9)}
    generator = np.random.default_rng(0)
    for layer, (d, h) in enumerate(zip((width, *sizes), sizes, strict=False)):
        rows = 4 * h + 2 * (h // chunk)
        for name, shape in (
            ("ih.0.weight", (rows, d)),
            ("ih.0.bias", (rows,)),
            ("hh.weight", (rows, h)),
            ("hh.bias", (rows,)),
        ):
            found[f"{prefix}cells.{layer}.{name}"] = generator.normal(size=shape)
    return {name: torch.from_numpy(value) for name, value in found.items()}


def published_forward(weights, x, sizes, chunk, prefix, dropconnect=0.0, dropped=None):
    """The steps of the published implementation, in numpy: outputs and 1 − mean f̃ of each layer.

    Its `LinearDropConnect` (github.com/yikangshen/Ordered-Neurons, ON_LSTM.py): in training the weight with
    zeros where a Bernoulli(dropout) mask is 1, not made larger; in evaluation weight·(1 − dropout). The bias
    is neither dropped nor scaled. `dropped` holds the masks of the layers, in training.
    """
    sigma = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731

    def cumsoftmax(v):
        e = np.exp(v - v.max(-1, keepdims=True))
        return np.cumsum(e / e.sum(-1, keepdims=True), -1)

    distances = []
    for layer, h in enumerate(sizes):
        wi, bi, wh, bh = (
            weights[f"{prefix}cells.{layer}.{name}"].numpy()
            for name in ("ih.0.weight", "ih.0.bias", "hh.weight", "hh.bias")
        )
        wh = wh * (1 - dropconnect) if dropped is None else np.where(dropped[layer], 0.0, wh)
        chunks = h // chunk
        hy, cy = np.zeros((x.shape[1], h)), np.zeros((x.shape[1], chunks, chunk))
        output, distance = [], []
        for value in x:
            gates = value @ wi.T + bi + hy @ wh.T + bh
            cin, cforget = gates[:, :chunks], gates[:, chunks : 2 * chunks]
            blocks = gates[:, 2 * chunks :].reshape(-1, 4 * chunks, chunk)
            out, cell, ingate, forget = np.split(blocks, 4, axis=1)
            cin, cforget = 1 - cumsoftmax(cin), cumsoftmax(cforget)
            distance.append(1 - cforget.sum(-1) / chunks)
            cin, cforget = cin[:, :, None], cforget[:, :, None]
            overlap = cin * cforget
            forget = sigma(forget) * overlap + (cforget - overlap)
            ingate = sigma(ingate) * overlap + (cin - overlap)
            cy = forget * cy + ingate * np.tanh(cell)
            hy = (sigma(out) * np.tanh(cy)).reshape(-1, h)
            output.append(hy)
        x = np.stack(output)
        distances.append(np.stack(distance))
    return x, np.stack(distances)


@pytest.mark.verifies("onlstm.eq10", "onlstm.eq11", "onlstm.eq15")
@pytest.mark.parametrize("prefix", ["", "rnn.", "module.rnn."])
@pytest.mark.parametrize("rate", [0.0, 0.45])
def test_weights_in_the_paper_s_layout(prefix, rate):
    width, sizes, chunk = 4, (6, 8, 4), 2
    weights = paper_state_dict(width, sizes, chunk, prefix)
    before = {name: value.clone() for name, value in weights.items()}
    stack = ONLSTM(width, hidden_sizes=sizes, chunk_size=chunk, master_input="complement").double()
    stack.load_paper_weights(weights, *([rate] if rate else []))  # by default 0
    x = randn(5, 3, width)
    output, _, levels = stack.eval()(x)
    right, distances = published_forward(weights, x.numpy(), sizes, chunk, prefix, rate)
    np.testing.assert_allclose(output.detach(), right, atol=1e-12)
    np.testing.assert_allclose(levels.detach(), distances, atol=1e-12)
    assert all(torch.equal(weights[name], value) for name, value in before.items())


def test_another_rate_of_dropconnect_is_not_the_paper_s_network():
    """Weights that were trained with DropConnect, loaded as if without: not the published outputs."""
    weights = paper_state_dict(4, (6, 4), 2, "rnn.")
    x = randn(5, 3, 4)
    right, distances = published_forward(weights, x.numpy(), (6, 4), 2, "rnn.", 0.45)
    stack = ONLSTM(4, hidden_sizes=(6, 4), chunk_size=2, master_input="complement").double()
    for rate, is_right in ((0.0, False), (0.55, False), (0.45, True)):
        stack.load_paper_weights(weights, dropconnect=rate)
        output, _, levels = stack(x)
        assert np.allclose(output.detach(), right, atol=1e-12) == is_right
        assert np.allclose(levels.detach(), distances, atol=1e-12) == is_right


def test_the_paper_s_dropconnect_in_training(monkeypatch):
    """What is left of U is as large as in the published forward, given the same masks."""
    rate, sizes = 0.45, (6, 4)
    weights = paper_state_dict(4, sizes, 2, "")
    stack = ONLSTM(4, hidden_sizes=sizes, chunk_size=2, master_input="complement", recurrent_dropout=rate)
    stack.double().train().load_paper_weights(weights, dropconnect=rate)
    dropped = [
        torch.rand(cell.hh.weight.shape, generator=gen(layer)) < rate
        for layer, cell in enumerate(stack.layers)
    ]
    masks = iter(dropped)
    monkeypatch.setattr(
        recurrence, "drop", lambda weight, p, training: weight.masked_fill(next(masks), 0) / (1 - p)
    )
    x = randn(5, 3, 4)
    output, _, levels = stack(x)
    right, distances = published_forward(weights, x.numpy(), sizes, 2, "", rate, [m.numpy() for m in dropped])
    np.testing.assert_allclose(output.detach(), right, atol=1e-12)
    np.testing.assert_allclose(levels.detach(), distances, atol=1e-12)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 45, math.nan])
def test_a_dropconnect_that_is_no_rate(rate):
    stack = ONLSTM(4, hidden_sizes=(6, 4), chunk_size=2, master_input="complement")
    with pytest.raises(ValueError, match=rf"^dropconnect must lie in \[0, 1\), got {rate}$"):
        stack.load_paper_weights(paper_state_dict(4, (6, 4), 2, ""), dropconnect=rate)


def test_weights_of_another_layout_are_named():
    stack = ONLSTM(4, hidden_sizes=(6, 4), chunk_size=2, master_input="complement")
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    whole = paper_state_dict(4, (6, 4), 2, "rnn.")
    for name in [key for key in whole if "cells" in key]:
        less = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(ValueError, match=rf"state_dict must have {name}, but it is missing"):
            stack.load_paper_weights(less)
    other = whole | {"rnn.cells.1.hh.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"rnn\.cells\.1\.hh\.bias must have shape \(20,\), got \(3,\)"):
        stack.load_paper_weights(other)
    with pytest.raises(ValueError, match=r"state_dict must have 2 layers, got rnn\.cells\.2\.ih\.0\.weight"):
        stack.load_paper_weights(paper_state_dict(4, (6, 4, 4), 2, "rnn."))
    for nothing in ({}, {"encoder.weight": torch.zeros(1)}):
        with pytest.raises(ValueError, match=r"state_dict must have entries cells\.0\.ih\.0\.weight, …, got"):
            stack.load_paper_weights(nothing)
    with pytest.raises(ValueError, match="state_dict must have entries"):
        stack.load_paper_weights(whole | paper_state_dict(4, (6, 4), 2, "other."))
    article = ONLSTM(4, hidden_sizes=(6, 4), chunk_size=2)
    with pytest.raises(ValueError, match='master_input must be "complement" for published weights'):
        article.load_paper_weights(whole)
    for name, value in stack.state_dict().items():  # nothing is taken by halves
        assert torch.equal(value, before[name])


# --- Levels ------------------------------------------------------------------------------------


@pytest.mark.verifies("onlstm.eq12", "onlstm.eq13", "onlstm.eq14")
@given(logit_lists)
def test_the_expected_level_is_a_mean_of_the_master_gate(values):
    logits = torch.tensor(values, dtype=F64)
    p, gate, n = logits.softmax(0), cumax(logits), len(values)
    expected = float((torch.arange(1, n + 1) * p).sum())
    ours, paper = n * (1 - float(gate.mean())) + 1, n - float(gate.sum())
    assert ours == pytest.approx(expected, abs=1e-12)
    assert ours - paper == pytest.approx(1, abs=1e-12)
    # In the hard limit it is the most probable one.
    if len(set(values)) == n and n > 1:
        first, second = sorted(values)[:-3:-1]
        hard = cumax((logits - first) * 100 / max(first - second, 1e-300))
        assert n * (1 - float(hard.mean())) + 1 == pytest.approx(int(logits.argmax()) + 1)


@pytest.mark.verifies("onlstm.eq14")
@pytest.mark.parametrize("n", range(1, 7))
def test_the_expected_level_symbolically(n):
    p = [*sympy.symbols(f"p1:{n}"), 1]
    p[-1] = 1 - sum(p[:-1])
    gate = [sum(p[: k + 1]) for k in range(n)]
    expected = sum((k + 1) * value for k, value in enumerate(p))
    ours = n * (1 - sympy.Rational(1, n) * sum(gate)) + 1
    assert sympy.expand(expected - ours) == 0
    assert sympy.expand(ours - (n - sum(gate))) == 1  # the paper's formula


@pytest.mark.verifies("onlstm.eq14", "onlstm.eq15")
@pytest.mark.parametrize("variant", VARIANTS)
def test_levels_are_one_minus_the_mean_master_gate(variant):
    stack = stack_of(variant, sizes=(6, 8), chunk=2)
    x = randn(30, 2, 3)
    levels = stack(x)[2]
    assert levels.shape == (2, 30, 2)
    assert (levels >= 0).all()
    assert (levels < 1).all()
    for layer, (cell, trace) in enumerate(zip(stack.layers, stack.trace(x), strict=True)):
        n = cell.num_levels
        p = torch.cat([trace.master_forget[..., :1], trace.master_forget.diff(dim=-1)], -1)
        expected = (torch.arange(1, n + 1) * p).sum(-1)
        torch.testing.assert_close(n * levels[layer] + 1, expected)
        paper = n - trace.master_forget.sum(-1)
        assert torch.equal(paper.argsort(0), levels[layer].argsort(0))


@pytest.mark.verifies("onlstm.eq15")
def test_the_first_level_is_0_and_the_last_the_highest():
    for d_f in range(4):
        stack = stack_of("cumsum", sizes=(8,))
        saturate(stack.layers[0], d_f, 0)
        levels = stack(randn(3, 2, 3))[2]
        assert (levels == d_f / 4).all()


# --- Bad arguments -----------------------------------------------------------------------------

X = torch.zeros(4, 2, 3)
STACK = ONLSTM(3, hidden_sizes=(6, 4), chunk_size=2)
PLAIN = LSTM(3, (6, 4))
H, C = torch.zeros(2, 6), torch.zeros(2, 4)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LSTMCell(0, 4), ValueError, "input_size must be at least 1, got 0"),
        (lambda: LSTMCell(4, -1), ValueError, "hidden_size must be at least 1, got -1"),
        (lambda: LSTMCell(4.0, 4), TypeError, "input_size must be an int, got float"),
        (lambda: ONLSTMCell(4, 6, 4), ValueError, "hidden_size must be divisible by num_levels = 4, got 6"),
        (lambda: ONLSTMCell(4, 6, 0), ValueError, "num_levels must be at least 1, got 0"),
        (lambda: ONLSTMCell(4, 6, True), TypeError, "num_levels must be an int, got bool"),
        (lambda: ONLSTMCell(4, "6", 2), TypeError, "hidden_size must be an int, got str"),
        (lambda: ONLSTMCell(0, 6, 2), ValueError, "input_size must be at least 1, got 0"),
        (lambda: ONLSTMCell(4, 6, 2, "minus"), ValueError, r"master_input must be one of \('cumsum', 'complement'\), got 'minus'"),
        (lambda: ONLSTMCell(3, 6, 2)(X[0].long()), TypeError, r"x must have a floating-point dtype"),
        (lambda: ONLSTMCell(3, 6, 2)(X), ValueError, r"x must have shape \(B, 3\), got \(4, 2, 3\)"),
        (lambda: LSTMCell(3, 6)(X[0, :, :2]), ValueError, r"x must have shape \(B, 3\), got \(2, 2\)"),
        (lambda: LSTMCell(3, 6)(X[0], (H,)), ValueError, "state must be h and c, got tuple"),
        (lambda: LSTMCell(3, 6)(X[0], H), ValueError, "state must be h and c, got Tensor"),
        (lambda: LSTMCell(3, 6)(X[0], (H, C)), ValueError, r"state's c must have shape \(2, 6\), got \(2, 4\)"),
        (lambda: ONLSTMCell(3, 6, 2)(X[0], (H[:1], H)), ValueError, r"state's h must have shape \(2, 6\), got \(1, 6\)"),
        (lambda: ONLSTMCell(3, 6, 2)(X[0], (H.long(), H)), TypeError, "state's h must have a floating-point dtype"),
        (lambda: ONLSTM(3), ValueError, "one of hidden_size and hidden_sizes must be given, got None, None"),
        (lambda: ONLSTM(3, 4, 2, hidden_sizes=[4]), ValueError, r"one of hidden_size and hidden_sizes must be given, got 4, \[4\]"),
        (lambda: ONLSTM(3, 4), ValueError, "one of num_levels, levels_per_layer and chunk_size must be given, got {'num_levels': None"),
        (lambda: ONLSTM(3, 4, 2, chunk_size=2), ValueError, "one of num_levels, levels_per_layer and chunk_size must be given"),
        (lambda: ONLSTM(3, 4, 2, 0), ValueError, "num_layers must be at least 1, got 0"),
        (lambda: ONLSTM(3, 4, 2, 1.0), TypeError, "num_layers must be an int, got float"),
        (lambda: ONLSTM(3, num_layers=3, hidden_sizes=[4, 4], num_levels=2), ValueError, "num_layers must be the length of hidden_sizes, 2, got 3"),
        (lambda: ONLSTM(3, hidden_sizes=[], num_levels=2), ValueError, r"hidden_sizes must hold at least one size, got \[\]"),
        (lambda: ONLSTM(3, hidden_sizes=[4, 0], num_levels=2), ValueError, "hidden_size must be at least 1, got 0"),
        (lambda: ONLSTM(3, hidden_sizes=[4, 6], chunk_size=4), ValueError, r"hidden sizes must be divisible by chunk_size = 4, got \(4, 6\)"),
        (lambda: ONLSTM(3, hidden_sizes=[4, 6], chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
        (lambda: ONLSTM(3, hidden_sizes=[4, 6], num_levels=4), ValueError, "hidden_size must be divisible by num_levels = 4, got 6"),
        (lambda: ONLSTM(3, hidden_sizes=[4, 6], levels_per_layer=[2]), ValueError, r"levels_per_layer must have 2 entries, got \[2\]"),
        (lambda: ONLSTM(3, hidden_sizes=[4, 6], levels_per_layer=[2, 4]), ValueError, "divisible by num_levels = 4, got 6"),
        (lambda: ONLSTM(3, 4, 2, 1, 1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
        (lambda: ONLSTM(3, 4, 2, recurrent_dropout=-0.1), ValueError, r"recurrent_dropout must lie in \[0, 1\), got -0\.1"),
        (lambda: ONLSTM(3, 4, 2, dropout=math.nan), ValueError, r"dropout must lie in \[0, 1\), got nan"),
        (lambda: ONLSTM(3, 4, 2, master_input=None), ValueError, "master_input must be one of .*, got None"),
        (lambda: LSTM(3, []), ValueError, r"hidden_sizes must hold at least one size, got \[\]"),
        (lambda: LSTM(3, [4, 2.0]), TypeError, "hidden_size must be an int, got float"),
        (lambda: LSTM(3, [4], 1.5), ValueError, r"dropout must lie in \[0, 1\), got 1\.5"),
        (lambda: STACK(X.long()), TypeError, r"x must have a floating-point dtype .*, got torch\.int64"),
        (lambda: STACK(X[0]), ValueError, r"x must have shape \(T, B, 3\), got \(2, 3\)"),
        (lambda: PLAIN(X[..., :2]), ValueError, r"x must have shape \(T, B, 3\), got \(4, 2, 2\)"),
        (lambda: STACK(X[:0]), ValueError, r"x must not be empty along dim=0, got shape \(0, 2, 3\)"),
        (lambda: STACK(X, [(H, H)]), ValueError, r"state must have one \(h, c\) for each of 2 layers, got 1"),
        (lambda: STACK(X, [(H, H), (H, C)]), ValueError, r"state\[1\]'s h must have shape \(2, 4\), got \(2, 6\)"),
        (lambda: PLAIN(X, [(H, H), (C, C[:1])]), ValueError, r"state\[1\]'s c must have shape \(2, 4\), got \(1, 4\)"),
        (lambda: PLAIN(X, [H, C]), ValueError, r"state\[0\] must be h and c, got Tensor"),
        (lambda: STACK(X, None, torch.tensor([1, 5])), ValueError, "lengths must be between 0 and .* = 4, got 5"),
        (lambda: STACK(X, None, torch.tensor([1, 0])), ValueError, "lengths must be at least 1, got 0"),
        (lambda: PLAIN(X, None, torch.tensor([1, -1])), ValueError, "lengths must be at least 0, got -1"),
        (lambda: PLAIN(X, None, torch.tensor([1])), ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
        (lambda: STACK(X, None, torch.tensor([1.0, 2.0])), TypeError, r"lengths must be integers, got torch\.float32"),
        (lambda: HGRN(0, 2), ValueError, "width must be at least 1, got 0"),
        (lambda: HGRN(3, 2.0), TypeError, "num_layers must be an int, got float"),
        (lambda: HGRN(3, 0), ValueError, "num_layers must be at least 1, got 0"),
        (lambda: HGRN(3, 2, 1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
        (lambda: HGRN(3, 2)(X.long()), TypeError, "x must have a floating-point dtype"),
        (lambda: HGRN(3, 2)(X[:0]), ValueError, r"x must have shape \(T, B, 3\) with T ≥ 1, got \(0, 2, 3\)"),
        (lambda: HGRN(4, 2)(X), ValueError, r"x must have shape \(T, B, 4\) with T ≥ 1, got \(4, 2, 3\)"),
        (lambda: HGRN(3, 2)(X, [(X[0],)]), ValueError, r"state must have one \(h,\) of shape \(2, 3\) for each of 2 layers"),
        (lambda: HGRN(3, 1)(X, [(X[0, :1],)]), ValueError, r"state must have one \(h,\) of shape \(2, 3\) for each of 1 layers"),
        (lambda: LanguageModel(0), ValueError, "symbols must be at least 1, got 0"),
        (lambda: LanguageModel(9.0), TypeError, "symbols must be an int, got float"),
        (lambda: LanguageModel(9, []), ValueError, r"hidden_sizes must hold at least one size, got \[\]"),
        (lambda: LanguageModel(9, (10, 15)), ValueError, r"divisible by chunk_size = 10, got \(10, 15\)"),
        (lambda: LanguageModel(9, (4,), "gru"), ValueError, r"cell must be one of \('onlstm', 'lstm', 'hgrn'\), got 'gru'"),
        (lambda: LanguageModel(9, (4, 6), "hgrn"), ValueError, r"hidden_sizes must be equal for hgrn, got \(4, 6\)"),
        (lambda: LanguageModel(9, (4,), "hgrn", recurrent_dropout=0.1), ValueError, r"recurrent_dropout must be 0 for hgrn, got 0\.1"),
        (lambda: LanguageModel(9, (4,), "lstm", embedding_dropout=1.0), ValueError, r"embedding_dropout must lie in \[0, 1\), got 1\.0"),
        (lambda: LanguageModel(9, (4,), "lstm", input_dropout=-1), ValueError, r"input_dropout must lie in \[0, 1\), got -1"),
        (lambda: LanguageModel(9, (4,), "lstm", output_dropout=2), ValueError, r"output_dropout must lie in \[0, 1\), got 2"),
        (lambda: LanguageModel(9, (4,), "lstm", dropout=1), ValueError, r"dropout must lie in \[0, 1\), got 1"),
        (lambda: LanguageModel(9, (10,), master_input="x"), ValueError, "master_input must be one of .*, got 'x'"),
        (lambda: model("lstm")(torch.zeros(3, 2)), TypeError, r"ids must be integers, got torch\.float32"),
        (lambda: model("lstm")(torch.ones(3, 2) > 0), TypeError, r"ids must be integers, got torch\.bool"),
        (lambda: model("lstm")([[1]]), TypeError, r"ids must be a torch\.Tensor, got list"),
        (lambda: model("lstm")(torch.tensor([1])), ValueError, r"ids must have shape \(T, B\) with T ≥ 1, got \(1,\)"),
        (lambda: model("lstm")(torch.zeros(0, 2).long()), ValueError, r"with T ≥ 1, got \(0, 2\)"),
        (lambda: model("onlstm")(torch.tensor([[1, 7]])), ValueError, "ids must be between 0 and 6, got 1 to 7"),
        (lambda: model("onlstm")(torch.tensor([[-1, 6]])), ValueError, "ids must be between 0 and 6, got -1 to 6"),
        (lambda: model("onlstm")(torch.tensor([[1]]), []), ValueError, r"state must have one \(h, c\) for each of 2 layers, got 0"),
        (lambda: model("hgrn").trace(torch.tensor([[1]])), ValueError, 'cell must be "onlstm" or "lstm" for a trace, got "hgrn"'),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_sizes_and_levels_may_be_given_in_several_ways():
    def shape(stack):
        return [(c.input_size, c.hidden_size, c.num_levels, c.complement) for c in stack.layers]

    assert shape(ONLSTM(3, 8, 4, 2)) == [(3, 8, 4, False), (8, 8, 4, False)]
    assert shape(ONLSTM(3, 8, num_layers=2, chunk_size=2)) == shape(ONLSTM(3, 8, 4, 2))
    assert shape(ONLSTM(3, hidden_sizes=(8, 8), num_levels=4)) == shape(ONLSTM(3, 8, 4, 2))
    assert shape(ONLSTM(3, 8, num_layers=2, levels_per_layer=[4, 4])) == shape(ONLSTM(3, 8, 4, 2))
    paper = ONLSTM(4, hidden_sizes=(10, 20, 10), levels_per_layer=(1, 4, 10), master_input="complement")
    assert shape(paper) == [(4, 10, 1, True), (10, 20, 4, True), (20, 10, 10, True)]
    assert len(ONLSTM(3, 8, 4).cells) == 1
    assert [len(t.master_forget[0, 0]) for t in paper.trace(torch.zeros(1, 1, 4))] == [1, 4, 10]


# --- The linear relative -----------------------------------------------------------------------


def hgrn_by_hand(net, x, state=None):
    """The formulas, step by step and layer by layer."""
    layers, width = net.bounds.shape

    def norm(layer, v):
        eps = torch.finfo(v.dtype).eps
        return v / (v.square().mean(-1, keepdim=True) + eps).sqrt() * net.norms[layer].weight

    share = net.bounds.exp() / net.bounds.exp().sum(0)
    last = []
    for layer in range(layers):
        gamma = sum((share[j] for j in range(1, layer + 1)), torch.zeros(width, dtype=x.dtype))
        h = torch.zeros_like(x[0]) if state is None else state[layer][0]
        rows = []
        for value in x:
            forget, new, gate = net.gates[layer](norm(3 * layer, value)).split(width, -1)
            keep = gamma + (1 - gamma) * forget.sigmoid()
            h = keep * h + (1 - keep) * new * new.sigmoid()
            value = value + net.outs[layer](norm(3 * layer + 2, h) * gate.sigmoid())
            a, b = net.glus[layer](norm(3 * layer + 1, value)).split(width, -1)
            rows.append(value + net.backs[layer](a * a.sigmoid() * b))
        x = torch.stack(rows)
        last.append(h)
    return norm(3 * layers, x), last


def test_hgrn_is_a_loop_over_its_formulas():
    net = shaken(HGRN(4, 3), 0.6, dtype=torch.float32)
    x = randn(7, 2, 4, dtype=torch.float32).requires_grad_()
    for state in (None, [(randn(2, 4, seed=i, dtype=torch.float32),) for i in range(3)]):
        found, last = net(x, state)
        right, expected = hgrn_by_hand(net, x, state)
        torch.testing.assert_close(found, right, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close([h for (h,) in last], expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(
            *(torch.autograd.grad(v.sin().sum(), [x, *net.parameters()]) for v in (found, right)),
            atol=2e-4,
            rtol=2e-3,
        )


def test_hgrn_carries_its_state_and_sees_no_future():
    net = shaken(HGRN(4, 3), 0.6, dtype=torch.float32)
    x = randn(7, 2, 4, dtype=torch.float32)
    whole, last = net(x)
    first, middle = net(x[:3])
    second, end = net(x[3:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(end, last)
    later = x.clone()
    later[4] += 1
    changed = net(later)[0]
    torch.testing.assert_close(changed[:4], whole[:4])
    assert ((changed[4:] - whole[4:]).abs().amax((1, 2)) > 1e-6).all()


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_the_lower_bounds_of_hgrn_rise_from_0(seed):
    net = shaken(HGRN(4, 5), 0.5, dtype=torch.float32)
    net.bounds.data = torch.zeros(5, 4) if seed is None else 2 * randn(5, 4, seed=seed, dtype=torch.float32)
    for gate in net.gates:  # λ = γ, and nothing new
        gate.weight.data[:8] = 0
        gate.bias.data[:4] = -100
        gate.bias.data[4:8] = 0
    _, state = net(torch.ones(1, 1, 4), [(torch.ones(1, 4),)] * 5)
    bounds = torch.cat([h for (h,) in state])
    assert (bounds[0] == 0).all()
    assert (bounds.diff(dim=0) > 0).all()
    assert (bounds < 1).all()
    if seed is None:
        assert bounds[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_hgrn_drops_in_training_only_and_the_same_at_all_times():
    net = shaken(HGRN(4, 1, 0.5), 0.6, dtype=torch.float32)
    x = randn(5, 2, 4, dtype=torch.float32)
    torch.manual_seed(0)
    found = net(x)[0]
    assert not torch.equal(found, net(x)[0])
    torch.manual_seed(0)
    assert torch.equal(found, net(x)[0])
    plain = copy.deepcopy(net)
    plain.dropout = 0.0
    torch.testing.assert_close(net.eval()(x)[0], plain(x)[0])


# --- Language model ----------------------------------------------------------------------------

CELLS = ["onlstm", "lstm", "hgrn"]


def model(cell, **options):
    torch.manual_seed(0)
    return LanguageModel(7, (4, 4), cell, chunk_size=2, **options)


def text(steps=9, batch=3, seed=0):
    return torch.randint(7, (steps, batch), generator=gen(seed))


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_sees_no_future_and_carries_its_state(cell):
    net, ids = model(cell), text()
    whole = net(ids)
    assert whole.logits.shape == (9, 3, 7)
    assert whole.hidden.shape == whole.dropped.shape == (9, 3, 4)
    first = net(ids[:4])
    second = net(ids[4:], first.state)
    torch.testing.assert_close(torch.cat([first.logits, second.logits]), whole.logits)
    torch.testing.assert_close(second.state, whole.state)
    later = ids.clone()
    later[5, 1] = (ids[5, 1] + 1) % 7
    changed = net(later).logits
    torch.testing.assert_close(changed[:5], whole.logits[:5])
    torch.testing.assert_close(changed[:, [0, 2]], whole.logits[:, [0, 2]])
    assert ((changed[5:, 1] - whole.logits[5:, 1]).abs().amax(-1) > 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_the_softmax_shares_the_embedding_s_weights(cell):
    net, ids = model(cell), text()
    net.bias.data = randn(7, dtype=torch.float32)
    found = net(ids)
    torch.testing.assert_close(found.logits, found.hidden @ net.embedding.weight.T + net.bias)
    torch.testing.assert_close(net.embed(ids), 2 * net.embedding.weight[ids])  # √4, as long as the width asks
    names = [name for name, p in net.named_parameters() if 7 in p.shape]
    assert names == ["bias", "embedding.weight"]
    output = net.stack(net.embed(ids))
    torch.testing.assert_close(found.hidden, output[0])


def test_the_stack_of_a_language_model_is_as_asked():
    net = LanguageModel(
        9, (8, 12, 6), chunk_size=2, master_input="complement", dropout=0.1, recurrent_dropout=0.2
    )
    assert isinstance(net.stack, ONLSTM)
    assert net.embedding.weight.shape == (9, 6)
    assert [(c.input_size, c.hidden_size, c.num_levels, c.complement) for c in net.stack.layers] == [
        (6, 8, 4, True),
        (8, 12, 6, True),
        (12, 6, 3, True),
    ]
    assert (net.stack.dropout, net.stack.recurrent_dropout) == (0.1, 0.2)
    plain = LanguageModel(9, (8, 12, 6), "lstm", dropout=0.1, recurrent_dropout=0.2)
    assert isinstance(plain.stack, LSTM)
    assert [(c.input_size, c.hidden_size) for c in plain.stack.layers] == [(6, 8), (8, 12), (12, 6)]
    assert (plain.stack.dropout, plain.stack.recurrent_dropout) == (0.1, 0.2)
    linear = LanguageModel(9, (6, 6), "hgrn", dropout=0.1)
    assert isinstance(linear.stack, HGRN)
    assert (len(linear.stack.gates), linear.stack.dropout) == (2, 0.1)


RATES = ["embedding_dropout", "input_dropout", "dropout", "output_dropout", "recurrent_dropout"]


@pytest.mark.parametrize(
    ("cell", "rate"), [(c, r) for c in CELLS for r in RATES if (c, r) != ("hgrn", "recurrent_dropout")]
)
def test_a_language_model_drops_in_training_only(cell, rate):
    net, ids = model(cell, **{rate: 0.5}), text(30)
    torch.manual_seed(1)
    found = net(ids).logits
    torch.manual_seed(1)
    assert torch.equal(found, net(ids).logits)
    assert not torch.equal(found, net(ids).logits)
    torch.testing.assert_close(net.eval()(ids).logits, model(cell)(ids).logits)


def test_each_dropout_of_a_language_model_drops_what_it_should():
    ids = text(40)
    net = model("lstm", embedding_dropout=0.5)
    words = (net.embed(ids) / (2 * net.embedding.weight[ids])).round(decimals=3)
    assert set(words.unique().tolist()) == {0.0, 2.0}
    for word in range(7):
        assert len(words[ids == word].unique()) == 1  # all of a word, everywhere
    net = model("lstm", input_dropout=0.5)
    entries = (net.embed(ids) / (2 * net.embedding.weight[ids])).round(decimals=3)
    assert set(entries.unique().tolist()) == {0.0, 2.0}
    assert (entries == entries[:1]).all()
    net = model("lstm", output_dropout=0.5)
    found = net(ids)
    ratio = (found.dropped / found.hidden).round(decimals=3)
    assert set(ratio.unique().tolist()) == {0.0, 2.0}
    assert (ratio == ratio[:1]).all()
    torch.testing.assert_close(found.logits, found.dropped @ net.embedding.weight.T + net.bias)
    still = net.eval()(ids)
    assert torch.equal(still.hidden, found.hidden)
    assert torch.equal(still.dropped, still.hidden)


@pytest.mark.parametrize("cell", ["onlstm", "lstm"])
def test_the_trace_of_a_language_model(cell):
    net, ids = model(cell), text()
    found = net(ids)
    traces = net.trace(ids)
    assert len(traces) == 2
    assert torch.equal(traces[-1].h, found.hidden)
    for trace, (h, c) in zip(traces, found.state, strict=True):
        assert torch.equal(trace.h[-1], h)
        assert torch.equal(trace.c[-1], c)
        assert trace.master_forget.shape == trace.master_input.shape == (9, 3, 2 if cell == "onlstm" else 0)
    later = net.trace(ids[4:], net(ids[:4]).state)
    torch.testing.assert_close(later[0].c, traces[0].c[4:])


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_learns_a_simple_text(cell):
    torch.manual_seed(0)
    net = LanguageModel(4, (8, 8), cell, chunk_size=4)
    ids = torch.arange(12).remainder(4)[:, None].expand(-1, 2)
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(ids[:-1]).logits.flatten(0, 1), ids[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


# --- Trees -------------------------------------------------------------------------------------


def article_tree(tokens, levels):
    """The article's own recursion."""
    top = max(range(len(levels)), key=lambda k: (levels[k], -k))
    left, right = tokens[:top], tokens[top + 1 :]
    tree = tokens[top] if not right else [tokens[top], article_tree(right, levels[top + 1 :])]
    return tree if not left else [article_tree(left, levels[:top]), tree]


@pytest.mark.verifies("onlstm.alg1")
@pytest.mark.parametrize(
    ("levels", "tree"),
    [
        ([1], "a"),
        ([1, 2], ["a", "b"]),
        ([2, 1], ["a", "b"]),
        ([0, 0], ["a", "b"]),
        ([1, 2, 3], [["a", "b"], "c"]),
        ([3, 2, 1], ["a", ["b", "c"]]),
        ([1, 3, 2], ["a", ["b", "c"]]),
        ([2, 1, 3], [["a", "b"], "c"]),
        ([0, 0, 0], ["a", ["b", "c"]]),  # of equal ones the first
        ([1, 5, 5, 1], ["a", ["b", ["c", "d"]]]),
        ([5, 1, 5, 1], ["a", ["b", ["c", "d"]]]),
        ([1, 2, 9, 3, 4], [["a", "b"], ["c", ["d", "e"]]]),
        ([0, 3, 1, 4, 2], [["a", ["b", "c"]], ["d", "e"]]),
        ([-1.0, -2.0, -0.5, -3.0], [["a", "b"], ["c", "d"]]),
    ],
)
def test_trees_worked_by_hand(levels, tree):
    tokens = list("abcde")[: len(levels)]
    assert tree_from_levels(tokens, levels) == tree
    assert tree_from_levels(tuple(tokens), torch.tensor(levels)) == tree
    assert tree_from_levels(tokens, np.array(levels)) == tree


@pytest.mark.slow
@pytest.mark.verifies("onlstm.alg1")
@given(st.lists(st.one_of(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=14))
def test_n_tokens_give_n_minus_1_brackets(levels):
    tokens = [f"w{i}" for i in range(len(levels))]
    tree = tree_from_levels(tokens, levels)
    assert tree == article_tree(tokens, levels)
    for found in (tree, split_tree(tokens, levels)):
        assert leaves(found) == tokens
        assert len(brackets(found)) == len(tokens) - 1
        assert is_binary(found)


def is_binary(tree):
    return isinstance(tree, str) or (len(tree) == 2 and all(map(is_binary, tree)))


def all_trees(tokens):
    """Every binary tree over the tokens."""
    if len(tokens) == 1:
        return [tokens[0]]
    return [
        [left, right]
        for k in range(1, len(tokens))
        for left in all_trees(tokens[:k])
        for right in all_trees(tokens[k:])
    ]


@cache
def shapes(n):
    """How many trees the rule can produce, by recursion: [word, any], or [any, word], or [any, [word, any]]."""
    return 1 if n <= 2 else shapes(n - 1) + sum(shapes(k) * shapes(max(n - k - 1, 1)) for k in range(2, n))


@pytest.mark.slow
@pytest.mark.unchecked  # thousands of calls
@pytest.mark.verifies("onlstm.trees")
@pytest.mark.parametrize("n", range(1, 7))
def test_the_rule_cannot_produce_every_tree(n):
    tokens = list("abcdef")[:n]
    every = {repr(tree) for tree in all_trees(tokens)}
    orders = list(itertools.permutations(range(n)))
    found = {repr(tree_from_levels(tokens, order)) for order in orders}
    catalan = math.comb(2 * (n - 1), n - 1) // n
    assert len(every) == catalan
    assert len(found) == [1, 1, 2, 5, 13, 35][n - 1] == shapes(n)
    assert found <= every
    assert {repr(split_tree(tokens, order)) for order in orders} == every
    assert (found == every) == (n < 5)
    if n == 5:
        assert every - found == {repr([["a", "b"], [["c", "d"], "e"]])}
    assert 0 < 100 * shapes(40) < math.comb(78, 39) // 40


@pytest.mark.verifies("onlstm.alg1", "onlstm.eq15")
def test_the_split_is_before_the_first_highest_level_but_the_first_token_s():
    assert split_tree("abc", [9, 1, 2]) == [["a", "b"], "c"]
    assert split_tree("abc", [9, 2, 1]) == ["a", ["b", "c"]]
    assert split_tree("abcde", [0, 1, 3, 1, 2]) == [["a", "b"], [["c", "d"], "e"]]
    assert split_tree("abc", [0, 1, 1]) == ["a", ["b", "c"]]
    assert split_tree(["a"], [3.0]) == "a"


@pytest.mark.slow
@pytest.mark.unchecked  # thousands of calls
@pytest.mark.verifies("onlstm.alg1")
@pytest.mark.parametrize("rule", ["article", "split"])
@pytest.mark.parametrize("n", range(1, 6))
def test_the_best_tree_is_the_best_of_all_that_a_rule_gives(n, rule):
    tokens = list("abcde")[:n]
    maker = tree_from_levels if rule == "article" else split_tree
    trees = []
    for order in itertools.permutations(range(n)):
        if (tree := maker(tokens, order)) not in trees:
            trees.append(tree)
    gold = [*all_trees(tokens), list(tokens)] if n > 1 else ["a"]
    gold += [["a", ["b", "c", "d"], "e"]] if n == 5 else []
    for true in gold:
        found = best_tree(true, rule)
        assert found in trees
        assert bracket_f1(found, true) == max(bracket_f1(tree, true) for tree in trees)


# Ten words and a stop, seven words with marks within, two, and eleven with many marks.
SENTENCES = """
( (S (NP-SBJ (DT The) (NN cat) )
    (VP (VBD saw)
      (NP (NP (DT a) (JJ small) (NN dog) )
        (PP (IN in) (NP (DT the) (JJ old) (NN park) ))))
    (. .) ))
( (S (PP (IN In) (NP (NNP May) )) (, ,)
    (NP-SBJ-1 (PRP we) )
    (VP (VBD hoped)
      (S (NP-SBJ (-NONE- *-1) )
        (VP (TO to) (VP (VB sell) (NP (PRP it) )))))
    (. .) ))
( (FRAG (NP (NN Price) ) (: :) (NP ($ $) (CD five) (-NONE- *U*) )))
( (S (NP-SBJ (NNP Ann) )
    (VP (VBD met)
      (NP (NNP Bea) (, ,) (NNP Cy) (, ,) (NNP Dan) (, ,) (NNP Eve) (, ,) (NNP Fay) (, ,) (NNP Gus) (, ,)
        (NNP Ida) (CC and) (NNP Joe) ))
    (. .) ))
"""


def test_baselines_on_a_small_treebank_with_and_without_punctuation(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "treebank.zip", "w") as archive:
        archive.writestr("treebank/combined/wsj_0001.mrg", SENTENCES)
    replace(data, "fetch", lambda name: tmp_path / Path(name).name, monkeypatch)
    replace(data, "treebank", cache(data.treebank.__wrapped__), monkeypatch)
    found = onlstm_language_model.baseline_scores()

    # The spans of the annotated trees, without the root's and those of single words:
    #   cat    10 words  0-2 2-10 3-10 3-6 6-10 7-10
    #   May     7 words  0-2 3-7 4-7 5-7; "May", "we", "it" are brackets of one word, 4-7 is one twice
    #   Price   2 words  none: precision and recall 1, whatever the baseline
    #   Ann    11 words  1-11 2-11
    # A binary tree of n words has n - 2 such spans: 8, 5, 0, 9. F1 is 2 · common/(n - 2 + annotated).
    #
    # right     common  2-10 3-10 6-10 7-10 | 3-7 4-7 5-7 | | 1-11 2-11
    # left      common  0-2 | 0-2 | | none
    # balanced  spans   0-5 5-10 0-2 2-5 3-5 5-7 7-10 8-10 | 0-3 1-3 3-7 3-5 5-7
    #                   | | 0-5 5-11 0-2 2-5 3-5 5-8 6-8 8-11 9-11
    #           common  0-2 7-10 | 3-7 5-7 | | none
    # best      common  all 6 | all 4 | | both, by either rule: each right part begins with a word alone
    common = {"right": (4, 3, 2), "left": (1, 1, 0), "balanced": (2, 2, 0)}
    common |= {"best_article": (6, 4, 2), "best_split": (6, 4, 2)}
    for name, (cat, may, ann) in common.items():
        short = [2 * cat / (8 + 6), 2 * may / (5 + 4), 1]
        assert found[f"f1_short_{name}"] == pytest.approx(100 * sum(short) / 3), name
        assert found[f"f1_{name}"] == pytest.approx(100 * (sum(short) + 2 * ann / (9 + 2)) / 4), name
        if not name.startswith("best"):
            corpus = 2 * (cat + may + ann) / (8 + 5 + 0 + 9 + 6 + 4 + 0 + 2)
            assert found[f"corpus_f1_{name}"] == pytest.approx(100 * corpus), name

    # With marks a right-branching tree of n tokens has the spans k-n. Where a stop ends the sentence, only
    # the root's ends with it: F1 is 0. "Price : $ five" has the span 2-4, of 1-4 and 2-4: F1 is 2/3.
    assert found["f1_right_punctuation"] == pytest.approx(100 * (0 + 0 + 2 / 3 + 0) / 4)

    # The same, binary (wide brackets branch to the right) and with the root, as a share of n - 1 spans:
    #   cat    11 tokens  [subject [predicate .]]      0-11 2-11           2 of 10
    #   May     9 tokens  [PP [, [we [predicate .]]]]  0-9 2-9 3-9 4-9     4 of 8
    #   Price   4 tokens  [Price [: [$ five]]]         0-4 1-4 2-4         3 of 3
    #   Ann    18 tokens  [Ann [predicate .]]          0-18 1-18           2 of 17
    assert found["f1_right_punctuation_root"] == pytest.approx(100 * (2 / 10 + 4 / 8 + 3 / 3 + 2 / 17) / 4)


def test_trees_without_a_model():
    assert left_branching("abcd") == [[["a", "b"], "c"], "d"]
    assert right_branching("abcd") == ["a", ["b", ["c", "d"]]]
    assert balanced("abcd") == [["a", "b"], ["c", "d"]]
    assert balanced("abc") == ["a", ["b", "c"]]
    assert balanced("abcde") == [["a", "b"], ["c", ["d", "e"]]]
    for build in (left_branching, right_branching, balanced):
        assert build(["a"]) == "a"
        assert build(("a", "b")) == ["a", "b"]


def test_leaves_and_brackets():
    tree = [["a", ["b", "c"]], "d"]
    assert leaves(tree) == ["a", "b", "c", "d"]
    assert brackets(tree) == {(0, 3), (1, 3), (0, 4)}
    assert brackets("a") == set()
    assert leaves("abc") == ["abc"]
    assert brackets([["a"]]) == {(0, 1)}
    assert brackets([[["a", "b"]], "c"]) == {(0, 2), (0, 3)}
    assert brackets(["a", "b", "c"]) == {(0, 3)}


@pytest.mark.parametrize(
    ("predicted", "gold", "f1"),
    [
        ("a", "a", 1),
        (["a", "b"], ["a", "b"], 1),
        ([[["a", "b"]]], ["a", "b"], 1),
        (["a"], "a", 1),
        ([["a", "b"], "c"], [["a", "b"], "c"], 1),
        (["a", ["b", "c"]], [["a", "b"], "c"], 0),
        ([[["a", "b"], "c"], "d"], [["a", "b"], ["c", "d"]], 1 / 2),
        ([["a", "b"], "c", "d"], [["a", "b"], ["c", "d"]], 2 / 3),
        ([["a", "b"], ["c", "d"]], [["a", "b"], "c", "d"], 2 / 3),
        (["a", "b", "c"], ["a", "b", "c"], 1),
        (["a", ["b", "c"]], ["a", "b", "c"], 0),  # precision 0, recall 1
        (["a", "b", "c"], ["a", ["b", "c"]], 0),  # precision 1, recall 0
        ([[["a", "b"]], ["c"]], [["a", "b"], "c"], 1),  # chains and single words count for nothing
        ([[[["a", "b"], "c"], "d"], "e"], [[["a", "b"], "c"], ["d", "e"]], 2 / 3),
    ],
)
def test_f1_worked_by_hand(predicted, gold, f1):
    assert bracket_f1(predicted, gold) == pytest.approx(f1)


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=9), st.lists(st.integers(0, 9), min_size=9, max_size=9)
)
def test_f1_of_binary_trees_is_the_share_of_common_brackets(a, b):
    tokens = [str(i) for i in range(len(a))]
    one, two = tree_from_levels(tokens, a), split_tree(tokens, b[: len(a)])
    inner = [{s for s in brackets(tree) if s != (0, len(a))} for tree in (one, two)]
    share = len(inner[0] & inner[1]) / (len(a) - 2) if len(a) > 2 else 1
    assert onlstm.bracket_f1(one, two) == pytest.approx(share)
    assert onlstm.bracket_f1(two, one) == pytest.approx(share)
    assert onlstm.corpus_f1([one], [two]) == pytest.approx(share)
    assert onlstm.bracket_f1(one, one) == 1


def test_f1_of_a_corpus_counts_brackets():
    small = (["a", ["b", "c"]], [["a", "b"], "c"])  # 0 of 1 and 1
    large = (right_branching("abcde"), ["a", ["b", ["c", "d", "e"]]])  # 2 of 3 and 2
    flat = (["a", "b"], ["a", "b"])
    pairs = [small, large, flat]
    assert corpus_f1(*zip(*pairs, strict=True)) == pytest.approx(2 * 2 / (4 + 3))
    assert corpus_f1(*zip(*pairs[:1], strict=True)) == 0
    assert corpus_f1([flat[0]], [flat[1]]) == 1
    assert corpus_f1([], []) == 1


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tree_from_levels([], []), ValueError, "tokens must hold at least one, got none"),
        (lambda: split_tree([], []), ValueError, "tokens must hold at least one, got none"),
        (lambda: left_branching([]), ValueError, "tokens must hold at least one, got none"),
        (lambda: right_branching([]), ValueError, "tokens must hold at least one, got none"),
        (lambda: balanced([]), ValueError, "tokens must hold at least one, got none"),
        (lambda: tree_from_levels("ab", [1.0]), ValueError, r"levels must be one for each of 2 tokens, got shape \(1,\)"),
        (lambda: tree_from_levels("ab", torch.zeros(1, 2)), ValueError, r"levels must be one for each of 2 tokens, got shape \(1, 2\)"),
        (lambda: tree_from_levels("ab", [1.0, math.nan]), ValueError, "levels must be finite, got nan"),
        (lambda: tree_from_levels("ab", [-math.inf, 1.0]), ValueError, "levels must be finite, got -inf"),
        (lambda: split_tree("ab", [1.0]), ValueError, "levels must be one for each of 2 tokens"),
        (lambda: split_tree("ab", [1.0, math.nan]), ValueError, "levels must be finite, got nan"),
        (lambda: split_tree("ab", [math.inf, 0.0]), ValueError, "levels must be finite, got inf"),
        (lambda: brackets(["a", ["b", 3]]), TypeError, "tree must be made of strings and lists, got int"),
        (lambda: brackets(("a", "b")), TypeError, "tree must be made of strings and lists, got tuple"),
        (lambda: brackets(["a", []]), ValueError, "tree must not have empty brackets"),
        (lambda: brackets([]), ValueError, "tree must not have empty brackets"),
        (lambda: bracket_f1(["a", []], ["a"]), ValueError, "tree must not have empty brackets"),
        (lambda: bracket_f1(["a", "b"], ["a", "c"]), ValueError, r"predicted and gold must have the same words, got \['a', 'b'\] and \['a', 'c'\]"),
        (lambda: bracket_f1("a", ["a", "c"]), ValueError, "must have the same words"),
        (lambda: corpus_f1(["a"], []), ValueError, "predicted must have as many trees as gold, 0, got 1"),
        (lambda: corpus_f1([["a", "b"]], [["a", "c"]]), ValueError, "predicted and gold must have the same words"),
        (lambda: best_tree(["a", "b"], "best"), ValueError, "rule must be one of"),
        (lambda: best_tree(["a", 3]), TypeError, "tree must be made of strings and lists"),
        (lambda: corpus_f1([["a", []]], [["a"]]), ValueError, "tree must not have empty brackets"),
    ],
)  # fmt: skip
def test_bad_trees_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- Faults: under each, its verifier fails ----------------------------------------------------


def without_itself(logits, dim=-1):
    return logits.softmax(dim).cumsum(dim) - logits.softmax(dim)


def one_minus(logits, dim=-1):
    return 1 - cumax(logits, dim)


def strictly(c_prev, c_hat, forget, input, d_f, d_i):
    level = torch.arange(c_prev.shape[-1])
    keep, write = level > d_f, level <= d_i
    c = torch.where(keep & write, forget * c_prev + input * c_hat, 0.0)
    return torch.where(keep & ~write, c_prev, c) + torch.where(write & ~keep, c_hat, 0.0)


def last_maximum(tokens, levels):
    height = np.asarray(levels, dtype=float)
    return tree_from_levels_as_it_is(tokens, height + 1e-9 * np.arange(len(height)))


tree_from_levels_as_it_is = tree_from_levels


def with_the_root(predicted, gold):
    return brackets(predicted), brackets(gold)


def one_too_long(lengths, max_length=None):
    return torch.arange(max_length) <= lengths.unsqueeze(-1)


def drops_nothing(x, p=0.5, training=True):
    return x


def new_at_each_time(x, p, training):
    return nn.functional.dropout(x, p, training)


def without_bias(x, weight, bias=None):
    return nn.functional.linear(x, weight)


class ForgetsTheCell(recurrence._Recurrence):
    """A backward pass that loses what comes from later cells."""

    @staticmethod
    def backward(ctx, dh, dc, *masters):
        return onlstm_backward(ctx, dh, None, *masters)


onlstm_backward = recurrence._Recurrence.backward


class ForgetsTheVariant(recurrence._Recurrence):
    @classmethod
    def apply(cls, *arguments):
        return original_recurrence.apply(*arguments[:-1], False)


original_recurrence = recurrence._Recurrence


def hard_sigmoid(x):
    return (0.25 * x + 0.5).clamp(0, 1)


# The verifier, what is replaced in the module or in this file, and by what.
def forgets_the_dropconnect(rnn, state_dict, dropconnect=0.0, load=ONLSTM.load_paper_weights):
    load(rnn, state_dict)


# --- What hostile inputs found -----------------------------------------------------------------


@pytest.mark.parametrize("make", [left_branching, right_branching])
def test_trees_may_be_as_deep_as_they_like(make):
    words = [str(i) for i in range(3000)]
    tree = make(words)
    assert leaves(tree) == words
    assert len(brackets(tree)) == 2999
    assert bracket_f1(tree, tree) == 1.0
    assert corpus_f1([tree], [make(words)]) == 1.0
    levels = np.arange(3000.0) if make is left_branching else -np.arange(3000.0)
    assert brackets(split_tree(words, levels)) == brackets(tree)
    assert len(brackets(tree_from_levels(words, levels))) == 2999


def test_the_best_tree_of_a_deep_one():
    words = [str(i) for i in range(300)]
    tree = words[0]
    for _ in range(2000):  # unary chains are deep, too
        tree = [tree]
    for word in words[1:]:
        tree = [tree, word]
    assert brackets(best_tree(tree, "split")) == brackets(tree) - {(0, 1)}


def test_a_deep_text_in_brackets_is_parsed():
    depth = 5000
    text = "(S " * depth + "(NN a)" + ")" * depth
    (tree,) = data.parse_brackets(text)
    for _ in range(depth):
        (tree,) = tree
    assert tree == "a"
    assert data.parse_brackets("(S " * depth + "(, ,)" + ")" * depth) == [None]


def test_the_dtype_of_integers_does_not_matter():
    c, gate = torch.randn(300), torch.rand(300)
    wide = segmented_update(c, c, gate, gate, torch.tensor(200), torch.tensor(250))
    assert torch.equal(
        segmented_update(
            c, c, gate, gate, torch.tensor(200, dtype=torch.uint8), torch.tensor(250, dtype=torch.uint8)
        ),
        wide,
    )
    model = LanguageModel(9, (4,), "lstm")
    ids = torch.tensor([[1, 8], [2, 3]])
    assert torch.equal(model(ids.to(torch.uint8)).logits, model(ids).logits)


@pytest.mark.unchecked
def test_what_else_is_outside_the_domain_is_named():
    stack = ONLSTM(3, 4, 2, master_input="complement")
    weights = paper_state_dict(3, (4,), 2, "")
    broken = {**weights, "cells.0.hh.bias": torch.full_like(weights["cells.0.hh.bias"], math.nan)}
    complex_ones = {key: value.to(torch.complex64) for key, value in weights.items()}
    cases = [
        (lambda: cumax(torch.full((2, 3), -math.inf)), ValueError, "logits must be numbers below ∞, and not all −∞"),
        (lambda: cumax(torch.tensor([0.0, math.nan])), ValueError, "logits must be numbers below ∞"),
        (lambda: cumax(torch.tensor([0.0, math.inf])), ValueError, "logits must be numbers below ∞"),
        (lambda: stack.load_paper_weights(broken), ValueError, "hh.bias must be finite"),
        (lambda: stack.load_paper_weights(complex_ones), TypeError, "must have a floating-point dtype"),
        (lambda: stack(torch.zeros(2, 1, 3, dtype=torch.float64)), TypeError, "x must have the weights' dtype torch.float32, got torch.float64"),
        (lambda: HGRN(3, 1)(torch.zeros(2, 1, 3).half()), TypeError, "x must have the weights' dtype torch.float32"),
        (lambda: LSTM(3, [4], "0.1"), TypeError, "dropout must be a number, got str"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
    assert torch.equal(cumax(torch.tensor([-math.inf, 0.0])), torch.tensor([0.0, 1.0]))


FAULTS = [
    (test_cumax_is_a_loop_over_the_softmax, onlstm, "cumax", without_itself),
    (test_the_paper_s_input_gate_is_the_article_s_shifted_by_one_level, onlstm, "reverse_cumax", one_minus),
    (test_the_update_is_the_three_segments_for_every_pair, None, "segmented_update", strictly),
    (lambda: test_the_lstm_is_torch_s_cell(F64), onlstm, "sigmoid", hard_sigmoid),
    (lambda: test_the_cell_is_the_formulas_in_plain_python("cumsum", 6, 3, F64, 1e-12), onlstm, "reverse_cumax", one_minus),
    (lambda: compare_with_steps("cumsum", "c"), onlstm, "_Recurrence", ForgetsTheCell),
    (lambda: compare_with_steps("complement"), onlstm, "_Recurrence", ForgetsTheVariant),
    (lambda: compare_with_steps("cumsum"), onlstm, "linear", without_bias),
    (lambda: test_the_paper_s_last_level_stays_empty("loop"), onlstm, "_Recurrence", ForgetsTheVariant),
    (lambda: test_padding_is_as_if_each_sequence_were_alone("cumsum"), onlstm, "sequence_mask", one_too_long),
    (lambda: test_weights_in_the_paper_s_layout("", 0.45), ONLSTM, "load_paper_weights", forgets_the_dropconnect),
    (lambda: test_recurrent_dropout_drops_the_same_weights_at_all_times("lstm"), onlstm, "drop", drops_nothing),
    (test_each_dropout_of_a_language_model_drops_what_it_should, onlstm, "locked_dropout", new_at_each_time),
    (lambda: test_trees_worked_by_hand([1, 5, 5, 1], ["a", ["b", ["c", "d"]]]), None, "tree_from_levels", last_maximum),
    (lambda: test_f1_worked_by_hand([["a", "b"], "c", "d"], [["a", "b"], ["c", "d"]], 2 / 3), onlstm, "_compared", with_the_root),
    (lambda: test_the_lower_bounds_of_hgrn_rise_from_0(0), onlstm, "cumax", lambda logits, dim: logits.softmax(dim)),
]  # fmt: skip
