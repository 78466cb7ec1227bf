"""Two estimators of the gradient of E[f(z)]: by the score function, and by reparameterisation."""

import numbers
import sys
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from kexue.nn import checks

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
        TypeError: a parameter is neither a floating-point tensor nor a number; f does not give a tensor, dist
            no distribution.
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
            weight = weight - leave_one_out(weight)
        elif baseline is not None:
            weight = weight - float(baseline)
        return _gradients((weight * log_prob).sum(), leaves)


def reparam_grad(
    f: Callable[[Tensor], Tensor], dist: Callable[..., Distribution], params: Params, num_samples: int
) -> Gradients:
    """One-sample estimates of ∂E[f(z)]/∂θ by reparameterisation, ∂f(g_θ(ε))/∂θ with z = g_θ(ε).

    Unbiased for differentiable f (gumbel.eq17); where f is a step it is 0, whatever the truth. Arguments,
    result and errors are those of `score_function_grad`; f is differentiated, and a distribution without
    `rsample` is a ValueError. Draws from torch's global generator.
    """
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
    checks.count("num_samples", num_samples, 1)
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
    checks.function("dist", dist)
    try:
        distribution = dist(**leaves)
    except TypeError as error:
        raise TypeError(f"dist must take the parameters {list(leaves)}, got the error {error}") from error
    except (RuntimeError, ValueError) as error:
        dist(**{name: leaf[0] for name, leaf in leaves.items()})  # wrong for one sample, too: says so
        raise ValueError(MIXED) from error
    checks.instance("dist(**params)", distribution, Distribution, "a torch.distributions.Distribution")
    return distribution


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
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    return bool(abs(value) <= sys.float_info.max)  # type: ignore[operator]


def leave_one_out(values: Tensor, dim: int = 0) -> Tensor:
    """For each entry the mean of the others along `dim`."""
    return (values.sum(dim, keepdim=True) - values) / (values.shape[dim] - 1)


def _values(f: Callable[[Tensor], Tensor], z: Tensor, num_samples: int) -> Tensor:
    checks.function("f", f)
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
