"""Mathematics of kexue.gumbel: distributions, closed forms, brute force, gradients, bad input."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.autograd import gradcheck
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    Uniform,
)
from torch.nn.functional import one_hot

from kexue import gumbel
from kexue.gumbel import (
    ESTIMATORS,
    CategoricalVAE,
    elbo,
    evaluate_elbo,
    gumbel_max,
    gumbel_noise,
    gumbel_softmax,
    reparam_grad,
    score_function_grad,
    straight_through,
    vae_loss,
)

F64 = torch.float64

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")

SKEWED = [0.9985, 0.001, 0.0003, 0.0001, 0.0001]
WITH_ZEROS = [0.6, 0.0, 0.3, 0.0, 0.1]
MIXED = [0.45, 0.25, 0.15, 0.1, 0.05]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def within(estimates: torch.Tensor, truth, errors: float = 4.5) -> bool:
    """Whether the mean over the first axis is within so many standard errors of the truth."""
    mean, deviation = estimates.double().mean(0), estimates.double().std(0)
    return bool(
        ((mean - torch.as_tensor(truth)).abs() <= errors * deviation / len(estimates) ** 0.5 + 1e-12).all()
    )


def p_value(draws: torch.Tensor, probabilities: list[float]) -> float:
    p = np.array(probabilities)
    counts = torch.bincount(draws, minlength=len(p)).numpy()
    assert (counts[p == 0] == 0).all()
    return stats.chisquare(counts[p > 0], len(draws) * p[p > 0] / p.sum()).pvalue


# --- Noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_noise_is_drawn_in_double_precision_and_then_rounded(dtype):
    assert torch.equal(gumbel_noise((10_000,), gen(), dtype), gumbel_noise((10_000,), gen(), F64).to(dtype))


# Since all dtypes round the same draws, 10⁸ of them in one dtype say enough.
@pytest.mark.parametrize(
    ("dtype", "n"),
    [
        (torch.float32, 10**7),
        (torch.bfloat16, 10**7),
        pytest.param(torch.float32, 10**8, marks=pytest.mark.system),
    ],
)
def test_noise_is_finite_and_gumbel_over_millions_of_draws(dtype, n):
    generator = gen()
    total = squares = above = 0.0
    lowest, highest = math.inf, -math.inf
    # The 99.99 % quantile is 9.2103; 9.21875 lies between two numbers of bfloat16.
    threshold = 9.21875
    for _ in range(25):
        g = gumbel_noise((n // 25,), generator, dtype)
        assert g.dtype == dtype
        assert torch.isfinite(g).all()
        g = g.double()
        total += float(g.sum())
        squares += float((g**2).sum())
        above += int((g > threshold).sum())
        lowest, highest = min(lowest, float(g.min())), max(highest, float(g.max()))
    mean = total / n
    rounding = 2.0**-9 if dtype == torch.bfloat16 else 0.0  # of single draws; averages out in the mean
    assert mean == pytest.approx(np.euler_gamma, abs=5 * 1.283 / n**0.5)
    assert squares / n - mean**2 == pytest.approx(
        math.pi**2 / 6, abs=5 * 1.645 * (4.4 / n) ** 0.5 + rounding**2
    )
    expected = n * -math.expm1(-math.exp(-threshold))
    assert above == pytest.approx(expected, abs=5 * expected**0.5)
    assert lowest < 0.11 - math.log(math.log(n))
    assert highest > math.log(n) - 1.7  # 16.7 of 10⁸; the logarithms of a float32 uniform end at 16.64


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


@pytest.mark.unchecked
def test_bad_noise_is_named():
    with pytest.raises(
        TypeError, match=r"dtype must be a floating-point dtype of 16 to 64 bits, got torch\.int64"
    ):
        gumbel_noise((2,), dtype=torch.int64)
    with pytest.raises(ValueError, match=r"shape must not have negative sizes, got \(2, -1\)"):
        gumbel_noise((2, -1))
    for shape in (3, (2.0,), "3"):
        with pytest.raises(TypeError, match="shape must be a tuple of ints, got"):
            gumbel_noise(shape)
    for sample in (lambda g: gumbel_noise((2,), g), lambda g: gumbel_max(torch.zeros(2), g)):
        with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got int"):
            sample(0)


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
    logits = torch.randn(1000, 7, generator=gen(1), dtype=F64)
    eps = torch.exp(-torch.exp(-gumbel_noise((1000, 7), gen(2), F64)))
    article = (logits.log_softmax(-1) - torch.log(-torch.log(eps))).argmax(-1)
    assert torch.equal(gumbel_max(logits, gen(2)), article)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = torch.randn(5000, 7, generator=gen(1)).to(dtype)
    assert torch.equal(gumbel_max(logits, gen(2)), gumbel_max(logits.float(), gen(2)))
    soft = gumbel_softmax(logits.float(), 0.3, generator=gen(2))
    assert torch.equal(gumbel_softmax(logits, 0.3, generator=gen(2)), soft.to(dtype))


def test_gumbel_max_ignores_a_constant_and_half_precision_has_no_ties():
    logits = torch.randn(1000, 7, generator=gen(1), dtype=F64)
    assert torch.equal(gumbel_max(logits, gen(2)), gumbel_max(logits + 100, gen(2)))
    even = torch.zeros(200_000, 4, dtype=torch.bfloat16)
    assert p_value(gumbel_max(even, gen()), [0.25] * 4) > 1e-3
    assert gumbel_max(torch.zeros(2, 3, 4), gen()).shape == (2, 3)
    assert gumbel_max(torch.zeros(1), gen()) == 0


@pytest.mark.parametrize("level", [0.0, 1e4, 1e8, 1e20, -1e20])
def test_large_constants_do_not_swallow_the_noise(level):
    logits = torch.full((100_000, 2), level)
    assert p_value(gumbel_max(logits, gen()), [0.5, 0.5]) > 1e-3
    assert gumbel_softmax(logits, generator=gen())[:, 0].std() > 0.2


BAD_LOGITS = [
    (torch.zeros(3, 0), ValueError, "logits must not be empty along dim=-1"),
    (torch.tensor([0.0, math.nan]), ValueError, "logits must be finite or −∞, got nan"),
    (torch.tensor([0.0, math.inf]), ValueError, "logits must be finite or −∞, got inf"),
    (torch.full((2, 2), -math.inf), ValueError, "at least one class possible"),
    (torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]]), ValueError, "at least one class possible"),
    (torch.zeros(3, dtype=torch.int64), TypeError, "logits must have a floating-point dtype"),
    ([0.0, 1.0], TypeError, "logits must be a torch.Tensor, got list"),
    (torch.tensor(1.0), ValueError, "dim must be an axis of logits"),
]


@pytest.mark.unchecked
@pytest.mark.parametrize(("logits", "error", "message"), BAD_LOGITS)
@pytest.mark.parametrize("sample", [gumbel_max, gumbel_softmax])
def test_bad_logits_are_named(sample, logits, error, message):
    with pytest.raises(error, match=message):
        sample(logits)


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
    logits = torch.randn(300, 6, generator=gen(1), dtype=F64)
    noise = gumbel_noise((300, 6), gen(2), F64)
    article = torch.softmax((torch.softmax(logits, -1).log() + noise) / tau, -1)
    torch.testing.assert_close(gumbel_softmax(logits, tau, generator=gen(2)), article)
    torch.testing.assert_close(gumbel_softmax(logits + 5, tau, generator=gen(2)), article)


@pytest.mark.verifies("gumbel.eq9")
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(0.01, 10), st.integers(0, 1000))
def test_gumbel_softmax_is_as_near_to_one_hot_as_the_gap_allows(values, tau, seed):
    logits = torch.tensor(values, dtype=F64)
    noisy = logits + gumbel_noise(logits.shape, gen(seed), F64)
    first, second = noisy.topk(2).values
    soft = gumbel_softmax(logits, tau, generator=gen(seed))
    winner = one_hot(gumbel_max(logits, gen(seed)), len(values))
    assert float(soft.sum()) == pytest.approx(1)
    assert (
        float((soft - winner).abs().max())
        <= (len(values) - 1) * math.exp(-float(first - second) / tau) + 1e-12
    )


@pytest.mark.verifies("gumbel.eq9")
def test_gumbel_softmax_tends_to_one_hot_and_to_uniform():
    logits = torch.randn(500, 4, generator=gen(1), dtype=F64)
    winner = one_hot(gumbel_max(logits, gen(3)), 4)
    cold = gumbel_softmax(logits, 1e-5, generator=gen(3))
    assert (cold - winner).abs().amax(-1).median() < 1e-12
    torch.testing.assert_close(
        gumbel_softmax(logits, 1e8, generator=gen(3)), torch.full_like(logits, 0.25), atol=1e-6, rtol=0
    )


def test_gumbel_softmax_has_the_distribution_of_torch():
    logits = torch.tensor(MIXED).log().expand(20_000, -1)
    for tau in (0.3, 2.0):
        torch.manual_seed(0)
        theirs = torch.nn.functional.gumbel_softmax(logits, tau)
        ours = gumbel_softmax(logits, tau, generator=gen())
        for i in range(5):
            assert stats.ks_2samp(ours[:, i].numpy(), theirs[:, i].numpy()).pvalue > 1e-3


@pytest.mark.verifies("gumbel.claim4")
def test_cooling_softmax_finds_the_mode_and_gumbel_softmax_samples():
    logits = torch.tensor(MIXED, dtype=F64).log()
    assert torch.softmax(logits / 1e-3, -1).tolist() == pytest.approx([1, 0, 0, 0, 0])
    cold = gumbel_softmax(logits.expand(100_000, -1), 1e-4, generator=gen())
    assert p_value(cold.argmax(-1), MIXED) > 1e-3
    assert (cold.amax(-1) > 0.99).double().mean() > 0.99


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_hard_samples_are_one_hot_to_the_bit_with_the_gradient_of_the_soft_ones(dim):
    logits = torch.randn(6, 6, generator=gen(1), requires_grad=True)
    w = torch.randn(6, 6, generator=gen(2))
    hard = gumbel_softmax(logits, 0.7, hard=True, dim=dim, generator=gen(3))
    soft = gumbel_softmax(logits, 0.7, dim=dim, generator=gen(3))
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert (hard.sum(dim) == 1).all()
    assert torch.equal(hard.argmax(dim), soft.argmax(dim))
    gradients = [torch.autograd.grad((y * w).sum(), logits, retain_graph=True)[0] for y in (hard, soft)]
    torch.testing.assert_close(*gradients)


def test_the_winner_is_that_of_the_noisy_logits_even_where_softmax_is_flat():
    logits = torch.randn(500, 6, generator=gen(1))
    hard = gumbel_softmax(logits, 1e30, hard=True, generator=gen(2))
    assert torch.equal(hard.argmax(-1), gumbel_max(logits, gen(2)))


def test_straight_through_has_one_value_and_the_other_gradient():
    soft = torch.randn(50, generator=gen(), requires_grad=True)
    hard = torch.randn(50, generator=gen(1), requires_grad=True)
    out = straight_through(hard, soft)
    assert torch.equal(out, hard)
    gradient = torch.autograd.grad((out * torch.arange(50)).sum(), (soft, hard), allow_unused=True)
    assert torch.equal(gradient[0], torch.arange(50.0))
    assert gradient[1] is None


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
def test_bad_shapes_and_axes_of_samples_are_named():
    with pytest.raises(ValueError, match=r"hard must have the shape of soft, \(3,\), got \(2, 3\)"):
        straight_through(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(TypeError, match="dim must be an int, got bool"):
        gumbel_softmax(torch.zeros(2, 2), dim=True)


@pytest.mark.unchecked
def test_any_real_number_is_a_temperature():
    logits = torch.randn(5, generator=gen())
    half = gumbel_softmax(logits, 0.5, generator=gen(1))
    assert torch.equal(gumbel_softmax(logits, Fraction(1, 2), generator=gen(1)), half)
    assert torch.isfinite(gumbel_softmax(logits, 10**30, generator=gen(1))).all()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("tau", "error", "message"),
    [
        (0.0, ValueError, "tau must be positive and finite, within .*, got 0.0"),
        (-1.0, ValueError, "tau must be positive and finite, within .*, got -1.0"),
        (math.inf, ValueError, "tau must be positive and finite, within .*, got inf"),
        (math.nan, ValueError, "tau must be positive and finite, within .*, got nan"),
        ("1", TypeError, "tau must be a number, got str"),
        (True, TypeError, "tau must be a number, got bool"),
    ],
)
def test_bad_temperatures_are_named(tau, error, message):
    with pytest.raises(error, match=message):
        gumbel_softmax(torch.zeros(3), tau)


@pytest.mark.verifies("gumbel.claim7")
def test_independent_noises_draw_a_product_and_nothing_else():
    factors = torch.randn(2, 3, generator=gen(1), dtype=F64)
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
    logits = torch.randn(100, 2, generator=gen(), dtype=F64).requires_grad_()
    bits = gumbel_softmax(logits.expand(2000, -1, -1), 0.5, generator=gen(1))[..., 1]
    (gradient,) = torch.autograd.grad(bits.mean(), logits)
    assert (gradient[:, 1] > 0).all()
    torch.testing.assert_close(gradient[:, 0], -gradient[:, 1])


# --- The two estimators ------------------------------------------------------------------------

MU, SIGMA = 0.6, 0.8
CASES = {  # f, and the mean of f(z) under N(μ, σ²)
    "square": (torch.square, lambda m, s: m**2 + s**2),
    "exp": (torch.exp, lambda m, s: torch.exp(m + s**2 / 2)),
    "sin": (torch.sin, lambda m, s: torch.exp(-(s**2) / 2) * torch.sin(m)),
}


def closed_form(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    theta = torch.tensor([MU, SIGMA], dtype=F64, requires_grad=True)
    value = CASES[name][1](*theta)
    return value.detach(), torch.autograd.grad(value, theta)[0]


def normal_params() -> dict[str, torch.Tensor]:
    return {"loc": torch.tensor(MU, dtype=F64), "scale": torch.tensor(SIGMA, dtype=F64)}


def stacked(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([gradients["loc"], gradients["scale"]], -1)


@pytest.mark.verifies("gumbel.eq1", "gumbel.eq2", "gumbel.eq3", "gumbel.eq4", "gumbel.eq5")
@pytest.mark.parametrize("name", list(CASES))
def test_the_mean_by_integral_noise_and_closed_form(name):
    f = CASES[name][0]
    value, gradient = closed_form(name)
    density = stats.norm(MU, SIGMA).pdf

    def g(z):
        return float(f(torch.tensor(z, dtype=F64)))

    def integral(weight):
        return integrate.quad(lambda z: density(z) * g(z) * weight(z), MU - 12 * SIGMA, MU + 12 * SIGMA)[0]

    assert integral(lambda z: 1) == pytest.approx(float(value))
    assert integral(lambda z: (z - MU) / SIGMA**2) == pytest.approx(float(gradient[0]))
    assert integral(lambda z: ((z - MU) ** 2 - SIGMA**2) / SIGMA**3) == pytest.approx(float(gradient[1]))
    eps = torch.randn(200_000, generator=gen(), dtype=F64)
    assert within(f(MU + SIGMA * eps), value)


@pytest.mark.verifies("gumbel.eq4", "gumbel.eq5", "gumbel.eq17")
@pytest.mark.parametrize("name", list(CASES))
def test_reparameterised_gradients_are_unbiased(name):
    torch.manual_seed(0)
    estimates = stacked(reparam_grad(CASES[name][0], Normal, normal_params(), 200_000))
    assert within(estimates, closed_form(name)[1])


@pytest.mark.verifies("gumbel.eq15", "gumbel.eq16")
@pytest.mark.parametrize("baseline", [None, 1.5, "leave-one-out"])
@pytest.mark.parametrize("name", list(CASES))
def test_score_function_gradients_are_unbiased(name, baseline):
    torch.manual_seed(0)
    estimates = stacked(score_function_grad(CASES[name][0], Normal, normal_params(), 200_000, baseline))
    assert within(estimates, closed_form(name)[1])


@pytest.mark.verifies("gumbel.eq6", "gumbel.eq7", "gumbel.eq15")
def test_discrete_gradients_against_enumeration():
    o = torch.randn(5, generator=gen(1), dtype=F64, requires_grad=True)
    f = torch.randn(5, generator=gen(2), dtype=F64)
    p = torch.softmax(o, -1)
    torch.testing.assert_close(p, torch.exp(o) / torch.exp(o).sum())
    (exact,) = torch.autograd.grad((p * f).sum(), o)
    p = p.detach()
    torch.testing.assert_close(exact, p * (f - (p * f).sum()))
    torch.manual_seed(0)
    estimates = score_function_grad(
        lambda z: f[z], lambda logits: Categorical(logits=logits), {"logits": o}, 100_000
    )
    assert estimates["logits"].shape == (100_000, 5)
    assert within(estimates["logits"], exact)


@pytest.mark.verifies("gumbel.eq16")
def test_each_score_function_estimate_is_the_formula():
    params = normal_params()
    torch.manual_seed(3)
    z = Normal(MU, SIGMA).sample((50,)).double()
    torch.manual_seed(3)
    z = Normal(params["loc"].expand(50), params["scale"].expand(50)).sample()
    f = torch.sin(z)
    score = torch.stack([(z - MU) / SIGMA**2, ((z - MU) ** 2 - SIGMA**2) / SIGMA**3], -1)
    others = (f.sum() - f) / 49
    for baseline, weight in ((None, f), (0.3, f - 0.3), ("leave-one-out", f - others)):
        torch.manual_seed(3)
        found = stacked(score_function_grad(torch.sin, Normal, params, 50, baseline))
        torch.testing.assert_close(found, weight[:, None] * score)


@pytest.mark.verifies("gumbel.eq17")
def test_each_reparameterised_estimate_is_the_formula():
    params = normal_params()
    torch.manual_seed(3)
    eps = (Normal(params["loc"].expand(50), params["scale"].expand(50)).sample() - MU) / SIGMA
    torch.manual_seed(3)
    found = stacked(reparam_grad(torch.sin, Normal, params, 50))
    slope = torch.cos(MU + SIGMA * eps)
    torch.testing.assert_close(found, torch.stack([slope, slope * eps], -1))


@pytest.mark.verifies("gumbel.eq15")
def test_the_score_function_is_wrong_where_the_support_moves():
    torch.manual_seed(0)
    box = lambda high: Uniform(torch.zeros_like(high), high)  # noqa: E731
    score = score_function_grad(lambda z: z, box, {"high": 1.0}, 100_000)["high"]
    path = reparam_grad(lambda z: z, box, {"high": 1.0}, 100_000)["high"]
    assert within(score, -0.5)
    assert not within(score, 0.5)
    assert within(path, 0.5)


@pytest.mark.verifies("gumbel.eq17")
def test_a_step_has_no_reparameterised_gradient():
    torch.manual_seed(0)
    step = lambda z: (z > 0).double()  # noqa: E731
    path = reparam_grad(step, Normal, {"loc": 0.0, "scale": 1.0}, 100_000)
    assert (path["loc"] == 0).all()
    assert (path["scale"] == 0).all()
    score = score_function_grad(step, Normal, {"loc": 0.0, "scale": 1.0}, 100_000)["loc"]
    assert within(score, 1 / math.sqrt(2 * math.pi))


@pytest.mark.verifies("gumbel.spread")
def test_the_spread_of_the_article():
    assert np.mean([4, 5, 6]) == np.mean([0, 5, 10]) == 5
    assert (np.var([4, 5, 6]), np.var([0, 5, 10])) == pytest.approx((2 / 3, 50 / 3))


def test_parameters_of_any_shape_and_events():
    mean = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    torch.manual_seed(0)
    fixed = lambda loc: MultivariateNormal(loc, torch.eye(3, dtype=F64))  # noqa: E731
    for estimator in (score_function_grad, reparam_grad):
        found = estimator(lambda z: (z**2).sum(-1), fixed, {"loc": mean}, 100_000)["loc"]
        assert found.shape == (100_000, 3)
        assert within(found, 2 * mean)
    found = score_function_grad(
        lambda z: z.sum((-2, -1)), Bernoulli, {"probs": torch.full((2, 2), 0.3)}, 50_000
    )["probs"]
    assert found.shape == (50_000, 2, 2)
    assert within(found, torch.ones(2, 2))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_found_where_gradients_are_off(context):
    with context():
        for estimator in (score_function_grad, reparam_grad):
            torch.manual_seed(0)
            found = estimator(lambda z: z, Normal, {"loc": torch.tensor(0.5), "scale": 1.0}, 20_000)
            assert within(found["loc"], 1.0)


def test_a_distribution_with_a_memory_has_the_right_score():
    def shifted(loc, scale):
        return TransformedDistribution(Normal(0.0 * loc, 1.0), AffineTransform(loc, scale, cache_size=1))

    torch.manual_seed(0)
    found = score_function_grad(torch.square, shifted, {"loc": 0.5, "scale": 1.0}, 200_000)
    assert within(stacked(found), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("estimator", [score_function_grad, reparam_grad])
def test_a_distribution_that_mixes_the_samples_is_named(estimator):
    for dist in (
        lambda loc: Normal(loc / loc.norm(), 1.0),
        lambda loc: Normal(torch.softmax(loc, 0), 1.0),
        lambda loc: Normal(loc.sum(), 1.0),
    ):
        with pytest.raises(ValueError, match="dist must treat the first axis of its parameters as a batch"):
            estimator(
                lambda z: z.reshape(len(z), -1).sum(-1) if z.ndim else z,
                dist,
                {"loc": torch.tensor([0.5, 1.0])},
                7,
            )


def test_leave_one_out_in_half_precision_does_not_overflow():
    torch.manual_seed(0)
    params = {"loc": torch.tensor(0.0, dtype=torch.float16), "scale": torch.tensor(1.0, dtype=torch.float16)}
    found = score_function_grad(lambda z: z + 5, Normal, params, 50_000, "leave-one-out")
    assert torch.isfinite(found["loc"]).all()
    assert within(found["loc"], 1.0, errors=6)


def test_a_parameter_that_does_not_matter_has_gradient_zero():
    found = reparam_grad(lambda z: z, lambda loc, unused: Normal(loc, 1.0), {"loc": 0.0, "unused": 1.0}, 5)
    assert found["unused"].tolist() == [0] * 5
    assert found["loc"].tolist() == [1] * 5


@pytest.mark.unchecked
@pytest.mark.parametrize("estimator", [score_function_grad, reparam_grad])
@pytest.mark.parametrize(
    ("f", "params", "n", "error", "message"),
    [
        (torch.sin, {"loc": 0.0, "scale": 1.0}, 0, ValueError, "num_samples must be at least 1, got 0"),
        (torch.sin, {"loc": 0.0, "scale": 1.0}, 2.0, TypeError, "num_samples must be an int, got float"),
        (
            torch.sum,
            {"loc": 0.0, "scale": 1.0},
            4,
            ValueError,
            r"f must give values of shape \(4,\), got \(\)",
        ),
        (lambda z: z / 0, {"loc": 0.0, "scale": 1.0}, 4, ValueError, "f must give finite values, got -?inf"),
        (
            lambda z: 1.0,
            {"loc": 0.0, "scale": 1.0},
            4,
            TypeError,
            r"f\(z\) must be a torch.Tensor, got float",
        ),
        (
            torch.sin,
            {"loc": "a", "scale": 1.0},
            4,
            TypeError,
            r"params\['loc'\] must be a torch.Tensor, got str",
        ),
        (
            torch.sin,
            {"loc": torch.tensor(0), "scale": 1.0},
            4,
            TypeError,
            r"params\['loc'\] must have a floating",
        ),
    ],
)
def test_bad_arguments_of_the_estimators_are_named(estimator, f, params, n, error, message):
    with pytest.raises(error, match=message):
        estimator(f, Normal, params, n)


@pytest.mark.unchecked
def test_bad_baselines_and_distributions_are_named():
    params = {"loc": 0.0, "scale": 1.0}
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        score_function_grad(torch.sin, Normal, params, 1, "leave-one-out")
    for bad in ("mean", math.nan, [0.0]):
        with pytest.raises(
            ValueError, match='baseline must be None, a finite number or "leave-one-out", got'
        ):
            score_function_grad(torch.sin, Normal, params, 5, bad)
    with pytest.raises(ValueError, match="dist must give a distribution with rsample, got Categorical"):
        reparam_grad(lambda z: z, lambda logits: Categorical(logits=logits), {"logits": torch.zeros(3)}, 5)


# --- Variances ---------------------------------------------------------------------------------


def exact_variances(f, slope, mu: float, sigma: float, baseline: float = 0.0) -> tuple[float, float]:
    """By quadrature: of the score function's and of the reparameterised estimate of ∂/∂μ."""
    node = np.linspace(-14, 14, 2001)
    weight = np.exp(-(node**2) / 2)
    weight /= weight.sum()
    z = mu + sigma * node
    mean = (weight * slope(z)).sum()
    score = (weight * ((f(z) - baseline) * node / sigma) ** 2).sum() - mean**2
    return score, (weight * slope(z) ** 2).sum() - mean**2


