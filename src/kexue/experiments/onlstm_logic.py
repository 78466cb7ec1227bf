"""How two propositional formulas relate, read as strings: ON-LSTM and LSTM on formulas longer than trained.

    python -m kexue.experiments.onlstm_logic --cell lstm   one run, in _build/runs
    python -m kexue.experiments.onlstm_logic --record '*'  all missing runs of the book
    python -m kexue.experiments.onlstm_logic --scale gpu   the paper's sizes

The task is Bowman et al.'s (2015): two formulas over six variables with and, or, not; one of seven relations
holds between them. Training sees at most 6 operators, the test goes to 12. The data are drawn here, by a
grammar of our own, or are the original files (`files`). Nothing of it has been recorded on these, and no
chapter reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue import data, runs
from kexue.onlstm import LSTM, ONLSTM, deterministic_recurrence

VARIABLES = "abcdef"
TOKENS = ("<pad>", "(", ")", "not", "and", "or", *VARIABLES)
RELATIONS = ("=", "<", ">", "^", "|", "v", "#")
"""Equivalent, entails, is entailed, contradicts (negation), excludes, covers, independent."""
TRAIN, LONGEST = 6, 12
"""Operators of the longer formula of a pair: in training, and at most in the test."""
EVERYWHERE = 2**64 - 1
# Truth tables as 64 bits: bit j of a variable says whether it is true in the j-th of 2⁶ worlds.
TABLE = {v: sum(1 << j for j in range(64) if j >> i & 1) for i, v in enumerate(VARIABLES)}


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    cell: Literal["onlstm", "lstm"] = "onlstm"
    width: int = 64
    hidden: int = 128
    chunk_size: int = 8
    dropout: float = 0.1
    learning_rate: float = 3e-3
    pairs: int = 60_000
    """Of formulas, for training."""
    files: bool = False
    """Bowman et al.'s own pairs, all of them, instead."""
    seed: int = 0
    steps: int = 4000
    batch_size: int = 128
    every: int = 500
    keep_weights: bool = False


# --- Formulas ----------------------------------------------------------------------------------


def formula(generator: np.random.Generator, operators: int, names: str) -> tuple[list[str], int]:
    """Tokens and truth table of a random formula with exactly so many operators."""
    if not operators:
        name = names[generator.integers(len(names))]
        return [name], TABLE[name]
    kind = ("not", "and", "or")[generator.integers(3)]
    if kind == "not":
        tokens, table = formula(generator, operators - 1, names)
        return ["(", "not", *tokens, ")"], EVERYWHERE & ~table
    left = int(generator.integers(operators))
    (a, first), (b, second) = (formula(generator, n, names) for n in (left, operators - 1 - left))
    return ["(", *a, kind, *b, ")"], first & second if kind == "and" else first | second


def relation(p: int, q: int) -> str | None:
    """How two truth tables relate; None where one is always true or always false."""
    if p in (0, EVERYWHERE) or q in (0, EVERYWHERE):
        return None
    if p == q:
        return "="
    if p & q == p:
        return "<"
    if p & q == q:
        return ">"
    disjoint, all_cases = p & q == 0, p | q == EVERYWHERE
    if disjoint and all_cases:
        return "^"
    return "|" if disjoint else "v" if all_cases else "#"


def pair(generator: np.random.Generator, operators: int) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Two formulas over the same four variables, and their relation; the longer one has so many operators.

    Of independent pairs, which would be most, one in four is kept.
    """
    while True:
        names = "".join(VARIABLES[i] for i in generator.choice(6, 4, replace=False))
        a, p = formula(generator, operators, names)
        b, q = formula(generator, int(generator.integers(operators + 1)), names)
        if generator.integers(2):
            a, p, b, q = b, q, a, p
        found = relation(p, q)
        if found is not None and (found != "#" or not generator.integers(4)):
            return tuple(a), tuple(b), found


@cache
def pairs(config_pairs: int, per_length: int = 1000) -> tuple[list[Any], list[Any], dict[int, Any]]:
    """Pairs for training, for choosing settings, and, by number of operators, for the final numbers.

    The same for all seeds; no pair is in two parts.
    """
    generator = np.random.default_rng(0)
    train = [pair(generator, 1 + i % TRAIN) for i in range(config_pairs)]
    seen = {(a, b) for a, b, _ in train}

    def fresh(operators: int, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            one = pair(generator, operators)
            if one[:2] not in seen:
                seen.add(one[:2])
                found.append(one)
        return found

    valid = [one for k in range(1, TRAIN + 1) for one in fresh(k, 500)]
    test = {k: fresh(k, per_length) for k in range(1, LONGEST + 1)}
    return train, valid, test


@cache
def pairs_of_files() -> tuple[list[Any], list[Any], dict[int, Any]]:
    """The same of Bowman et al.'s files; every tenth pair for training is kept for choosing settings."""
    files = data.propositional_logic()
    known = [one for operators in range(1, TRAIN + 1) for one in files["train"][operators]]
    train = [one for i, one in enumerate(known) if i % 10]
    return train, known[::10], {k: files["test"][k] for k in range(1, LONGEST + 1)}


