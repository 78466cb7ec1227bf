"""Mathematics of kexue.gumbel.estimators: integrals, closed forms, enumeration, variances, bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.optimize import brentq
from seeded import F64, gen, randn, within
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    MultivariateNormal,
    Normal,
    Poisson,
    TransformedDistribution,
    Uniform,
)

from kexue import gumbel
from kexue.gumbel import reparam_grad, score_function_grad

MU, SIGMA = 0.6, 0.8
PARAMS = {"loc": torch.tensor(MU, dtype=F64), "scale": torch.tensor(SIGMA, dtype=F64)}


CASES = {  # f, and the mean of f(z) under N(μ, σ²)
    "square": (torch.square, lambda m, s: m**2 + s**2),
    "exp": (torch.exp, lambda m, s: torch.exp(m + s**2 / 2)),
    "sin": (torch.sin, lambda m, s: torch.exp(-(s**2) / 2) * torch.sin(m)),
}


NORMAL = {"loc": 0.0, "scale": 1.0}


def closed_form(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    theta = torch.tensor([MU, SIGMA], dtype=F64, requires_grad=True)
    value = CASES[name][1](*theta)
    return value.detach(), torch.autograd.grad(value, theta)[0]


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
    eps = randn(200_000)
    assert within(f(MU + SIGMA * eps), value)


@pytest.mark.verifies("gumbel.eq4", "gumbel.eq5", "gumbel.eq15", "gumbel.eq16", "gumbel.eq17")
@pytest.mark.parametrize("baseline", ["reparameterised", None, 1.5, "leave-one-out"])
@pytest.mark.parametrize("name", list(CASES))
def test_gradients_are_unbiased(name, baseline):
    torch.manual_seed(0)
    given = (CASES[name][0], Normal, PARAMS, 200_000)
    path = baseline == "reparameterised"
    found = reparam_grad(*given) if path else score_function_grad(*given, baseline)
    assert within(stacked(found), closed_form(name)[1])


@pytest.mark.verifies("gumbel.eq6", "gumbel.eq7", "gumbel.eq15")
def test_discrete_gradients_against_enumeration():
    o = torch.randn(5, generator=gen(1), dtype=F64, requires_grad=True)
    f = randn(5, seed=2)
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
    torch.manual_seed(3)
    z = Normal(PARAMS["loc"].expand(50), PARAMS["scale"].expand(50)).sample()
    f = torch.sin(z)
    score = torch.stack([(z - MU) / SIGMA**2, ((z - MU) ** 2 - SIGMA**2) / SIGMA**3], -1)
    others = (f.sum() - f) / 49
    for baseline, weight in ((None, f), (0.3, f - 0.3), ("leave-one-out", f - others)):
        torch.manual_seed(3)
        found = stacked(score_function_grad(torch.sin, Normal, PARAMS, 50, baseline))
        torch.testing.assert_close(found, weight[:, None] * score)


@pytest.mark.verifies("gumbel.eq17")
def test_each_reparameterised_estimate_is_the_formula():
    torch.manual_seed(3)
    eps = (Normal(PARAMS["loc"].expand(50), PARAMS["scale"].expand(50)).sample() - MU) / SIGMA
    torch.manual_seed(3)
    found = stacked(reparam_grad(torch.sin, Normal, PARAMS, 50))
    slope = torch.cos(MU + SIGMA * eps)
    torch.testing.assert_close(found, torch.stack([slope, slope * eps], -1))


@pytest.mark.fails("gumbel.eq15")
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
    path = reparam_grad(step, Normal, NORMAL, 100_000)
    assert (path["loc"] == 0).all()
    assert (path["scale"] == 0).all()
    score = score_function_grad(step, Normal, NORMAL, 100_000)["loc"]
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
    probs = {"probs": torch.full((2, 2), 0.3)}
    found = score_function_grad(lambda z: z.sum((-2, -1)), Bernoulli, probs, 50_000)["probs"]
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
@pytest.mark.parametrize(
    "dist", [lambda loc: Normal(loc / loc.norm(), 1.0), lambda loc: Normal(torch.softmax(loc, 0), 1.0), lambda loc: Normal(loc.sum(), 1.0)]
)  # fmt: skip
def test_a_distribution_that_mixes_the_samples_is_named(estimator, dist):
    loc = torch.tensor([0.5, 1.0])
    with pytest.raises(ValueError, match="dist must treat the first axis of its parameters as a batch"):
        estimator(lambda z: z.reshape(len(z), -1).sum(-1) if z.ndim else z, dist, {"loc": loc}, 7)


# The verifier, what is replaced in the module or in this file, and by what.
@pytest.mark.parametrize("estimate", [reparam_grad, score_function_grad])
@pytest.mark.parametrize("samples", [2, 3])
def test_parameters_that_mix_the_samples_are_named(estimate, samples):
    """A scale for each sample would be broadcast along the coordinates; with two samples nothing else shows it."""
    f = lambda z: 1000 * z[:, 1] ** 2  # noqa: E731
    with pytest.raises(ValueError, match="dist must treat the first axis of its parameters as a batch"):
        estimate(f, Normal, {"loc": torch.zeros(2), "scale": 1.0}, samples)
    apart = {"loc": torch.zeros(2), "scale": torch.ones(2)}
    assert estimate(f, Normal, apart, samples)["scale"].shape == (samples, 2)


def test_a_density_without_a_finite_derivative_is_not_taken_for_a_mixture():
    def constant(a):
        return Normal(torch.zeros_like(a).detach(), torch.ones_like(a).detach())

    found = score_function_grad(lambda z: z.sum(-1), constant, {"a": torch.zeros(3)}, 4)
    assert torch.equal(found["a"], torch.zeros(4, 3))
    found = score_function_grad(lambda z: z, Poisson, {"rate": 0.0}, 3)
    assert found["rate"].shape == (3,)


def test_leave_one_out_in_half_precision_does_not_overflow():
    torch.manual_seed(0)
    half = {"loc": torch.tensor(0.0).half(), "scale": torch.tensor(1.0).half()}
    found = score_function_grad(lambda z: z + 5, Normal, half, 50_000, "leave-one-out")
    assert torch.isfinite(found["loc"]).all()
    assert within(found["loc"], 1.0, errors=6)


def test_a_parameter_that_does_not_matter_has_gradient_zero():
    found = reparam_grad(lambda z: z, lambda loc, unused: Normal(loc, 1.0), {"loc": 0.0, "unused": 1.0}, 5)
    assert found["unused"].tolist() == [0] * 5
    assert found["loc"].tolist() == [1] * 5


BAD = [
    (torch.sin, NORMAL, 0, ValueError, "num_samples must be at least 1, got 0"),
    (torch.sum, NORMAL, 4, ValueError, r"f must give values of shape \(4,\), got \(\)"),
    (lambda z: z / 0, NORMAL, 4, ValueError, "f must give finite values, got -?inf"),
    (torch.sin, NORMAL | {"loc": "a"}, 4, TypeError, r"params\['loc'\] must be a torch.Tensor, got str"),
    (torch.sin, [1], 4, TypeError, r"params must be a mapping of at least one parameter, got \[1\]"),
    (torch.sin, {}, 4, TypeError, "params must be a mapping of at least one parameter, got {}"),
]


@pytest.mark.unchecked
@pytest.mark.parametrize("estimator", [score_function_grad, reparam_grad])
@pytest.mark.parametrize(("f", "params", "n", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_named(estimator, f, params, n, error, message):
    with pytest.raises(error, match=message):
        estimator(f, Normal, params, n)


@pytest.mark.unchecked
def test_bad_baselines_and_distributions_are_named():
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        score_function_grad(torch.sin, Normal, NORMAL, 1, "leave-one-out")
    for bad in ("mean", math.nan, [0.0]):
        with pytest.raises(
            ValueError, match='baseline must be None, a finite number or "leave-one-out", got'
        ):
            score_function_grad(torch.sin, Normal, NORMAL, 5, bad)
    with pytest.raises(ValueError, match="dist must give a distribution with rsample, got Categorical"):
        reparam_grad(lambda z: z, lambda logits: Categorical(logits=logits), {"logits": torch.zeros(3)}, 5)


# --- Variances ---------------------------------------------------------------------------------


def quadrature(mu: float, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise, its weights, and what a normal distribution makes of it."""
    node = np.linspace(-14, 14, 2001)
    weight = np.exp(-(node**2) / 2)
    return node, weight / weight.sum(), mu + sigma * node


def exact_variances(f, slope, mu: float, sigma: float) -> tuple[float, float]:
    """Of the score function's and of the reparameterised estimate of ∂/∂μ."""
    node, weight, z = quadrature(mu, sigma)
    mean = (weight * slope(z)).sum()
    score = (weight * (f(z) * node / sigma) ** 2).sum() - mean**2
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
    _, weight, z = quadrature(mu, sigma)
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


# --- Faults: the verifier, what is replaced in the package or in this file, and by what --------


def drops_the_noise(f, dist, params, num_samples):
    found = gumbel.reparam_grad(f, dist, params, num_samples)
    return {name: g.mean().expand_as(g) for name, g in found.items()}


FAULTS = [
    (lambda: test_gradients_are_unbiased("sin", None), None, "score_function_grad", lambda f, *given: gumbel.score_function_grad(torch.ones_like, *given)),
    (test_each_reparameterised_estimate_is_the_formula, None, "reparam_grad", drops_the_noise),
    (test_each_score_function_estimate_is_the_formula, gumbel, "leave_one_out", lambda values, dim=0: values.mean(dim, keepdim=True)),
]  # fmt: skip
