"""Trees from the levels of ON-LSTM and LSTM on a grammar whose trees are known, with controls.

    python -m kexue.experiments.onlstm_grammar --cell lstm   one run, in _build/runs
    python -m kexue.experiments.onlstm_grammar --record '*'  all missing runs of the book

The grammar was written down before anything was trained on it: clauses with a topic, noun phrases that may
have a second noun phrase attached, verbs with objects, adverbs at the end. Its trees branch to both sides.
The chapter `onlstm` (onlstm.grammar, onlstm.plain, onlstm.claim4, onlstm.eq11) reads its runs.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue import data, runs
from kexue.data import Tree
from kexue.experiments.tasks import bigrams, onlstm_rules
from kexue.onlstm import (
    LanguageModel,
    MasterInput,
    balanced,
    bracket_f1,
    deterministic_recurrence,
    divided,
    kneser_ney,
    leaves,
    left_branching,
    right_branching,
    split_tree,
    tree_from_levels,
)
from kexue.onlstm.parsing import END, master_levels
from kexue.runs.statistics import Interval, mean_interval

RULES: dict[str, Callable[[Sequence[str], Any], Tree]] = {"greedy": tree_from_levels, "split": split_tree}
"""[left, [token, right]], which leans to the right, and [left, right], which does not."""
Levels = list[np.ndarray]
"""Of each sentence, one number a word."""


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    cell: Literal["onlstm", "lstm"] = "onlstm"
    hidden_sizes: tuple[int, ...] = (64, 64)
    chunk_size: int = 4
    master_input: MasterInput = "cumsum"
    sentences: int = 4000
    learning_rate: float = 0.01
    batch_size: int = 32
    seed: int = 0
    steps: int = 600
    """Chosen by the perplexity of held-out sentences, seed 1: later it falls by 1 % or less."""
    every: int = 100
    keep_weights: bool = False


# --- The grammar -------------------------------------------------------------------------------


def one_of(draw: np.random.Generator, words: str) -> str:
    return words.split()[draw.integers(len(words.split()))]


def word_about(draw: np.random.Generator, topic: int, kind: str, count: int) -> str:
    return f"{kind}{topic}.{draw.integers(count)}"


def plain_noun_phrase(draw: np.random.Generator, topic: int) -> Tree:
    noun: Tree = word_about(draw, topic, "noun", 8)
    if draw.random() < 0.4:
        noun = [word_about(draw, topic, "adj", 4), noun]
    return [one_of(draw, "the a this"), noun]


def noun_phrase(draw: np.random.Generator, topic: int) -> Tree:
    first = plain_noun_phrase(draw, topic)
    if draw.random() < 0.35:
        return [first, [one_of(draw, "of in with"), plain_noun_phrase(draw, topic)]]
    return first


def clause(draw: np.random.Generator) -> Tree:
    """A noun phrase and a verb phrase, whose words are about one of five topics."""
    topic = int(draw.integers(5))
    verb = [word_about(draw, topic, "verb", 6), noun_phrase(draw, topic)]
    if draw.random() < 0.6:
        verb = [verb, one_of(draw, "now here again often")]
    return [noun_phrase(draw, topic), verb]


def sentence(draw: np.random.Generator) -> Tree:
    """One clause, or two with a conjunction."""
    first = clause(draw)
    return [first, [one_of(draw, "and but while"), clause(draw)]] if draw.random() < 0.6 else first


@cache
def gold() -> tuple[Tree, ...]:
    """The trees that are to be found, of 300 sentences that are drawn apart from those of any training."""
    draw = np.random.default_rng(1)
    return tuple(sentence(draw) for _ in range(300))


@cache
def texts(seed: int, count: int) -> tuple[tuple[str, ...], ...]:
    """The sentences that a run learns from."""
    draw = np.random.default_rng([2, seed])
    return tuple(tuple(leaves(sentence(draw))) for _ in range(count))


def kind_of(word: str) -> str:
    """noun, adj, verb, or the word itself."""
    return word.partition(".")[0].rstrip("01234")


# What stands for nouns, adjectives and verbs where a reader sees a sentence; nothing is trained on it.
SPOKEN = (
    {
        "noun": "farmer horse field barn goat fence plough dog",
        "adj": "old lame muddy quiet",
        "verb": "fed led sold kept saw tied",
    },
    {
        "noun": "sailor boat harbour island gull anchor captain net",
        "adj": "grey salty distant broken",
        "verb": "steered passed lost watched found left",
    },
    {
        "noun": "cook kettle spoon pie oven guest knife bowl",
        "adj": "hot sweet clean heavy",
        "verb": "baked stirred served burnt tasted cut",
    },
    {
        "noun": "singer violin song drum pupil stage choir flute",
        "adj": "loud young soft famous",
        "verb": "played heard praised tuned taught wrote",
    },
    {
        "noun": "judge thief lawyer witness letter guard trial jury",
        "adj": "honest nervous tall guilty",
        "verb": "accused freed blamed called questioned believed",
    },
)


def spoken(tree: Tree) -> Tree:
    """A tree, or a word, of the grammar in English: noun3.2 is "song"."""
    if not isinstance(tree, str):
        return [spoken(part) for part in tree]
    symbol, _, number = tree.partition(".")
    return SPOKEN[int(symbol[-1])][symbol[:-1]].split()[int(number)] if number else tree


# --- Trees and controls ------------------------------------------------------------------------


def f1_of(predict: Callable[[list[str], int], Tree]) -> float:
    """Mean F1 in percent of the trees that a function of a sentence and its number gives."""
    return 100 * float(np.mean([bracket_f1(predict(leaves(tree), i), tree) for i, tree in enumerate(gold())]))


def f1_by_rule(levels: Levels) -> dict[str, float]:
    """Of the trees of levels, by each rule."""
    return {name: f1_of(lambda words, i, rule=rule: rule(words, levels[i])) for name, rule in RULES.items()}  # type: ignore[misc]


def by_kind(summary: Any, gate: str, layer: int) -> Levels:
    """Levels of all words, each the mean of its kind that a run recorded."""
    return [
        np.array([summary[f"level_{gate}_{layer}_of_{kind_of(word)}"] for word in leaves(tree)])
        for tree in gold()
    ]


def cut_after(words: Sequence[str], levels: Any) -> Tree:
    """The mirror image of `split_tree`: in two, after the first highest level, the last word's left out."""
    return divided(words, lambda i, j: i + 1 + int(levels[i : j - 1].argmax()), "split", 0, len(words))


