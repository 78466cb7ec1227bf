"""The loop over time: against the cells and torch's LSTM, in values and in the gradient by hand."""

import copy
import itertools

import pytest
import torch
from seeded import F64, randn
from stacks import KINDS, ForgetsTheVariant, reorder, stack_of, starts, step_by_step
from torch import nn
from torch.nn.functional import dropout, linear

from kexue import onlstm
from kexue.onlstm import recurrence


def torch_lstm(stack):
    """nn.LSTM with the same weights."""
    first = stack.layers[0]
    theirs = nn.LSTM(first.input_size, first.hidden_size, len(stack.layers), batch_first=True, dtype=F64)
    for i, cell in enumerate(stack.layers):
        for name, layer in (("ih", cell.ih), ("hh", cell.hh)):
            for kind in ("weight", "bias"):
                own = reorder(getattr(layer, kind).data, first.hidden_size)
                getattr(theirs, f"{kind}_{name}_l{i}").data = own
    return theirs


@pytest.mark.verifies("onlstm.eq1")
@pytest.mark.parametrize("layers", [1, 3])
def test_the_lstm_is_torch_s_in_outputs_states_and_gradients(layers):
    stack = stack_of("lstm", 4, (5,) * layers, scale=0.7)
    theirs, weight = torch_lstm(stack), randn(3, 9, 5, seed=9)
    x = randn(3, 9, 4, seed=1).requires_grad_()
    start = [(randn(3, 5, seed=2 * i).tanh(), randn(3, 5, seed=2 * i + 1)) for i in range(layers)]
    for own, right in ((None, None), (start, tuple(map(torch.stack, zip(*start, strict=True))))):
        output, states = stack(x, own)
        found = (output, tuple(map(torch.stack, zip(*states, strict=True))))
        expected = theirs(x, right)
        torch.testing.assert_close(found, expected)
        losses = ((o * weight).sum() + c.sin().sum() + h.cos().sum() for o, (h, c) in (found, expected))
        torch.testing.assert_close(*(torch.autograd.grad(loss, x) for loss in losses))


USES = {"h": [0], "c": [1], "master_forget": [2], "master_input": [3], "all": [0, 1, 2, 3]}


def compare_with_steps(kind, use="all"):
    stack = stack_of(kind)
    x = randn(3, 6, 3, seed=1).requires_grad_()
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


def test_what_large_weights_are_multiplied_with_has_torch_s_products():
    """From 2²⁰ entries on another library multiplies, in float32."""
    for rows, columns in ((1023, 1024), (2048, 512), (512, 2048)):
        weight, x = (randn(n, columns, seed=n, dtype=torch.float32) for n in (rows, 3))
        for value in (x, x.t().contiguous().t()):  # whatever the order in memory
            found = recurrence._product_with(weight)(value)
            torch.testing.assert_close(found.double(), x.double() @ weight.double().t(), atol=1e-3, rtol=0)
    packed = [
        recurrence._product_with(torch.empty(rows, 1024, dtype=dtype)).__closure__[0].cell_contents.is_mkldnn
        for rows, dtype in ((1023, torch.float32), (1024, torch.float32), (1024, F64))
    ]
    assert packed == [False, torch.backends.mkldnn.is_available(), False]


@pytest.mark.parametrize("kind", ["lstm", "cumsum"])
def test_the_loop_with_large_weights_is_the_cells(kind):
    stack = stack_of(kind, sizes=(512,), chunk=64, scale=0.05, dtype=torch.float32)
    assert stack.layers[0].hh.weight.numel() >= 2**20
    x = randn(2, 4, 3, seed=1, dtype=torch.float32).requires_grad_()
    values = stack(x)[0], step_by_step(stack, x)[0][0]
    inputs = [x, *stack.parameters()]
    gradients = [torch.autograd.grad(value.sin().sum(), inputs) for value in values]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_deterministic_trainings_need_not_fill_what_is_written_anyway(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    asked = []
    monkeypatch.setattr(
        torch, "use_deterministic_algorithms", lambda *a, **options: asked.append((a, options))
    )
    for cuda in (False, True):  # a refusal is only of CUDA
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        recurrence.deterministic_recurrence()
        assert asked == [((True,), {"warn_only": True})] * cuda
    assert torch.utils.deterministic.fill_uninitialized_memory is False


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_may_be_changed_in_place(kind):
    stack = stack_of(kind)
    x = randn(2, 5, 3).requires_grad_()
    (right,) = torch.autograd.grad((3 * stack(x)[0]).sum(), x)
    output, states, *_ = stack(x)
    states[-1][1].add_(1)
    (found,) = torch.autograd.grad(output.mul_(3).sum(), x)
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_multiplies_by_the_recurrent_weights_in_the_lower_precision(kind):
    stack = stack_of(kind, 8, (12,), 4, scale=0.3, dtype=torch.float32)
    weight = stack.layers[0].hh.weight
    rounded = weight.detach().bfloat16().float()
    x = randn(4, 12, 8, dtype=torch.float32).requires_grad_()
    found = []
    for factor in (1, 1 + 2**-12):  # bfloat16 does not see the difference
        weight.data = rounded * factor
        for enabled in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                output = stack(x)[0]
            found.append((output, *torch.autograd.grad(output.sin().sum(), (x, weight))))
    for lower, full, same, other in zip(*found, strict=True):
        assert torch.equal(lower, same)
        assert not torch.equal(full, other)
        assert lower.dtype == torch.float32
        assert 0 < (lower - full).norm() < 0.02 * full.norm()
    assert torch.equal(found[0][2], found[0][2].bfloat16().float())


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_dropout_drops_the_same_weights_at_all_times(kind):
    stack = stack_of(kind, sizes=(6,), recurrent_dropout=0.4)
    x = randn(2, 8, 3)
    torch.manual_seed(3)
    found = stack(x)[0]
    torch.manual_seed(3)
    assert torch.equal(found, stack(x)[0])
    assert not torch.equal(found, stack(x)[0])
    (cell,) = stack.layers
    torch.manual_seed(3)
    dropped = dropout(cell.hh.weight, 0.4, True)
    assert 0.2 < (dropped == 0).double().mean() < 0.6
    alone = copy.deepcopy(stack)
    alone.recurrent_dropout = 0.0
    alone.layers[0].hh.weight.data = dropped.detach()
    torch.testing.assert_close(step_by_step(alone, x)[0][0], found)


# --- Faults: under each, its verifier fails ----------------------------------------------------


def drops_nothing(x, p=0.5, training=True):
    return x


def without_bias(x, weight, bias=None):
    return linear(x, weight)


class ForgetsTheCell(recurrence._Recurrence):
    """A backward pass that loses what comes from later cells."""

    @staticmethod
    def backward(ctx, dh, dc, *masters):
        return onlstm_backward(ctx, dh, None, *masters)


onlstm_backward = recurrence._Recurrence.backward

FAULTS = [
    (lambda: compare_with_steps("cumsum", "c"), onlstm, "_Recurrence", ForgetsTheCell),
    (lambda: compare_with_steps("complement"), onlstm, "_Recurrence", ForgetsTheVariant),
    (lambda: compare_with_steps("cumsum"), onlstm, "linear", without_bias),
    (lambda: test_recurrent_dropout_drops_the_same_weights_at_all_times("lstm"), onlstm, "drop", drops_nothing),
]  # fmt: skip
