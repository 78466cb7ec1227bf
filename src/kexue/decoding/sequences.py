"""Sequences of ids, their markers and their padding."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.nn.functional import pad

from kexue.masking import lengths_of, reverse_sequence
from kexue.nn import checks
from kexue.nn.sequences import PAD

Direction = Literal["l2r", "r2l"]
Markers = Literal["shared", "separate"]
FIRST, LAST = 1, 2
TOKENS = 3
"""The first id that is a token."""


def with_markers(
    tgt: Integer[Tensor, "batch length"], direction: Direction, markers: tuple[int, int] = (FIRST, LAST)
) -> tuple[Integer[Tensor, "batch steps"], Integer[Tensor, "batch steps"]]:
    """What a decoder reads, and what it is to write at each step (decoding.tokens).

    From left to right: reads ⟨1⟩ y₁ … y_N, writes y₁ … y_N ⟨2⟩. From right to left, with the same two
    markers: reads ⟨2⟩ y_N … y₁, writes y_N … y₁ ⟨1⟩.

    Args:
        tgt: (B, N) in reading order, without markers, padded with 0 on the right.
        direction: "l2r" or "r2l".
        markers: the ids of beginning and end, from left to right.

    Returns:
        Both (B, N + 1), padded with 0.

    Raises:
        TypeError: ids that are no int64 or int32, or markers that are no ints.
        ValueError: an unknown direction, a tgt that is not (B, N), markers or negative ids in it, padding
            before a token, or markers that are not two ids.
    """
    checks.choice("direction", direction, get_args(Direction))
    check_markers(markers)
    check_ids("tgt", tgt, None, 0)
    lengths = lengths_of(tgt != PAD)
    start, end = markers if direction == "l2r" else markers[::-1]
    ordered = tgt if direction == "l2r" else reverse_sequence(tgt, lengths) if tgt.shape[1] else tgt
    reads = pad(ordered, (1, 0), value=start)
    writes = pad(ordered, (0, 1)).scatter(1, lengths[:, None], end)
    return reads, writes


def without_markers(
    written: Sequence[int], direction: Direction, markers: tuple[int, int] = (FIRST, LAST)
) -> tuple[tuple[int, ...], bool]:
    """Tokens in reading order from what a decoder wrote, and whether it came to its end marker.

    Raises TypeError for ids that are no ints, ValueError for an unknown direction, or markers that are not
    two ids.
    """
    checks.choice("direction", direction, get_args(Direction))
    check_markers(markers)
    checks.instance("written", written, Sequence, "a sequence of ids")
    for one in written:
        checks.count("written", one, 0)
    end = markers[1] if direction == "l2r" else markers[0]
    finished = end in written
    tokens = tuple(written[: written.index(end)] if finished else written)
    return (tokens if direction == "l2r" else tokens[::-1]), finished


def check_markers(markers: object) -> None:
    checks.instance("markers", markers, Sequence, "two ids")
    assert isinstance(markers, Sequence)
    if len(markers) != 2:
        raise ValueError(f"markers must be two ids, got {markers!r:.80}")
    for one in markers:
        checks.count("markers", one, 1)


def check_integers(name: str, ids: object) -> None:
    checks.tensor(name, ids)
    assert isinstance(ids, Tensor)
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must have dtype int64 or int32, got {ids.dtype}")


def check_ids(name: str, ids: object, vocab_size: int | None, shortest: int) -> None:
    """Raises unless rows of token ids, padded on the right, at least so many in each."""
    check_integers(name, ids)
    assert isinstance(ids, Tensor)
    if ids.ndim != 2 or len(ids) == 0:
        raise ValueError(f"{name} must have shape (B, length) with B ≥ 1, got {tuple(ids.shape)}")
    real = ids != PAD
    bad = real & (ids < TOKENS)
    if vocab_size is not None:
        bad |= ids >= vocab_size
    if bad.any():
        last = "" if vocab_size is None else f" to {vocab_size - 1}"
        raise ValueError(
            f"{name} must hold ids from {TOKENS}{last}, and {PAD} as padding, got {int(ids[bad][0])}"
        )
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError(f"{name} must be padded on the right, got {PAD} before a token")
    if (real.sum(1) < shortest).any():
        row = int((real.sum(1) < shortest).nonzero()[0])
        raise ValueError(f"{name} must not have empty rows, got one at {row}")