@pytest.mark.verifies("gumbel.claim1")
@settings(max_examples=40)
@given(st.floats(-2, 2), st.floats(0.1, 2))
def test_convex_and_positive_functions_favour_reparameterisation(mu, sigma):
    for f, slope in (
        (np.square, lambda z: 2 * z),
        (np.exp, np.exp),
        (lambda z: np.logaddexp(0, z), lambda z: 1 / (1 + np.exp(-z))),
    ):
        score, path = exact_variances(f, slope, mu, sigma)
        assert path < score


@pytest.mark.verifies("gumbel.claim1")
@settings(max_examples=40)
@given(st.floats(-2, 2), st.floats(0.2, 2), st.floats(-3, 3), st.floats(0.2, 2))
def test_the_difference_of_variances_is_our_identity(mu, sigma, level, rate):
    f = lambda z: np.sin(rate * z) + level + 0.2 * z**2  # noqa: E731
    slope = lambda z: rate * np.cos(rate * z) + 0.4 * z  # noqa: E731
    bend = lambda z: -(rate**2) * np.sin(rate * z) + 0.4  # noqa: E731
    score, path = exact_variances(f, slope, mu, sigma)
    node = np.linspace(-14, 14, 2001)
    weight = np.exp(-(node**2) / 2)
    weight /= weight.sum()
    z = mu + sigma * node
    identity = (weight * (f(z) ** 2 / sigma**2 + slope(z) ** 2 + 2 * f(z) * bend(z))).sum()
    assert score - path == pytest.approx(identity, rel=1e-9, abs=1e-9)


