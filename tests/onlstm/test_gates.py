"""Master gates and the hard update: against loops in plain Python, enumeration, and bad input."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from seeded import F64, gen, randn
from stacks import DTYPES, one_minus
from torch.autograd import gradcheck
from torch.nn.functional import one_hot

from kexue import onlstm
from kexue.onlstm import cumax, reverse_cumax, segmented_update

logit_lists = st.lists(st.floats(-60, 60), min_size=1, max_size=9)


@pytest.mark.verifies("onlstm.eq8")
@given(logit_lists)
def test_cumax_is_a_loop_over_the_softmax(values):
    weights = [math.exp(v - max(values)) for v in values]
    p = [w / sum(weights) for w in weights]
    logits = torch.tensor(values, dtype=F64)
    up, down = ([math.fsum(p[: k + 1]) for k in range(len(p))], [math.fsum(p[k:]) for k in range(len(p))])
    torch.testing.assert_close(onlstm.cumax(logits), torch.tensor(up, dtype=F64))
    torch.testing.assert_close(onlstm.reverse_cumax(logits), torch.tensor(down, dtype=F64))


@pytest.mark.verifies("onlstm.eq8")
@given(logit_lists, st.sampled_from(DTYPES))
def test_master_gates_are_monotone_within_0_and_1_and_end_at_1(values, dtype):
    logits = torch.tensor(values, dtype=F64).to(dtype)
    for gate in (cumax(logits), reverse_cumax(logits).flip(0)):
        assert gate.dtype == dtype
        assert (gate.diff() >= 0).all()
        assert 0 <= gate.min() <= gate.max() <= 1
        assert float(gate[-1]) == pytest.approx(1, abs=4 * len(values) * torch.finfo(dtype).eps)


def test_rounding_never_carries_a_master_gate_beyond_1():
    logits = 3 * randn(2000, 50, dtype=torch.float32)
    assert (logits.softmax(-1).cumsum(-1) > 1).any()  # what it would be
    assert max(cumax(logits).max(), reverse_cumax(logits).max()) <= 1


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_any_axis_of_logits(dim):
    logits = randn(3, 4, 5)
    for gate in (cumax, reverse_cumax):
        torch.testing.assert_close(gate(logits, dim).movedim(dim, -1), gate(logits.movedim(dim, -1)))


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
        assert cumax(logits).tolist() == reverse_cumax(logits.flip(0)).tolist()[::-1] == up
        assert torch.isfinite(torch.autograd.grad(cumax(logits)[0], logits)[0]).all()


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
    torch.testing.assert_close(article - paper, logits.softmax(0), atol=1e-14, rtol=0)
    # Little, of many levels.
    assert float((article - paper).abs().mean()) == pytest.approx(1 / len(logits), abs=1e-13)


PAIRS = [(n, d_f, d_i) for n in range(1, 10) for d_f in range(n) for d_i in range(n)]


def three_segments(c_prev, c_hat, forget, input, d_f, d_i):
    """The article's two cases, of lists."""
    lstm = [f * c + i * new for f, c, i, new in zip(forget, c_prev, input, c_hat, strict=True)]
    if d_f <= d_i:
        return c_hat[:d_f] + lstm[d_f : d_i + 1] + c_prev[d_i + 1 :]
    return c_hat[: d_i + 1] + [0.0] * (d_f - d_i - 1) + c_prev[d_f:]


def operands(n, *batch):
    c_prev, c_hat, forget, input = (randn(*batch, n, seed=s) for s in range(4))
    return c_prev, c_hat, forget.sigmoid(), input.sigmoid()


@pytest.mark.verifies("onlstm.eq4", "onlstm.eq5", "onlstm.eq6", "onlstm.eq7")
def test_the_update_and_the_unified_formula_are_the_three_segments_for_every_pair():
    for n, d_f, d_i in PAIRS:
        given = operands(n)
        right = three_segments(*(v.tolist() for v in given), d_f, d_i)
        assert segmented_update(*given, d_f, d_i).tolist() == pytest.approx(right, abs=1e-15)
        c_prev, c_hat, forget, input = given
        starts, ends = (one_hot(torch.tensor(d), n).double() for d in (d_f, d_i))
        keep, write = starts.cumsum(0), ends.flip(0).cumsum(0).flip(0)
        assert torch.equal(keep, cumax(1e4 * starts))
        assert torch.equal(write, reverse_cumax(1e4 * ends))
        both = keep * write
        c = both * (forget * c_prev + input * c_hat) + (keep - both) * c_prev + (write - both) * c_hat
        assert c.tolist() == pytest.approx(right, abs=1e-15)


@pytest.mark.verifies("onlstm.segments")
@pytest.mark.fails("onlstm.segments")
def test_each_statement_about_the_segments_holds_in_one_case_only():
    for n, d_f, d_i in PAIRS:
        level, low, high = torch.arange(n), min(d_f, d_i), max(d_f, d_i)
        keep, write = level >= d_f, level <= d_i
        kept, written = keep & ~write, write & ~keep
        overlap = d_f <= d_i
        # "From the highest on": only without overlap, otherwise from d_i + 1 on.
        assert torch.equal(kept, level >= high) == (not overlap)
        assert torch.equal(kept, level > high) == overlap
        # "Below the lowest": only with overlap, otherwise d_i itself is written, too.
        assert torch.equal(written, level < low) == overlap
        assert torch.equal(written, level <= low) == (not overlap)
        assert bool((keep & write).any()) == overlap


