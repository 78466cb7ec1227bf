"""ON-LSTM, LSTM and HGRN as language models: Chinese news, English with trees, Mikolov's Penn Treebank.

    python -m kexue.experiments.onlstm_language_model --cell lstm   one run, in _build/runs
    python -m kexue.experiments.onlstm_language_model --record '*'  all missing runs of the book
    python -m kexue.experiments.onlstm_language_model --scale gpu   the paper's setting, on Mikolov's PTB

The chapter `onlstm` (onlstm.claim1 to onlstm.claim5) reads what it records in runs/. How its verdicts are
computed was fixed before the final runs (seeds 1 to 3):
- claim1 holds if the ON-LSTM's perplexity on the test part is lower than the LSTM's in Chinese, with a 95 %
  interval of the difference over the seeds that excludes 0; it is refuted if the LSTM's is lower in that
  sense. (If 0 is inside, "refuted" was meant, too. That says too much: it is open, since a reader objected,
  before the last of the seeds.)
- claim2 holds if, on the treebank, trees from d_f of the second layer, the paper's choice, of the longest
  run score higher than every baseline, for all sentences and for those of at most 10 words; it is
  restricted if this reading beats random levels in three of the four runs, on short sentences.
- claim4 holds if d_f scores higher than d_i in every layer of every English run (short sentences); it is
  restricted if it does so in more than half of these pairs and the best score of all is one of d_f.
For claims 2 and 4 that is an amendment. Means over three seeds were meant, before seed 1 showed that it
depends on the seed which gate and layer carries the trees: then one long run took the place of two seeds.
The conditions for "restricted" were made stricter during the long run. The runs of seed 0 had been seen
by then, with all gates and layers: d_i of the second layer was the best of the six there.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils.rnn import pad_sequence

from kexue import data, runs
from kexue.nn import randomness
from kexue.onlstm import (
    Cell,
    LanguageModel,
    MasterInput,
    baseline_scores,
    deterministic_recurrence,
    leaves,
    tree_scores,
)
from kexue.onlstm.parsing import END


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    corpus: Literal["people_daily", "english", "ptb"] = "people_daily"
    text: Literal["stream", "sentences"] = "stream"
    """Windows of the text, or one sentence at a time, each from a zero state."""
    cell: Cell = "onlstm"
    hidden_sizes: tuple[int, ...] = (256, 128)
    chunk_size: int = 8
    master_input: MasterInput = "cumsum"
    embedding_dropout: float = 0.05
    input_dropout: float = 0.1
    dropout: float = 0.1
    output_dropout: float = 0.1
    recurrent_dropout: float = 0.1
    activation_penalty: float = 0.0
    """α of α·mean(dropped h²)."""
    temporal_penalty: float = 0.0
    """β of β·mean((hₜ − hₜ₋₁)²)."""
    at_least: int = 20
    """Words that are rarer in the training text are unknown."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-3
    average_from: int = 0
    """With "sgd": from this step on the parameters are averaged for evaluation; 0 for never."""
    weight_decay: float = 1.2e-6
    max_norm: float = 0.25
    batch_size: int = 16
    """Windows, or sentences."""
    window: int = 35
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
        parts = [[line.split() for line in text] for text in data.mikolov_ptb()]
    else:
        place = {0: 1}
        if config.corpus == "people_daily":
            texts, place[10] = data.people_daily().word, 2
        else:
            trees = [data.plain_english(leaves(tree)) for tree in data.treebank().tree]
            texts = [*map(data.plain_english, data.brown()), *trees]
        parts = [[], [], []]  # for training, choosing settings, test
        for i, text in enumerate(texts):
            parts[place.get(i // 50 % 20, 0)].append(text)
    train, valid, test = ([(*text, END) for text in part] for part in parts)
    vocabulary = data.Vocabulary(train, config.at_least)
    return Corpus(vocabulary, *([vocabulary.ids(text) for text in part] for part in (train, valid, test)))


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
        recurrent_dropout=0.0 if config.cell == "hgrn" else config.recurrent_dropout,
        embedding_scale=1.0 if config.optimizer == "sgd" else None,  # as published
    )


def optimizer_of(config: Config, parameters) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    start = config.average_from if config.average_from else config.steps + 1
    return torch.optim.ASGD(
        parameters, lr=config.learning_rate, lambd=0.0, t0=start, weight_decay=config.weight_decay
    )


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
    """The cross-entropy of logits (B, T, V) for ids (B, T), padding aside."""
    # Added up in the order of time, as it was recorded.
    rows = logits.transpose(0, 1).flatten(0, 1).float()
    return cross_entropy(rows, ids.t().flatten(), ignore_index=data.PAD, reduction=reduction)


def perplexity(model: LanguageModel, text: Tensor, rows: int, window: int, device) -> float:
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


def sentence_perplexity(model: LanguageModel, sentences: list[Tensor], end: int, device) -> float:
    """The same for sentences that are read one by one."""
    total, count = 0.0, 0
    for start in range(0, len(sentences), 64):
        ids = with_start(sentences[start : start + 64], end).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(ids[:, :-1]).logits
        total += float(entropy_of(logits, ids[:, 1:], "sum"))
        count += int((ids[:, 1:] != data.PAD).sum())
    return math.exp(total / count)


def with_start(sentences: list[Tensor], end: int) -> Tensor:
    """(B, T): <eos>, the sentence, <eos>, and padding."""
    return pad_sequence([pad(sentence, (1, 0), value=end) for sentence in sentences], batch_first=True)


class Training:
    """What a run learns from, and how it is measured.

    The loss calls the model itself for the context of a window, and as accelerate wrapped it for the rest.
    """

    def __init__(self, config: Config, model: LanguageModel, optimizer: torch.optim.Optimizer) -> None:
        self.config, self.model, self.optimizer = config, model, optimizer
        self.texts = texts = corpus(config)
        self.stream, self.valid, self.test = (
            torch.cat(part) if part else None for part in (texts.train, texts.valid, texts.test)
        )
        self.windows = (len(self.stream) - 1) // config.window - 1  # the first one is context only
        self.lengths = torch.tensor([len(sentence) for sentence in texts.train])
        self.end = int(texts.vocabulary.ids([END]))

    def windows_of(self, step):
        """Ids of the step's windows, each after the one before it, (B, 2·window + 1)."""
        config, window = self.config, self.config.window
        # Another offset for each epoch, so that the cuts between windows are not always the same.
        epoch = step.index // (self.windows // config.batch_size)
        shift = int(torch.randint(window, (), generator=randomness.generator(config.seed, 2, epoch)))
        start = step.batch(self.windows, config.batch_size) * window + shift
        start = start.clamp(max=len(self.stream) - 1 - 2 * window)
        return step.share(self.stream[start[:, None] + torch.arange(2 * window + 1)])

    def sentences_of(self, step):
        """Ids of sentences of similar length, (B, T). Each epoch sorts and shuffles anew."""
        chosen = step.batch_of_similar(self.lengths, self.config.batch_size)
        return step.share(with_start([self.texts.train[i] for i in chosen.tolist()], self.end))

    def loss(self, wrapped, step):
        config = self.config
        if config.text == "stream":
            rows = self.windows_of(step)
            with torch.no_grad():
                state = self.model.stack(self.model.embed(rows[:, : config.window]))[1]
            rows = rows[:, config.window :]
        else:
            rows, state = self.sentences_of(step), None
        out = wrapped(rows[:, :-1], state)
        entropy = entropy_of(out.logits, rows[:, 1:])
        penalty = 0.0
        if config.activation_penalty:
            penalty = penalty + config.activation_penalty * out.dropped.float().square().mean()
        if config.temporal_penalty:
            penalty = penalty + config.temporal_penalty * out.hidden.float().diff(dim=1).square().mean()
        return entropy + penalty, {"cross_entropy": entropy.detach()}

    @property
    def has_trees(self) -> bool:
        return self.config.corpus == "english" and self.config.cell == "onlstm"

    def evaluate(self, model):
        device = next(model.parameters()).device
        with averaged(self.optimizer):
            if self.config.text == "stream":
                found = {"valid_perplexity": perplexity(model, self.valid, 20, self.config.window, device)}
            else:
                found = {"valid_perplexity": sentence_perplexity(model, self.texts.valid, self.end, device)}
            if self.has_trees:
                found |= tree_scores(model, self.texts.vocabulary, short_only=True)
        return found

    def finish(self, model):
        device, found = next(model.parameters()).device, {}
        with averaged(self.optimizer):
            if self.test is not None:
                found["test_perplexity"] = perplexity(model, self.test, 20, self.config.window, device)
            if self.has_trees:
                found |= tree_scores(model, self.texts.vocabulary, short_only=False) | baseline_scores()
        return found | {"parameters": sum(p.numel() for p in model.parameters())}


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    deterministic_recurrence()
    model = build(config)
    optimizer = optimizer_of(config, model.parameters())
    training = Training(config, model, optimizer)
    return runs.train(
        model,
        training.loss,
        optimizer,
        config=config,
        folder=folder,
        evaluate=training.evaluate,
        finish=training.finish,
        schedule=(
            None
            if config.optimizer == "sgd"
            else lambda index: (
                min(1.0, (index + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * index / config.steps))
            )
        ),
        max_norm=config.max_norm,
        bf16=True,
        stop_after=stop_after,
    )


SCALES = {
    "live": Config(steps=60, every=20),
    "run": Config(),
    # The paper's, whose perplexity is 58.29 (valid) and 56.17 (test). Theirs starts to average when the valid
    # part's no longer falls; this one at a fixed step.
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
        activation_penalty=2.0,
        temporal_penalty=1.0,
        at_least=1,
        optimizer="sgd",
        learning_rate=30.0,
        average_from=100_000,
        batch_size=20,
        window=70,
        steps=600_000,
        every=2000,
    ),
}

