"""Sequences with anything in their padding."""

import math
from functools import partial

import seeded
import torch

NAN, INF = math.nan, math.inf
randn = partial(seeded.randn, dtype=torch.float32)
FILLINGS = [0.0, 7.0, -1e4, NAN, INF, -INF]


def filled(x, mask, value):
    """x with `value` in its padding, which no operation may see."""
    return x.masked_fill(~mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim)), value)
