"""Language models of texts, ON-LSTM and LSTM: Chinese news, and Mikolov's Penn Treebank with trees.

    python -m kexue.experiments.onlstm_texts --cell lstm   one run, in _build/runs
    python -m kexue.experiments.onlstm_texts --record '*'  all missing runs of the book
    python -m kexue.experiments.onlstm_texts --scale gpu   the paper's setting, on Mikolov's text

The text is read in batch_size parts at once, from start to end, and the state is carried from each window
to the next. The chapter `onlstm` reads what it records; the rules of its verdicts stand in the ledger.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kexue import data, runs
from kexue.nn import randomness
from kexue.onlstm import (
    LanguageModel,
    MasterInput,
    baseline_scores,
    deterministic_recurrence,
    kneser_ney,
    tree_scores,
)
from kexue.onlstm.parsing import END


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    corpus: Literal["people_daily", "ptb"] = "people_daily"
    cell: Literal["onlstm", "lstm"] = "onlstm"
    hidden_sizes: tuple[int, ...] = (256, 128)
    chunk_size: int = 8
    master_input: MasterInput = "cumsum"
    embedding_dropout: float = 0.05
    input_dropout: float = 0.1
    dropout: float = 0.1
    output_dropout: float = 0.1
    recurrent_dropout: float = 0.1
    paper_dropconnect: bool = False
    """See `ONLSTM.load_paper_weights`."""
    embedding_scale: float | None = None
    """See `LanguageModel`; None with "sgd": 1, as published."""
    output_scale: float = 1.0
    activation_penalty: float = 0.0
    """α of α·mean(dropped h²)."""
    temporal_penalty: float = 0.0
    """β of β·mean((hₜ − hₜ₋₁)²)."""
    at_least: int = 20
    """Words that are rarer in the training text are unknown."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-3
    patience: int = 0
    """With "sgd": parameters are averaged, for evaluation, once the valid perplexity is above the best of all
    evaluations but the last so many (Merity et al. 2018, NT-ASGD); 0 for never."""
    weight_decay: float = 1.2e-6
    max_norm: float = 0.25
    batch_size: int = 16
    """Parts of the text that are read at once."""
    window: int = 35
    """Words of a step, for gradients."""
    variable_window: bool = False
    """Windows of random length, the rate in proportion (Merity et al. 2018)."""
    steps: int = 6000
    every: int = 500
    seed: int = 0
    keep_weights: bool = False


# --- Texts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Sentences (or paragraphs) of ids, each with <eos> at its end, and the vocabulary."""

    vocabulary: data.Vocabulary
    train: list[Tensor]
    valid: list[Tensor]
    test: list[Tensor]


