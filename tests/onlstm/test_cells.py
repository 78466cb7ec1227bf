"""One step: against torch's LSTM, the formulas in plain Python, the hard update, and other orders of neurons."""

import copy
import itertools
import math

import pytest
import torch
from printed import printed
from refusing import refuses
from seeded import F64, gen, randn
from stacks import VARIANTS, ForgetsTheVariant, cell_of, one_minus, reorder, saturate
from torch import nn

from kexue import onlstm
from kexue.onlstm import ONLSTM, LSTMCell, ONLSTMCell, segmented_update
from kexue.onlstm.recurrence import run_cell


def torch_cell(cell):
    """nn.LSTMCell with the same weights."""
    theirs = nn.LSTMCell(cell.input_size, cell.hidden_size, dtype=cell.ih.weight.dtype)
    for name, layer in (("ih", cell.ih), ("hh", cell.hh)):
        for kind in ("weight", "bias"):
            own = getattr(layer, kind).data[2 * cell.num_levels :]
            getattr(theirs, f"{kind}_{name}").data = reorder(own, cell.hidden_size)
    return theirs


@pytest.mark.verifies("onlstm.eq1")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_lstm_is_torch_s_cell(dtype):
    cell = cell_of("lstm", 5, 7, dtype=dtype)
    theirs = torch_cell(cell)
    x, h, c = (randn(4, d, seed=d, dtype=dtype).tanh() for d in (5, 7, 7))
    torch.testing.assert_close(cell(x), theirs(x))
    torch.testing.assert_close(cell(x, (h, c)), theirs(x, (h, c)))


@pytest.mark.verifies("onlstm.eq2")
def test_with_all_levels_owned_by_both_the_cell_is_an_lstm():
    cell = saturate(cell_of("cumsum", 5, 8, 4), 0, 3)
    theirs = torch_cell(cell)
    x, h, c = (randn(4, d, seed=d) for d in (5, 8, 8))
    torch.testing.assert_close(cell(x, (h, c)), theirs(x, (h, c)))
    torch.testing.assert_close(cell(x), theirs(x))


def softmax(values):
    weights = [math.exp(v - max(values)) for v in values]
    return [w / math.fsum(weights) for w in weights]


def by_hand(weights, n, complement, x, h, c):
    """A step from the formulas, for one row, in plain Python: lists of h and c."""
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
    new_h, new_c = [], []
    for u in range(hidden):
        o, g, i, f = (z[2 * n + block * hidden + u] for block in range(4))
        level = u // (hidden // n)
        keep, write = sum(p_f[: level + 1]), sum(p_i[level + complement :])
        omega = keep * write
        c_hat = math.tanh(g)
        value = omega * (sigma(f) * c[u] + sigma(i) * c_hat) + (keep - omega) * c[u] + (write - omega) * c_hat
        new_c.append(value)
        new_h.append(sigma(o) * math.tanh(value))
    return new_h, new_c


@pytest.mark.verifies("onlstm.eq9", "onlstm.eq10", "onlstm.group")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (F64, 1e-12)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("hidden", "levels"), [(6, 6), (6, 3), (6, 1), (10, 2)])
def test_the_cell_is_the_formulas_in_plain_python(variant, hidden, levels, dtype, tolerance):
    cell = cell_of(variant, 4, hidden, levels, scale=0.8, dtype=dtype)
    x, h, c = (randn(3, d, seed=d + i, dtype=dtype) for i, d in enumerate((4, hidden, hidden)))
    h = h.tanh()
    found = cell(x, (h, c))
    weights = [v.tolist() for v in (cell.ih.weight, cell.ih.bias, cell.hh.weight, cell.hh.bias)]
    for row in range(3):
        right = by_hand(weights, levels, variant == "complement", *(v[row].tolist() for v in (x, h, c)))
        for own, expected in zip(found, right, strict=True):
            assert own.dtype == dtype
            assert own[row].tolist() == pytest.approx(expected, abs=tolerance)


@pytest.mark.verifies("onlstm.eq3", "onlstm.eq9", "onlstm.eq10")
@pytest.mark.parametrize("kind", ["step", "loop"])
def test_the_soft_cell_tends_to_the_hard_one(kind):
    n, q, rows = 5, 3, 40
    cell = cell_of("cumsum", 4, n * q, n)
    x, h, c = (randn(rows, d, seed=i) for i, d in enumerate((4, n * q, n * q)))
    master_i, master_f, o, g, i, f = (cell.ih(x) + cell.hh(h)).split([n, n, *[n * q] * 4], -1)
    d_i, d_f = master_i.argmax(-1), master_f.argmax(-1)
    assert set((d_f <= d_i).tolist()) == {True, False}  # both cases
    assert set(d_f.tolist()) == set(d_i.tolist()) == set(range(n))
    wide = [v.unflatten(-1, (n, q)).transpose(1, 2) for v in (c, g.tanh(), f.sigmoid(), i.sigmoid())]
    hard = segmented_update(*wide, d_f[:, None].expand(-1, q), d_i[:, None].expand(-1, q))
    hard = hard.transpose(1, 2).flatten(1)
    far = []
    for scale in (1, 4, 100, 1e5):
        scaled = copy.deepcopy(cell)
        for parameter in scaled.parameters():
            parameter.data[: 2 * n] *= scale
        found = scaled(x, (h, c)) if kind == "step" else run_cell(scaled, x[:, None], (h, c))[:2]
        far.append((found[1].view_as(hard) - hard).abs().mean().item())
    assert far == sorted(far, reverse=True)
    assert far[0] > 0.05
    torch.testing.assert_close([v.view_as(hard) for v in found], [o.sigmoid() * hard.tanh(), hard])


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
def test_the_order_of_an_lstm_s_neurons_does_not_matter():
    order, cell = torch.randperm(6, generator=gen()), cell_of("lstm")
    x, h, c = randn(4, 3), randn(4, 6, seed=1), randn(4, 6, seed=2)
    found = permuted(cell, order)(x, (h[:, order], c[:, order]))
    torch.testing.assert_close(found, tuple(before[:, order] for before in cell(x, (h, c))))


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
@pytest.mark.parametrize(("inputs", "hidden", "levels"), [(5, 12, 12), (5, 12, 4), (5, 12, 1), (7, 20, 2)])
def test_levels_cost_two_rows_each(inputs, hidden, levels):
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    lstm, each = count(LSTMCell(inputs, hidden)), inputs + hidden + 2
    assert lstm == count(nn.LSTMCell(inputs, hidden)) == 4 * hidden * each
    assert count(ONLSTMCell(inputs, hidden, levels)) == lstm + 2 * levels * each
    (trace,) = ONLSTM(inputs, hidden, levels).trace(torch.zeros(2, 3, inputs))
    assert trace.h.shape == trace.c.shape == (2, 3, hidden)
    assert trace.master_forget.shape == trace.master_input.shape == (2, 3, levels)


