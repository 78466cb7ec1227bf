"""Accuracy, recall, precision and F1 of probabilities in the place of decisions."""

import math

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from kexue.nn import checks


def _binary(probs: Tensor, target: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Probabilities and labels, checked, in the dtype to compute in."""
    checks.within_unit("probs", probs)
    checks.tensor("target", target)
    if target.is_complex():
        raise TypeError(f"target must have a real dtype, got {target.dtype}")
    if probs.shape != target.shape:
        raise ValueError(
            f"target must have the shape of probs, {tuple(probs.shape)}, got {tuple(target.shape)}"
        )
    if probs.ndim == 0 or probs.shape[-1] == 0:
        raise ValueError(f"probs must hold at least one sample, got shape {tuple(probs.shape)}")
    if target.dtype != torch.bool:
        checks.zero_or_one("target", target)
    checks.positive("eps", eps, probs)
    p = checks.working(probs)
    return p, target.to(p.dtype)


def _classes(name: str, value: Tensor, target: Tensor) -> Tensor:
    """Right classes, checked against `value`, whose last axis is that of the classes, as 64-bit integers."""
    checks.tensor("target", target)
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target must have an integer dtype, got {target.dtype}")
    target = target.long()  # narrow dtypes cannot hold the number of classes
    if value.ndim < 2 or value.shape[:-1] != target.shape:
        raise ValueError(
            f"{name} must have the shape of target, {tuple(target.shape)}, and an axis of classes, "
            f"got {tuple(value.shape)}"
        )
    if target.shape[-1] == 0:
        raise ValueError(f"target must hold at least one sample, got shape {tuple(target.shape)}")
    classes = value.shape[-1]
    outside = (target < 0) | (target >= classes)
    if outside.any():
        raise ValueError(
            f"target must lie in 0 … {classes - 1}, the classes of {name}, got {target[outside][0].item()}"
        )
    return target


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
    checks.within_unit("probs", probs)
    target = _classes("probs", probs, target)
    # smoothing.eq13: ⟨1_target, p⟩, averaged
    hits = checks.working(probs).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return hits.mean(-1).to(probs.dtype)


def floored_accuracy(
    log_probs: Float[Tensor, "*batch n classes"], target: Integer[Tensor, "*batch n"], floor: float = 0.1
) -> Float[Tensor, "*batch"]:
    """Smooth accuracy whose gradient never forgets a sample: (1/n)·Σₛ g(pₛ), with pₛ that of the right class,
    g(p) = p for p ≥ floor, and floor·(1 + log(p/floor)) below.

    The gradient is that of minus the cross-entropy, each sample weighted by max(p, floor). `soft_accuracy`
    weighs by p alone and may lose a class that is learned late (smoothing.weight, smoothing.classes). g and
    its slope are continuous at the floor; with floor = 1 the result is 1 minus the cross-entropy.

    Source: the chapter, not the article.

    Args:
        log_probs: logarithms of class probabilities of n samples, finite and at most 0, as `log_softmax`
            gives them; probabilities themselves would round to 0. That rows sum to 1 is not checked.
        target: the right classes, 0 … classes−1.
        floor: the least weight, in (0, 1].

    Raises:
        TypeError: log_probs is not floating point, floor is not a number, or target does not hold integers.
        ValueError: log_probs positive or not finite, a floor outside (0, 1], classes outside the range, no
            samples, or shapes that do not match.
    """
    checks.floating("log_probs", log_probs)
    checks.finite("log_probs", log_probs)
    target = _classes("log_probs", log_probs, target)
    checks.positive("floor", floor, log_probs)
    if floor > 1:
        raise ValueError(f"floor must be at most 1, got {floor}")
    if not torch.compiler.is_compiling() and (log_probs > 0).any():
        raise ValueError(f"log_probs must be at most 0, got {log_probs.detach().amax().item()}")
    own = checks.working(log_probs).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    below = floor * (1 + own - math.log(floor))
    return torch.where(own >= math.log(floor), own.exp(), below).mean(-1).to(log_probs.dtype)


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
    the F1 of the thresholded ones; training on it finds the decisions that are best for F1, positive where
    P(t = 1 | x) > F*/2 (smoothing.threshold). On a minibatch it is a biased estimate of
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


def soft_macro_f1(
    probs: Float[Tensor, "*batch n classes"], target: Integer[Tensor, "*batch n"], eps: float = 1e-8
) -> Float[Tensor, "*batch"]:
    """Smooth macro F1: the mean over the classes of `soft_f1`, each class against the others.

    (1/C)·Σ_c 2·Σₛ [targetₛ = c]·pₛ(c) / (Σₛ ([targetₛ = c] + pₛ(c)) + eps). Equals the macro F1 where every
    row of `probs` is one-hot, all C classes counted: one that is neither there nor predicted scores 0. On
    a minibatch it is biased, like `soft_f1`.

    Source: the article's F1 (smoothing.eq14), averaged as is usual; the loss of the chapter's networks.

    Args:
        probs: class probabilities of n samples in [0, 1]; that rows sum to 1 is not checked.
        target: the right classes, 0 … classes−1.
        eps: as in `soft_f1`.

    Raises:
        TypeError: probs is not floating point, or target does not hold integers.
        ValueError: probabilities outside [0, 1], classes outside the range, no samples, eps not positive, or
            shapes that do not match.
    """
    checks.within_unit("probs", probs)
    target = _classes("probs", probs, target)
    p = checks.working(probs)
    return soft_f1(p.mT, one_hot(target, p.shape[-1]).mT, eps).mean(-1).to(probs.dtype)