@lru_cache(2)
def corpus(config: Config) -> Corpus:
    """The texts of a configuration; blocks of 50 in turn are held out, so that all parts are alike."""
    if config.corpus == "ptb":
        parts: list[list[Sequence[str]]] = [[line.split() for line in text] for text in data.mikolov_ptb()]
    else:
        parts = [[], [], []]  # for training, choosing settings, test
        for i, text in enumerate(data.people_daily().word):
            parts[{0: 1, 10: 2}.get(i // 50 % 20, 0)].append(text)
    train, valid, test = ([(*text, END) for text in part] for part in parts)
    # Mikolov's text has a sign of its own for unknown words.
    known = ([word for word in text if word != "<unk>"] for text in train)
    vocabulary = data.Vocabulary(known, config.at_least)
    return Corpus(vocabulary, *([vocabulary.ids(text) for text in part] for part in (train, valid, test)))


def perplexity_of_counts(config: Config) -> float:
    """Of the test part, by counts of five words: what a model must beat first."""
    texts = corpus(config)
    read, held_out = (torch.cat(part).numpy() for part in (texts.train, texts.test))
    return math.exp(-np.log(kneser_ney(read, held_out, len(texts.vocabulary))).mean())


# --- Training ----------------------------------------------------------------------------------


def build(config: Config) -> LanguageModel:
    return LanguageModel(
        len(corpus(config).vocabulary),
        config.hidden_sizes,
        config.cell,
        config.chunk_size,
        config.master_input,
        embedding_dropout=config.embedding_dropout,
        input_dropout=config.input_dropout,
        dropout=config.dropout,
        output_dropout=config.output_dropout,
        recurrent_dropout=config.recurrent_dropout,
        embedding_scale=1.0 if config.optimizer == "sgd" else config.embedding_scale,  # as published
        output_scale=config.output_scale,
        paper_dropconnect=config.paper_dropconnect,
    )


def optimizer_of(config: Config, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    never = config.steps + 1
    optimizer = torch.optim.ASGD(
        parameters, lr=config.learning_rate, lambd=0.0, t0=never, weight_decay=config.weight_decay
    )

    def this_rate(*_: Any) -> None:  # it would take a step with the rate of the step before
        for group in optimizer.param_groups:
            for state in map(optimizer.state.get, group["params"]):
                if state:
                    state["eta"].fill_(group["lr"])

    optimizer.register_step_pre_hook(this_rate)
    return optimizer


def window_at(config: Config, index: int) -> int:
    """The length of a step's window."""
    if not config.variable_window:
        return config.window
    random = randomness.generator(config.seed, 3, index)
    mean = config.window if torch.rand((), generator=random) < 0.95 else config.window / 2
    return max(5, int(mean + 5 * torch.randn((), generator=random)))


@contextlib.contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """With averaged SGD, the averages in place of the parameters."""
    kept = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if "ax" in optimizer.state.get(parameter, {}):
                kept.append((parameter, parameter.detach().clone()))
                parameter.data.copy_(optimizer.state[parameter]["ax"])
    yield
    for parameter, value in kept:
        parameter.data.copy_(value)


def entropy_of(logits: Tensor, ids: Tensor, reduction: str = "mean") -> Tensor:
    """The cross-entropy of logits (B, T, V) for ids (B, T)."""
    # In the order of time, which comes first in memory.
    rows = logits.transpose(0, 1).flatten(0, 1).float()
    return cross_entropy(rows, ids.t().flatten(), reduction=reduction)


def perplexity(model: LanguageModel, text: Tensor, rows: int, window: int, device: Any) -> float:
    """exp of the mean cross-entropy of a text, read in `rows` parallel parts from their start on."""
    text = text[: (len(text) - 1) // rows * rows + 1].to(device)
    ids, target = text[:-1].view(rows, -1), text[1:].view(rows, -1)
    total, state = 0.0, None
    for part, aim in zip(ids.split(window, 1), target.split(window, 1), strict=True):
        with torch.autocast(device.type, torch.bfloat16):
            out = model(part, state)
        state = out.state
        total += float(entropy_of(out.logits, aim, "sum"))
    return math.exp(total / target.numel())


class Training:
    """What a run learns from, with its place in the text, and how it is measured."""

    def __init__(self, config: Config, model: LanguageModel, optimizer: torch.optim.Optimizer) -> None:
        self.config, self.model, self.optimizer = config, model, optimizer
        self.texts = texts = corpus(config)
        self.stream, self.valid, self.test = map(torch.cat, (texts.train, texts.valid, texts.test))
        self.epoch, self.place = 0, 0
        self.state: list[Any] | None = None
        self.validated: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides parameters and optimiser."""
        return {name: getattr(self, name) for name in ("epoch", "place", "state", "validated")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def next_window(self, step: runs.Step) -> tuple[Tensor, Any]:
        """Ids of the step's window in each of the parts, (B, window + 1), and the state before it."""
        length = window_at(self.config, step.index)
        part = len(self.stream) // self.config.batch_size
        if self.place + length >= part:
            self.epoch, self.place, self.state = self.epoch + 1, 0, None
        shift = torch.randint(part, (), generator=randomness.generator(self.config.seed, 2, self.epoch))
        start = int(shift) + part * torch.arange(self.config.batch_size) + self.place
        self.place += length
        rows = self.stream[(start[:, None] + torch.arange(length + 1)) % len(self.stream)].to(step.device)
        # From a checkpoint a state comes to the CPU.
        state = self.state and [tuple(v.to(rows.device) for v in pair) for pair in self.state]
        return rows, state

    def loss(self, wrapped: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        config = self.config
        rows, state = self.next_window(step)
        out = wrapped(rows[:, :-1], state)
        self.state = [tuple(v.detach() for v in pair) for pair in out.state]
        entropy = entropy_of(out.logits, rows[:, 1:])
        penalty = 0.0
        if config.activation_penalty:
            penalty = penalty + config.activation_penalty * out.dropped.float().square().mean()
        if config.temporal_penalty:
            penalty = penalty + config.temporal_penalty * out.hidden.float().diff(dim=1).square().mean()
        return entropy + penalty, {"cross_entropy": entropy.detach()}

    def evaluate(self, model: Any) -> dict[str, Any]:
        device = next(model.parameters()).device
        with averaged(self.optimizer):
            found = {"valid_perplexity": perplexity(model, self.valid, 20, self.config.window, device)}
            if self.config.corpus == "ptb":
                found |= tree_scores(model, self.texts.vocabulary, short_only=True)
        self.begin_to_average(found["valid_perplexity"])
        return found

    def begin_to_average(self, valid: float) -> None:
        """By the rule of `Config.patience`."""
        before = self.validated[: -self.config.patience]
        self.validated.append(valid)
        (group,) = self.optimizer.param_groups
        if self.config.patience and before and valid > min(before) and group["t0"] > self.config.steps:
            group["t0"] = float(self.optimizer.state[group["params"][0]]["step"])

    def finish(self, model: Any) -> dict[str, Any]:
        device, found = next(model.parameters()).device, {}
        with averaged(self.optimizer):
            found["test_perplexity"] = perplexity(model, self.test, 20, self.config.window, device)
            if self.config.corpus == "ptb":
                found |= tree_scores(model, self.texts.vocabulary, short_only=False) | baseline_scores()
        return found | {"parameters": sum(p.numel() for p in model.parameters())}


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    deterministic_recurrence()
    model = build(config)
    optimizer = optimizer_of(config, model.parameters())
    training = Training(config, model, optimizer)
    schedule = runs.cosine(config.steps, warmup=200)
    if config.optimizer == "sgd":
        schedule = lambda index: window_at(config, index) / config.window  # noqa: E731
    options = {"carried": training, "schedule": schedule, "max_norm": config.max_norm}
    return runs.train_network(model, training, config, folder, stop_after, optimizer, bf16=True, **options)


SCALES = {
    "live": Config(steps=60, every=20),
    "run": Config(),
    # The paper's, whose perplexity is 58.29 (valid) and 56.17 (test), for 300 epochs of some 663 steps.
    "gpu": Config(
        corpus="ptb",
        hidden_sizes=(1150, 1150, 400),
        chunk_size=10,
        master_input="complement",
        embedding_dropout=0.1,
        input_dropout=0.5,
        dropout=0.3,
        output_dropout=0.45,
        recurrent_dropout=0.45,
        paper_dropconnect=True,
        activation_penalty=2.0,
        temporal_penalty=1.0,
        at_least=1,
        optimizer="sgd",
        learning_rate=30.0,
        patience=5,
        batch_size=20,
        window=70,
        variable_window=True,
        steps=200_000,
        every=670,
    ),
}

# They give both the same number of parameters, as nearly as whole neurons can.
SIZES: dict[str, tuple[int, ...]] = {"onlstm": (256, 128), "lstm": (268, 128)}


def dropouts(rate: float) -> dict[str, float]:
    """One rate for all of them; whole words are dropped half as often."""
    others = ("input_dropout", "dropout", "output_dropout", "recurrent_dropout")
    return {"embedding_dropout": rate / 2, **dict.fromkeys(others, rate)}


# Logits are not small from the start. The same grid for both.
NEWS: dict[str, Any] = {"output_scale": 128**0.5, "max_norm": 1.0, **dropouts(0.1)}
NEWS_RATES = (2e-3, 4e-3, 8e-3)
NEWS_TUNING = {
    f"onlstm_news_tuning/{cell}-rate{rate:g}": Config(
        cell=cast(Any, cell),
        hidden_sizes=SIZES[cell],
        **NEWS | {"learning_rate": rate, "steps": 1000, "every": 500},
    )
    for rate in NEWS_RATES
    for cell in SIZES
}
# The best of the tuning. Since dropout of 0.1 was worse than none by several points, 0.2 was not tried.
NEWS_BEST = {"onlstm": 4e-3, "lstm": 4e-3}
NEWS_DROPOUTS = (0.0, 0.1)
NEWS_BEST_DROPOUT = {"onlstm": 0.0, "lstm": 0.0}


def news(cell: str, rate: float, seed: int) -> Config:
    settings = NEWS | {"learning_rate": NEWS_BEST[cell], "steps": 5400, "every": 900} | dropouts(rate)
    return Config(cell=cast(Any, cell), hidden_sizes=SIZES[cell], seed=seed, **settings)


NEWS_LONG = {
    f"onlstm_news_tuning/{cell}-dropout{rate:g}": news(cell, rate, 0)
    for rate in NEWS_DROPOUTS
    for cell in NEWS_BEST
}
NEWS_FINALS = {
    f"onlstm_news/{cell}-seed{seed}": replace(
        news(cell, NEWS_BEST_DROPOUT[cell], seed), keep_weights=(cell, seed) == ("onlstm", 1)
    )
    for seed in range(1, 6)
    for cell in NEWS_BEST
}
# Mikolov's treebank at a width for a CPU, with trees: settings of the news, the paper's gate, four epochs.
PTB_SIZES: dict[str, tuple[int, ...]] = {"onlstm": (200, 200, 128), "lstm": (208, 208, 128)}
PTB_FINALS = {
    f"onlstm_ptb_small/{cell}-seed{seed}": replace(
        news(cell, NEWS_BEST_DROPOUT[cell], seed),
        corpus="ptb",
        hidden_sizes=PTB_SIZES[cell],
        master_input="complement",
        at_least=1,
        batch_size=20,
        steps=5320,
        every=1330,
    )
    for seed in range(1, 6)
    for cell in PTB_SIZES
}

PLANNED = {**NEWS_TUNING, **NEWS_LONG, **NEWS_FINALS, **PTB_FINALS}
# These trainings of hours, which `--record` runs, count as declared once they have been begun.
RECORDINGS = {
    name: config
    for name, config in PLANNED.items()
    if __name__ == "__main__" or (runs.runs_folder() / name).is_dir()
}
# What `make gpu` records, if missing, in estimated minutes; read without importing this script, so literal.
GPU_RECORDINGS = {"onlstm_ptb/seed1": {"priority": 1, "minutes": 250, "settings": {"seed": 1}}}

if __name__ == "__main__":
    runs.command_line("onlstm_texts", SCALES, RECORDINGS, run)
