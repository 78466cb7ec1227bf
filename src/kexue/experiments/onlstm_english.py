"""Trees of short English sentences from levels that need no network: the controls of onlstm.claim2.

    python -m kexue.experiments.onlstm_english --record '*'   the book's run

Trees are made by the greedy rule. The networks beside which they stand are those of `onlstm_texts`, on the
same text; its perplexity by counts of five words is recorded, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kexue import data, runs
from kexue.data import UNKNOWN
from kexue.experiments import onlstm_texts
from kexue.experiments.tasks import bigrams, onlstm_rules
from kexue.experiments.tasks.decisions import Decision
from kexue.onlstm import bracket_f1, leaves, tree_from_levels
from kexue.onlstm.parsing import SHORT

CONTROLS = {
    "random": "random levels",
    "frequency": "frequent words high",
    "first_high": "early words high",
}
"""The controls of the rule, as a reader is told."""

NAMES = CONTROLS | bigrams.NAMES
"""With them counts of pairs of words, for which the rule does not ask."""

CELLS = {"ON-LSTM": "onlstm", "LSTM": "lstm"}
"""What a reader calls them, and what the recorded networks do."""


@dataclass(frozen=True)
class Config:
    """The settings of one run: each step draws the random levels anew."""

    at_least: int = 1
    """Words that are rarer in the training text are unknown."""
    seed: int = 0
    steps: int = 5
    every: int = 1
    keep_weights: bool = False


SCALES = {"live": Config(steps=1), "run": Config(), "gpu": Config(steps=50)}
RECORDINGS = {"onlstm_english/controls": Config()}


@cache
def levels_of(at_least: int) -> dict[str, Callable[[np.ndarray, np.random.Generator], Any]]:
    """By the names of `NAMES`: levels of the words of a sentence, of which the ids are given.

    Unknown words, which are one symbol for many rare words, have the lowest level of those that are counted.
    """
    texts = corpus(at_least)
    frequency = torch.bincount(torch.cat(texts.train), minlength=len(texts.vocabulary)).numpy()
    frequency[UNKNOWN] = 0
    known: dict[str, Callable[[np.ndarray, np.random.Generator], Any]] = {
        "random": lambda ids, random: random.random(len(ids)),
        "frequency": lambda ids, random: frequency[ids],
        "first_high": lambda ids, random: random.random(len(ids)) - 0.1 * np.arange(len(ids)),
    }
    counted = bigrams.levels_of_words([text.tolist() for text in texts.train])
    for level in counted.values():
        level[UNKNOWN] = min(level.values())

    def by_word(level: Mapping[int, float]) -> Callable[[np.ndarray, np.random.Generator], Any]:
        return lambda ids, random: [level[word] for word in ids.tolist()]

    return known | {name: by_word(level) for name, level in counted.items()}


def corpus(at_least: int) -> onlstm_texts.Corpus:
    return onlstm_texts.corpus(onlstm_texts.Config(corpus="ptb", at_least=at_least))


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    vocabulary, levels = corpus(config.at_least).vocabulary, levels_of(config.at_least)
    gold = [tree for tree in data.treebank().tree if len(leaves(tree)) <= SHORT]
    sentences = [vocabulary.ids(data.plain_english(leaves(tree))).numpy() for tree in gold]

    def row(step: int) -> dict[str, float]:
        found = {}
        for number, (name, level) in enumerate(levels.items()):
            random = np.random.default_rng([config.seed, step, number])
            trees = [
                tree_from_levels(leaves(tree), level(ids, random))
                for ids, tree in zip(sentences, gold, strict=True)
            ]
            found[f"f1_{name}"] = 100 * float(np.mean(list(map(bracket_f1, trees, gold))))
        return found

    def finish(rows: list[Mapping[str, float]]) -> dict[str, float]:
        found = {name: float(np.mean([each[name] for each in rows])) for name in rows[0]}
        text = onlstm_texts.Config(corpus="ptb", at_least=config.at_least)
        return found | {"perplexity_of_counts": onlstm_texts.perplexity_of_counts(text)}

    return runs.measure(row, config=config, folder=folder, finish=finish, stop_after=stop_after)


def networks() -> Any:
    """What the networks of `onlstm_texts` on this text recorded, by cell, in the order of their seeds."""
    return runs.table("onlstm_ptb_small").sort_values("seed").groupby("cell")


def short_f1(networks: Any) -> tuple[dict[str, Any], float]:
    """F1 by cell and seed, as the rule reads it, and that of right-branching trees."""
    read = {name: networks.get_group(cell).f1_short_forget_2 for name, cell in CELLS.items()}
    return read, float(networks.f1_short_right.first().iloc[0])


def lead(networks: Any) -> np.ndarray:
    """By how much the F1 of the ON-LSTM is above that of the LSTM of the same seed."""
    read, _ = short_f1(networks)
    return read["ON-LSTM"].to_numpy() - read["LSTM"].to_numpy()


def rows(networks: Any) -> list[dict[str, str]]:
    """Mean F1 of short sentences by gate and layer of both cells; then of trees that need no network."""
    found = {name: networks.get_group(cell) for name, cell in CELLS.items()}
    title, first = "F1 of short sentences", found["ON-LSTM"].iloc[0]
    without = runs.table("onlstm_english").iloc[0]
    known = {name: without[f"f1_{key}"] for key, name in NAMES.items()}
    known["right-branching"] = first.f1_short_right
    known["the best of the greedy rule’s trees"] = first.f1_short_best_article
    return [
        {title: f"${symbol}$, layer {layer}"}
        | {name: f"{of[f'f1_short_{gate}_{layer}'].mean():.1f}" for name, of in found.items()}
        | {"no network": ""}
        for gate, symbol in {"forget": "d_f", "input": "d_i"}.items()
        for layer in (1, 2, 3)
    ] + [{title: name, "ON-LSTM": "", "LSTM": "", "no network": f"{f1:.1f}"} for name, f1 in known.items()]


def agree_with_annotated(networks: Any) -> tuple[Decision, bool]:
    """onlstm.claim2, of `networks`; and whether it is reached."""
    read, right = short_f1(networks)
    without = runs.table("onlstm_english").iloc[0]
    return onlstm_rules.agree_with_annotated(
        read["ON-LSTM"],
        read["LSTM"],
        {key: without[f"f1_{key}"] for key in CONTROLS},
        right,
        networks.get_group("onlstm").test_perplexity,
        without.perplexity_of_counts,
    )


if __name__ == "__main__":
    runs.command_line("onlstm_english", SCALES, RECORDINGS, run)
