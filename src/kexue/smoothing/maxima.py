"""Smooth maximum, one-hot vector and position of the largest score."""

import torch
from jaxtyping import Float
from torch import Tensor

from kexue.nn import checks


def check_scores(x: Tensor, dim: int) -> None:
    """Raises unless x holds finite floating-point numbers and dim is one of its axes, which is not empty."""
    checks.floating("x", x)
    checks.axis("x", x, dim)
    checks.finite("x", x)


def sharpen(x: Tensor, top: Tensor, sharpness: float) -> Tensor:
    """sharpness·(x − top), where no intermediate result overflows that matters to a softmax."""
    return sharpness * (x - top) if sharpness >= 1 else sharpness * x - sharpness * top


def _finite(result: Tensor, dtype: torch.dtype, why: str) -> Tensor:
    result = result.to(dtype)
    if not torch.isfinite(result).all():
        raise ValueError(f"the result must fit into {dtype}, but {why}")
    return result


def smooth_max(x: Float[Tensor, "..."], sharpness: float = 1.0, dim: int = -1) -> Float[Tensor, "..."]:
    """Smooth maximum, (1/K)·log Σᵢ exp(K·xᵢ), along `dim`; K is the sharpness.

    Within [max x, max x + log(n)/K], and so tends to max x as K → ∞ (smoothing.eq1, smoothing.eq2).
    The gradient is softmax(K·x) (smoothing.eq3). Neither value nor gradient overflows.

    Args:
        x: scores, floating point, finite.
        sharpness: K, inverse temperature, positive.
        dim: the axis of n scores; the result lacks it.

    Raises:
        TypeError: x is not a floating-point tensor, or sharpness is not a number.
        ValueError: sharpness not positive and finite; x empty along `dim`, or not finite; `dim` not an axis
            of x; log(n)/K so large that the result overflows.
    """
    check_scores(x, dim)
    checks.positive("sharpness", sharpness, x)
    scores = checks.working(x)
    # Adding and subtracting a constant changes neither value nor gradient; with the maximum as the
    # constant, every exponent is ≤ 0.
    top = scores.detach().amax(dim, keepdim=True)
    result = torch.logsumexp(sharpen(scores, top, sharpness), dim) / sharpness + top.squeeze(dim)
    return _finite(result, x.dtype, f"log(n)/sharpness is too large for sharpness = {sharpness}")


def soft_onehot(x: Float[Tensor, "..."], sharpness: float = 1.0, dim: int = -1) -> Float[Tensor, "..."]:
    """Smooth one-hot vector of the largest score, softmax(K·x), along `dim` (smoothing.eq7).

    Tends to onehot(argmax x) as K → ∞ where the maximum is unique, and to the uniform
    distribution over the maxima where it is not.

    Args:
        x: scores, floating point, finite.
        sharpness: K, inverse temperature, positive.
        dim: the axis of n scores; the result has x's shape.

    Raises:
        TypeError: x is not a floating-point tensor, or sharpness is not a number.
        ValueError: sharpness not positive and finite; x empty along `dim`, or not finite; `dim` not an axis
            of x.
    """
    check_scores(x, dim)
    checks.positive("sharpness", sharpness, x)
    scores = checks.working(x)
    if sharpness != 1:
        scores = sharpen(scores, scores.detach().amax(dim, keepdim=True), sharpness)
    return torch.softmax(scores, dim).to(x.dtype)


def soft_argmax(x: Float[Tensor, "..."], sharpness: float = 1.0, dim: int = -1) -> Float[Tensor, "..."]:
    """Smooth position of the maximum, Σᵢ i·softmax(K·x)ᵢ with i = 0 … n−1 (smoothing.eq10).

    It is the mean of a position drawn from softmax(K·x), and at most (n−1)·(1 − largest weight) away
    from the argmax: near it where the distribution is nearly one-hot. Between two distant peaks it
    names a position that belongs to neither (smoothing.mean). The article counts from 1: add 1 to
    compare.

    Args:
        x: scores, floating point, finite.
        sharpness: K, inverse temperature, positive.
        dim: the axis of n scores; the result lacks it.

    Raises:
        TypeError: x is not a floating-point tensor, or sharpness is not a number.
        ValueError: sharpness not positive and finite; x empty along `dim`, or not finite; `dim` not an axis
            of x.
    """
    check_scores(x, dim)
    weights = soft_onehot(checks.working(x), sharpness, dim)
    positions = torch.arange(x.shape[dim], dtype=weights.dtype, device=x.device)
    result = torch.tensordot(weights, positions, dims=([dim], [0]))
    return _finite(result, x.dtype, f"x has {x.shape[dim]} positions along dim={dim}")
