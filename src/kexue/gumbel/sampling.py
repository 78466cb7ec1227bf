"""Gumbel noise, and samples of a categorical distribution that are made of it: exact, and relaxed."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import softmax

from kexue.nn import checks
from kexue.nn.autograd import straight_through


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
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
        raise TypeError(f"shape must be a tuple of ints, got {shape!r}")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape must not have negative sizes, got {shape}")
    checks.generator(generator)
    source = device if generator is None else generator.device
    cell = torch.randint(2**52, shape, generator=generator, device=source)
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
    check_logits(logits, -1)
    return _noisy(logits.detach(), -1, generator).argmax(-1)


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
    check_logits(logits, dim)
    checks.positive("tau", tau, logits)
    return relax(_noisy(logits, dim, generator), float(tau), hard, dim).to(logits.dtype)


def _noisy(logits: Tensor, dim: int, generator: torch.Generator | None) -> Tensor:
    """logits + g up to a constant, in the dtype to compute in."""
    scores = checks.working(logits)
    # Large logits would swallow the noise; only their differences count.
    scores = scores - scores.detach().amax(dim, keepdim=True)
    return scores + gumbel_noise(scores.shape, generator, scores.dtype, scores.device)


def relax(noisy: Float[Tensor, "..."], tau: float, hard: bool, dim: int = -1) -> Float[Tensor, "..."]:
    """softmax(noisy/τ), or the one-hot vector of its largest entry with the same gradient."""
    # Subtracting a constant changes nothing but the range: no exponent is positive, however small τ is.
    soft = softmax((noisy - noisy.detach().amax(dim, keepdim=True)) / tau, dim)
    if not hard:
        return soft
    onehot = torch.zeros_like(soft).scatter(dim, noisy.argmax(dim, keepdim=True), 1.0)
    return straight_through(onehot, soft)


def check_logits(logits: Tensor, dim: int) -> None:
    """Raises unless `logits` have an axis `dim`, neither NaN nor +∞, and a possible class in each row."""
    checks.floating("logits", logits)
    checks.axis("logits", logits, dim)
    bad = torch.isnan(logits) | (logits == torch.inf)
    if bad.any():
        raise ValueError(f"logits must be finite or −∞, got {logits.detach()[bad][0].item()}")
    if torch.isneginf(logits).all(dim).any():
        raise ValueError("logits must leave at least one class possible, got a row of −∞ only")