@pytest.mark.verifies("gumbel.claim2")
@settings(max_examples=60)
@given(st.floats(0.1, 4), st.floats(0.1, 2), st.floats(-3, 3))
def test_the_variances_of_a_sine_are_the_closed_forms(omega, sigma, mu):
    s, c = omega * sigma, math.cos(2 * omega * mu)
    fade, mean = math.exp(-2 * s**2), s**2 * (1 + c) / 2 * math.exp(-(s**2))
    score, path = exact_variances(lambda z: np.sin(omega * z), lambda z: omega * np.cos(omega * z), mu, sigma)
    assert sigma**2 * score == pytest.approx((1 - c * (1 - 4 * s**2) * fade) / 2 - mean, abs=1e-9)
    assert sigma**2 * path == pytest.approx(s**2 * (1 + c * fade) / 2 - mean, abs=1e-9)


@pytest.mark.verifies("gumbel.claim2")
def test_the_sine_crosses_once():
    from scipy.optimize import brentq

    difference = lambda s: s**2 - 1 - (3 * s**2 - 1) * math.exp(-2 * s**2)  # noqa: E731
    crossing = brentq(difference, 0.5, 2)
    for s in (0.2, 0.6, 1.0, 0.99 * crossing, 1.01 * crossing, 1.5, 3.0):
        score, path = exact_variances(np.sin, np.cos, 0.0, s)
        assert (path > score) == (s > crossing)