@pytest.mark.verifies("onlstm.claim7")
def test_the_paper_s_last_level_stays_empty():
    """In exact arithmetic; 1 − cumax rounds, so that here some units in the last place arrive."""
    for variant, seed in itertools.product(VARIANTS, range(5)):
        cell, x = cell_of(variant, 3, 8, 4, scale=3.0, seed=seed), 5 * randn(4, 60, 3, seed=seed)
        for start in (torch.zeros(4, 8, dtype=F64), randn(4, 8, seed=1)):
            c = run_cell(cell, x, (torch.zeros(4, 8, dtype=F64), start)).c
            assert c[..., :-2].abs().max() > 0.5
            # There f̃ is 1 and ĩ is 0: what was in it is carried over as it is.
            changed = (c - start[:, None])[..., -2:].abs().max()
            assert changed < 60 * 1e-14 if variant == "complement" else changed > 0.1


X, H = torch.zeros(2, 3), torch.zeros(2, 6)


test_bad_arguments_of_cells_are_named = refuses([
    (lambda: LSTMCell(0, 4), ValueError, "input_size must be at least 1, got 0"),
    (lambda: LSTMCell(4.0, 4), TypeError, "input_size must be an int, got float"),
    (lambda: ONLSTMCell(4, 6, 4), ValueError, "hidden_size must be divisible by num_levels = 4, got 6"),
    (lambda: ONLSTMCell(4, 6, 0), ValueError, "num_levels must be at least 1, got 0"),
    (lambda: ONLSTMCell(4, 6, 2, "minus"), ValueError, r"master_input must be one of \('cumsum', 'complement'\), got 'minus'"),
    (lambda: ONLSTMCell(3, 6, 2)(X.long()), TypeError, r"x must have a floating-point dtype"),
    (lambda: ONLSTMCell(3, 6, 2)(X[None]), ValueError, r"x must have shape \(B, 3\), got \(1, 2, 3\)"),
    (lambda: LSTMCell(3, 6)(X, (H,)), ValueError, "state must be h and c, got tuple"),
    (lambda: LSTMCell(3, 6)(X, H), ValueError, "state must be h and c, got Tensor"),
    (lambda: LSTMCell(3, 6)(X, (H, H[:, :4])), ValueError, r"state's c must have shape \(2, 6\), got \(2, 4\)"),
    (lambda: ONLSTMCell(3, 6, 2)(X, (H[:1], H)), ValueError, r"state's h must have shape \(2, 6\), got \(1, 6\)"),
    (lambda: ONLSTMCell(3, 6, 2)(X, (H.long(), H)), TypeError, "state's h must have a floating-point dtype"),
])  # fmt: skip


# --- Faults: under each, its verifier fails ----------------------------------------------------


def hard_sigmoid(x):
    return (0.25 * x + 0.5).clamp(0, 1)


@pytest.mark.parametrize(("hidden", "levels"), [(12, 4), (6, 6), (5, 1)])
def test_the_printed_cell_equals_the_package_s_in_value_and_gradient(hidden, levels):
    minimal, cell = printed("onlstm", torch=torch), cell_of("cumsum", 3, hidden, levels, dtype=F64)
    weights = cell.ih.weight, cell.hh.weight, cell.ih.bias, cell.hh.bias
    results = []
    for is_printed in (True, False):
        x, h, c = given = [
            randn(4, d, seed=k).tanh().requires_grad_() for k, d in enumerate((3, hidden, hidden))
        ]
        if is_printed:
            bias = cell.ih.bias + cell.hh.bias
            state = minimal["onlstm_step"](x, h, c, cell.ih.weight, cell.hh.weight, bias, levels)
        else:
            state = cell(x, (h, c))
        some = sum((part * randn(4, hidden, seed=9 + k)).sum() for k, part in enumerate(state))
        results.append((state, torch.autograd.grad(some, [*given, *weights])))
    torch.testing.assert_close(*results)
    z = randn(5, 7)
    for name in ("cumax", "reverse_cumax"):
        torch.testing.assert_close(minimal[name](z), getattr(onlstm, name)(z))


FAULTS = [
    (lambda: test_the_lstm_is_torch_s_cell(F64), onlstm, "sigmoid", hard_sigmoid),
    (lambda: test_the_cell_is_the_formulas_in_plain_python("cumsum", 6, 3, F64, 1e-12), onlstm, "reverse_cumax", one_minus),
    (test_the_paper_s_last_level_stays_empty, onlstm, "_Recurrence", ForgetsTheVariant),
]  # fmt: skip