# (256, 128) for the ON-LSTM; the others' sizes give the same number of parameters, as nearly as they can.
SIZES: dict[str, tuple[int, ...]] = {"onlstm": (256, 128), "lstm": (268, 128), "hgrn": (128,) * 5}
RATES = (1e-3, 2e-3, 4e-3, 8e-3)


def dropouts(rate: float) -> dict[str, float]:
    """One rate for all of them; whole words are dropped half as often."""
    others = ("input_dropout", "dropout", "output_dropout", "recurrent_dropout")
    return {"embedding_dropout": rate / 2, **dict.fromkeys(others, rate)}


# The same grid for the three, nearly an epoch each; chosen by the perplexity of the valid part.
TUNING = {
    f"onlstm_chinese_tuning/{cell}-rate{rate:g}": Config(
        cell=cell, hidden_sizes=SIZES[cell], learning_rate=rate, steps=1500, every=500
    )
    for cell in SIZES
    for rate in RATES
}

# What the tuning found best for each.
BEST = {"onlstm": 4e-3, "lstm": 4e-3, "hgrn": 4e-3}
FINALS = {
    f"onlstm_chinese/{cell}-seed{seed}": Config(
        cell=cell,
        hidden_sizes=SIZES[cell],
        learning_rate=rate,
        steps=4000,
        seed=seed,
        keep_weights=(cell, seed) == ("onlstm", 1),
    )
    for cell, rate in BEST.items()
    for seed in (1, 2, 3)
}

ENGLISH = {
    "corpus": "english",
    "hidden_sizes": (200, 200, 128),
    "chunk_size": 8,
    **dropouts(0.1),
}
ATTEMPTS = {
    f"onlstm_english_tuning/{kind}": Config(master_input=kind, **ENGLISH) for kind in ("complement", "cumsum")
}
TREES = {
    "onlstm_english/seed1": Config(master_input="complement", seed=1, **ENGLISH),
    "onlstm_english/long": Config(
        master_input="complement", seed=2, **ENGLISH | dropouts(0.2) | {"steps": 20_000, "every": 1000}
    ),
}

RECORDINGS = {**TUNING, **FINALS, **ATTEMPTS, **TREES}

if __name__ == "__main__":
    runs.command_line("onlstm_language_model", SCALES, RECORDINGS, run)
