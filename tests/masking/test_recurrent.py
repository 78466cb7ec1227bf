"""Reversal and recurrent networks in both directions: against loops, and the path of packed sequences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from padded import FILLINGS, NAN, filled, randn
from refusing import refuses
from seeded import F64, gen
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kexue import masking
from kexue.masking import BiRNN, reverse_sequence, sequence_mask


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


RNN = BiRNN(nn.GRU(4, 5, batch_first=True))


def flips_everything(x, lengths, dim=1):
    return x.flip(dim)


def runs_on(rnn, x, lengths):
    return rnn(x)[0]


X, M = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)

test_bad_input_is_named = refuses([
    (lambda: reverse_sequence(X, torch.tensor([1, 2]), 0), ValueError, "dim must not be 0, the axis of the sequences"),
    (lambda: reverse_sequence(X, torch.tensor([1, 4])), ValueError, "lengths must be between 0 and T = 3, got 4"),
    (lambda: reverse_sequence(X, torch.tensor([1])), ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
    (lambda: BiRNN(nn.Linear(2, 2)), TypeError, "rnn must be an nn.LSTM, nn.GRU or nn.RNN, got Linear"),
    (lambda: BiRNN(nn.GRU(4, 5)), ValueError, "rnn must have batch_first=True, got False"),
    (lambda: BiRNN(nn.GRU(4, 5, batch_first=True, bidirectional=True)), ValueError, "rnn must have bidirectional=False, got True"),
    (lambda: BiRNN(nn.GRU(4, 5, batch_first=True), "mean"), ValueError, "merge must be one of .*, got 'mean'"),
    (lambda: RNN(X.long(), M), TypeError, "x must have a floating-point dtype"),
    (lambda: RNN(X[..., :3], M), ValueError, r"x must have shape \(B, T, 4\), got \(2, 3, 3\)"),
    (lambda: RNN(X, M[:1]), ValueError, r"mask must have shape \(2, 3\), got \(1, 3\)"),
    (lambda: RNN(X, torch.tensor([[True, False, True], [True] * 3])), ValueError, "mask must be True first and then False in every row, got True after False at position 2 of row 0"),
])  # fmt: skip


FAULTS = [
    (lambda: test_birnn_is_the_packed_path("LSTM", 0.0), "reverse_sequence", flips_everything),
    (test_reversal_is_a_loop_and_its_own_inverse, "reverse_sequence", flips_everything),
    (test_a_state_that_explodes_in_the_padding_reaches_nothing, "_run", runs_on),
]
