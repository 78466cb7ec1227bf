"""Checks of arguments that are no tensors; `checks` has them and those of tensors.

Apart, since what needs no tensors need not wait for torch to be imported.
"""

import numbers
from collections.abc import Collection, Iterable
from types import UnionType
from typing import Any


def number(name: str, value: object) -> None:
    """Raises TypeError unless `value` is a real number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def count(name: str, value: int, low: int, high: int | None = None, meaning: str = "") -> None:
    """Raises unless `value` is an int of 64 bits within [low, high]; `meaning` says what `high` is."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < low or value > (2**63 - 1 if high is None else high):
        upper = "" if high is None else f" and {meaning or high}"
        raise ValueError(
            f"{name} must be {'at least' if high is None else 'between'} {low}{upper}, got {value}"
        )


def whole(name: str, value: object, low: int, high: int | None = None, meaning: str = "") -> int:
    """The value as an int, which NumPy's integers may be, too. Raises what `count` raises."""
    number: Any = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value
    count(name, number, low, high, meaning)
    return int(number)


def hashable(name: str, values: Iterable[object]) -> None:
    """Raises TypeError unless each value can be a key, and so can what it holds."""
    for value in values:
        try:
            hash(value)
        except TypeError:
            raise TypeError(f"{name} must be hashable, got {value!r}") from None


def rate(name: str, value: float) -> None:
    """Raises unless `value` is a number in [0, 1): a share of what is dropped."""
    number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")


def choice(name: str, value: object, allowed: Collection[object]) -> None:
    """Raises ValueError unless `value` is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def function(name: str, value: object) -> None:
    """Raises TypeError unless `value` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")


def instance(name: str, value: object, kind: type | UnionType, what: str) -> None:
    """Raises TypeError unless `value` is of a kind, whose name `what` is."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, got {type(value).__name__}")


def strings(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """The values as a tuple. Raises TypeError unless they are strings, those of a list or of a string."""
    instance(name, values, Iterable, "an iterable of strings")
    found = tuple(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{name} must be strings, got {type(value).__name__}")
    return found


def heads(hidden_size: int, num_heads: int, rotary: bool = False) -> None:
    """Raises unless that many heads divide a width, with rotary positions into even sizes."""
    count("hidden_size", hidden_size, 1)
    count("num_heads", num_heads, 1)
    if hidden_size % (2 * num_heads if rotary else num_heads):
        into = " into even sizes" if rotary else ""
        raise ValueError(f"num_heads must divide hidden_size = {hidden_size}{into}, got {num_heads}")
