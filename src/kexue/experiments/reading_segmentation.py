"""Word segmentation: a tag for each character, independent ones or a CRF's.

    python -m kexue.experiments.reading_segmentation --crf         one run, in _build/runs
    python -m kexue.experiments.reading_segmentation --record '*'  all missing runs of the book
    python -m kexue.experiments.reading_segmentation --scale gpu   more steps

The encoder that `reading_pretraining.py` recorded gives four scores for each character of a sentence (begins
a word, middle, ends it, single). A softmax of each is the independent model; a CRF's transitions are trained
beside the scores, ten times as fast as the rest. The chapter `reading` reads what is recorded in runs/.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue import data, runs
from kexue.experiments import reading_pretraining
from kexue.nn.sequences import pad_ids
from kexue.reading import (
    WORD_TAGS,
    LinearChainCRF,
    segmentation_counts,
    tags_of_words,
    word_places,
    words_of_tags,
)

LONGEST = 100
"""Characters of a piece; longer sentences are cut between words."""


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    crf: bool = False
    width: int = 160
    heads: int = 5
    layers: int = 4
    pretrained: bool = True
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.01
    seed: int = 0
    steps: int = 500
    batch_size: int = 32
    every: int = 250
    keep_weights: bool = False


@cache
def pieces(part: int) -> list[tuple[str, ...]]:
    """Sentences as words, those of over `LONGEST` characters in pieces."""
    found: list[tuple[str, ...]] = []
    for paragraph in data.people_daily_parts()[part].word:
        now: list[str] = []
        for word in paragraph:
            if sum(map(len, now)) + len(word) > LONGEST and now:
                found.append(tuple(now))
                now = []
            now.append(word)
            if word in ("。", "！", "？"):
                found.append(tuple(now))
                now = []
        if now:
            found.append(tuple(now))
    return [one for one in found if sum(map(len, one)) <= LONGEST]


class Segmenter(nn.Module):
    """Tags of characters, from the encoder's vectors."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = reading_pretraining.encoder(config)
        if config.pretrained:
            runs.recorded("reading_pretraining")["seed1"].load_weights(self.encoder)
        self.encoder.bias.requires_grad_(False)  # of the characters' logits, which nobody asks for here
        self.out = nn.Linear(config.width, len(WORD_TAGS))
        self.crf = LinearChainCRF(len(WORD_TAGS)) if config.crf else None

    def emissions(self, ids: Tensor) -> Tensor:
        return self.out(self.encoder.states(ids)[0]).float()

    def forward(self, ids: Tensor, tags: Tensor) -> Tensor:
        """−log p(tags | characters), summed over the characters of each piece: (B,)."""
        emissions, mask = self.emissions(ids), ids != 0
        if self.crf is not None:
            return -self.crf(emissions, tags, mask)
        each = cross_entropy(emissions.transpose(1, 2), tags, reduction="none")
        return each.masked_fill(~mask, 0.0).sum(1)

    def decode(self, ids: Tensor, possible: bool = False) -> Tensor:
        """The likeliest tags; of independent ones, if asked for, the likeliest that are a segmentation."""
        emissions, mask = self.emissions(ids), ids != 0
        if self.crf is not None:
            return self.crf.decode(emissions, mask)
        return only_possible().to(ids.device).decode(emissions, mask) if possible else emissions.argmax(-1)


def encoded(words: list[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
    """Ids and tags, padded."""
    ids = pad_ids([reading_pretraining.vocabulary().encode("".join(one))[0] for one in words])
    tags = [torch.tensor(tags_of_words(one)) for one in words]
    return ids, pad_sequence(tags, batch_first=True)


def impossible(tags: list[int]) -> int:
    """Neighbours that no segmentation has, such as a middle after a single."""
    return sum(not follows(a, b) for a, b in pairwise(tags))


def follows(first: int, second: int) -> bool:
    """Whether a segmentation has these tags side by side."""
    return second in ((1, 2) if first in (0, 1) else (0, 3))


def only_possible() -> LinearChainCRF:
    """A CRF that knows which neighbours are possible, and nothing else."""
    crf, tags = LinearChainCRF(len(WORD_TAGS)), range(len(WORD_TAGS))
    with torch.no_grad():
        crf.transition.copy_(torch.tensor([[0.0 if follows(a, b) else -1e4 for b in tags] for a in tags]))
    return crf


def scores(
    model: Segmenter, part: int, at_most: int | None = None, possible: bool = False
) -> dict[str, float]:
    """Precision, recall, F1; recall of words that the training part lacks; impossible neighbours."""
    device = model.out.weight.device
    known = {word for one in pieces(0) for word in one}
    sums, new, neighbours, total = np.zeros(3), np.zeros(2), 0, 0
    words = pieces(part)[:at_most]
    for begin in range(0, len(words), 128):
        some = words[begin : begin + 128]
        tags = model.decode(encoded(some)[0].to(device), possible).tolist()
        for true, row in zip(some, tags, strict=True):
            text = "".join(true)
            found = words_of_tags(text, row[: len(text)])
            sums += segmentation_counts(found, true)
            unknown = {place for place, word in word_places(true).items() if word not in known}
            new += (len(unknown), len(unknown & set(word_places(found))))
            neighbours += impossible(row[: len(text)])
            total += len(text)
    precision, recall = sums[0] / sums[1], sums[0] / sums[2]
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "recall_new": new[1] / new[0],
        "share_new": new[0] / sums[2],
        "impossible_per_1000": 1000 * neighbours / total,
    }


def build(config: Config) -> Segmenter:
    return Segmenter(config)


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config) -> None:
        self.config, self.train = config, pieces(0)
        self.lengths = torch.tensor([sum(map(len, one)) for one in self.train])

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        chosen = step.batch_of_similar(self.lengths, self.config.batch_size).tolist()
        ids, tags = encoded([self.train[i] for i in chosen])
        characters = int((ids != 0).sum())
        with sdpa_kernel(SDPBackend.MATH):  # faster than the fused kernels on a processor
            nats = model(step.share(ids), step.share(tags)).sum() * step.processes / characters
        return nats, {}

    def evaluate(self, model: Any) -> dict[str, Any]:
        return {f"valid_{k}": v for k, v in scores(model, 1, 1000).items()}

    def finish(self, model: Any) -> dict[str, Any]:
        if self.config.seed == 0:  # for choosing settings
            return {}
        found = {f"test_{k}": v for k, v in scores(model, 2).items()}
        if not self.config.crf:
            found |= {f"test_possible_{k}": v for k, v in scores(model, 2, possible=True).items()}
        return found


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    training, model = Training(config), build(config)
    crf = [] if model.crf is None else list(model.crf.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in model.named_parameters() if not name.startswith("crf.")]}
    ]
    if crf:
        groups.append({"params": crf, "lr": 10 * config.learning_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(
        groups, config.learning_rate, (0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    return runs.train_transformer(model, training, config, folder, stop_after, optimizer)


SCALES = {
    "live": Config(steps=10, warmup=2, every=5, batch_size=8),
    "run": Config(),
    "gpu": Config(steps=5000, every=500),
}

# Not tuned: one setting for both.
RATE = 4e-3
FINALS = {
    f"reading_segmentation/{name}-seed{seed}": Config(name == "crf", learning_rate=RATE, seed=seed)
    for name in ("softmax", "crf")
    for seed in (1, 2, 3)
}

RECORDINGS = FINALS

if __name__ == "__main__":
    runs.command_line("reading_segmentation", SCALES, RECORDINGS, run)
