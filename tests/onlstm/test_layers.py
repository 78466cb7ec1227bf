"""Stacks: states, lengths, dropout, levels, the paper's weights, and bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from seeded import F64, gen, randn
from stacks import KINDS, VARIANTS, saturate, stack_of, starts, step_by_step
from torch import nn

from kexue import onlstm
from kexue.onlstm import LSTM, ONLSTM, cumax, locked_dropout, recurrence


@pytest.mark.verifies("onlstm.eq10", "onlstm.eq15")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("batch", "steps"), [(3, 6), (1, 1), (1, 7), (0, 2)])
def test_outputs_states_and_levels_are_those_of_the_cells(variant, batch, steps):
    stack = stack_of(variant)
    x = randn(batch, steps, 3, seed=1).requires_grad_()
    output, states, levels = stack(x)
    assert output.dtype == states[0][0].dtype == F64
    right = step_by_step(stack, x)
    depth = torch.stack([1 - trace[2].mean(-1) for trace in right])
    torch.testing.assert_close(output, right[-1][0])
    torch.testing.assert_close(states, [(trace[0][:, -1], trace[1][:, -1]) for trace in right])
    torch.testing.assert_close(levels, depth)
    inputs, weight = [x, *stack.parameters()], randn(*levels.shape, seed=5)
    losses = [
        (o * o).sum() + (s * weight).sum() + c.sin().sum()
        for o, s, c in ((output, levels, states[0][1]), (right[-1][0], depth, right[0][1][:, -1]))
    ]
    torch.testing.assert_close(*(torch.autograd.grad(loss, inputs) for loss in losses))
    single = stack.float()(x.float())
    assert single[0].dtype == torch.float32
    torch.testing.assert_close(single[0].double(), output, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_as_if_each_sequence_were_alone(kind):
    stack = stack_of(kind)
    lengths = torch.tensor([3, 6, 1, 5])
    x = randn(4, 6, 3)
    for value in (0.0, 1e4):
        padded = x.masked_fill(~(torch.arange(6) < lengths[:, None]).unsqueeze(-1), value)
        found = stack(padded, starts(stack, 4, 5), lengths)
        for row, length in enumerate(lengths.tolist()):
            start = [tuple(v[row : row + 1] for v in state) for state in starts(stack, 4, 5)]
            alone = stack(x[row : row + 1, :length], start)
            torch.testing.assert_close(found[0][row, :length], alone[0][0])
            assert (found[0][row, length:] == 0).all()
            for state, right in zip(found[1], alone[1], strict=True):
                torch.testing.assert_close(tuple(v[row] for v in state), tuple(v[0] for v in right))
            if kind != "lstm":
                torch.testing.assert_close(found[2][:, row, :length], alone[2][:, 0])
                assert (found[2][:, row, length:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_no_gradient_comes_from_padding(kind, dtype):
    stack, lengths = stack_of(kind), torch.tensor([3, 6, 1])
    real = (torch.arange(6) < lengths[:, None]).unsqueeze(-1)
    gradients = []
    for value in (0.0, 7.0):
        padded = randn(3, 6, 3).masked_fill(~real, value).requires_grad_()
        output, states, *levels = stack(padded, None, lengths.to(dtype))
        loss = output.sin().sum() + sum(v.cos().sum() for state in states for v in state)
        loss = loss + sum(level.sum() for level in levels)
        gradients.append(torch.autograd.grad(loss, [padded, *stack.parameters()]))
        assert (gradients[-1][0].masked_select(~real) == 0).all()
        assert (gradients[-1][0].abs().amax(-1)[real[..., 0]] > 0).all()
    torch.testing.assert_close(*gradients)


def test_locked_dropout_has_one_mask_for_all_times():
    x = torch.ones(40, 6, 30)
    torch.manual_seed(0)
    found = locked_dropout(x, 0.25, True)
    assert (found == found[:, :1]).all()
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float((found[:, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert found[:, 0].unique(dim=0).shape[0] == 40  # rows differ
    torch.manual_seed(0)
    assert torch.equal(locked_dropout(x.transpose(0, 1), 0.25, True, 0), found.transpose(0, 1))
    assert locked_dropout(x, 0.25, False) is x
    assert locked_dropout(x, 0.0, True) is x


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_between_the_layers_only(kind):
    x = randn(2, 5, 3)
    one = stack_of(kind, sizes=(6,), dropout=0.5)
    assert torch.equal(one(x)[0], one(x)[0])
    two = stack_of(kind, dropout=0.5)
    torch.manual_seed(2)
    traces = two.trace(x)
    torch.manual_seed(2)
    between = locked_dropout(traces[0].h, 0.5, True)
    assert torch.equal(traces[0].h, two.eval().trace(x)[0].h)
    two.cells = nn.ModuleList([two.layers[1]])
    torch.testing.assert_close(traces[1], two.trace(between)[0])


# --- The paper's weights -----------------------------------------------------------------------


def paper_state_dict(input_size, sizes, chunk, prefix):
    """Random weights in the published layout, with other entries beside them."""
    found = {"encoder.weight": torch.zeros(9, input_size), "decoder.bias": torch.zeros(9)}
    for layer, (d, h) in enumerate(zip((input_size, *sizes), sizes, strict=False)):
        rows = 4 * h + 2 * (h // chunk)
        shapes = {"ih.0.weight": (rows, d), "ih.0.bias": (rows,), "hh.weight": (rows, h), "hh.bias": (rows,)}
        for i, (name, shape) in enumerate(shapes.items()):
            found[f"{prefix}cells.{layer}.{name}"] = randn(*shape, seed=4 * layer + i)
    return found


def published_forward(weights, x, sizes, chunk, prefix, dropconnect=0.0, dropped=None):
    """The steps of the published implementation, in numpy: outputs and 1 − mean f̃ of each layer.

    Its `LinearDropConnect` (github.com/yikangshen/Ordered-Neurons, ON_LSTM.py): in training the weight with
    zeros where a Bernoulli(dropout) mask is 1, not made larger; in evaluation weight·(1 − dropout). The bias
    is neither dropped nor scaled. `dropped` holds the masks of the layers, in training.
    """
    sigma = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    cumsoftmax = lambda v: np.cumsum(np.exp(v) / np.exp(v).sum(-1, keepdims=True), -1)  # noqa: E731
    distances = []
    for layer, h in enumerate(sizes):
        names = ("ih.0.weight", "ih.0.bias", "hh.weight", "hh.bias")
        wi, bi, wh, bh = (weights[f"{prefix}cells.{layer}.{name}"].numpy() for name in names)
        wh = wh * (1 - dropconnect) if dropped is None else np.where(dropped[layer], 0.0, wh)
        chunks = h // chunk
        hy, cy = np.zeros((len(x), h)), np.zeros((len(x), chunks, chunk))
        output, distance = [], []
        for value in x.swapaxes(0, 1):
            gates = value @ wi.T + bi + hy @ wh.T + bh
            cin, cforget = 1 - cumsoftmax(gates[:, :chunks]), cumsoftmax(gates[:, chunks : 2 * chunks])
            distance.append(1 - cforget.sum(-1) / chunks)
            blocks = gates[:, 2 * chunks :].reshape(-1, 4 * chunks, chunk)
            out, cell, ingate, forget = np.split(blocks, 4, axis=1)
            cin, cforget = cin[:, :, None], cforget[:, :, None]
            overlap = cin * cforget
            forget = sigma(forget) * overlap + (cforget - overlap)
            ingate = sigma(ingate) * overlap + (cin - overlap)
            cy = forget * cy + ingate * np.tanh(cell)
            hy = (sigma(out) * np.tanh(cy)).reshape(-1, h)
            output.append(hy)
        x = np.stack(output, 1)
        distances.append(np.stack(distance, 1))
    return x, np.stack(distances)


def with_paper_weights(sizes, prefix, rate, **options):
    stack = ONLSTM(4, hidden_sizes=sizes, chunk_size=2, master_input="complement", **options).double()
    weights = paper_state_dict(4, sizes, 2, prefix)
    stack.load_paper_weights(weights, *([rate] if rate else []))  # by default 0
    return stack, weights


@pytest.mark.verifies("onlstm.eq10", "onlstm.eq11", "onlstm.eq15")
@pytest.mark.parametrize("prefix", ["", "rnn.", "module.rnn."])
@pytest.mark.parametrize("rate", [0.0, 0.45])
def test_weights_in_the_paper_s_layout(prefix, rate):
    """With the rate of DropConnect that they were trained with; another one is another network."""
    x, sizes = randn(3, 5, 4), (6, 8, 4)
    for own in (rate, 0.55):
        stack, weights = with_paper_weights(sizes, prefix, own)
        torch.testing.assert_close(weights, paper_state_dict(4, sizes, 2, prefix))  # as they were
        found = published_forward(weights, x.numpy(), sizes, 2, prefix, rate)
        for value, right in zip(stack.eval()(x)[::2], found, strict=True):
            assert np.allclose(value.detach(), right, atol=1e-12) == (own == rate)


def test_the_paper_s_dropconnect_in_training(monkeypatch):
    """What is left of U is as large as in the published forward, given the same masks."""
    rate, sizes = 0.45, (6, 4)
    stack, weights = with_paper_weights(sizes, "", rate, recurrent_dropout=rate)
    dropped = [torch.rand(cell.hh.weight.shape, generator=gen(1)) < rate for cell in stack.layers]
    masks = iter(dropped)
    monkeypatch.setattr(
        recurrence, "drop", lambda weight, p, training: weight.masked_fill(next(masks), 0) / (1 - p)
    )
    x = randn(3, 5, 4)
    found = published_forward(weights, x.numpy(), sizes, 2, "", rate, [m.numpy() for m in dropped])
    for value, right in zip(stack(x)[::2], found, strict=True):
        np.testing.assert_allclose(value.detach(), right, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_with_the_paper_s_dropconnect_has_its_u_and_its_gradient(monkeypatch, training):
    """A step down the gradient of U is the published one, which it is not where U is stored scaled."""
    rate, sizes = 0.45, (6, 4)
    options = {"recurrent_dropout": rate, "paper_dropconnect": True}
    stack, weights = with_paper_weights(sizes, "", rate, **options)
    left = [torch.rand(cell.hh.weight.shape, generator=gen(1)) >= rate for cell in stack.layers]
    plain, _ = with_paper_weights(sizes, "", 0.0)
    with torch.no_grad():
        for cell, mask in zip(plain.layers, left, strict=True):
            cell.hh.weight *= mask if training else 1 - rate
    masks = iter(left)
    monkeypatch.setattr(
        recurrence, "drop", lambda w, p, training: w * next(masks) / (1 - p) if training and p else w
    )
    x, losses = randn(3, 5, 4), []
    for i, one in enumerate((stack.train(training), plain)):
        torch.testing.assert_close(one.cells[0].hh.bias, weights["cells.0.hh.bias"])
        if not i:
            torch.testing.assert_close(one.cells[0].hh.weight, weights["cells.0.hh.weight"])
        losses.append(one(x)[0].square().sum())
    torch.testing.assert_close(losses[0], losses[1])
    for cell, other, mask in zip(stack.layers, plain.layers, left, strict=True):
        (found,) = torch.autograd.grad(losses[0], cell.hh.weight, retain_graph=True)
        (right,) = torch.autograd.grad(losses[1], other.hh.weight, retain_graph=True)
        torch.testing.assert_close(found, right * (mask if training else 1 - rate))
    with pytest.raises(
        ValueError, match=r"^dropconnect must be the network's recurrent_dropout, 0\.45, got 0\.3$"
    ):
        stack.load_paper_weights(weights, 0.3)


def test_weights_of_another_layout_are_named():
    stack = ONLSTM(4, hidden_sizes=(6, 4), chunk_size=2, master_input="complement")
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    whole = paper_state_dict(4, (6, 4), 2, "rnn.")
    bias = whole["rnn.cells.0.hh.bias"]
    cases = [
        (whole | {"rnn.cells.1.hh.bias": torch.zeros(3)}, r"rnn\.cells\.1\.hh\.bias must have shape \(20,\), got \(3,\)"),
        (paper_state_dict(4, (6, 4, 4), 2, "rnn."), r"state_dict must have 2 layers, got rnn\.cells\.2\.ih\.0\.weight"),
        ({}, r"state_dict must have entries cells\.0\.ih\.0\.weight, …, got"),
        (whole | paper_state_dict(4, (6, 4), 2, "other."), "state_dict must have entries"),
        (whole | {"rnn.cells.0.hh.bias": torch.full_like(bias, math.nan)}, "hh.bias must be finite"),
    ]  # fmt: skip
    for name in (name for name in whole if "cells" in name):
        less = {key: value for key, value in whole.items() if key != name}
        cases.append((less, f"state_dict must have {name}, but it is missing"))
    for weights, message in cases:
        with pytest.raises(ValueError, match=message):
            stack.load_paper_weights(weights)
    with pytest.raises(TypeError, match="must have a floating-point dtype"):
        stack.load_paper_weights(whole | {"rnn.cells.0.hh.bias": bias.to(torch.complex64)})
    for rate in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"^dropconnect must lie in \[0, 1\), got {rate}$"):
            stack.load_paper_weights(whole, dropconnect=rate)
    with pytest.raises(ValueError, match='master_input must be "complement" for published weights'):
        ONLSTM(4, hidden_sizes=(6, 4), chunk_size=2).load_paper_weights(whole)
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())


# --- Levels ------------------------------------------------------------------------------------


logit_lists = st.lists(st.floats(-60, 60), min_size=1, max_size=9)


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


@pytest.mark.verifies("onlstm.eq14", "onlstm.eq15")
@pytest.mark.parametrize("variant", VARIANTS)
def test_levels_are_one_minus_the_mean_master_gate(variant):
    stack = stack_of(variant, sizes=(6, 8))
    x = randn(2, 30, 3)
    levels = stack(x)[2]
    assert levels.shape == (2, 2, 30)
    assert 0 <= levels.min() <= levels.max() < 1
    for layer, (cell, trace) in enumerate(zip(stack.layers, stack.trace(x), strict=True)):
        n = cell.num_levels
        p = torch.cat([trace.master_forget[..., :1], trace.master_forget.diff(dim=-1)], -1)
        torch.testing.assert_close(n * levels[layer] + 1, (torch.arange(1, n + 1) * p).sum(-1))
        paper = n - trace.master_forget.sum(-1)
        assert torch.equal(paper.argsort(1), levels[layer].argsort(1))
    for d_f in range(4):  # the first level is 0, the last the highest
        hard = stack_of(variant, sizes=(8,))
        saturate(hard.layers[0], d_f, 0)
        assert (hard(x)[2] == d_f / 4).all()


# --- Arguments ---------------------------------------------------------------------------------


X = torch.zeros(2, 4, 3)
STACK = ONLSTM(3, hidden_sizes=(6, 4), chunk_size=2)
PLAIN = LSTM(3, (6, 4))
H, C = torch.zeros(2, 6), torch.zeros(2, 4)


test_bad_arguments_of_stacks_are_named = refuses([
    (lambda: ONLSTM(3), ValueError, "one of hidden_size and hidden_sizes must be given, got None, None"),
    (lambda: ONLSTM(3, 4, 2, hidden_sizes=[4]), ValueError, r"one of hidden_size and hidden_sizes must be given, got 4, \[4\]"),
    (lambda: ONLSTM(3, 4), ValueError, "one of num_levels and chunk_size must be given, got None, None"),
    (lambda: ONLSTM(3, 4, 2, chunk_size=2), ValueError, "one of num_levels and chunk_size must be given, got 2, 2"),
    (lambda: ONLSTM(3, 4, 2, 0), ValueError, "num_layers must be at least 1, got 0"),
    (lambda: ONLSTM(3, num_layers=3, hidden_sizes=[4, 4], num_levels=2), ValueError, "num_layers must be the length of hidden_sizes, 2, got 3"),
    (lambda: ONLSTM(3, hidden_sizes=[], num_levels=2), ValueError, r"hidden_sizes must hold at least one size, got \[\]"),
    (lambda: LSTM(3, [4, 0]), ValueError, "hidden_sizes must be at least 1, got 0"),
    (lambda: ONLSTM(3, hidden_sizes=[4, 6], chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
    (lambda: ONLSTM(3, hidden_sizes=[4, 6], chunk_size=4), ValueError, r"hidden sizes must be divisible by chunk_size = 4, got \(4, 6\)"),
    (lambda: ONLSTM(3, 4, 2, recurrent_dropout=-0.1), ValueError, r"recurrent_dropout must lie in \[0, 1\), got -0\.1"),
    (lambda: ONLSTM(3, 4, 2, batch_first=False), ValueError, r"batch_first must be True, since sequences are \(B, T, D\) .*, got False"),
    (lambda: LSTM(3, [4], batch_first=False), ValueError, "batch_first must be True, .* across the batch without an error, got False"),
    (lambda: LSTM(3, [4], "0.1"), TypeError, "dropout must be a number, got str"),
    (lambda: STACK(X.long()), TypeError, r"x must have a floating-point dtype .*, got torch\.int64"),
    (lambda: STACK(X.double()), TypeError, "x must have the weights' dtype torch.float32, got torch.float64"),
    (lambda: STACK(X[0]), ValueError, r"x must have shape \(B, T, 3\), got \(4, 3\)"),
    (lambda: STACK(X[:, :0]), ValueError, r"x must not be empty along dim=1, got shape \(2, 0, 3\)"),
    (lambda: STACK(X, [(H, H)]), ValueError, r"state must have one \(h, c\) for each of 2 layers, got 1"),
    (lambda: STACK(X, [(H, H), (H, C)]), ValueError, r"state\[1\]'s h must have shape \(2, 4\), got \(2, 6\)"),
    (lambda: STACK(X, None, torch.tensor([1, 5])), ValueError, "lengths must be between 0 and .* = 4, got 5"),
    (lambda: STACK(X, None, torch.tensor([1, 0])), ValueError, "lengths must be at least 1, got 0"),
    (lambda: PLAIN(X, None, torch.tensor([1])), ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
])  # fmt: skip


def test_sizes_and_levels_may_be_given_in_several_ways():
    def shape(stack):
        return [(c.input_size, c.hidden_size, c.num_levels, c.complement) for c in stack.layers]

    assert shape(ONLSTM(3, 8, 4, 2, batch_first=True)) == [(3, 8, 4, False), (8, 8, 4, False)]
    assert shape(ONLSTM(3, 8, num_layers=2, chunk_size=2)) == shape(ONLSTM(3, 8, 4, 2))
    assert shape(ONLSTM(3, hidden_sizes=(8, 8), num_levels=4)) == shape(ONLSTM(3, 8, 4, 2))
    paper = ONLSTM(4, hidden_sizes=(10, 20), chunk_size=5, master_input="complement")
    assert shape(paper) == [(4, 10, 2, True), (10, 20, 4, True)]
    assert shape(ONLSTM(1, 1, 1)) == [(1, 1, 1, False)]  # as small as may be
    assert [len(t.master_forget[0, 0]) for t in paper.trace(torch.zeros(1, 1, 4))] == [2, 4]


# --- Faults: under each, its verifier fails ----------------------------------------------------


def one_too_long(lengths, max_length=None):
    return torch.arange(max_length) <= lengths.unsqueeze(-1)


def forgets_the_dropconnect(rnn, state_dict, dropconnect=0.0, load=ONLSTM.load_paper_weights):
    load(rnn, state_dict)


FAULTS = [
    (lambda: test_padding_is_as_if_each_sequence_were_alone("cumsum"), onlstm, "sequence_mask", one_too_long),
    (lambda: test_weights_in_the_paper_s_layout("", 0.45), ONLSTM, "load_paper_weights", forgets_the_dropconnect),
]  # fmt: skip
