"""Mathematics of kexue.gumbel.sampling: distributions, limits, gradients, bad input."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from scipy import stats
from seeded import F64, gen, p_value, randn, within
from torch.autograd import gradcheck
from torch.nn.functional import one_hot

from kexue import gumbel
from kexue.gumbel import gumbel_max, gumbel_noise, gumbel_softmax

SKEWED = [0.9985, 0.001, 0.0003, 0.0001, 0.0001]
WITH_ZEROS = [0.6, 0.0, 0.3, 0.0, 0.1]
MIXED = [0.45, 0.25, 0.15, 0.1, 0.05]

# --- Noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_noise_is_drawn_in_double_precision_and_then_rounded(dtype):
    assert torch.equal(gumbel_noise((10_000,), gen(), dtype), gumbel_noise((10_000,), gen(), F64).to(dtype))


@pytest.mark.parametrize("n", [10**7, pytest.param(10**8, marks=pytest.mark.system)])
def test_millions_of_draws_are_gumbel(n):
    drawn, generator = [], gen()
    for _ in range(25):
        g = gumbel_noise((n // 25,), generator).double()
        drawn.append([g.mean(), g.square().mean(), (g > 9.21).double().mean(), g.min(), g.max()])
    mean, square, above = torch.tensor(drawn).mean(0)[:3].tolist()
    assert mean == pytest.approx(np.euler_gamma, abs=5 * 1.283 / n**0.5)
    assert square - mean**2 == pytest.approx(math.pi**2 / 6, abs=5 * 1.645 * (4.4 / n) ** 0.5)
    tail = -math.expm1(-math.exp(-9.21))
    assert above == pytest.approx(tail, abs=5 * (tail / n) ** 0.5)
    *_, low, high = zip(*drawn, strict=True)
    assert min(low) < 0.11 - math.log(math.log(n))
    assert (
        math.log(n) - 1.7 < max(high) < math.inf
    )  # 16.7 of 10⁸; the logarithms of a float32 uniform end at 16.64


def test_noise_has_the_distribution_of_gumbel():
    for seed in range(3):
        draws = gumbel_noise((100_000,), gen(seed), F64)
        assert stats.kstest(draws.numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
        assert len(draws.unique()) == len(draws)


@pytest.mark.parametrize(
    ("cell", "expected"), [(0, -math.log(53 * math.log(2))), (2**52 - 1, 53 * math.log(2))]
)
def test_the_ends_of_the_uniform_are_finite(monkeypatch, cell, expected):
    monkeypatch.setattr(torch, "randint", lambda *a, **k: torch.tensor([cell]))
    assert float(gumbel_noise((1,), dtype=F64)) == pytest.approx(expected, rel=1e-12)


def test_noise_follows_its_generator_shape_and_dtype():
    assert torch.equal(gumbel_noise((3, 4), gen(5)), gumbel_noise((3, 4), gen(5)))
    assert not torch.equal(gumbel_noise((3, 4), gen(5)), gumbel_noise((3, 4), gen(6)))
    assert gumbel_noise((3, 4)).dtype == torch.float32
    assert gumbel_noise((0, 4), dtype=torch.float16).shape == (0, 4)
    torch.manual_seed(1)
    first = gumbel_noise((5,))
    torch.manual_seed(1)
    assert torch.equal(first, gumbel_noise((5,)))
    assert gumbel_noise((2,), gen(), device="meta").device.type == "meta"


@pytest.mark.gpu
def test_noise_on_a_gpu_follows_a_generator_on_either_side():
    for side in ("cpu", "cuda"):
        generator = torch.Generator(side).manual_seed(0)
        draws = gumbel_noise((100_000,), generator, device="cuda")
        assert draws.is_cuda
        assert stats.kstest(draws.cpu().numpy(), stats.gumbel_r.cdf).pvalue > 1e-3


# --- Gumbel-Max --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.verifies("gumbel.eq8")
@pytest.mark.parametrize("probabilities", [MIXED, SKEWED, WITH_ZEROS], ids=["mixed", "skewed", "zeros"])
def test_gumbel_max_draws_from_p(probabilities):
    logits = torch.tensor(probabilities).log().expand(10**6, -1)
    draws = gumbel_max(logits, gen())
    assert draws.shape == (10**6,)
    assert p_value(draws, probabilities) > 1e-3


@pytest.mark.verifies("gumbel.eq8")
def test_gumbel_max_is_the_formula_of_the_article():
    logits = randn(1000, 7, seed=1)
    eps = torch.exp(-torch.exp(-gumbel_noise((1000, 7), gen(2), F64)))
    article = (logits.log_softmax(-1) - torch.log(-torch.log(eps))).argmax(-1)
    assert torch.equal(gumbel_max(logits, gen(2)), article)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = torch.randn(5000, 7, generator=gen(1)).to(dtype)
    assert torch.equal(gumbel_max(logits, gen(2)), gumbel_max(logits.float(), gen(2)))
    soft = gumbel_softmax(logits.float(), 0.3, generator=gen(2))
    assert torch.equal(gumbel_softmax(logits, 0.3, generator=gen(2)), soft.to(dtype))


def test_gumbel_max_of_half_precision_has_no_ties():
    even = torch.zeros(200_000, 4, dtype=torch.bfloat16)
    assert p_value(gumbel_max(even, gen()), [0.25] * 4) > 1e-3
    assert gumbel_max(torch.zeros(2, 3, 4), gen()).shape == (2, 3)
    assert gumbel_max(torch.zeros(1), gen()) == 0


@pytest.mark.parametrize("level", [0.0, 1e4, 1e8, 1e20, -1e20])
def test_large_constants_do_not_swallow_the_noise(level):
    logits = torch.full((100_000, 2), level)
    assert p_value(gumbel_max(logits, gen()), [0.5, 0.5]) > 1e-3
    assert gumbel_softmax(logits, generator=gen())[:, 0].std() > 0.2


# --- The proof ---------------------------------------------------------------------------------


@pytest.mark.verifies("gumbel.eq11", "gumbel.eq12")
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=6), st.integers(0, 10**6))
def test_class_1_wins_iff_the_inequalities_hold(weights, seed):
    p = torch.tensor(weights, dtype=F64) / sum(weights)
    eps = torch.rand(200, len(p), generator=gen(seed), dtype=F64)
    wins = (p.log() - torch.log(-torch.log(eps))).argmax(-1) == 0
    assert torch.equal(wins, (eps[:, 1:] < eps[:, :1] ** (p[1:] / p[0])).all(-1))


@pytest.mark.verifies("gumbel.eq12", "gumbel.eq13")
@pytest.mark.parametrize("first", [0.1, 0.5, 0.9])
def test_given_the_first_noise_the_others_win_or_lose_independently(first):
    p = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    lose = torch.rand(400_000, 2, generator=gen(), dtype=F64) < first ** (p[1:] / p[0])
    assert within(lose.double(), first ** (p[1:] / p[0]))
    assert within(lose.all(-1).double(), first ** (1 / p[0] - 1))


@pytest.mark.verifies("gumbel.eq13")
def test_without_the_condition_they_are_correlated():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    eps = torch.rand(400_000, 3, generator=gen(), dtype=F64)
    beats = (eps[:, 1:] < eps[:, :1] ** (p[1:] / p[0])).double()
    alone = p[0] / (p[0] + p[1:])
    assert within(beats, alone)
    assert within(beats.prod(-1), p[0])
    assert not within(beats.prod(-1), alone.prod())


@pytest.mark.verifies("gumbel.eq14")
def test_the_integral_is_p():
    e, p = sympy.symbols("e p", positive=True)
    assert sympy.simplify(sympy.integrate(e ** (1 / p - 1), (e, 0, 1)) - p) == 0


# --- Gumbel-Softmax ----------------------------------------------------------------------------


@pytest.mark.verifies("gumbel.eq9", "gumbel.eq10")
@pytest.mark.parametrize("tau", [0.05, 0.5, 1.0, 20.0])
def test_gumbel_softmax_is_the_formula_of_the_article(tau):
    logits = randn(300, 6, seed=1)
    noise = gumbel_noise((300, 6), gen(2), F64)
    article = torch.softmax((torch.softmax(logits, -1).log() + noise) / tau, -1)
    torch.testing.assert_close(gumbel_softmax(logits, tau, generator=gen(2)), article)
    torch.testing.assert_close(gumbel_softmax(logits + 5, tau, generator=gen(2)), article)


@pytest.mark.verifies("gumbel.eq9")
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.01, 10), st.integers(0, 1000))
def test_gumbel_softmax_is_as_near_to_one_hot_as_the_gap_allows(values, tau, seed):
    logits, n = torch.tensor(values, dtype=F64), len(values)
    first, second = (logits + gumbel_noise(logits.shape, gen(seed), F64)).topk(2).values.tolist()
    soft = gumbel_softmax(logits, tau, generator=gen(seed))
    winner = one_hot(gumbel_max(logits, gen(seed)), n)
    assert float(soft.sum()) == pytest.approx(1)
    assert float((soft - winner).abs().max()) <= (n - 1) * math.exp((second - first) / tau) + 1e-12


@pytest.mark.verifies("gumbel.eq9")
def test_gumbel_softmax_tends_to_one_hot_and_to_uniform():
    logits = randn(500, 4, seed=1)
    winner = one_hot(gumbel_max(logits, gen(3)), 4)
    cold = gumbel_softmax(logits, 1e-5, generator=gen(3))
    assert (cold - winner).abs().amax(-1).median() < 1e-12
    torch.testing.assert_close(
        gumbel_softmax(logits, 1e8, generator=gen(3)), torch.full_like(logits, 0.25), atol=1e-6, rtol=0
    )


@pytest.mark.verifies("gumbel.claim4")
def test_cooling_softmax_finds_the_mode_and_gumbel_softmax_samples():
    logits = torch.tensor(MIXED, dtype=F64).log()
    assert torch.softmax(logits / 1e-3, -1).tolist() == pytest.approx([1, 0, 0, 0, 0])
    cold = gumbel_softmax(logits.expand(100_000, -1), 1e-4, generator=gen())
    assert p_value(cold.argmax(-1), MIXED) > 1e-3
    assert (cold.amax(-1) > 0.99).double().mean() > 0.99


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_hard_samples_are_one_hot_to_the_bit_with_the_gradient_of_the_soft_ones(dim):
    logits, w = randn(6, 6, seed=1).requires_grad_(), randn(6, 6, seed=2)
    hard, soft = (gumbel_softmax(logits, 0.7, h, dim, gen(3)) for h in (True, False))
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert (hard.sum(dim) == 1).all()
    assert torch.equal(hard.argmax(dim), soft.argmax(dim))
    torch.testing.assert_close(*(torch.autograd.grad((y * w).sum(), logits)[0] for y in (hard, soft)))


def test_the_winner_is_that_of_the_noisy_logits_even_where_softmax_is_flat():
    logits = torch.randn(500, 6, generator=gen(1))
    hard = gumbel_softmax(logits, 1e30, hard=True, generator=gen(2))
    assert torch.equal(hard.argmax(-1), gumbel_max(logits, gen(2)))


def test_the_gradient_of_gumbel_softmax_is_right():
    logits = torch.randn(3, 4, generator=gen(1), dtype=F64, requires_grad=True)
    for tau in (0.3, 1.0, 5.0):
        assert gradcheck(lambda x, t=tau: gumbel_softmax(x, t, generator=gen(2)), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
@pytest.mark.parametrize("tau", [1e-30, 1e-3, 1.0, 1e30])
def test_no_temperature_gives_nan(dtype, tau):
    logits = torch.tensor([[3.0, -1.0, -math.inf], [0.0, 0.0, 1e4]], dtype=dtype, requires_grad=True)
    soft = gumbel_softmax(logits, tau, generator=gen())
    assert soft.dtype == dtype
    assert torch.isfinite(soft).all()
    assert soft[0, 2] == 0
    (gradient,) = torch.autograd.grad(soft[:, 0].sum(), logits)
    assert torch.isfinite(gradient).all()


@pytest.mark.unchecked
def test_any_real_number_is_a_temperature():
    logits = torch.randn(5, generator=gen())
    half = gumbel_softmax(logits, 0.5, generator=gen(1))
    assert torch.equal(gumbel_softmax(logits, Fraction(1, 2), generator=gen(1)), half)
    assert torch.isfinite(gumbel_softmax(logits, 10**30, generator=gen(1))).all()


@pytest.mark.verifies("gumbel.claim7")
def test_independent_noises_draw_a_product_and_nothing_else():
    factors = randn(2, 3, seed=1)
    joint = torch.einsum("a,b->ab", *torch.softmax(factors, -1)).flatten()
    draws = gumbel_max(factors.expand(200_000, -1, -1), gen())
    assert p_value(draws @ torch.tensor([3, 1]), joint.tolist()) > 1e-3
    assert p_value(gumbel_max(joint.log().expand(200_000, -1), gen()), joint.tolist()) > 1e-3
    correlated = torch.tensor([[0.4, 0.1], [0.1, 0.4]], dtype=F64)
    margins = torch.stack([correlated.sum(1), correlated.sum(0)]).log()
    draws = gumbel_max(margins.expand(200_000, -1, -1), gen()) @ torch.tensor([2, 1])
    assert p_value(draws, correlated.flatten().tolist()) < 1e-9


@pytest.mark.verifies("gumbel.claim7")
def test_a_sample_of_a_hundred_bits_keeps_the_gradient():
    logits = randn(100, 2).requires_grad_()
    bits = gumbel_softmax(logits.expand(2000, -1, -1), 0.5, generator=gen(1))[..., 1]
    (gradient,) = torch.autograd.grad(bits.mean(), logits)
    assert (gradient[:, 1] > 0).all()
    torch.testing.assert_close(gradient[:, 0], -gradient[:, 1])


@pytest.mark.verifies("gumbel.claim3")
def test_cold_gradients_vanish_in_the_median_and_explode_in_variance():
    o = torch.tensor([0.5, 0.3, 0.2], dtype=F64).log()
    w = torch.tensor([0.0, 1.0, -1.0], dtype=F64)
    p, f = o.exp(), w.exp()
    exact = p * (f - (p * f).sum())
    measured = []
    for tau in (1.0, 0.1, 0.01):
        leaf = o.repeat(200_000, 1).requires_grad_()
        y = gumbel_softmax(leaf, tau, generator=gen())
        (g,) = torch.autograd.grad(torch.exp(y @ w).sum(), leaf)
        size = g.norm(dim=-1)
        measured.append([size.median(), size.mean(), g.var(0).sum(), (g.mean(0) - exact).norm()])
    median, mean, variance, bias = torch.tensor(measured).T
    assert median[0] > 0.1
    assert median[2] < 1e-6
    assert mean[2] > mean[0]
    assert float(variance[2] / variance[1]) == pytest.approx(10, rel=0.25)
    assert bias[1] < 0.3 * bias[0]


# --- Bad input ---------------------------------------------------------------------------------


test_bad_input_is_named = refuses([
    (lambda: gumbel_noise((2,), dtype=torch.int64), TypeError, r"dtype must be a floating-point dtype of 16 to 64 bits, got torch\.int64"),
    (lambda: gumbel_noise((2, -1)), ValueError, r"shape must not have negative sizes, got \(2, -1\)"),
    *((lambda shape=shape: gumbel_noise(shape), TypeError, "shape must be a tuple of ints, got") for shape in (3, (2.0,), "3", (True, 2))),
    (lambda: gumbel_softmax(torch.zeros(3), 0.0), ValueError, "tau must be positive and finite, within .*, got 0.0"),
    *(
        (lambda f=f, logits=logits: f(logits), error, message)
        for f in (gumbel_max, gumbel_softmax)
        for logits, error, message in (
            (torch.zeros(3, 0), ValueError, "logits must not be empty along dim=-1"),
            (torch.tensor([0.0, math.nan]), ValueError, "logits must be finite or −∞, got nan"),
            (torch.tensor([0.0, math.inf]), ValueError, "logits must be finite or −∞, got inf"),
            (torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]]), ValueError, "logits must leave at least one class possible"),
        )
    ),
])  # fmt: skip


# --- Faults: the verifier, what is replaced in the package or in this file, and by what --------


def one_logarithm(shape, generator=None, dtype=torch.float32, device=None):
    return -torch.log(torch.rand(shape, generator=generator, dtype=F64)).to(dtype)


FAULTS = [
    (lambda: test_gumbel_max_draws_from_p(MIXED), gumbel, "gumbel_noise", one_logarithm),
    (lambda: test_gumbel_max_draws_from_p(SKEWED), gumbel, "gumbel_noise", lambda *given: -gumbel_noise(*given)),
    (test_noise_has_the_distribution_of_gumbel, None, "gumbel_noise", one_logarithm),
    (test_gumbel_softmax_tends_to_one_hot_and_to_uniform, None, "gumbel_softmax", lambda logits, tau, **given: gumbel.gumbel_softmax(logits, 1 / tau, **given)),
    (test_cooling_softmax_finds_the_mode_and_gumbel_softmax_samples, None, "gumbel_softmax", lambda logits, tau, **given: torch.softmax(logits / tau, -1)),
]  # fmt: skip
