"""Can a recurrent network count? aⁿbⁿ: after n times a come n times b, and then the end.

    python -m kexue.experiments.onlstm_counting --cell lstm --seed 3   one run, in _build/runs
    python -m kexue.experiments.onlstm_counting --record '*'           all missing runs of the book

The chapter `onlstm` (onlstm.claim9) reads its runs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue import runs
from kexue.onlstm import LSTM, ONLSTM, deterministic_recurrence

PAD, A, B, MARK = range(4)
"""Padding, the two letters, and what stands before the first and after the last."""


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    cell: Literal["onlstm", "lstm"] = "onlstm"
    hidden_size: int = 32
    chunk_size: int = 8
    longest: int = 20
    """Trained are all n up to it."""
    tried: int = 60
    """Tested are all n up to it."""
    learning_rate: float = 0.02
    seed: int = 0
    steps: int = 400
    every: int = 100
    keep_weights: bool = False


def words(lengths: Iterable[int]) -> Tensor:
    """Ids of aⁿbⁿ between marks, a row for each n, padded."""
    rows = [torch.tensor([MARK, *[A] * n, *[B] * n, MARK]) for n in lengths]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


class Counter(nn.Module):
    """One layer, between an embedding and the scores of the next symbol."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        size = config.hidden_size
        rnn = LSTM(8, [size]) if config.cell == "lstm" else ONLSTM(8, size, config.chunk_size)
        self.embed, self.rnn, self.out = nn.Embedding(4, 8), rnn, nn.Linear(size, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


def build(config: Config) -> Counter:
    return Counter(config)


@torch.no_grad()
def counts_to(model: Callable[[Tensor], Tensor], tried: int) -> int:
    """The largest n up to which every prediction after the first b is right, the end included."""
    ids = words(range(1, tried + 1))
    guess = model(ids[:, :-1]).argmax(-1)
    for n in range(1, tried + 1):
        if not torch.equal(guess[n - 1, n + 1 : 2 * n + 1], ids[n - 1, n + 2 : 2 * n + 2]):
            return n - 1
    return tried


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    deterministic_recurrence()
    model, ids = build(config), words(range(1, config.longest + 1))

    def loss(model: nn.Module, step: runs.Step) -> tuple[Tensor, dict[str, float]]:
        logits = model(ids[:, :-1]).flatten(0, 1)
        return cross_entropy(logits, ids[:, 1:].flatten(), ignore_index=PAD), {}

    return runs.train(
        model,
        loss,
        torch.optim.Adam(model.parameters(), lr=config.learning_rate),
        config=config,
        folder=folder,
        finish=lambda model: {"right_up_to": counts_to(model, config.tried)},
        schedule=lambda index: 1 - index / config.steps,
        max_norm=1.0,
        stop_after=stop_after,
    )


SCALES = {"live": Config(steps=40), "run": Config(), "gpu": Config(hidden_size=128, longest=100, tried=300)}
RECORDINGS = {
    f"onlstm_counting/{cell}-seed{seed}": Config(cell=cell, seed=seed)
    for cell in ("lstm", "onlstm")
    for seed in range(10, 15)
}

if __name__ == "__main__":
    runs.command_line("onlstm_counting", SCALES, RECORDINGS, run)
