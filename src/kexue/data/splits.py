"""Parts with the same share of each class."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from kexue.nn import checks


def stratified_split(
    label: Int[Tensor, " n"], fractions: tuple[float, ...], generator: torch.Generator
) -> tuple[Int[Tensor, " _"], ...]:
    """Random disjoint parts of 0 … n−1 in which every class has its share, one part per fraction.

    Each class is shuffled and cut at the cumulated fractions, rounded down; the last part of
    fractions that sum to 1 takes what is left.

    Raises:
        TypeError: label is no tensor, fractions are no numbers, or generator is not torch's.
        ValueError: labels that are no vector of integers, a fraction outside (0, 1), or fractions that
            sum to more than 1.
    """
    checks.tensor("label", label)
    checks.instance("fractions", fractions, Sequence, "a sequence of numbers")
    for fraction in fractions:
        checks.number("fractions", fraction)
    checks.generator(generator)
    if label.is_floating_point() or label.is_complex() or label.ndim != 1 or len(label) == 0:
        raise ValueError(
            f"label must be a vector of integers, got {label.dtype} of shape {tuple(label.shape)}"
        )
    if not fractions or not all(0 < f < 1 for f in fractions) or sum(fractions) > 1 + 1e-9:
        raise ValueError(f"fractions must lie in (0, 1) and sum to at most 1, got {fractions}")
    parts: list[list[Tensor]] = [[] for _ in fractions]
    for value in label.unique():
        members = torch.nonzero(label == value).squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        cuts = [0, *(int(len(members) * c + 1e-9) for c in np.cumsum(fractions))]
        for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            part.append(members[start:stop])
    return tuple(torch.cat(part) for part in parts)
