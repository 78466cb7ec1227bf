"""Values with the gradient of something else."""

from jaxtyping import Float
from torch import Tensor

from kexue.nn import checks

__all__ = [
    "straight_through",
]


def straight_through(hard: Float[Tensor, "*s"], soft: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The value of `hard`, bit for bit, with the gradient of `soft`, which is finite.

    hard + (soft − sg[soft]), where sg stops the gradient (vqvae.eq10, and ours: the article's order of
    the terms, soft + sg[hard − soft], rounds).

    Raises TypeError for what is not a floating-point tensor, ValueError for different shapes.
    """
    checks.floating("hard", hard)
    checks.floating("soft", soft)
    if hard.shape != soft.shape:
        raise ValueError(f"hard must have the shape of soft, {tuple(soft.shape)}, got {tuple(hard.shape)}")
    return hard.detach() + (soft - soft.detach())  # the bracket is exactly 0
