"""Reparameterisation: from the normal distribution to Gumbel-Softmax, and the score function beside it.

Source: 苏剑林, 《漫谈重参数：从正态分布到Gumbel Softmax》, https://kexue.fm/archives/6705.
The ids in brackets (gumbel.eq8) are rows of the ledger.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, one_hot, softmax

from kexue.nn import checks
from kexue.nn.autograd import straight_through as straight_through

__all__ = [
    "ESTIMATORS",
    "CategoricalVAE",
    "Estimator",
    "Gradients",
    "Params",
    "elbo",
    "evaluate_elbo",
    "gumbel_max",
    "gumbel_noise",
    "gumbel_softmax",
    "reparam_grad",
    "score_function_grad",
    "straight_through",
    "vae_loss",
]

# --- Gumbel noise, Gumbel-Max, Gumbel-Softmax --------------------------------------------------


def gumbel_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "..."]:
    """Standard Gumbel noise, g = −log(−log u) with u uniform on (0, 1).

    Mean γ ≈ 0.5772, variance π²/6, P(g ≤ x) = exp(−exp(−x)). Always finite, and nothing is clamped: u is
    the midpoint of one of 2⁵² equal cells of (0, 1), which float64 holds exactly, so that neither
    logarithm meets 0. Only then is the result rounded to `dtype`. The device that draws must know float64.

    Args:
        shape: of the result.
        generator: of random numbers, on any device; torch's global one if None.
        dtype: a floating-point dtype.
        device: of the result; the generator's if None, or torch's default.

    Raises:
        TypeError: dtype is not a floating-point dtype, shape no tuple of ints, generator not torch's.
        ValueError: a negative size in shape.
    """
    if dtype not in checks.FLOATING:
        raise TypeError(f"dtype must be a floating-point dtype of 16 to 64 bits, got {dtype}")
    if not isinstance(shape, tuple) or not all(
        isinstance(size, int) and not isinstance(size, bool) for size in shape
    ):
        raise TypeError(f"shape must be a tuple of ints, got {shape!r}")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape must not have negative sizes, got {tuple(shape)}")
    checks.generator(generator)
    source = device if generator is None else generator.device
    cell = torch.randint(2**52, tuple(shape), generator=generator, device=source)
    uniform = (cell.double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform)).to(device=source if device is None else device, dtype=dtype)


def gumbel_max(
    logits: Float[Tensor, "*batch classes"], generator: torch.Generator | None = None
) -> Integer[Tensor, "*batch"]:
    """A sample of Categorical(softmax(logits)): argmaxᵢ (logitsᵢ + gᵢ) with Gumbel noise g.

    Exact, for any constant that is added to the logits (gumbel.eq8). A logit of −∞ is a class with
    probability 0. Half precision is computed in float32, where ties have no weight.

    Args:
        logits: log-probabilities up to a constant, over the last axis.
        generator: of random numbers, on any device; torch's global one if None.

    Raises:
        TypeError: logits are not a floating-point tensor.
        ValueError: logits empty along the last axis, NaN, +∞, or all −∞ in some row.
    """
    _check_logits(logits, -1)
    scores = _from_the_top(checks.working(logits.detach()), -1)
    return (scores + gumbel_noise(scores.shape, generator, scores.dtype, scores.device)).argmax(-1)


def gumbel_softmax(
    logits: Float[Tensor, "..."],
    tau: float = 1.0,
    hard: bool = False,
    dim: int = -1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "..."]:
    """A differentiable, nearly one-hot sample: softmax((logits + g)/τ) with Gumbel noise g.

    The largest entry is at argmax(logits + g), a sample of Categorical(softmax(logits)); the vector
    tends to its one-hot vector as τ → 0 and to the uniform one as τ → ∞ (gumbel.eq9, gumbel.eq10).

    Args:
        logits: log-probabilities up to a constant, along `dim`; −∞ is a class with probability 0.
        tau: temperature τ, positive.
        hard: give the one-hot vector itself, with the gradient of the soft one (straight-through).
        dim: the axis of the classes.
        generator: of random numbers, on any device; torch's global one if None.

    Raises:
        TypeError: logits are not a floating-point tensor, or tau is not a number.
        ValueError: tau not positive and finite; `dim` not an axis of logits; logits empty along it, NaN,
            +∞, or all −∞ in some row.
    """
    _check_logits(logits, dim)
    checks.positive("tau", tau, logits)
    scores = _from_the_top(checks.working(logits), dim)
    noise = gumbel_noise(scores.shape, generator, scores.dtype, scores.device)
    return _relax(scores, noise, float(tau), hard, dim).to(logits.dtype)


def _from_the_top(scores: Tensor, dim: int) -> Tensor:
    # Large logits would swallow the noise; only their differences count.
    return scores - scores.detach().amax(dim, keepdim=True)


def _relax(
    scores: Float[Tensor, "..."], noise: Float[Tensor, "..."], tau: float, hard: bool, dim: int = -1
) -> Float[Tensor, "..."]:
    noisy = scores + noise
    # Subtracting a constant changes nothing but the range: no exponent is positive, however small τ is.
    soft = softmax((noisy - noisy.detach().amax(dim, keepdim=True)) / tau, dim)
    if not hard:
        return soft
    onehot = torch.zeros_like(soft).scatter(dim, noisy.argmax(dim, keepdim=True), 1.0)
    return straight_through(onehot, soft)


def _check_logits(logits: Tensor, dim: int) -> None:
    checks.floating("logits", logits)
    checks.axis("logits", logits, dim)
    bad = torch.isnan(logits) | (logits == torch.inf)
    if bad.any():
        raise ValueError(f"logits must be finite or −∞, got {logits.detach()[bad][0].item()}")
    if torch.isneginf(logits).all(dim).any():
        raise ValueError("logits must leave at least one class possible, got a row of −∞ only")


# --- Two estimators of the gradient of E[f(z)] -------------------------------------------------

Params = Mapping[str, Tensor | float]
Gradients = dict[str, Float[Tensor, "num_samples ..."]]


def score_function_grad(
    f: Callable[[Tensor], Tensor],
    dist: Callable[..., Distribution],
    params: Params,
    num_samples: int,
    baseline: float | Literal["leave-one-out"] | None = None,
) -> Gradients:
    """One-sample estimates of ∂E[f(z)]/∂θ by the score function, (f(z) − b)·∂log p_θ(z)/∂θ.

    Unbiased where the support of p_θ does not depend on θ (gumbel.eq15, gumbel.eq16); f need not be
    differentiable. Draws from torch's global generator.

    Args:
        f: maps samples (num_samples, …) to values (num_samples,).
        dist: `dist(**params)` gives a torch distribution. It is called with parameters that have an axis of
            samples in front, and must treat that as a batch, as torch's distributions do.
        params: the parameters θ by name, floating point, of any shape.
        num_samples: how many independent samples to draw.
        baseline: the constant b; or "leave-one-out", the mean of f over the other samples (RLOO;
            Kool, van Hoof and Welling 2019), for which the estimates of one call are no longer independent.

    Returns:
        For each parameter the estimates, (num_samples, …); their mean estimates the gradient.

    Raises:
        TypeError: a parameter is neither a floating-point tensor nor a number; f does not give a tensor.
        ValueError: num_samples < 1, or < 2 with "leave-one-out"; f gives another shape than (num_samples,)
            or values that are not finite; another baseline than described; dist mixes the samples.
    """
    if not (baseline is None or baseline == "leave-one-out" or _is_number(baseline)):
        raise ValueError(f'baseline must be None, a finite number or "leave-one-out", got {baseline!r}')
    checks.count("num_samples", num_samples, 2 if baseline == "leave-one-out" else 1)
    with torch.inference_mode(False), torch.enable_grad():
        leaves = _one_copy_per_sample(params, num_samples)
        distribution = _batched(dist, leaves)
        z = distribution.sample().clone()  # transformed distributions may remember theirs
        _check_batch(dist, leaves, distribution, z)
        log_prob = distribution.log_prob(z).reshape(num_samples, -1).sum(-1)
        weight = checks.working(_values(f, z, num_samples).detach())
        if baseline == "leave-one-out":
            weight = weight - _leave_one_out(weight)
        elif baseline is not None:
            weight = weight - baseline
        return _gradients((weight * log_prob).sum(), leaves)


def reparam_grad(
    f: Callable[[Tensor], Tensor], dist: Callable[..., Distribution], params: Params, num_samples: int
) -> Gradients:
    """One-sample estimates of ∂E[f(z)]/∂θ by reparameterisation, ∂f(g_θ(ε))/∂θ with z = g_θ(ε).

    Unbiased for differentiable f (gumbel.eq17); where f is a step it is 0, whatever the truth. Draws
    from torch's global generator.

    Args:
        f: maps samples (num_samples, …) to values (num_samples,), differentiably.
        dist: as for `score_function_grad`, with `rsample`.
        params: the parameters θ by name, floating point, of any shape.
        num_samples: how many independent samples to draw.

    Returns:
        For each parameter the estimates, (num_samples, …); their mean estimates the gradient.

    Raises:
        TypeError: a parameter is neither a floating-point tensor nor a number; f does not give a tensor.
        ValueError: num_samples < 1; a distribution without `rsample`; f gives another shape than
            (num_samples,) or values that are not finite; dist mixes the samples.
    """
    checks.count("num_samples", num_samples, 1)
    with torch.inference_mode(False), torch.enable_grad():
        leaves = _one_copy_per_sample(params, num_samples)
        distribution = _batched(dist, leaves)
        if not distribution.has_rsample:
            raise ValueError(f"dist must give a distribution with rsample, got {type(distribution).__name__}")
        z = distribution.rsample()
        _check_batch(dist, leaves, distribution, z.detach().clone())
        return _gradients(_values(f, z, num_samples).sum(), leaves)


def _one_copy_per_sample(params: Params, num_samples: int) -> dict[str, Tensor]:
    # A copy for each sample: the gradient of a sum over samples then has one entry for each of them.
    if not isinstance(params, Mapping) or not params:
        raise TypeError(f"params must be a mapping of at least one parameter, got {params!r}")
    leaves = {}
    for name, given in params.items():
        value = torch.tensor(float(given)) if _is_number(given) else given
        checks.floating(f"params[{name!r}]", value)
        assert isinstance(value, Tensor)
        copies = value.detach().expand(num_samples, *value.shape).clone()
        leaves[name] = copies.requires_grad_()
    return leaves


MIXED = "dist must treat the first axis of its parameters as a batch, but its samples are mixed"


def _batched(dist: Callable[..., Distribution], leaves: dict[str, Tensor]) -> Distribution:
    try:
        return dist(**leaves)
    except (RuntimeError, ValueError) as error:
        dist(**{name: leaf[0] for name, leaf in leaves.items()})  # wrong for one sample, too: says so
        raise ValueError(MIXED) from error


def _check_batch(
    dist: Callable[..., Distribution], leaves: dict[str, Tensor], distribution: Distribution, z: Tensor
) -> None:
    """Raises ValueError unless the first sample's density is that of its own parameters, and of no others."""
    if distribution.batch_shape[:1] != next(iter(leaves.values())).shape[:1]:
        raise ValueError(MIXED)
    with torch.no_grad():
        alone = dist(**{name: leaf[0] for name, leaf in leaves.items()}).log_prob(z[0])
    together = distribution.log_prob(z.clone())[0]
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        raise ValueError(MIXED)
    # Equal parameters would hide a mixture of them: of others' parameters the density is no function.
    if not together.requires_grad:
        return
    grads = torch.autograd.grad(
        together.sum(), list(leaves.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    # NaN is 0·∞, of a density whose derivative is not finite, and says nothing of a mixture.
    if any(bool((grad[1:].nan_to_num(0.0) != 0).any()) for grad in grads):
        raise ValueError(MIXED)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _leave_one_out(values: Tensor, dim: int = 0) -> Tensor:
    """For each entry the mean of the others along `dim`."""
    return (values.sum(dim, keepdim=True) - values) / (values.shape[dim] - 1)


def _values(f: Callable[[Tensor], Tensor], z: Tensor, num_samples: int) -> Tensor:
    values = f(z)
    checks.tensor("f(z)", values)
    if values.shape != (num_samples,):
        raise ValueError(f"f must give values of shape ({num_samples},), got {tuple(values.shape)}")
    finite = torch.isfinite(values)
    if not finite.all():
        raise ValueError(f"f must give finite values, got {values.detach()[~finite][0].item()}")
    return values


def _gradients(total: Tensor, leaves: dict[str, Tensor]) -> Gradients:
    if not total.requires_grad:  # f is constant as far as autograd can see: a step
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


# --- An autoencoder with discrete latents ------------------------------------------------------

Estimator = Literal["gumbel", "straight_through", "score", "score_baseline", "rloo"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


class CategoricalVAE(nn.Module):
    """A variational autoencoder of binary images whose code is a list of categorical variables.

    q(z|x) = ∏ₗ Categorical(zₗ; softmax(encode(x)ₗ)), p(z) uniform, p(x|z) = ∏ Bernoulli(decode(z))
    (gumbel.claim5). Two convolutions with stride 2, and the same transposed; no batch statistics.

    Args:
        num_latents: L, the categorical variables.
        num_classes: K, the classes of each.
        channels: of the two convolutions.
        hidden: units of the dense layer on either side of the code.
        size: height and width of the images, a multiple of 4.

    Raises ValueError for a size that is no positive multiple of 4, or another argument that is not positive.
    """

    def __init__(
        self,
        num_latents: int = 32,
        num_classes: int = 10,
        channels: tuple[int, int] = (32, 64),
        hidden: int = 32,
        size: int = 28,
    ) -> None:
        super().__init__()
        if len(channels) != 2:
            raise ValueError(f"channels must be two numbers, got {channels}")
        first, second = channels
        named = {"num_latents": num_latents, "num_classes": num_classes, "hidden": hidden, "size": size}
        for name, value in {**named, "channels[0]": first, "channels[1]": second}.items():
            checks.count(name, value, 1)
        if size % 4:
            raise ValueError(f"size must be a multiple of 4, got {size}")
        self.num_latents, self.num_classes, self.size = num_latents, num_classes, size
        grid = (second, size // 4, size // 4)
        flat = second * (size // 4) ** 2
        code = num_latents * num_classes
        self.encoder = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, hidden),
            nn.ReLU(),
            nn.Linear(hidden, code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden),
            nn.ReLU(),
            nn.Linear(hidden, flat),
            nn.ReLU(),
            nn.Unflatten(1, grid),
            nn.ConvTranspose2d(second, first, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(first, 1, 3, stride=2, padding=1, output_padding=1),
        )

    def encode(self, x: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch latents classes"]:
        """Logits of q(z|x)."""
        checks.like_weights("x", x, next(self.parameters()))
        return self.encoder(x.unsqueeze(1)).unflatten(1, (self.num_latents, self.num_classes))

    def decode(self, z: Float[Tensor, "batch latents classes"]) -> Float[Tensor, "batch height width"]:
        """Logits of the pixels, for one-hot or relaxed codes z."""
        checks.like_weights("z", z, next(self.parameters()))
        return self.decoder(z.flatten(1)).squeeze(1)

    def forward(
        self, x: Float[Tensor, "batch height width"], sample: Callable[[Tensor], Tensor]
    ) -> tuple[
        Float[Tensor, "batch latents classes"],
        Float[Tensor, "batch latents classes"],
        Float[Tensor, "batch height width"],
    ]:
        """Encode, draw z = sample(logits), decode: (logits, z, logits of the pixels)."""
        logits = self.encode(x)
        z = sample(logits)
        return logits, z, self.decode(z)


def elbo(
    x: Float[Tensor, "batch height width"],
    pixel_logits: Float[Tensor, "batch height width"],
    logits: Float[Tensor, "batch latents classes"],
) -> Float[Tensor, " batch"]:
    """Evidence lower bound log p(x|z) − KL(q(z|x) ‖ uniform) of each image, in nats.

    A lower bound on log p(x) in expectation over one-hot z ∼ q(z|x). The divergence is exact and whole,
    Σₗ (log K − H(qₗ)): the constant L·log K, which does not matter for training, is in it.

    Args:
        x: binary images.
        pixel_logits: of p(x|z), for one sample z of q(z|x) for each image.
        logits: of q(z|x).

    Raises:
        TypeError: one of them is not a floating-point tensor.
        ValueError: pixels other than 0 and 1, shapes that do not fit, bad logits (see `gumbel_max`).
    """
    for name, value in (("x", x), ("pixel_logits", pixel_logits), ("logits", logits)):
        checks.floating(name, value)
    fitting = x.ndim == logits.ndim == 3 and x.shape == pixel_logits.shape and len(logits) == len(x)
    if not fitting:
        shapes = tuple(map(tuple, (x.shape, pixel_logits.shape, logits.shape)))
        raise ValueError(f"x, pixel_logits and logits must have fitting shapes of 3 axes, got {shapes}")
    _check_binary(x)
    _check_logits(logits, -1)
    if not torch.isfinite(pixel_logits).all():
        raise ValueError("pixel_logits must be finite, got NaN or ∞")
    return _log_likelihood(x, pixel_logits) - _kl_to_uniform(logits)


def vae_loss(
    model: Callable[..., tuple[Tensor, Tensor, Tensor]],
    x: Float[Tensor, "batch height width"],
    noise: Float[Tensor, "samples batch latents classes"],
    estimator: Estimator = "gumbel",
    tau: float = 1.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """A loss whose gradient estimates that of −ELBO, and the mean ELBO of the samples that were drawn.

    The divergence is differentiated exactly; the estimators differ in E[log p(x|z)]:

    - "gumbel": the relaxed sample of `gumbel_softmax` goes through the decoder;
    - "straight_through": its one-hot version does, with the gradient of the relaxed one;
    - "score": the score function (gumbel.eq15), f = log p(x|z);
    - "score_baseline": minus the mean of f over the other images of x (of a process's share of a batch);
    - "rloo": two samples for each image, each the other's baseline.

    Args:
        model: a `CategoricalVAE`, what wraps it, or another function that gives what its `forward` does.
        x: binary images.
        noise: Gumbel noise for one sample, two for "rloo".
        estimator: one of the five.
        tau: temperature, for the first two.

    Raises:
        TypeError: x or noise are not floating-point.
        ValueError: an unknown estimator, noise or x of another shape, a bad tau, pixels other than 0 and 1,
            or too few images: "score_baseline" needs two.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}")
    checks.floating("noise", noise)
    checks.positive("tau", tau, noise)
    checks.floating("x", x)
    if x.ndim != 3:
        raise ValueError(f"x must have shape (batch, height, width), got {tuple(x.shape)}")
    _check_binary(x)
    if len(x) < (2 if estimator == "score_baseline" else 1):
        raise ValueError(f"x must hold enough images for {estimator!r}, got {len(x)}")
    samples = 2 if estimator == "rloo" else 1
    if len(noise) != samples:
        raise ValueError(f"noise must hold {samples} samples for {estimator!r}, got {len(noise)}")
    relaxed = estimator in ("gumbel", "straight_through")

    def sample(logits: Tensor) -> Tensor:
        if noise.ndim != 4 or noise.flatten(0, 1).shape != logits.shape:
            expected = (samples, len(logits) // samples, *logits.shape[1:])
            raise ValueError(f"noise must have the shape {expected}, got {tuple(noise.shape)}")
        z = _relax(logits, noise.flatten(0, 1), tau, hard=estimator != "gumbel")
        return z if relaxed else z.detach()

    x = x.repeat(samples, 1, 1)
    logits, z, pixel_logits = model(x, sample)
    log_likelihood = _log_likelihood(x, pixel_logits)
    objective = (log_likelihood - _kl_to_uniform(logits)).mean()
    if relaxed:
        return -objective, objective.detach()
    f = log_likelihood.detach().unflatten(0, (samples, -1))
    if estimator != "score":
        f = f - _leave_one_out(f, dim=0 if estimator == "rloo" else 1)
    log_prob = (z * log_softmax(logits, -1)).sum((-2, -1))
    return -objective - (f.flatten() * log_prob).mean(), objective.detach()


def _check_binary(x: Tensor) -> None:
    other = (x != 0) & (x != 1)
    if other.any():
        raise ValueError(f"x must be 0 or 1, got {x[other][0].item()}")


def _log_likelihood(x: Tensor, pixel_logits: Tensor) -> Tensor:
    return -binary_cross_entropy_with_logits(pixel_logits, x, reduction="none").sum((-2, -1))


def _kl_to_uniform(logits: Tensor) -> Tensor:
    log_probs = log_softmax(logits, -1)
    probs = log_probs.exp()
    log_probs = log_probs.masked_fill(probs == 0, 0.0)  # 0·log 0 is 0
    return (probs * (log_probs + math.log(logits.shape[-1]))).sum((-2, -1))


@torch.no_grad()
def evaluate_elbo(
    model: CategoricalVAE,
    x: Float[Tensor, "n height width"],
    generator: torch.Generator,
    samples: int = 1,
) -> Float[Tensor, " n"]:
    """ELBO of each image in nats, the mean over `samples` ≥ 1 one-hot codes z ∼ q(z|x)."""
    checks.count("samples", samples, 1)
    logits = model.encode(x)
    total = torch.zeros_like(x[:, 0, 0])
    for _ in range(samples):
        z = one_hot(gumbel_max(logits, generator), model.num_classes).to(x.dtype)
        total += elbo(x, model.decode(z), logits)
    return total / samples
