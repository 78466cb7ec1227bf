"""What it costs to take the tokens of an answer for independent."""

import torch
from jaxtyping import Float
from torch import Tensor

from kexue.nn import checks


def product_of_marginals(joint: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The independent distribution nearest to a joint one, ∏ pₖ(aₖ) (reading.gap).

    Args:
        joint: p, an axis for each variable.

    Raises ValueError for no axes, negative entries, or a sum other than 1.
    """
    _check_distribution(joint)
    product = torch.ones((), dtype=joint.dtype, device=joint.device)
    for axis in range(joint.ndim):
        others = [other for other in range(joint.ndim) if other != axis]
        product = product[..., None] * (joint.sum(others) if others else joint)
    return product


def total_correlation(joint: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Σ H(aₖ) − H(a₁ … aₙ) in nats: the least KL(p‖q) of any independent q (reading.gap).

    KL(p‖∏qₖ) = total correlation + Σ KL(pₖ‖qₖ), so that the best q is `product_of_marginals`.

    Where an entry is 0 its derivative is −∞ (or not defined); the gradient leaves that out and is finite.

    Args and errors are those of `product_of_marginals`.
    """
    product = product_of_marginals(joint)
    here = joint > 0
    ratio = torch.where(here, joint, 1.0).log() - torch.where(here, product, 1.0).log()
    return (joint * ratio).sum()


def _check_distribution(joint: object) -> None:
    checks.floating("joint", joint)
    assert isinstance(joint, Tensor)
    if joint.ndim == 0 or joint.numel() == 0:
        raise ValueError(f"joint must have an axis for each variable, got shape {tuple(joint.shape)}")
    joint = joint.detach()
    total = float(joint.double().sum())
    if not bool((joint >= 0).all()) or abs(total - 1) > 1e-4:
        raise ValueError(
            f"joint must be nonnegative and sum to 1, got a smallest entry {float(joint.min())} "
            f"and a sum {total}"
        )
