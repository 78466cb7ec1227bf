"""The one way from a seed to a generator."""

import numpy as np
import torch

from kexue.nn import checks

__all__ = [
    "generator",
]


def generator(seed: int, *key: int) -> torch.Generator:
    """A generator that depends on the seed and the key alone; zeros at the end of a key do not count.

    Raises TypeError for what is no int, ValueError for one below 0.
    """
    checks.count("seed", seed, 0)
    for part in key:
        checks.count("key", part, 0)
    state = np.random.SeedSequence((seed, *key)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))
