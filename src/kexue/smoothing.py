"""Differentiable approximations of max, argmax, accuracy, F1 and the k best.

Source: 苏剑林, 《函数光滑化杂谈：不可导函数的可导逼近》, https://kexue.fm/archives/6620.
The ids in brackets (smoothing.eq2) are rows of the ledger.

Every function checks its input and raises
`TypeError` for something that is not a floating-point tensor (or, for counts, not an int) and
`ValueError` for a value outside the domain; the message names the argument and the value. Half
precision is computed in float32 and rounded at the end.
"""

import math

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import logsigmoid

from kexue.nn import checks

__all__ = [
    "smooth_max",
    "soft_accuracy",
    "soft_argmax",
    "soft_f1",
    "soft_k_max",
    "soft_onehot",
    "soft_precision",
    "soft_recall",
    "soft_top_k",
]

# --- Checks of the input -----------------------------------------------------------------------


def _check_scores(x: Tensor, dim: int) -> None:
    checks.floating("x", x)
    checks.axis("x", x, dim)
    finite = torch.isfinite(x)
    if not finite.all():
        raise ValueError(f"x must be finite, got {x.detach()[~finite][0].item()}")


def _check_probs(probs: Tensor) -> None:
    checks.floating("probs", probs)
    outside = ~((probs >= 0) & (probs <= 1))  # the negation catches NaN as well
    if outside.any():
        raise ValueError(f"probs must lie in [0, 1], got {probs.detach()[outside][0].item()}")