def averaged(levels: Levels, key: Callable[[int, str], Any]) -> Levels:
    """Each level replaced by the mean over all words with the same key of position and word."""
    keys = [[key(i, word) for i, word in enumerate(leaves(tree))] for tree in gold()]
    found: dict[Any, list[float]] = {}
    for names, row in zip(keys, levels, strict=True):
        for name, level in zip(names, row, strict=True):
            found.setdefault(name, []).append(float(level))
    means = {name: np.mean(values) for name, values in found.items()}
    return [np.array([means[name] for name in names]) for names in keys]


@cache
def controls() -> dict[str, float]:
    """F1 in percent of trees that need no network: "<rule>_<name>", or the name where there is no rule."""
    makers = {"left": left_branching, "right": right_branching, "balanced": balanced}
    found = {name: f1_of(lambda words, _, maker=maker: maker(words)) for name, maker in makers.items()}  # type: ignore[misc]
    counts = Counter(word for text in texts(0, 4000) for word in text)
    draw, lean = np.random.default_rng(0), np.random.default_rng(1)
    drawn: dict[str, Callable[[int, str], float]] = {
        "random": lambda i, word: draw.random(),
        "frequency": lambda i, word: math.log(counts[word]),
        "rarity": lambda i, word: -math.log(counts[word]),
        "first_high": lambda i, word: lean.random() - 0.1 * i,
    }
    for name, level in drawn.items():
        scores = [
            f1_by_rule([np.array([level(i, w) for i, w in enumerate(leaves(tree))]) for tree in gold()])
            for _ in range(5 if name in ("random", "first_high") else 1)
        ]
        found |= {f"{rule}_{name}": float(np.mean([one[rule] for one in scores])) for rule in RULES}
    return found