@pytest.mark.verifies("gumbel.reasons")
@pytest.mark.parametrize("level", [0.0, 3.0, 30.0])
def test_a_constant_is_noise_to_the_score_function_alone(level):
    torch.manual_seed(0)
    params = {"loc": torch.tensor(0.0, dtype=F64), "scale": torch.tensor(1.0, dtype=F64)}
    plain, cured = (
        score_function_grad(lambda z: z + level, Normal, params, 100_000, b)["loc"].var()
        for b in (None, "leave-one-out")
    )
    assert float(plain) == pytest.approx(2 + level**2, rel=0.05)
    assert float(cured) == pytest.approx(2, rel=0.05)
    path = reparam_grad(lambda z: z + level, Normal, params, 1000)["loc"]
    assert (path == 1).all()


@pytest.mark.verifies("gumbel.claim3")
def test_cold_gradients_vanish_in_the_median_and_explode_in_variance():
    o = torch.tensor([0.5, 0.3, 0.2], dtype=F64).log()
    w = torch.tensor([0.0, 1.0, -1.0], dtype=F64)
    p, f = o.exp(), w.exp()
    exact = p * (f - (p * f).sum())
    median, mean, variance, bias = [], [], [], []
    for tau in (1.0, 0.1, 0.01):
        leaf = o.repeat(200_000, 1).requires_grad_()
        y = gumbel_softmax(leaf, tau, generator=gen())
        (g,) = torch.autograd.grad(torch.exp(y @ w).sum(), leaf)
        size = g.norm(dim=-1)
        median.append(float(size.median()))
        mean.append(float(size.mean()))
        variance.append(float(g.var(0).sum()))
        bias.append(float((g.mean(0) - exact).norm()))
    assert median[0] > 0.1
    assert median[2] < 1e-6
    assert mean[2] > mean[0]
    assert variance[2] / variance[1] == pytest.approx(10, rel=0.25)
    assert bias[1] < 0.3 * bias[0]