def _binary(probs: Tensor, target: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Probabilities and labels, checked, in the dtype to compute in."""
    _check_probs(probs)
    checks.tensor("target", target)
    if target.is_complex():
        raise TypeError(f"target must have a real dtype, got {target.dtype}")
    if probs.shape != target.shape:
        raise ValueError(
            f"target must have the shape of probs, {tuple(probs.shape)}, got {tuple(target.shape)}"
        )
    if probs.ndim == 0 or probs.shape[-1] == 0:
        raise ValueError(f"probs must hold at least one sample, got shape {tuple(probs.shape)}")
    other = (target != 0) & (target != 1)
    if other.any():
        raise ValueError(f"target must be 0 or 1, got {target[other][0].item()}")
    checks.positive("eps", eps, probs)
    p = checks.working(probs)
    return p, target.to(p.dtype)


def _sharpen(x: Tensor, top: Tensor, sharpness: float) -> Tensor:
    """sharpness·(x − top), where no intermediate result overflows that matters to a softmax."""
    return sharpness * (x - top) if sharpness >= 1 else sharpness * x - sharpness * top


def _finite(result: Tensor, dtype: torch.dtype, why: str) -> Tensor:
    result = result.to(dtype)
    if not torch.isfinite(result).all():
        raise ValueError(f"the result must fit into {dtype}, but {why}")
    return result


# --- max and argmax ----------------------------------------------------------------------------


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
    _check_scores(x, dim)
    checks.positive("sharpness", sharpness, x)
    scores = checks.working(x)
    # Adding and subtracting a constant changes neither value nor gradient; with the maximum as the
    # constant, every exponent is ≤ 0.
    top = scores.detach().amax(dim, keepdim=True)
    result = torch.logsumexp(_sharpen(scores, top, sharpness), dim) / sharpness + top.squeeze(dim)
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
    _check_scores(x, dim)
    checks.positive("sharpness", sharpness, x)
    scores = checks.working(x)
    top = scores.detach().amax(dim, keepdim=True)
    return torch.softmax(_sharpen(scores, top, sharpness), dim).to(x.dtype)


def soft_argmax(x: Float[Tensor, "..."], sharpness: float = 1.0, dim: int = -1) -> Float[Tensor, "..."]:
    """Smooth position of the maximum, Σᵢ i·softmax(K·x)ᵢ with i = 0 … n−1 (smoothing.eq10).

    It is the mean of a position drawn from softmax(K·x), and at most (n−1)·(1 − largest weight) away
    from the argmax: near it where the distribution is nearly one-hot. Between two distant peaks it
    names a position that belongs to neither (smoothing.claim5). The article counts from 1: add 1 to
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
    _check_scores(x, dim)
    weights = soft_onehot(checks.working(x), sharpness, dim)
    positions = torch.arange(x.shape[dim], dtype=weights.dtype, device=x.device)
    result = torch.tensordot(weights, positions, dims=([dim], [0]))
    return _finite(result, x.dtype, f"x has {x.shape[dim]} positions along dim={dim}")


# --- Accuracy, recall, precision, F1 -----------------------------------------------------------


def soft_accuracy(
    probs: Float[Tensor, "*batch n classes"], target: Integer[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Smooth accuracy, (1/n)·Σₛ p(targetₛ): the mean probability of the right class (smoothing.eq13).

    Equals the accuracy where every row of `probs` is one-hot, and in general the expected accuracy
    of a prediction that is drawn from `probs`.

    Args:
        probs: class probabilities of n samples in [0, 1]; that rows sum to 1 is not checked.
        target: the right classes, 0 … classes−1.

    Raises:
        TypeError: probs is not floating point, or target does not hold integers.
        ValueError: probabilities outside [0, 1], classes outside the range, no samples, or shapes
            that do not match.
    """
    _check_probs(probs)
    checks.tensor("target", target)
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target must have an integer dtype, got {target.dtype}")
    target = target.long()  # narrow dtypes cannot hold the number of classes
    if probs.ndim < 2 or probs.shape[:-1] != target.shape:
        raise ValueError(
            f"probs must have the shape of target, {tuple(target.shape)}, and an axis of classes, "
            f"got {tuple(probs.shape)}"
        )
    if target.shape[-1] == 0:
        raise ValueError(f"target must hold at least one sample, got shape {tuple(target.shape)}")
    classes = probs.shape[-1]
    outside = (target < 0) | (target >= classes)
    if outside.any():
        raise ValueError(
            f"target must lie in 0 … {classes - 1}, the classes of probs, got {target[outside][0].item()}"
        )
    # smoothing.eq13: ⟨1_target, p⟩, averaged
    hits = checks.working(probs).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return hits.mean(-1).to(probs.dtype)


def soft_recall(
    probs: Float[Tensor, "*batch n"], target: Shaped[Tensor, "*batch n"], eps: float = 1e-8
) -> Float[Tensor, "*batch"]:
    """Smooth recall, Σ t·p / (Σ t + eps), over the last axis (smoothing.recall).

    Args:
        probs: probability of the positive class for n samples, in [0, 1].
        target: labels 0 or 1, of the same shape and any dtype.
        eps: makes a set without positives score 0; positive.

    Raises:
        TypeError: probs is not a floating-point tensor, or target not a tensor.
        ValueError: probabilities outside [0, 1], labels other than 0 and 1, no samples, eps not positive,
            or shapes that do not match.
    """
    p, t = _binary(probs, target, eps)
    return ((t * p).sum(-1) / (t.sum(-1) + eps)).to(probs.dtype)


def soft_precision(
    probs: Float[Tensor, "*batch n"], target: Shaped[Tensor, "*batch n"], eps: float = 1e-8
) -> Float[Tensor, "*batch"]:
    """Smooth precision, Σ t·p / (Σ p + eps), over the last axis (smoothing.recall).

    Args:
        probs: probability of the positive class for n samples, in [0, 1].
        target: labels 0 or 1, of the same shape and any dtype.
        eps: makes a set without predicted positives score 0; positive.

    Raises:
        TypeError: probs is not a floating-point tensor, or target not a tensor.
        ValueError: probabilities outside [0, 1], labels other than 0 and 1, no samples, eps not positive,
            or shapes that do not match.
    """
    p, t = _binary(probs, target, eps)
    return ((t * p).sum(-1) / (p.sum(-1) + eps)).to(probs.dtype)


def soft_f1(
    probs: Float[Tensor, "*batch n"], target: Shaped[Tensor, "*batch n"], eps: float = 1e-8
) -> Float[Tensor, "*batch"]:
    """Smooth F1 of the positive class, 2·Σ t·p / (Σ (t + p) + eps), over the last axis (smoothing.eq14).

    Equals the F1 score for hard predictions (p = 0 or 1). For probabilities in between it is not
    the F1 of the thresholded ones (smoothing.claim6), and on a minibatch it is a biased estimate of
    its own value on the full set (smoothing.claim2).

    Args:
        probs: probability of the positive class for n samples, in [0, 1].
        target: labels 0 or 1, of the same shape and any dtype.
        eps: makes a set without real or predicted positives score 0; positive.

    Raises:
        TypeError: probs is not a floating-point tensor, or target not a tensor.
        ValueError: probabilities outside [0, 1], labels other than 0 and 1, no samples, eps not positive,
            or shapes that do not match.
    """
    p, t = _binary(probs, target, eps)
    return (2 * (t * p).sum(-1) / ((t + p).sum(-1) + eps)).to(probs.dtype)


# --- The k best --------------------------------------------------------------------------------


def soft_k_max(x: Float[Tensor, "..."], k: int, dim: int = -1) -> Float[Tensor, "..."]:
    """The article's soft-k-max, exactly as it stands (smoothing.alg1).

    x ← x − min x;  p ← 0;  k times:  p ← p + softmax((1 − p)⊗x).

    The entries sum to k. Scaled up, they tend to the indicator of the k largest where k < n and
    the k+1 largest are distinct; elsewhere entries can pass 1 and the top-k set can be lost
    (smoothing.claim4). `soft_top_k` has neither fault.

    Args:
        x: scores, floating point, finite.
        k: how many to select, 1 … n.
        dim: the axis of n scores; the result has x's shape.

    Raises:
        TypeError: x is not a floating-point tensor, or k is not an int.
        ValueError: k outside 1 … n; x empty along `dim`, or not finite; `dim` not an axis of x;
            in the backward pass, a gradient that overflows: near ties it can grow like the scale of
            x to the power k.
    """
    _check_scores(x, dim)
    checks.count("k", k, 1, x.shape[dim], f"n = {x.shape[dim]}, the length of x along dim")
    scores = checks.working(x)
    scores = scores - scores.amin(dim, keepdim=True)
    if not torch.isfinite(scores).all():
        raise ValueError(f"x must span less than {torch.finfo(scores.dtype).max:g}, the range of its dtype")
    if scores.requires_grad:
        scores.register_hook(_check_gradient)
    p = torch.zeros_like(scores)
    for _ in range(k):
        p = p + torch.softmax((1 - p) * scores, dim)
    return p.to(x.dtype)


def _check_gradient(gradient: Tensor | None) -> None:
    if gradient is not None and not torch.isfinite(gradient).all():
        raise ValueError(
            "the gradient of soft_k_max with respect to x overflows: it can grow like the scale of x to "
            "the power k. Scale x down, use float64, or use soft_top_k"
        )


def soft_top_k(
    x: Float[Tensor, "..."], k: int, sharpness: float = 1.0, dim: int = -1
) -> Float[Tensor, "..."]:
    """Smooth indicator of the k largest, pᵢ = σ(K·(xᵢ − λ)) with λ such that Σᵢ pᵢ = k (smoothing.claim4).

    The limited multi-label projection of Amos, Koltun and Kolter (2019), with its gradient; the article's
    author comes to the same threshold in 2024 (kexue.fm/archives/10373).

    K is the sharpness. Entries lie in (0, 1) (all are 1 for k = n), sum to k, keep the order of x,
    and tend to the indicator of the k largest as K → ∞ where the k-th and the (k+1)-th differ. λ is
    solved for to machine precision; the gradient is that of the implicit function,
    ∂pᵢ/∂xⱼ = K·wᵢ·(δᵢⱼ − wⱼ/Σw) with w = p(1 − p), and can be differentiated again.

    Args:
        x: scores, floating point, finite.
        k: how many to select, 1 … n.
        sharpness: K, inverse temperature, positive.
        dim: the axis of n scores; the result has x's shape.

    Raises:
        TypeError: x is not a floating-point tensor, k not an int, or sharpness not a number.
        ValueError: k outside 1 … n; sharpness not positive, or not finite in x's dtype; x empty along `dim`,
            or not finite; `dim` not an axis of x.
    """
    _check_scores(x, dim)
    checks.count("k", k, 1, x.shape[dim], f"n = {x.shape[dim]}, the length of x along dim")
    checks.positive("sharpness", sharpness, x)
    if sharpness > (most := torch.finfo(x.dtype).max):  # or the gradient, up to K/4, does not fit
        raise ValueError(f"sharpness must be at most {most:.3g} for {x.dtype}, got {sharpness}")
    if k == x.shape[dim]:
        return torch.ones_like(x) + 0 * x  # λ = −∞; the second term keeps the (zero) gradient
    scores = checks.working(x).movedim(dim, -1)
    # A common shift moves λ along and leaves p alone; with the k-th largest at 0, the scores near
    # the threshold keep all their digits after the multiplication.
    kth = scores.detach().topk(k).values[..., -1:]
    limit = torch.finfo(scores.dtype).max / 8
    logits = _sharpen(scores, kth, sharpness).clamp(-limit, limit)  # σ is exactly 0 or 1 out there
    # σ as exp(log σ): its derivative is σ(a)·σ(−a), where σ(a)·(1 − σ(a)) would round to 0 for a > 17
    p = torch.exp(logsigmoid(_SubtractThreshold.apply(logits, k)))
    return p.movedim(-1, dim).to(x.dtype)


class _SubtractThreshold(torch.autograd.Function):
    """z ↦ z − λ(z), where Σᵢ σ(zᵢ − λ) = k, over the last axis.

    Differentiating the constraint gives ∂λ/∂zⱼ = wⱼ/Σw =: sⱼ with w = σ(a)σ(−a) at a = z − λ, so
    that the Jacobian is δᵢⱼ − sⱼ. s is a softmax of log w, which stays finite where all w underflow.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, k: int) -> Tensor:
        a = z - _threshold(z, k)
        ctx.save_for_backward(a)
        return a

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (a,) = ctx.saved_tensors  # type: ignore[attr-defined]
        share = torch.softmax(logsigmoid(a) + logsigmoid(-a), -1)
        return grad - share * grad.sum(-1, keepdim=True), None


def _threshold(z: Tensor, k: int) -> Tensor:
    """The λ with Σᵢ σ(zᵢ − λ) = k, for 1 ≤ k < n, by Newton's method inside a bracket.

    Σp = k says that what the k largest lack, Σ σ(λ − z), is what the others have, Σ σ(z − λ).
    The difference of the logarithms of these two sums rises in λ with a slope between 1/2 and 2, and
    resolves λ also where both sums are far below the rounding error of k. A slope that can change
    by 4 does not prove that Newton's steps converge; the bracket does.
    """
    z = z.sort(-1, descending=True).values
    top, rest = z[..., :k], z[..., k:]
    n = z.shape[-1]
    offset = math.log(n - k) - math.log(k)
    # At low all σ(z − λ) ≥ k/n, at high all are ≤ k/n.
    low, high = z[..., -1:] + offset, z[..., :1] + offset
    guess = (top[..., -1:] + rest[..., :1]) / 2
    guess = torch.minimum(torch.maximum(guess, low), high)
    resolution = 4 * torch.finfo(z.dtype).eps
    for _ in range(100):  # a bisection would need fewer than 80; Newton takes about 5
        lack, excess = logsigmoid(guess - top), logsigmoid(rest - guess)
        gap = torch.logsumexp(lack, -1, keepdim=True) - torch.logsumexp(excess, -1, keepdim=True)
        slope = (torch.softmax(lack, -1) * torch.sigmoid(top - guess)).sum(-1, keepdim=True)
        slope = slope + (torch.softmax(excess, -1) * torch.sigmoid(guess - rest)).sum(-1, keepdim=True)
        low, high = torch.where(gap < 0, guess, low), torch.where(gap > 0, guess, high)
        newton = guess - gap / slope
        inside = (newton >= low) & (newton <= high)
        step = torch.where(inside, newton, (low + high) / 2)
        settled = (step - guess).abs() <= resolution * (1 + guess.abs())
        guess = step
        if settled.all():
            break
    return guess