@pytest.mark.verifies("onlstm.eq3")
def test_levels_may_be_a_number_or_one_for_each_row():
    given = operands(300, 4, 3)  # more levels than a byte counts
    d_f, d_i = (torch.randint(200, (4, 3), generator=gen(s)) for s in (7, 8))
    found = segmented_update(*given, d_f, d_i)
    for row in itertools.product(range(4), range(3)):
        alone = segmented_update(*(v[row] for v in given), int(d_f[row]), int(d_i[row]))
        assert torch.equal(found[row], alone)
    for two in (2, torch.tensor(2)):
        assert torch.equal(
            segmented_update(*given, two, d_i), segmented_update(*given, torch.full((4, 3), 2), d_i)
        )
    assert torch.equal(segmented_update(*given, d_f.to(torch.uint8), d_i.to(torch.int32)), found)


def test_what_is_not_owned_may_be_anything():
    c_prev, c_hat = torch.tensor([math.nan, 1.0, 2.0]), torch.tensor([5.0, math.nan, math.inf])
    gates = torch.full((3,), math.nan)
    assert segmented_update(c_prev, c_hat, gates, gates, 1, 0).tolist() == [5, 1, 2]
    assert segmented_update(c_prev, c_hat, gates, gates, 2, 0).tolist() == [5, 0, 2]


def test_the_update_has_the_right_gradient():
    given = [v.requires_grad_() for v in operands(5, 4)]
    d_f, d_i = torch.tensor([0, 3, 2, 4]), torch.tensor([4, 1, 2, 0])
    assert gradcheck(lambda *v: segmented_update(*v, d_f, d_i), given)


V = torch.zeros(2, 3)


test_bad_input_of_the_updates_is_named = refuses([
    (lambda: cumax([1.0]), TypeError, r"logits must be a torch\.Tensor, got list"),
    (lambda: cumax(V.long()), TypeError, r"logits must have a floating-point dtype .*, got torch\.int64"),
    (lambda: cumax(V[:, :0]), ValueError, r"logits must not be empty along dim=-1"),
    (lambda: segmented_update(V[:, :0], V[:, :0], V[:, :0], V[:, :0], 0, 0), ValueError, "c_prev must not be empty along dim=-1"),
    (lambda: cumax(V, 2), ValueError, r"dim must be an axis of logits, whose shape is \(2, 3\), got 2"),
    (lambda: cumax(torch.full((2, 3), -math.inf)), ValueError, "logits must be numbers below ∞, and not all −∞"),
    (lambda: cumax(torch.tensor([0.0, math.nan])), ValueError, "logits must be numbers below ∞"),
    (lambda: reverse_cumax(V, -3), ValueError, r"dim must be an axis of logits, whose shape is \(2, 3\), got -3"),
    (lambda: reverse_cumax(V, 0.0), TypeError, "dim must be an int, got float"),
    (lambda: segmented_update(V, V.int(), V, V, 0, 0), TypeError, "c_hat must have a floating-point dtype"),
    (lambda: segmented_update(V, V, 1.0, V, 0, 0), TypeError, r"forget must be a torch\.Tensor, got float"),
    (lambda: segmented_update(V, V, V, V.T, 0, 0), ValueError, r"input must have c_prev's shape \(2, 3\), got \(3, 2\)"),
    (lambda: segmented_update(V, V, V, V, 3, 0), ValueError, "d_f must be between 0 and n − 1 = 2, got 3"),
    (lambda: segmented_update(V, V, V, V, torch.tensor([0, 3]), 0), ValueError, "d_f must be between 0 and n − 1 = 2, got 3"),
    (lambda: segmented_update(V, V, V, V, 0, torch.tensor([-2, 0])), ValueError, "d_i must be between 0 and n − 1 = 2, got -2"),
    (lambda: segmented_update(V, V, V, V, 0, True), TypeError, "d_i must be an int or a tensor of integers, got bool"),
    (lambda: segmented_update(V, V, V, V, torch.ones(2), 0), TypeError, r"d_f must be integers, got torch\.float32"),
    (lambda: segmented_update(V, V, V, V, torch.tensor([0, 1, 2]), 0), ValueError, r"d_f must have shape \(2,\), got \(3,\)"),
])  # fmt: skip


# --- Faults: under each, its verifier fails ----------------------------------------------------


def without_itself(logits, dim=-1):
    return logits.softmax(dim).cumsum(dim) - logits.softmax(dim)


def strictly(c_prev, c_hat, forget, input, d_f, d_i):
    level = torch.arange(c_prev.shape[-1])
    keep, write = level > d_f, level <= d_i
    c = torch.where(keep & write, forget * c_prev + input * c_hat, 0.0)
    return torch.where(keep & ~write, c_prev, c) + torch.where(write & ~keep, c_hat, 0.0)


FAULTS = [
    (test_cumax_is_a_loop_over_the_softmax, onlstm, "cumax", without_itself),
    (test_the_paper_s_input_gate_is_the_article_s_shifted_by_one_level, onlstm, "reverse_cumax", one_minus),
    (
        test_the_update_and_the_unified_formula_are_the_three_segments_for_every_pair,
        None,
        "segmented_update",
        strictly,
    ),
]