def controls_of(rule: str) -> dict[str, float]:
    """F1 in percent of the trees that need no network, by one rule (`RULES`)."""
    own = {name: f1 for name, f1 in controls().items() if "_" not in name or name.startswith(rule)}
    return {name.removeprefix(f"{rule}_"): f1 for name, f1 in own.items()}


def counted(rule: str) -> dict[str, float]:
    """F1 in percent of trees from counts of neighbouring words in the training text (`bigrams.NAMES`).

    They are no controls of onlstm.grammar: a reader found them after its runs.
    """
    return {
        name: f1_by_rule([np.array([level[word] for word in leaves(tree)]) for tree in gold()])[rule]
        for name, level in bigrams.levels_of_words(texts(0, 4000)).items()
    }


def over_controls(networks: Any, reading: str, rule: str) -> dict[str, Interval]:
    """By control: the interval of a reading's F1 less that of the control.

    Besides the trees without a network there are the same network before training, and its mean levels by
    the position of the word.

    Args:
        networks: what runs recorded, a column each (`runs.table`).
        reading: gate and layer, for example "forget_2".
        rule: of `RULES`.
    """
    own = np.asarray(networks[f"{rule}_{reading}"], dtype=float)
    known: dict[str, Any] = dict(controls_of(rule))
    for name in ("untrained", "by_position"):
        known[name] = np.asarray(networks[f"{rule}_{reading}_{name}"], dtype=float)
    return {name: mean_interval(own - f1) for name, f1 in known.items()}


def compared(trained: Any, plain: Any) -> tuple[dict[str, dict[str, Any]], list[tuple[str, float]]]:
    """F1 by the title of the rule and by network, from d_f of layer 2, and each rule's best tree without one.

    Args:
        trained: what ON-LSTMs recorded (`runs.table`).
        plain: what LSTMs recorded.
    """
    groups, baselines = {}, []
    for rule, title in onlstm_rules.RULES.items():
        at = f"{rule}_forget_2"
        groups[title] = {
            "ON-LSTM": trained[at],
            "by position": trained[f"{at}_by_position"],
            "untrained": trained[f"{at}_untrained"],
            "LSTM": plain[at],
        }
        f1, best = max((f1, name) for name, f1 in controls_of(rule).items())
        baselines.append((onlstm_rules.TREES[best], f1))
    return groups, baselines


# --- Training ----------------------------------------------------------------------------------


def vocabulary(config: Config) -> data.Vocabulary:
    return data.Vocabulary([*texts(config.seed, config.sentences), [END]])


def build(config: Config) -> LanguageModel:
    # The embeddings are not made longer: chosen by the trees of other seeds.
    return LanguageModel(
        len(vocabulary(config)),
        config.hidden_sizes,
        config.cell,
        config.chunk_size,
        config.master_input,
        embedding_scale=1.0,
    )