# --- The autoencoder ---------------------------------------------------------------------------


def tiny_vae(seed: int = 0) -> CategoricalVAE:
    torch.manual_seed(seed)
    model = CategoricalVAE(num_latents=2, num_classes=3, channels=(2, 3), hidden_size=4, image_size=4).double()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # far from uniform
    return model


def tiny_image() -> torch.Tensor:
    return torch.randint(2, (1, 4, 4), generator=gen(9)).double()


CODES = one_hot(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3).double()  # all nine


def exact_elbo(model: CategoricalVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ELBO and log-likelihood of one image by enumeration of the nine codes."""
    log_q = model.encode(x).log_softmax(-1)
    log_prob = (CODES * log_q).sum((-2, -1))
    pixels = model.decode(CODES)
    log_likelihood = -torch.nn.functional.softplus(torch.where(x == 1, -pixels, pixels)).sum((-2, -1))
    prior = -2 * math.log(3)
    bound = (log_prob.exp() * (log_likelihood + prior - log_prob)).sum()
    return bound, torch.logsumexp(log_likelihood + prior, 0)


@pytest.mark.verifies("gumbel.claim5")
def test_elbo_against_enumeration():
    model, x = tiny_vae(), tiny_image()
    bound, log_p = exact_elbo(model, x)
    log_q = model.encode(x).log_softmax(-1)
    weights = (CODES * log_q).sum((-2, -1)).exp()
    each = elbo(x.expand(9, -1, -1), model.decode(CODES), model.encode(x).expand(9, -1, -1))
    torch.testing.assert_close((weights * each).sum(), bound)
    assert bound < log_p
    estimates = evaluate_elbo(model, x.expand(20_000, -1, -1), gen(), num_samples=2)
    assert within(estimates, bound.detach())
    assert not estimates.requires_grad


def test_the_bound_is_evaluated_with_one_hot_codes(monkeypatch):
    model, x, seen = tiny_vae(), tiny_image().expand(50, -1, -1), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda z: seen.append(z) or decode(z))
    evaluate_elbo(model, x, gen(), num_samples=3)
    codes = torch.cat(seen)
    assert codes.shape == (150, 2, 3)
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    assert (codes.sum(-1) == 1).all()
    assert len(codes.flatten(1).unique(dim=0)) > 1


def test_the_divergence_is_whole():
    x = torch.zeros(2, 4, 4)
    far = torch.full((2, 4, 4), -100.0)  # log p(x|z) = 0
    assert elbo(x, far, torch.zeros(2, 5, 7)).tolist() == pytest.approx([0, 0], abs=1e-5)
    certain = 1000 * one_hot(torch.zeros(2, 5, dtype=torch.long), 7).float()
    assert elbo(x, far, certain).tolist() == pytest.approx([-5 * math.log(7)] * 2)
    impossible = torch.zeros(2, 5, 7)
    impossible[..., 3:] = -math.inf
    impossible.requires_grad_()
    bound = elbo(x, far, impossible)
    assert bound.tolist() == pytest.approx([-5 * math.log(7 / 3)] * 2)
    assert torch.isfinite(torch.autograd.grad(bound.sum(), impossible)[0]).all()


def loss_gradient(model, estimator, tau=1.0, copies=40_000, seed=0):
    """Mean gradient of the encoder's last layer and the decoder's first over many draws, in parts."""
    x = tiny_image().expand(copies // 20, -1, -1)
    parts = []
    for i in range(20):
        noise = gumbel_noise((2 if estimator == "rloo" else 1, copies // 20, 2, 3), gen(seed + i), F64)
        loss, _ = vae_loss(model, x, noise, estimator, tau)
        layers = (model.encoder[-1].weight, model.decoder[0].weight)
        parts.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, layers)]))
    return torch.stack(parts)


@pytest.mark.slow
@pytest.mark.verifies("gumbel.claim5")
@pytest.mark.parametrize("estimator", ["score", "score_baseline", "rloo"])
def test_score_function_losses_have_the_gradient_of_the_elbo(estimator):
    model = tiny_vae()
    bound, _ = exact_elbo(model, tiny_image())
    layers = (model.encoder[-1].weight, model.decoder[0].weight)
    truth = -torch.cat([g.flatten() for g in torch.autograd.grad(bound, layers)])
    assert truth[:24].norm() > 0.1
    assert within(loss_gradient(model, estimator), truth, errors=5)


@pytest.mark.parametrize("estimator", ["score", "score_baseline", "rloo"])
def test_score_function_losses_are_the_formula(estimator):
    model, samples = tiny_vae(), 2 if estimator == "rloo" else 1
    x = torch.randint(2, (5, 4, 4), generator=gen(8)).double()
    noise = gumbel_noise((samples, 5, 2, 3), gen(), F64)
    loss, _ = vae_loss(model, x, noise, estimator)
    logits = model.encode(x)
    log_q = logits.log_softmax(-1)
    z = one_hot((logits + noise).argmax(-1), 3).double()  # (samples, 5, 2, 3)
    pixels = model.decode(z.flatten(0, 1)).unflatten(0, (samples, 5))
    f = (x * pixels - torch.nn.functional.softplus(pixels)).sum((-2, -1))
    weight = f.detach().clone()
    if estimator == "score_baseline":
        weight -= torch.stack([torch.cat([f[:, :i], f[:, i + 1 :]], 1).mean(1) for i in range(5)], 1).detach()
    if estimator == "rloo":
        weight -= weight.flip(0)
    kl = (log_q.exp() * (log_q + math.log(3))).sum((-2, -1))
    expected = -(f - kl + weight * (z * log_q).sum((-2, -1))).mean()
    torch.testing.assert_close(loss, expected)
    layers = list(model.parameters())
    for found, right in zip(
        torch.autograd.grad(loss, layers), torch.autograd.grad(expected, layers), strict=True
    ):
        torch.testing.assert_close(found, right)


@pytest.mark.slow
def test_the_relaxed_losses_have_a_gradient_that_is_near_in_the_cold():
    model = tiny_vae()
    bound, _ = exact_elbo(model, tiny_image())
    (truth,) = torch.autograd.grad(-bound, model.encoder[-1].weight)
    warm, cold = (
        float((loss_gradient(model, "gumbel", tau).mean(0)[:24] - truth.flatten()).norm() / truth.norm())
        for tau in (2.0, 0.1)
    )
    assert cold < 0.5 * warm
    straight = loss_gradient(model, "straight_through", 0.5)
    decoder = torch.autograd.grad(-exact_elbo(model, tiny_image())[0], model.decoder[0].weight)[0]
    assert within(straight[:, 24:], decoder.flatten(), errors=5)  # one-hot codes: exact for the decoder


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_bound_that_is_reported_is_that_of_the_samples(estimator):
    model, x = tiny_vae(), tiny_image().expand(6, -1, -1)
    noise = gumbel_noise((2 if estimator == "rloo" else 1, 6, 2, 3), gen(), F64)
    loss, bound = vae_loss(model, x, noise, estimator, 0.5)
    logits = model.encode(x)
    each = []
    for g in noise:
        z = torch.softmax((logits + g) / 0.5, -1)
        if estimator != "gumbel":
            z = one_hot(z.argmax(-1), 3).double()
        each.append(elbo(x, model.decode(z), logits))
    torch.testing.assert_close(bound, torch.stack(each).mean().detach())
    if estimator in ("gumbel", "straight_through"):
        torch.testing.assert_close(loss.detach(), -bound)


@pytest.mark.parametrize("estimator", ["gumbel", "rloo"])
def test_a_function_may_stand_for_the_model(estimator):
    model, samples = tiny_vae(), 2 if estimator == "rloo" else 1
    x = torch.randint(2, (5, 4, 4), generator=gen(8)).double()
    noise = gumbel_noise((samples, 5, 2, 3), gen(), F64)
    last = model.encoder[-1]
    with torch.no_grad():
        hidden = model.encoder[:-1](x.unsqueeze(1)).repeat(samples, 1)

    def from_last_layer(x, sample):
        logits = last(hidden).unflatten(1, (2, 3))
        z = sample(logits)
        return logits, z, model.decode(z)

    losses = [vae_loss(m, x, noise, estimator)[0] for m in (model, from_last_layer)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, last.weight)[0] for loss in losses))


def test_the_vae_of_the_article():
    model = CategoricalVAE()
    x = torch.randint(2, (3, 28, 28), generator=gen()).float()
    logits, z, pixels = model(x, lambda scores: gumbel_softmax(scores, generator=gen()))
    assert logits.shape == z.shape == (3, 32, 10)
    assert pixels.shape == x.shape
    assert [tuple(layer.weight.shape) for layer in model.encoder if hasattr(layer, "weight")] == [
        (32, 1, 3, 3),
        (64, 32, 3, 3),
        (32, 64 * 7 * 7),
        (320, 32),
    ]
    assert [type(layer).__name__ for layer in model.decoder] == [
        "Linear",
        "ReLU",
        "Linear",
        "ReLU",
        "Unflatten",
        "ConvTranspose2d",
        "ReLU",
        "ConvTranspose2d",
    ]
    # The code's entries go to the decoder variable by variable.
    torch.testing.assert_close(model.decode(z), model.decoder(z.reshape(3, 320)).squeeze(1))


@pytest.mark.unchecked
def test_bad_arguments_of_the_vae_are_named():
    for name in ("num_latents", "num_classes", "hidden_size", "image_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            CategoricalVAE(**{name: 0})
    with pytest.raises(ValueError, match=r"channels\[1\] must be at least 1, got -2"):
        CategoricalVAE(channels=(1, -2))
    with pytest.raises(ValueError, match="image_size must be a multiple of 4, got 30"):
        CategoricalVAE(image_size=30)
    x = torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match=r"x must be 0 or 1, got 0\.5"):
        elbo(x + 0.5, x, torch.zeros(2, 5, 7))
    for shapes in (
        ((2, 4, 4), (1, 4, 4), (2, 5, 7)),
        ((2, 1, 4, 4), (2, 4, 4), (2, 5, 7)),
        ((2, 4, 4), (2, 4, 4), (2, 7)),
    ):
        with pytest.raises(ValueError, match="must have fitting shapes of 3 axes"):
            elbo(*map(torch.zeros, shapes))
    with pytest.raises(ValueError, match="logits must be finite or −∞, got nan"):
        elbo(x, x, torch.full((2, 5, 7), math.nan))
    with pytest.raises(TypeError, match="x must have a floating-point dtype"):
        elbo(x.long(), x, torch.zeros(2, 5, 7))
    with pytest.raises(ValueError, match=r"channels must be two numbers, got \(1, 2, 3\)"):
        CategoricalVAE(channels=(1, 2, 3))
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        evaluate_elbo(tiny_vae(), x.double(), gen(), num_samples=0)
    with pytest.raises(ValueError, match=r"estimator must be one of .*, got 'magic'"):
        vae_loss(tiny_vae(), x, torch.zeros(1, 2, 2, 3), "magic")
    with pytest.raises(ValueError, match="noise must hold 2 samples for 'rloo', got 1"):
        vae_loss(tiny_vae(), x, torch.zeros(1, 2, 2, 3), "rloo")
    with pytest.raises(ValueError, match="tau must be positive and finite"):
        vae_loss(tiny_vae(), x.double(), torch.zeros(1, 2, 2, 3), "gumbel", 0.0)
    for shape in ((1, 1, 2, 3), (1, 2, 1, 3), (1, 2, 2, 1), (1, 2, 3)):
        with pytest.raises(ValueError, match=r"noise must have the shape \(1, 2, 2, 3\), got"):
            vae_loss(tiny_vae(), x.double(), torch.zeros(shape, dtype=F64))
    with pytest.raises(ValueError, match=r"x must be 0 or 1, got 7\.0"):
        vae_loss(tiny_vae(), x.double() + 7, torch.zeros(1, 2, 2, 3))
    with pytest.raises(ValueError, match="x must hold enough images for 'score_baseline', got 1"):
        vae_loss(tiny_vae(), x[:1].double(), torch.zeros(1, 1, 2, 3), "score_baseline")
    with pytest.raises(TypeError, match="noise must have a floating-point dtype"):
        vae_loss(tiny_vae(), x.double(), torch.zeros(1, 2, 2, 3, dtype=torch.long))


# --- Faults ------------------------------------------------------------------------------------


def one_logarithm(shape, generator=None, dtype=torch.float32, device=None):
    return -torch.log(torch.rand(shape, generator=generator, dtype=F64)).to(dtype)


def flipped_sign(*arguments, **options):
    return -gumbel_noise(*arguments, **options)


def multiplies_tau(logits, tau=1.0, hard=False, dim=-1, generator=None):
    return gumbel.gumbel_softmax(logits, 1 / tau, hard, dim, generator)


def forgets_noise(logits, tau=1.0, hard=False, dim=-1, generator=None):
    return torch.softmax(logits / tau, dim)


def forgets_f(f, dist, params, num_samples, baseline=None):
    return gumbel.score_function_grad(torch.ones_like, dist, params, num_samples, baseline)


def drops_the_noise(f, dist, params, num_samples):
    found = gumbel.reparam_grad(f, dist, params, num_samples)
    return {name: g.mean().expand_as(g) for name, g in found.items()}


def forgets_the_constant(x, pixel_logits, logits):
    return gumbel.elbo(x, pixel_logits, logits) + logits.shape[-2] * math.log(logits.shape[-1])


def includes_itself(values, dim=0):
    return values.mean(dim, keepdim=True)


# The verifier, what is replaced in the module or in this file, and by what.
@pytest.mark.unchecked
@pytest.mark.parametrize("estimate", [reparam_grad, score_function_grad])
@pytest.mark.parametrize("samples", [2, 3])
def test_parameters_that_mix_the_samples_are_named(estimate, samples):
    """A scale for each sample would be broadcast along the coordinates; with two samples nothing else shows it."""
    mixed = {"loc": torch.zeros(2), "scale": 1.0}
    with pytest.raises(ValueError, match="dist must treat the first axis of its parameters as a batch"):
        estimate(lambda z: 1000 * z[:, 1] ** 2, Normal, mixed, samples)
    apart = {"loc": torch.zeros(2), "scale": torch.ones(2)}
    assert estimate(lambda z: 1000 * z[:, 1] ** 2, Normal, apart, samples)["scale"].shape == (samples, 2)


def test_a_density_without_a_finite_derivative_is_not_taken_for_a_mixture():
    def constant(a):
        return Normal(torch.zeros_like(a).detach(), torch.ones_like(a).detach())

    found = score_function_grad(lambda z: z.sum(-1), constant, {"a": torch.zeros(3)}, 4)
    assert torch.equal(found["a"], torch.zeros(4, 3))
    found = score_function_grad(lambda z: z, torch.distributions.Poisson, {"rate": 0.0}, 3)
    assert found["rate"].shape == (3,)


@pytest.mark.unchecked
def test_what_else_hostile_inputs_found_is_named():
    model, x = CategoricalVAE(2, 3, (2, 2), 4, 8), torch.zeros(2, 8, 8)
    noise = gumbel_noise((1, 2, 2, 3))
    cases = [
        (lambda: gumbel_noise((True, 2)), TypeError, "shape must be a tuple of ints"),
        (lambda: reparam_grad(lambda z: z, Normal, [1], 2), TypeError, r"params must be a mapping of at least one parameter, got \[1\]"),
        (lambda: reparam_grad(lambda z: z, Normal, {}, 2), TypeError, "params must be a mapping of at least one parameter"),
        (lambda: vae_loss(model, None, noise), TypeError, "x must be a torch.Tensor, got NoneType"),
        (lambda: vae_loss(model, x[0], noise), ValueError, r"x must have shape \(batch, height, width\), got \(8, 8\)"),
        (lambda: vae_loss(model, x.double(), noise), TypeError, "x must have the weights' dtype torch.float32, got torch.float64"),
        (lambda: elbo(x, x, torch.full((2, 2, 3), math.nan)), ValueError, "logits must be finite or −∞, got nan"),
        (lambda: elbo(x, x + math.nan, torch.zeros(2, 2, 3)), ValueError, "pixel_logits must be finite"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


FAULTS = [
    (lambda: test_gumbel_max_draws_from_p(MIXED), gumbel, "gumbel_noise", one_logarithm),
    (lambda: test_gumbel_max_draws_from_p(SKEWED), gumbel, "gumbel_noise", flipped_sign),
    (test_noise_has_the_distribution_of_gumbel, None, "gumbel_noise", one_logarithm),
    (test_gumbel_softmax_tends_to_one_hot_and_to_uniform, None, "gumbel_softmax", multiplies_tau),
    (test_cooling_softmax_finds_the_mode_and_gumbel_softmax_samples, None, "gumbel_softmax", forgets_noise),
    (lambda: test_score_function_gradients_are_unbiased("sin", None), None, "score_function_grad", forgets_f),
    (test_each_reparameterised_estimate_is_the_formula, None, "reparam_grad", drops_the_noise),
    (test_the_divergence_is_whole, None, "elbo", forgets_the_constant),
    (test_each_score_function_estimate_is_the_formula, gumbel, "leave_one_out", includes_itself),
]  # fmt: skip
