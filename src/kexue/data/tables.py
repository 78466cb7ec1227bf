"""Tables of numbers."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kexue.data.sources import SOURCES, Source


class Table(NamedTuple):
    """Features of some cases, and what is to be predicted for each."""

    features: Float[Tensor, "n features"]
    target: Float[Tensor, " n"]
    source: Source


def diabetes() -> Table:
    """442 patients with diabetes: ten features, each with mean 0 and variance 1, and how far the disease
    had gone a year later, 25 to 346. From scikit-learn, float32. Licence: see SOURCES."""
    from sklearn.datasets import load_diabetes  # scikit-learn belongs to the extra "book"

    bunch = load_diabetes(scaled=False)
    features = torch.from_numpy(bunch.data)
    features = (features - features.mean(0)) / features.std(0, correction=0)
    return Table(features.float(), torch.from_numpy(bunch.target).float(), SOURCES["diabetes"])
