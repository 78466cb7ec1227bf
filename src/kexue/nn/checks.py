"""Checks of arguments that several modules need: what is wrong is named, with its value."""

import torch
from torch import Tensor

from kexue.nn.arguments import choice, count, function, heads, instance, number, rate, strings

__all__ = [
    "FLOATING",
    "axis",
    "choice",
    "count",
    "finite",
    "floating",
    "function",
    "generator",
    "heads",
    "instance",
    "integers",
    "like_weights",
    "number",
    "positive",
    "rate",
    "strings",
    "tensor",
    "within_unit",
    "working",
    "zero_or_one",
]

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor(name: str, value: object) -> None:
    """Raises TypeError unless `value` is a dense tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")


def floating(name: str, value: object) -> None:
    """Raises TypeError unless `value` is a dense floating-point tensor."""
    tensor(name, value)
    assert isinstance(value, Tensor)
    if value.dtype not in FLOATING:
        raise TypeError(f"{name} must have a floating-point dtype of 16 to 64 bits, got {value.dtype}")


def axis(name: str, value: Tensor, dim: int) -> None:
    """Raises unless `dim` is an axis of the tensor `value`, and it has entries there."""
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"dim must be an int, got {type(dim).__name__}")
    if not -value.ndim <= dim < value.ndim:
        raise ValueError(f"dim must be an axis of {name}, whose shape is {tuple(value.shape)}, got {dim}")
    if value.shape[dim] == 0:
        raise ValueError(f"{name} must not be empty along dim={dim}, got shape {tuple(value.shape)}")


def finite(name: str, value: Tensor) -> None:
    """Raises ValueError unless all entries are finite. Not looked at while torch.compile traces."""
    if torch.compiler.is_compiling() or value.numel() == 0:
        return
    low, high = value.detach().aminmax()  # one pass, through which NaN comes; no mask is made
    if not (torch.isfinite(low) and torch.isfinite(high)):
        wrong = value.detach()[~torch.isfinite(value)][0].item()
        raise ValueError(f"{name} must be finite, got {wrong}")


def within_unit(name: str, value: Tensor) -> None:
    """Raises unless `value` holds floating-point numbers in [0, 1]. Values as in `finite`."""
    floating(name, value)
    if torch.compiler.is_compiling() or value.numel() == 0:
        return
    low, high = value.detach().aminmax()
    if not (low >= 0 and high <= 1):
        wrong = value.detach()[~((value >= 0) & (value <= 1))][0].item()
        raise ValueError(f"{name} must lie in [0, 1], got {wrong}")


def zero_or_one(name: str, value: Tensor) -> None:
    """Raises ValueError unless each entry is 0 or 1. Values as in `finite`."""
    if torch.compiler.is_compiling():
        return
    wrong = (value != 0) & (value != 1)
    if wrong.any():
        raise ValueError(f"{name} must be 0 or 1, got {value[wrong][0].item()}")


def positive(name: str, value: float, x: Tensor) -> None:
    """Raises unless `value` is a positive number that fits into the dtype that x is computed in."""
    number(name, value)
    limits = torch.finfo(working(x).dtype)
    least, most = limits.tiny, limits.max
    if not least <= value <= most:
        raise ValueError(f"{name} must be positive and finite, within [{least:.2g}, {most:.2g}], got {value}")


def integers(name: str, value: object) -> None:
    """Raises TypeError unless `value` is a dense tensor of integers."""
    tensor(name, value)
    assert isinstance(value, Tensor)
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {value.dtype}")


def like_weights(name: str, value: Tensor, weight: Tensor) -> None:
    """Raises TypeError unless `value` has the dtype of a model's weights, or autocast is to see to it."""
    if value.dtype != weight.dtype and not torch.is_autocast_enabled(value.device.type):
        raise TypeError(f"{name} must have the weights' dtype {weight.dtype}, got {value.dtype}")


def working(x: Tensor) -> Tensor:
    """x in the dtype to compute in: half precision is too coarse and too narrow."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def generator(value: object) -> None:
    """Raises TypeError unless `value` is a torch.Generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(value).__name__}")