class Training:
    """What a run learns from, and how it is measured."""

    def __init__(self, config: Config, model: LanguageModel) -> None:
        self.config, self.vocabulary = config, vocabulary(config)
        read = texts(config.seed, config.sentences)
        self.ids = [self.vocabulary.ids([END, *text, END]) for text in sorted(read, key=len)]
        self.held_out = [self.vocabulary.ids([END, *leaves(tree), END]) for tree in gold()]
        self.untrained = self.readings(model.eval())

    def readings(self, model: LanguageModel) -> dict[tuple[str, int], Levels]:
        """Levels of all words, by gate and layer: 1 − mean of the forget gate, and mean of the input gate."""
        levels = master_levels(model, self.vocabulary, [leaves(tree) for tree in gold()])
        gates = itertools.product(enumerate(("forget", "input")), range(levels[0].shape[1]))
        return {(name, layer + 1): [row[g, layer] for row in levels] for (g, name), layer in gates}

    def loss(self, model: Any, step: runs.Step) -> tuple[Tensor, dict[str, Any]]:
        # Sentences of like length, any run of them.
        start = int(torch.randint(len(self.ids) - self.config.batch_size, (), generator=step.generator()))
        batch = step.share(pad_sequence(self.ids[start : start + self.config.batch_size], batch_first=True))
        logits = model(batch[:, :-1]).logits.flatten(0, 1)
        return cross_entropy(logits, batch[:, 1:].flatten(), ignore_index=data.PAD), {}

    def evaluate(self, model: Any) -> dict[str, Any]:
        batch = pad_sequence(self.held_out, batch_first=True)
        logits = model(batch[:, :-1]).logits.flatten(0, 1)
        entropy = cross_entropy(logits, batch[:, 1:].flatten(), ignore_index=data.PAD)
        found = {"perplexity": math.exp(entropy)}
        for (gate, layer), levels in self.readings(model).items():
            cut = lambda words, i, at=levels: tree_from_levels(words, at[i])  # type: ignore[misc]  # noqa: E731
            found[f"greedy_{gate}_{layer}"] = f1_of(cut)
        return found

    def finish(self, model: Any) -> dict[str, Any]:
        found = {"perplexity_of_counts": self.perplexity_of_counts()}
        for (gate, layer), levels in self.readings(model).items():
            variants = {
                "": levels,
                "_untrained": self.untrained[gate, layer],
                "_by_position": averaged(levels, lambda i, word: i),
                "_by_kind": averaged(levels, lambda i, word: kind_of(word)),
            }
            for name, each in variants.items():
                scores = f1_by_rule(each)
                found |= {f"{rule}_{gate}_{layer}{name}": score for rule, score in scores.items()}
            kinds = [kind_of(word) for tree in gold() for word in leaves(tree)]
            for kind in sorted(set(kinds)):
                chosen = np.concatenate(levels)[np.array(kinds) == kind]
                found[f"level_{gate}_{layer}_of_{kind}"] = float(chosen.mean())
        return found | {"parameters": sum(p.numel() for p in model.parameters())}

    def perplexity_of_counts(self) -> float:
        """Of the held-out sentences, by counts of five words."""
        text = [
            self.vocabulary.ids([*words, END]) for words in texts(self.config.seed, self.config.sentences)
        ]
        # Before the first sentence, too, stand ends.
        start = self.vocabulary.ids([END] * 4)
        held_out = torch.cat([start, *(ids[1:] for ids in self.held_out)]).numpy()
        chance = kneser_ney(torch.cat([start, *text]).numpy(), held_out, len(self.vocabulary))
        return math.exp(-np.log(chance).mean())


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    runs.set_seed(config.seed)
    deterministic_recurrence()
    model = build(config)
    training = Training(config, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    options = {"schedule": lambda index: 1 - index / config.steps, "max_norm": 1.0}
    return runs.train_network(model, training, config, folder, stop_after, optimizer, **options)


SCALES = {"live": Config(sentences=400, steps=40, every=20), "run": Config(), "gpu": Config(steps=4000)}

# The same number of parameters, as nearly as whole neurons can.
ARMS: dict[str, dict[str, Any]] = {
    "onlstm": {},
    "paper": {"master_input": "complement"},
    "lstm": {"cell": "lstm", "hidden_sizes": (72, 64)},
}
RECORDINGS = {
    f"onlstm_grammar/{name}-seed{seed}": Config(seed=seed, **arm)
    for name, arm in ARMS.items()
    for seed in range(11, 21)
}

if __name__ == "__main__":
    runs.command_line("onlstm_grammar", SCALES, RECORDINGS, run)
