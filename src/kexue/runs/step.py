"""A step of a training: what is random in it depends on the seed and on its number alone."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kexue.nn import checks, randomness

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """What a loss may depend on, besides the model: the step's index, from 0, the seed, and the process."""

    index: int
    seed: int
    process: int = 0
    processes: int = 1
    device: torch.device | str = "cpu"

    def generator(self) -> torch.Generator:
        """For this step's noise: the same in every process. Draw for the whole batch, then `share`."""
        return randomness.generator(self.seed, 0, self.index)

    def batch(self, size: int, batch_size: int) -> Tensor:
        """Indices of this step's batch, of all processes: each epoch is a new order of 0 … size−1.

        What is left of an epoch after its last whole batch is dropped.
        """
        checks.count("size", size, 1)
        checks.count("batch_size", batch_size, 1, size, f"the size of the data, {size}")
        epoch, place = divmod(self.index, size // batch_size)
        order = torch.randperm(size, generator=randomness.generator(self.seed, 1, epoch))
        return order[place * batch_size : (place + 1) * batch_size]

    def batch_of_similar(self, lengths: Tensor, batch_size: int) -> Tensor:
        """The same of sequences of like lengths, so that batches have little padding.

        Each epoch sorts by length anew, equal lengths in random order, and goes through the batches at
        random. The last few, which fill no batch, are dropped.
        """
        size = len(lengths)
        checks.count("batch_size", batch_size, 1, size, f"the size of the data, {size}")
        batches = len(lengths) // batch_size
        epoch, place = divmod(self.index, batches)
        random = randomness.generator(self.seed, 1, epoch)
        order = (lengths + torch.rand(len(lengths), generator=random, dtype=torch.float64)).argsort()
        start = int(torch.randperm(batches, generator=random)[place]) * batch_size
        return order[start : start + batch_size]

    def share(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a tensor for the whole batch, on this process's device."""
        if whole.shape[dim] % self.processes:
            raise ValueError(f"the batch must divide by {self.processes} processes, got {whole.shape[dim]}")
        return whole.chunk(self.processes, dim)[self.process].to(self.device)


def warm_up_then_down(warmup: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at step i, from 0: min((i + 1)/warmup, (steps − i)/(steps − warmup)).

    It grows to 1 in `warmup` steps and falls in a straight line, to end just above 0.

    Raises TypeError for what is no int, ValueError where warmup is not between 1 and steps − 1; so does
    the factor of a step that is not between 0 and steps − 1.
    """
    checks.count("steps", steps, 2)
    checks.count("warmup", warmup, 1, steps - 1, f"steps − 1 = {steps - 1}")

    def factor(index: int) -> float:
        if not 0 <= index < steps:
            raise ValueError(f"index must be between 0 and steps − 1 = {steps - 1}, got {index}")
        return min((index + 1) / warmup, (steps - index) / (steps - warmup))

    return factor


def cosine(steps: int, warmup: int = 1) -> Callable[[int], float]:
    """Factor of the learning rate at step i, from 0: min(1, (i + 1)/warmup) · (1 + cos(πi/steps))/2.

    Raises TypeError for what is no int, ValueError for what is below 1.
    """
    checks.count("steps", steps, 1)
    checks.count("warmup", warmup, 1)
    return lambda index: min(1.0, (index + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * index / steps))


def set_seed(seed: int) -> None:
    """Seeds all global generators, for the initial weights, and demands deterministic algorithms."""
    # Here, since chapters import this module: accelerate imports what warns in a notebook.
    from accelerate import utils

    utils.set_seed(seed, deterministic=True)
