"""What is asked of masks and lengths."""

import torch
from torch import Tensor

from kexue.nn import checks


def check_boolean(mask: object, x: Tensor | None = None) -> None:
    checks.tensor("mask", mask)
    assert isinstance(mask, Tensor)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where real, got {mask.dtype}")
    if x is not None and mask.device != x.device:
        raise ValueError(f"mask must be on the device {x.device}, got {mask.device}")


def as_int64(name: str, value: Tensor) -> Tensor:
    """The value as int64: in the narrow dtypes, comparisons with larger numbers wrap around."""
    checks.integers(name, value)
    return value.to(torch.int64)


def check_range(lengths: Tensor, high: int, meaning: str) -> None:
    if (lengths < 0).any():
        raise ValueError(f"lengths must be at least 0, got {int(lengths.min())}")
    if (lengths > high).any():
        raise ValueError(f"lengths must be between 0 and {meaning} = {high}, got {int(lengths.max())}")


def aligned(x: Tensor, mask: Tensor, dim: int, name: str = "x") -> Tensor:
    """The mask with all axes of x, those that it lacks of size 1, and of x's size along `dim`."""
    checks.floating(name, x)
    checks.axis(name, x, dim)
    check_boolean(mask, x)
    dim %= x.ndim
    fits = mask.ndim in (dim + 1, x.ndim) and all(
        m in (1, n) for m, n in zip(mask.shape, x.shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"mask must broadcast to the shape of {name}, {tuple(x.shape)}, or to its leading axes "
            f"{tuple(x.shape[: dim + 1])}, got shape {tuple(mask.shape)}"
        )
    mask = mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim))
    return mask.expand(*mask.shape[:dim], x.shape[dim], *mask.shape[dim + 1 :])
