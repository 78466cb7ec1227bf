"""The update of a memory in ordered segments, hard and soft."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from kexue.nn import checks


def cumax(logits: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Σ_{j≤k} softmax(logits)_j: rises to 1 along `dim` (onlstm.eq8). A soft version of 0 … 0 1 … 1.

    Raises:
        TypeError: logits are not a floating-point tensor, or dim is no int.
        ValueError: dim is not an axis of logits, or an empty one; logits that are NaN or ∞, or all −∞.
    """
    checks.floating("logits", logits)
    checks.axis("logits", logits, dim)
    exact = checks.working(logits)
    # Rounding may carry the sum beyond 1, by a unit in the last place.
    rising = exact.softmax(dim).cumsum(dim).clamp(max=1.0)
    if rising.isnan().any():
        raise ValueError("logits must be numbers below ∞, and not all −∞ along dim, or no softmax is defined")
    return rising.to(logits.dtype)


def reverse_cumax(logits: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Σ_{j≥k} softmax(logits)_j: falls from 1 along `dim` (onlstm.eq8). A soft version of 1 … 1 0 … 0.

    Raises as `cumax` does.
    """
    checks.floating("logits", logits)
    checks.axis("logits", logits, dim)
    return cumax(logits.flip(dim), dim).flip(dim)


def segmented_update(
    c_prev: Float[Tensor, "*batch n"],
    c_hat: Float[Tensor, "*batch n"],
    forget: Float[Tensor, "*batch n"],
    input: Float[Tensor, "*batch n"],
    d_f: int | Integer[Tensor, "..."],
    d_i: int | Integer[Tensor, "..."],
) -> Float[Tensor, "*batch n"]:
    """The hard update of ordered neurons, as one formula (onlstm.eq6, onlstm.eq7).

    c = ω∘(f∘c_prev + i∘ĉ) + (f̃ − ω)∘c_prev + (ĩ − ω)∘ĉ, with f̃ = [k ≥ d_f], ĩ = [k ≤ d_i], ω = f̃∘ĩ.
    The history owns the levels k ≥ d_f, the input those k ≤ d_i; where both do, an LSTM decides; where
    none does, the result is 0.

    Args:
        c_prev: the history, one neuron a level.
        c_hat: the input's candidate, ĉ.
        forget: the LSTM's forget gate, f.
        input: the LSTM's input gate, i.
        d_f: lowest level that the history owns, 0 … n − 1, for each row or one for all.
        d_i: highest level that the input owns, 0 … n − 1, for each row or one for all.

    Raises:
        TypeError: c_prev, c_hat, forget or input not floating-point, d_f or d_i no integers.
        ValueError: shapes that differ, or d_f or d_i outside 0 … n − 1.
    """
    checks.floating("c_prev", c_prev)
    checks.axis("c_prev", c_prev, -1)
    for name, value in (("c_hat", c_hat), ("forget", forget), ("input", input)):
        checks.floating(name, value)
        if value.shape != c_prev.shape:
            raise ValueError(
                f"{name} must have c_prev's shape {tuple(c_prev.shape)}, got {tuple(value.shape)}"
            )
    n = c_prev.shape[-1]
    level = torch.arange(n, device=c_prev.device)
    kept = level >= _positions("d_f", d_f, c_prev)
    written = level <= _positions("d_i", d_i, c_prev)
    both = kept & written
    # `where`, not products: what is not owned may be anything, NaN too.
    out = torch.where(both, forget * c_prev + input * c_hat, 0.0)
    out = torch.where(kept & ~both, c_prev, out)
    return torch.where(written & ~both, c_hat, out)


def _positions(name: str, value: object, c_prev: Tensor) -> Tensor:
    """Levels, with an axis for the neurons."""
    batch, n = c_prev.shape[:-1], c_prev.shape[-1]
    if isinstance(value, Tensor):
        checks.integers(name, value)
        if value.shape not in (batch, ()):
            raise ValueError(f"{name} must have shape {tuple(batch)}, got {tuple(value.shape)}")
        level = value.to(c_prev.device, torch.int64)  # first: n may not fit into a narrow dtype
        outside = level[(level < 0) | (level >= n)]
        if outside.numel():
            raise ValueError(f"{name} must be between 0 and n − 1 = {n - 1}, got {int(outside[0])}")
        return level[..., None]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int or a tensor of integers, got {type(value).__name__}")
    checks.count(name, value, 0, n - 1, f"n − 1 = {n - 1}")
    return torch.tensor(value, device=c_prev.device)
