"""The book's data sets: where they are from, under which licence, and how to load them.

All sets so far ship with packages that the book installs, so that nothing is downloaded.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """What a reader must know of a data set before using it."""

    title: str
    description: str
    size: str
    licence: str
    citation: str
    url: str


SOURCES = {
    "digits": Source(
        title="Optical Recognition of Handwritten Digits (test part)",
        description="1,797 handwritten digits by 13 people, 8×8 pixels with 17 grey levels",
        size="0.1 MB, ships with scikit-learn",
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
        url="https://doi.org/10.24432/C50P49",
    ),
}


@dataclass(frozen=True)
class Images:
    """Small images with a class each."""

    pixels: Float[Tensor, "n height width"]
    """Grey values in [0, 1], float32."""
    label: Int[Tensor, " n"]
    """Classes, int64."""
    source: Source


def digits() -> Images:
    """1,797 handwritten digits of 8×8 pixels, from scikit-learn. Licence: CC BY 4.0."""
    from sklearn.datasets import load_digits  # scikit-learn belongs to the extra "book"

    bunch = load_digits()
    pixels = torch.from_numpy((bunch.images / 16).astype(np.float32))
    return Images(pixels, torch.from_numpy(bunch.target.astype(np.int64)), SOURCES["digits"])


def stratified_split(
    label: Int[Tensor, " n"], fractions: tuple[float, ...], generator: torch.Generator
) -> tuple[Int[Tensor, " _"], ...]:
    """Random disjoint parts of 0 … n−1 in which every class has its share, one part per fraction.

    Each class is shuffled and cut at the cumulated fractions, rounded down; the last part of
    fractions that sum to 1 takes what is left.

    Raises:
        ValueError: labels that are no vector of integers, a fraction outside (0, 1), or fractions that
            sum to more than 1.
    """
    if label.is_floating_point() or label.ndim != 1 or len(label) == 0:
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
