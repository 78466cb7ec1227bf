"""Random numbers that tests of several files draw and judge."""

import numpy as np
import torch
from scipy import stats

F64 = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=F64).to(dtype)


def within(estimates: torch.Tensor, truth, errors: float = 4.5) -> bool:
    """Whether the mean over the first axis is within so many standard errors of the truth."""
    mean, deviation = estimates.double().mean(0), estimates.double().std(0)
    near = (mean - torch.as_tensor(truth)).abs() <= errors * deviation / len(estimates) ** 0.5 + 1e-12
    return bool(near.all())


def p_value(draws: torch.Tensor, probabilities: list[float]) -> float:
    """Of the draws' frequencies, by χ²; a class of probability 0 must not occur at all."""
    p = np.array(probabilities)
    counts = torch.bincount(draws, minlength=len(p)).numpy()
    assert (counts[p == 0] == 0).all()
    return stats.chisquare(counts[p > 0], len(draws) * p[p > 0] / p.sum()).pvalue
