"""Trees that a language model's levels give, and trees without a model, scored on the treebank."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, pad
from torch.nn.utils.rnn import pad_sequence

from kexue import data
from kexue.data import Tree
from kexue.onlstm.language_model import LanguageModel
from kexue.onlstm.trees import (
    balanced,
    best_tree,
    bracket_f1,
    corpus_f1,
    leaves,
    left_branching,
    right_branching,
    split_tree,
    tree_from_levels,
)

END = "<eos>"
"""What a language model reads before a sentence."""
SHORT = 10
"""Words of the sentences that WSJ10 has."""


@torch.no_grad()
def master_levels(
    model: LanguageModel,
    vocabulary: data.Vocabulary,
    sentences: Sequence[Sequence[str]],
    batch_size: int = 64,
) -> list[Float[np.ndarray, "2 layers words"]]:
    """For each sentence the levels of each layer at each word, read from a zero state.

    1 − mean f̃ and mean ĩ; of an LSTM, which has no master gates, 1 − mean f and mean i.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    found = [np.empty(0)] * len(sentences)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = [vocabulary.ids([END, *sentences[i]]) for i in chosen]
        levels = _gate_means(model, pad_sequence(rows, batch_first=True).to(device)).cpu()
        for row, i in enumerate(chosen):
            found[i] = levels[:, :, row, 1 : len(sentences[i]) + 1].double().numpy()
    return found


def _gate_means(model: LanguageModel, ids: Tensor) -> Float[Tensor, "2 layers batch time"]:
    """1 − mean of the gate that keeps, and mean of the one that writes."""
    x, found = model.embed(ids), []
    for cell, trace in zip(model.stack.layers, model.trace(ids), strict=True):
        keep, write = trace.master_forget, trace.master_input
        if not cell.num_levels:
            weight = model.stack.recurrent_scale * cell.hh.weight
            before = pad(trace.h, (0, 0, 1, -1))
            gates = linear(x, cell.ih.weight, cell.ih.bias) + linear(before, weight, cell.hh.bias)
            _, _, write, keep = gates.sigmoid().chunk(4, -1)
        found.append(torch.stack([1 - keep.mean(-1), write.mean(-1)]))
        x = trace.h
    return torch.stack(found, 1)


def tree_scores(model: LanguageModel, vocabulary: data.Vocabulary, short_only: bool) -> dict[str, float]:
    """F1 in percent of the treebank's trees, from each layer's gates (`master_levels`)."""
    gold = [tree for tree in data.treebank().tree if not short_only or len(leaves(tree)) <= SHORT]
    sentences = [leaves(tree) for tree in gold]
    levels = master_levels(model, vocabulary, [data.plain_english(words) for words in sentences])
    short = np.array([len(words) <= SHORT for words in sentences])
    found: dict[str, float] = {}
    for g, gate in enumerate(("forget", "input")):
        for layer in range(levels[0].shape[1]):
            trees = [tree_from_levels(w, each[g, layer]) for w, each in zip(sentences, levels, strict=True)]
            scores, name = _percent(trees, gold), f"{gate}_{layer + 1}"
            found[f"f1_short_{name}"] = float(scores[short].mean())
            if not short_only:
                found[f"f1_{name}"] = float(scores.mean())
                found[f"corpus_f1_{name}"] = 100 * corpus_f1(trees, gold)
    return found


def baseline_scores() -> dict[str, float]:
    """F1 in percent of trees that no model made, and of the best trees that a rule can give."""
    gold = data.treebank().tree
    generator = np.random.default_rng(0)
    makers = {
        "left": left_branching,
        "right": right_branching,
        "balanced": balanced,
        "random_levels": lambda words: tree_from_levels(words, generator.random(len(words))),
        "random_splits": lambda words: split_tree(words, generator.random(len(words))),
    }
    short = np.array([len(leaves(tree)) <= SHORT for tree in gold])
    found: dict[str, float] = {}
    for name, maker in makers.items():
        draws = 5 if name.startswith("random") else 1
        trees = [[maker(leaves(tree)) for tree in gold] for _ in range(draws)]
        scores = np.array([_percent(one, gold) for one in trees])
        found[f"f1_{name}"] = float(scores.mean())
        found[f"f1_short_{name}"] = float(scores[:, short].mean())
        found[f"corpus_f1_{name}"] = 100 * float(np.mean([corpus_f1(one, gold) for one in trees]))
    for rule in ("article", "split"):
        scores = _percent([best_tree(tree, rule) for tree in gold], gold)
        found[f"f1_best_{rule}"] = float(scores.mean())
        found[f"f1_short_best_{rule}"] = float(scores[short].mean())
    return found


def protocol_scores() -> dict[tuple[bool, bool, bool], dict[str, float]]:
    """F1 in percent of trees without a model, by eight protocols (onlstm.claim8).

    Whether punctuation stays, gold trees are made binary, and the root counts. The book's is none of these.
    """
    generator = np.random.default_rng(0)
    makers = {
        "left": left_branching,
        "right": right_branching,
        "balanced": balanced,
        "random_splits": lambda words: split_tree(words, generator.random(len(words))),
    }
    found = {}
    for punctuation, binary, root in itertools.product((False, True), repeat=3):
        gold = data.treebank(punctuation).tree
        gold = tuple(map(_binary, gold)) if binary else gold
        found[punctuation, binary, root] = {
            name: 100 * float(np.mean([_f1(maker(leaves(tree)), tree, root) for tree in gold]))
            for name, maker in makers.items()
        }
    return found


def _f1(predicted: Tree, gold: Tree, root: bool) -> float:
    """`bracket_f1`; with the root it is as if both were part of a larger tree."""
    return bracket_f1(["", predicted], ["", gold]) if root else bracket_f1(predicted, gold)


def _percent(trees: Sequence[Tree], gold: Sequence[Tree]) -> Float[np.ndarray, " trees"]:
    return 100 * np.array([bracket_f1(*pair) for pair in zip(trees, gold, strict=True)])


def _binary(tree: Tree) -> Tree:
    """A tree whose wide brackets branch to the right, and whose unary ones are gone."""
    if isinstance(tree, str):
        return tree
    *parts, last = map(_binary, tree)
    for part in reversed(parts):
        last = [part, last]
    return last
