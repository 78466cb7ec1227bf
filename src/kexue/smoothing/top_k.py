"""Smooth indicators of the k largest scores: the article's recursion, and one threshold for all."""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import logsigmoid

from kexue.nn import checks
from kexue.smoothing.maxima import check_scores, sharpen


def soft_k_max(x: Float[Tensor, "..."], k: int, dim: int = -1) -> Float[Tensor, "..."]:
    """The article's soft-k-max, exactly as it stands (smoothing.alg1).

    x ← x − min x;  p ← 0;  k times:  p ← p + softmax((1 − p)⊗x).

    The entries sum to k. Scaled up, they tend to the indicator of the k largest where k < n and
    the k+1 largest are distinct; elsewhere entries can pass 1 and the top-k set can be lost
    (smoothing.recursion). `soft_top_k` has neither fault.

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
    check_scores(x, dim)
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


Step = Literal["logistic", "laplace"]


def soft_top_k(
    x: Float[Tensor, "..."], k: int, sharpness: float = 1.0, dim: int = -1, step: Step = "logistic"
) -> Float[Tensor, "..."]:
    """Smooth indicator of the k largest, pᵢ = σ(K·(xᵢ − λ)) with λ such that Σᵢ pᵢ = k (smoothing.shared).

    The limited multi-label projection of Amos, Koltun and Kolter (2019), with its gradient; the article's
    author comes to the same threshold in 2024 (kexue.fm/archives/10373).

    K is the sharpness. Entries lie in (0, 1) (all are 1 for k = n), sum to k, keep the order of x,
    and tend to the indicator of the k largest as K → ∞ where the k-th and the (k+1)-th differ. λ is
    solved for to machine precision; the gradient is that of the implicit function,
    ∂pᵢ/∂xⱼ = K·wᵢ·(δᵢⱼ − wⱼ/Σw) with w = p(1 − p), and can be differentiated again.

    With the distribution function of the Laplace distribution in the place of σ, w = exp(−|K·(x − λ)|)/2, λ
    has a closed form (Struski, Bednarczyk, Podolak and Tabor 2025). It needs a sort, which the other
    does not, and which for long vectors takes longer than to solve for λ.

    Args:
        x: scores, floating point, finite.
        k: how many to select, 1 … n.
        sharpness: K, inverse temperature, positive.
        dim: the axis of n scores; the result has x's shape.
        step: the smooth step, "logistic" or "laplace".

    Raises:
        TypeError: x is not a floating-point tensor, k not an int, or sharpness not a number.
        ValueError: k outside 1 … n; sharpness not positive, or not finite in x's dtype; x empty along `dim`,
            or not finite; `dim` not an axis of x; another step.
    """
    check_scores(x, dim)
    checks.count("k", k, 1, x.shape[dim], f"n = {x.shape[dim]}, the length of x along dim")
    checks.positive("sharpness", sharpness, x)
    if sharpness > (most := torch.finfo(x.dtype).max):  # or the gradient, up to K/4, does not fit
        raise ValueError(f"sharpness must be at most {most:.3g} for {x.dtype}, got {sharpness}")
    checks.choice("step", step, get_args(Step))
    if k == x.shape[dim]:
        return torch.ones_like(x) + 0 * x  # λ = −∞; the second term keeps the (zero) gradient
    scores = checks.working(x).movedim(dim, -1)
    z = _around_kth(scores, k, sharpness)
    a = _SubtractThreshold.apply(z, k, step)
    if step == "logistic":
        # σ as exp(log σ): its derivative is σ(a)·σ(−a), where σ(a)·(1 − σ(a)) would round to 0 for a > 17
        p = torch.exp(logsigmoid(a))
    else:
        tail = torch.exp(-a.abs()) / 2
        p = torch.where(a < 0, tail, 1 - tail)
    return p.movedim(-1, dim).to(x.dtype)


class _SubtractThreshold(torch.autograd.Function):
    """z ↦ z − λ(z), where Σᵢ F(zᵢ − λ) = k with a smooth step F, over the last axis.

    Differentiating the constraint gives ∂λ/∂zⱼ = wⱼ/Σw =: sⱼ with w = F′(z − λ), so that the Jacobian
    is δᵢⱼ − sⱼ. s is a softmax of log w, which stays finite where all w underflow.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor, k: int, step: Step) -> Tensor:
        a = z - (_threshold(z, k) if step == "logistic" else _laplace_threshold(z, k))
        ctx.save_for_backward(a)
        ctx.step = step  # type: ignore[attr-defined]
        return a

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (a,) = ctx.saved_tensors  # type: ignore[attr-defined]
        log_w = logsigmoid(a) + logsigmoid(-a) if ctx.step == "logistic" else -a.abs()  # type: ignore[attr-defined]
        share = torch.softmax(log_w, -1)
        return grad - share * grad.sum(-1, keepdim=True), None, None


