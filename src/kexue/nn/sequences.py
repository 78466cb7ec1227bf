"""Sequences of different lengths in one tensor."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from kexue.nn import checks

__all__ = [
    "PAD",
    "pad_ids",
]

PAD = 0
"""The id that pads."""


def pad_ids(
    sequences: Sequence[Sequence[int]],
    pad: int = PAD,
    length: int | None = None,
    left: bool = False,
    device: torch.device | str | None = None,
) -> Int[Tensor, "batch length"]:
    """Ids of sequences as one tensor, padded on the right; at least one column.

    Args:
        sequences: at least one; they may be empty.
        pad: the id that pads, which no sequence may hold.
        length: columns; those of the longest sequence if None.
        left: pad on the left.
        device: of the result.

    Raises TypeError for what is no sequence, ValueError for no sequences, one longer than `length`, or an
    entry that is no id, or pads.
    """
    checks.instance("sequences", sequences, Sequence, "a sequence of sequences")
    if not len(sequences):
        raise ValueError("sequences must hold at least one, got none")
    for ids in sequences:
        checks.instance("sequences", ids, Sequence, "sequences of ids")
        for one in ids:
            if not isinstance(one, int) or isinstance(one, bool) or one < 0 or one == pad:
                raise ValueError(f"sequences must hold ids, of which {pad} pads, got {one!r}")
    longest = max(1, *map(len, sequences))
    if length is not None and length < longest:
        raise ValueError(f"length must be at least that of the longest sequence, {longest}, got {length}")
    fill = [[pad] * ((length or longest) - len(ids)) for ids in sequences]
    rows = zip(fill, sequences, strict=True) if left else zip(sequences, fill, strict=True)
    return torch.tensor([[*before, *after] for before, after in rows], device=device)