def tensors(examples: Sequence[Any]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    index = {token: i for i, token in enumerate(TOKENS)}
    sides = [[torch.tensor([index[t] for t in one[side]]) for one in examples] for side in (0, 1)]
    return sides[0], sides[1], torch.tensor([RELATIONS.index(one[2]) for one in examples])


# --- Model and training ------------------------------------------------------------------------


class Reader(nn.Module):
    """One network reads both formulas; a perceptron sees h₁, h₂, h₁∘h₂ and |h₁ − h₂|."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(TOKENS), config.width)
        if config.cell == "onlstm":
            levels = config.hidden // config.chunk_size
            self.rnn: ONLSTM | LSTM = ONLSTM(config.width, config.hidden, levels)
        else:
            self.rnn = LSTM(config.width, [config.hidden])
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Sequential(
            nn.Linear(4 * config.hidden, 128), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(128, 7)
        )

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits of the relations, (B, 7), from both formulas: ids (2B, T), lengths (2B,)."""
        # What is dropped is drawn in the order of time, as it was recorded.
        x = self.dropout(self.embedding(ids.t())).transpose(0, 1)
        state = self.rnn(x, None, lengths)[1]
        h1, h2 = self.dropout(state[-1][0]).chunk(2)
        return self.out(torch.cat([h1, h2, h1 * h2, (h1 - h2).abs()], -1))


def build(config: Config) -> Reader:
    return Reader(config)


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config) -> None:
        self.config = config
        train, self.valid, self.test = pairs_of_files() if config.files else pairs(config.pairs)
        self.first, self.second, self.label = tensors(train)

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        chosen = step.batch(len(self.label), self.config.batch_size)
        both = [side[i] for side in (self.first, self.second) for i in chosen.tolist()]
        padded, lengths = pad_sequence(both, batch_first=True), torch.tensor([len(one) for one in both])
        # Each process takes its share of the pairs: of both halves.
        halves = ([step.share(half) for half in whole.chunk(2)] for whole in (padded, lengths))
        logits, true = model(*map(torch.cat, halves)), step.share(self.label[chosen])
        return cross_entropy(logits, true), {"accuracy": (logits.argmax(-1) == true).float().mean()}

    def evaluate(self, model: Any) -> dict[str, Any]:
        return {"valid_accuracy": accuracy(model, self.valid)}

    def finish(self, model: Any) -> dict[str, Any]:
        found = {f"test_accuracy_{k}": accuracy(model, examples) for k, examples in self.test.items()}
        return found | {"parameters": sum(p.numel() for p in model.parameters())}


def accuracy(model: Reader, examples: Sequence[Any]) -> float:
    device = next(model.parameters()).device
    a, b, true = tensors(examples)
    right = 0
    for start in range(0, len(true), 500):
        both = a[start : start + 500] + b[start : start + 500]
        lengths = torch.tensor([len(one) for one in both])
        guess = model(pad_sequence(both, batch_first=True).to(device), lengths.to(device)).argmax(-1).cpu()
        right += int((guess == true[start : start + 500]).sum())
    return right / len(true)


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    deterministic_recurrence()
    training, model = Training(config), build(config)
    schedule = runs.cosine(config.steps)
    return runs.train_network(
        model, training, config, folder, stop_after, schedule=schedule, max_norm=1.0, bf16=True
    )


SCALES = {
    "live": Config(pairs=2000, steps=60, every=20),
    "run": Config(),
    "gpu": Config(width=128, hidden=400, chunk_size=10, dropout=0.2, steps=24_000),
}

RATES = (1e-3, 3e-3, 1e-2, 3e-2)

# On the original files: the same rates for both, and the same number of parameters.
FILES_HIDDEN: dict[Literal["onlstm", "lstm"], int] = {"onlstm": 200, "lstm": 204}


def on_files(cell: Literal["onlstm", "lstm"], rate: float, steps: int, seed: int) -> Config:
    return Config(
        cell, hidden=FILES_HIDDEN[cell], chunk_size=10, learning_rate=rate, files=True, steps=steps, seed=seed
    )


PLANNED = {
    f"onlstm_logic_files_tuning/{cell}-rate{rate:g}": on_files(cell, rate, 2000, 0)
    for rate in RATES
    for cell in FILES_HIDDEN
} | {
    f"onlstm_logic_files/{cell}-seed{seed}": on_files(cell, 3e-3, 8000, seed)
    for seed in range(1, 6)
    for cell in FILES_HIDDEN
}
# The trainings of hours, which `--record` runs, count as declared once they have been begun.
RECORDINGS = {
    name: config
    for name, config in PLANNED.items()
    if __name__ == "__main__" or (runs.runs_folder() / name).is_dir()
}

if __name__ == "__main__":
    runs.command_line("onlstm_logic", SCALES, RECORDINGS, run)