def _around_kth(scores: Tensor, k: int, sharpness: float) -> Tensor:
    """sharpness·(scores − the k-th largest), over the last axis.

    A common shift moves λ along and leaves p alone; with the k-th largest at exactly 0, the scores near
    the threshold keep all their digits after the multiplication.
    """
    kth = scores.detach().topk(k, sorted=False).values.amin(-1, keepdim=True)
    limit = torch.finfo(scores.dtype).max / 8
    return sharpen(scores, kth, sharpness).clamp(-limit, limit)  # a smooth step is exactly 0 or 1 out there


def _threshold(z: Tensor, k: int) -> Tensor:
    """The λ with Σᵢ σ(zᵢ − λ) = k, for 1 ≤ k < n and z whose k-th largest is 0, by bracketed Newton steps.

    Σp = k says that what the k largest lack, Σ σ(λ − z), is what the others have, Σ σ(z − λ).
    The difference of the logarithms of these two sums rises in λ with a slope between 1/2 and 2, and
    resolves λ also where both sums are far below the rounding error of k. A slope that can change
    by 4 does not prove that Newton's steps converge; the bracket does. Nothing is sorted: which scores
    are among the k largest is known from the k-th, and scores equal to it belong to both sides in parts.
    """
    above, tied = z > 0, z == 0
    share = (k - above.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True, dtype=z.dtype)
    inside = torch.where(tied, share, above.to(z.dtype))
    outside = 1 - inside
    offset = math.log(z.shape[-1] - k) - math.log(k)
    # At low all σ(z − λ) ≥ k/n, at high all are ≤ k/n.
    low, high = z.amin(-1, keepdim=True) + offset, z.amax(-1, keepdim=True) + offset
    runner_up = z.masked_fill(z >= 0, -torch.inf).amax(-1, keepdim=True)
    guess = torch.where(share == 1, runner_up / 2, 0.0).clamp(low, high)
    resolution = 4 * torch.finfo(z.dtype).eps
    a, p, q, product = (torch.empty_like(z) for _ in range(4))  # large ones are not made anew at each step

    def total(weight: Tensor, values: Tensor) -> Tensor:
        return torch.mul(weight, values, out=product).sum(-1, keepdim=True)

    for _ in range(100):  # a bisection would need fewer than 80; Newton takes about 5
        torch.sub(z, guess, out=a)
        torch.sigmoid(a, out=p)
        torch.sigmoid(a.neg_(), out=q)
        lack, excess = total(inside, q), total(outside, p)
        torch.mul(p, q, out=a)  # the derivative of either
        level = lack.log()
        gap = level - excess.log()
        slope = total(inside, a) / lack + total(outside, a) / excess
        low, high = torch.where(gap < 0, guess, low), torch.where(gap > 0, guess, high)
        newton = guess - gap / slope
        step = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        # Where both sums underflow, all p are 0 or 1, and the first guess, mid-gap, is right.
        step = torch.where((lack == 0) & (excess == 0), guess, step)
        # The gap is rounded as the logarithms are; below that, two guesses can follow each other forever.
        size = 1 + guess.abs() + level.nan_to_num(neginf=0.0).abs()
        settled = (step - guess).abs() <= resolution * size
        guess = step
        if settled.all():
            break
    return guess


def _laplace_threshold(z: Tensor, k: int) -> Tensor:
    """The λ with Σᵢ F(zᵢ − λ) = k, F(u) = e^u/2 for u < 0 and 1 − e^(−u)/2 above, in closed form.

    With m scores above λ the sum is m − e^(λ + A)/2 + e^(B − λ)/2, where A = log Σ e^(−z) over the scores
    above and B = log Σ e^z over the others. Its value at each score tells m; then λ solves
    e^((A + B)/2)·sinh(λ − (B − A)/2) = m − k.
    """
    n = z.shape[-1]
    z = z.sort(-1, descending=True).values
    up_to, from_on = torch.logcumsumexp(-z, -1), torch.logcumsumexp(z.flip(-1), -1).flip(-1)
    none = torch.full_like(z[..., :1], -torch.inf)
    A, B = torch.cat([none, up_to], -1), torch.cat([from_on, none], -1)  # by m = 0 … n
    place = torch.arange(1, n + 1, dtype=z.dtype, device=z.device)
    total = place - torch.exp(z + up_to) / 2 + torch.exp(B[..., 1:] - z) / 2  # for λ at each score
    m = (total <= k).sum(-1, keepdim=True)
    A, B = A.gather(-1, m), B.gather(-1, m)
    over = (m - k).to(z.dtype)
    y = over.abs().log() - (A + B) / 2  # asinh(e^y) is y + log 2 long before e^y overflows
    between = (B - A) / 2 + over.sign() * torch.where(y > 40, y + math.log(2), y.clamp(max=40).exp().asinh())
    above_all, below_all = B - math.log(2 * k), math.log(2 * (n - k)) - A
    return torch.where(m == 0, above_all, torch.where(m == n, below_all, between))
