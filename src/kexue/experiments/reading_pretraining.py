"""A masked language model of characters, pretrained in the open: the encoder of the chapter `reading`.

    python -m kexue.experiments.reading_pretraining               one run, in _build/runs
    python -m kexue.experiments.reading_pretraining --record '*'  all missing runs of the book
    python -m kexue.experiments.reading_pretraining --scale gpu   more steps

It reads windows of the People's Daily of January 1998 (the part for training), in which whole words are
masked, and predicts their characters. Words that the window has more than once are masked more often:
copying from elsewhere in the text is what reading comprehension needs. The heads of
`reading_comprehension.py` and the segmenters of `reading_segmentation.py` start from the recorded run.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kexue import data, runs
from kexue.nn import randomness
from kexue.reading import Characters, MaskedLM

AT_LEAST = 10
"""A character must occur that often in the training part to be known."""


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    width: int = 160
    heads: int = 5
    layers: int = 4
    window: int = 192
    mask_rate: float = 0.15
    recurring_rate: float = 0.3
    """Of words of two characters or more that the window has more than once."""
    learning_rate: float = 3e-3
    warmup: int = 200
    weight_decay: float = 0.01
    seed: int = 0
    steps: int = 4000
    batch_size: int = 64
    every: int = 500
    keep_weights: bool = False


@cache
def vocabulary() -> Characters:
    return Characters(("".join(words) for words in data.people_daily_parts()[0].word), AT_LEAST)


def encoder(config: Any, kind: type[MaskedLM] = MaskedLM) -> MaskedLM:
    """A newly made one, of the sizes that a configuration has."""
    ids = vocabulary()
    return kind(len(ids), config.width, config.heads, config.layers, vocabulary=ids)


class Stream(NamedTuple):
    """A text without its paragraphs' ends: for each character its id, and where its word stands."""

    ids: Tensor
    place: Tensor
    """Which word of the text it belongs to: 0, 0, 1, 2, 2, …"""
    before: Tensor
    """Where the same word ended the last time, −1 for nowhere or a word of one character."""
    after: Tensor
    """Where it begins the next time, the text's length for nowhere or a word of one character."""


@cache
def stream(part: int) -> Stream:
    """A part of the text, with [SEP] between paragraphs."""
    ids: list[int] = []
    place: list[int] = []
    before: list[int] = []
    spans: dict[str, list[tuple[int, int]]] = {}
    for paragraph in data.people_daily_parts()[part].word:
        for one in (*paragraph, None):
            encoded = [Characters.end] if one is None else vocabulary().encode(one)[0]
            seen = spans.setdefault(one, []) if one is not None and len(one) > 1 else []
            before += [seen[-1][1] - 1 if seen else -1] * len(encoded)
            seen.append((len(ids), len(ids) + len(encoded)))
            place += [place[-1] + 1 if place else 0] * len(encoded)
            ids += encoded
    after = torch.full((len(ids),), len(ids))
    for seen in spans.values():
        for (begin, end), (following, _) in pairwise(seen):
            after[begin:end] = following
    return Stream(torch.tensor(ids), torch.tensor(place), torch.tensor(before), after)


def masked_windows(text: Stream, begins: Tensor, noise: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Windows of a text, (B, T), and which of their characters are masked: whole words.

    `noise` is uniform, (B, T): a word takes the value at its number within the window.
    """
    where = begins[:, None] + torch.arange(noise.shape[1])
    ids, place, before, after = (one[where] for one in text)
    value = noise.gather(1, place - place[:, :1])
    recurs = (before >= where[:, :1]) | (after <= where[:, -1:])
    rate = torch.where(recurs, config.recurring_rate, config.mask_rate)
    return ids, (value < rate) & (ids != Characters.end)


class Pretraining(MaskedLM):
    """The encoder, called with what its loss needs, as what accelerate distributes must be."""

    def forward(self, ids: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Sum of −log p of what is masked, and how many of them are the most likely character."""
        states, _ = self.states(ids.masked_fill(masked, Characters.mask))
        logits = self.logits(states[masked]).float()
        return cross_entropy(logits, ids[masked], reduction="sum"), (logits.argmax(-1) == ids[masked]).sum()


def build(config: Config) -> Pretraining:
    return cast(Pretraining, encoder(config, Pretraining))


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        config, generator, text = self.config, step.generator(), stream(0)
        begins = torch.randint(len(text.ids) - config.window, (config.batch_size,), generator=generator)
        noise = torch.rand(config.batch_size, config.window, generator=generator)
        ids, masked = masked_windows(text, begins, noise, config)
        total, right = model(step.share(ids), step.share(masked))
        share = step.processes / masked.sum().clamp(min=1)
        return total * share.to(total.device), {"accuracy": right * share.to(right.device)}

    def evaluate(self, model: Any) -> dict[str, Any]:
        return self.measured(model, 1, "valid")

    def finish(self, model: Any) -> dict[str, Any]:
        return self.measured(model, 2, "test")

    def measured(self, model: Any, part: int, name: str) -> dict[str, float]:
        """Nats and accuracy of what is masked in all windows of a part."""
        device, text, window = model.bias.device, stream(part), self.config.window
        begins = torch.arange(0, len(text.ids) - window, window)
        noise = torch.rand(len(begins), window, generator=randomness.generator(0, 2))
        ids, masked = masked_windows(text, begins, noise, self.config)
        sums = torch.zeros(2, dtype=torch.float64)
        for chosen in torch.arange(len(begins)).split(64):
            found = model(ids[chosen].to(device), masked[chosen].to(device))
            sums += torch.tensor([float(one) for one in found])
        nats, accuracy = (sums / masked.sum()).tolist()
        return {f"{name}_nats": nats, f"{name}_accuracy": accuracy}


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    model = build(config)
    return runs.train_transformer(model, Training(config), config, folder, stop_after)


SCALES = {
    "live": Config(width=32, heads=2, layers=2, steps=40, warmup=10, every=20, batch_size=8),
    "run": Config(),
    "gpu": Config(width=512, heads=8, layers=8, steps=20_000, every=1000, learning_rate=1e-3),
}

RECORDINGS = {"reading_pretraining/seed1": Config(seed=1, keep_weights=True)}
# What `make gpu` records, if it is missing: the lower its priority, the sooner. Minutes of one large GPU, by
# estimate; read without importing this script, so literal.
GPU_RECORDINGS = {"reading_pretraining_large/seed1": {"priority": 3, "minutes": 15, "settings": {"seed": 1}}}

if __name__ == "__main__":
    runs.command_line("reading_pretraining", SCALES, RECORDINGS, run)
