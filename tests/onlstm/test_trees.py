"""Trees: the article's recursion, enumeration, F1 worked by hand, deep trees, and bad input."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import stacks  # noqa: F401, sets how Hypothesis runs
import torch
from hypothesis import given
from hypothesis import strategies as st
from printed import printed
from refusing import refuses

from kexue import onlstm
from kexue.onlstm import (
    balanced,
    best_tree,
    bracket_f1,
    brackets,
    corpus_f1,
    leaves,
    left_branching,
    right_branching,
    split_tree,
    tree_from_levels,
)

PRINTED = printed("onlstm", torch=torch)


def article_tree(tokens, levels):
    """The article's own recursion."""
    top = max(range(len(levels)), key=lambda k: (levels[k], -k))
    left, right = tokens[:top], tokens[top + 1 :]
    tree = tokens[top] if not right else [tokens[top], article_tree(right, levels[top + 1 :])]
    return tree if not left else [article_tree(left, levels[:top]), tree]


@pytest.mark.verifies("onlstm.alg1")
@pytest.mark.parametrize(
    ("levels", "tree"),
    [
        ([1], "a"),
        ([2, 1], ["a", "b"]),
        ([1, 2, 3], [["a", "b"], "c"]),
        ([1, 3, 2], ["a", ["b", "c"]]),
        ([2, 1, 3], [["a", "b"], "c"]),
        ([0, 0, 0], ["a", ["b", "c"]]),  # of equal ones the first
        ([1, 5, 5, 1], ["a", ["b", ["c", "d"]]]),
        ([0, 3, 1, 4, 2], [["a", ["b", "c"]], ["d", "e"]]),
        ([-1.0, -2.0, -0.5, -3.0], [["a", "b"], ["c", "d"]]),
    ],
)
def test_trees_worked_by_hand(levels, tree):
    tokens = list("abcde")[: len(levels)]
    assert tree_from_levels(tokens, levels) == tree
    assert tree_from_levels(tuple(tokens), torch.tensor(levels)) == tree
    assert tree_from_levels(tokens, np.array(levels)) == tree


@pytest.mark.slow
@pytest.mark.verifies("onlstm.alg1")
@given(st.lists(st.one_of(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=14))
def test_n_tokens_give_n_minus_1_brackets(levels):
    tokens = [f"w{i}" for i in range(len(levels))]
    tree = tree_from_levels(tokens, levels)
    assert tree == article_tree(tokens, levels)
    for found in (tree, split_tree(tokens, levels)):
        assert leaves(found) == tokens
        assert len(brackets(found)) == len(tokens) - 1
        assert is_binary(found)


def is_binary(tree):
    return isinstance(tree, str) or (len(tree) == 2 and all(map(is_binary, tree)))


def all_trees(tokens):
    """Every binary tree over the tokens."""
    if len(tokens) == 1:
        return [tokens[0]]
    return [
        [left, right]
        for k in range(1, len(tokens))
        for left in all_trees(tokens[:k])
        for right in all_trees(tokens[k:])
    ]


@cache
def shapes(n):
    """How many trees the rule can produce, by recursion: [word, any], or [any, word], or [any, [word, any]]."""
    return 1 if n <= 2 else shapes(n - 1) + sum(shapes(k) * shapes(max(n - k - 1, 1)) for k in range(2, n))


@pytest.mark.slow
@pytest.mark.unchecked  # thousands of calls
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_the_printed_rule_gives_the_package_s_trees(levels):
    words = [str(k) for k in range(len(levels))]
    assert PRINTED["tree_of"](words, levels) == tree_from_levels(words, levels)


@pytest.mark.verifies("onlstm.trees")
@pytest.mark.parametrize("n", range(1, 7))
def test_the_rule_cannot_produce_every_tree(n):
    tokens = list("abcdef")[:n]
    every = {repr(tree) for tree in all_trees(tokens)}
    orders = list(itertools.permutations(range(n)))
    found = {repr(tree_from_levels(tokens, order)) for order in orders}
    catalan = math.comb(2 * (n - 1), n - 1) // n
    assert len(every) == catalan
    assert len(found) == [1, 1, 2, 5, 13, 35][n - 1] == shapes(n)
    assert found <= every
    assert {repr(split_tree(tokens, order)) for order in orders} == every
    assert (found == every) == (n < 5)
    if n == 5:
        assert every - found == {repr([["a", "b"], [["c", "d"], "e"]])}
    assert 0 < 100 * shapes(40) < math.comb(78, 39) // 40


@pytest.mark.verifies("onlstm.alg1", "onlstm.eq15")
def test_the_split_is_before_the_first_highest_level_but_the_first_token_s():
    assert split_tree("abc", [9, 1, 2]) == [["a", "b"], "c"]
    assert split_tree("abc", [9, 2, 1]) == ["a", ["b", "c"]]
    assert split_tree("abcde", [0, 1, 3, 1, 2]) == [["a", "b"], [["c", "d"], "e"]]
    assert split_tree("abc", [0, 1, 1]) == ["a", ["b", "c"]]
    assert split_tree(["a"], [3.0]) == "a"


@pytest.mark.slow
@pytest.mark.unchecked  # thousands of calls
@pytest.mark.verifies("onlstm.alg1")
@pytest.mark.parametrize(("rule", "maker"), [("article", tree_from_levels), ("split", split_tree)])
@pytest.mark.parametrize("n", range(1, 6))
def test_the_best_tree_is_the_best_of_all_that_a_rule_gives(n, rule, maker):
    tokens = list("abcde")[:n]
    trees = {repr(tree := maker(tokens, order)): tree for order in itertools.permutations(range(n))}
    gold = [*all_trees(tokens), tokens if n > 1 else "a"]
    gold += [["a", ["b", "c", "d"], "e"]] if n == 5 else []
    for true in gold:
        found = best_tree(true, rule)
        assert repr(found) in trees
        assert bracket_f1(found, true) == max(bracket_f1(tree, true) for tree in trees.values())


def test_trees_without_a_model():
    assert left_branching("abcd") == [[["a", "b"], "c"], "d"]
    assert right_branching("abcd") == ["a", ["b", ["c", "d"]]]
    assert balanced("abcd") == [["a", "b"], ["c", "d"]]
    assert balanced("abcde") == [["a", "b"], ["c", ["d", "e"]]]
    for build in (left_branching, right_branching, balanced):
        assert build(["a"]) == "a"
        assert build(("a", "b")) == ["a", "b"]


def test_leaves_and_brackets():
    tree = [["a", ["b", "c"]], "d"]
    assert leaves(tree) == ["a", "b", "c", "d"]
    assert brackets(tree) == {(0, 3), (1, 3), (0, 4)}
    assert brackets("a") == set()
    assert leaves("abc") == ["abc"]
    assert brackets([["a"]]) == {(0, 1)}
    assert brackets([[["a", "b"]], "c"]) == {(0, 2), (0, 3)}
    assert brackets(["a", "b", "c"]) == {(0, 3)}


@pytest.mark.parametrize(
    ("predicted", "gold", "f1"),
    [
        ("a", "a", 1),
        ([[["a", "b"]]], ["a", "b"], 1),
        ([["a", "b"], "c"], [["a", "b"], "c"], 1),
        (["a", ["b", "c"]], [["a", "b"], "c"], 0),
        ([[["a", "b"], "c"], "d"], [["a", "b"], ["c", "d"]], 1 / 2),
        ([["a", "b"], "c", "d"], [["a", "b"], ["c", "d"]], 2 / 3),
        ([["a", "b"], ["c", "d"]], [["a", "b"], "c", "d"], 2 / 3),
        (["a", ["b", "c"]], ["a", "b", "c"], 0),  # precision 0, recall 1
        (["a", "b", "c"], ["a", ["b", "c"]], 0),  # precision 1, recall 0
        ([[["a", "b"]], ["c"]], [["a", "b"], "c"], 1),  # chains and single words count for nothing
        ([[[["a", "b"], "c"], "d"], "e"], [[["a", "b"], "c"], ["d", "e"]], 2 / 3),
    ],
)
def test_f1_worked_by_hand(predicted, gold, f1):
    assert bracket_f1(predicted, gold) == pytest.approx(f1)


def test_f1_of_a_corpus_counts_brackets():
    small = (["a", ["b", "c"]], [["a", "b"], "c"])  # 0 of 1 and 1
    large = (right_branching("abcde"), ["a", ["b", ["c", "d", "e"]]])  # 2 of 3 and 2
    flat = (["a", "b"], ["a", "b"])
    assert corpus_f1(*zip(small, large, flat, strict=True)) == pytest.approx(2 * 2 / (4 + 3))
    assert corpus_f1(*zip(small, strict=True)) == 0
    assert corpus_f1(*zip(flat, strict=True)) == corpus_f1([], []) == 1


@pytest.mark.parametrize(("make", "sign"), [(left_branching, 1), (right_branching, -1)])
def test_trees_may_be_as_deep_as_they_like(make, sign):
    words, levels = [str(i) for i in range(3000)], sign * np.arange(3000.0)
    tree = make(words)
    assert leaves(tree) == words
    assert len(brackets(tree)) == len(brackets(tree_from_levels(words, levels))) == 2999
    assert brackets(split_tree(words, levels)) == brackets(tree)
    assert bracket_f1(tree, tree) == corpus_f1([tree], [make(words)]) == 1.0


def test_the_best_tree_of_a_deep_one():
    words = [str(i) for i in range(300)]
    tree = words[0]
    for _ in range(2000):  # unary chains are deep, too
        tree = [tree]
    for word in words[1:]:
        tree = [tree, word]
    assert brackets(best_tree(tree, "split")) == brackets(tree) - {(0, 1)}


@pytest.mark.parametrize("rule", ["article", "split"])
def test_the_best_tree_does_not_seek_brackets_of_single_words(rule):
    """[a, [b, [c, d]]] has two brackets, if (d) were one that the article's split at d earns."""
    assert best_tree([["a", "b"], ["c", ["d"]]], rule) == [["a", "b"], ["c", "d"]]


test_bad_trees_are_named = refuses([
    (lambda: left_branching(3), TypeError, "tokens must be a sequence, got int"),
    (lambda: right_branching(3), TypeError, "tokens must be a sequence, got int"),
    (lambda: balanced(3), TypeError, "tokens must be a sequence, got int"),
    (lambda: tree_from_levels([], []), ValueError, "tokens must hold at least one, got none"),
    (lambda: balanced([]), ValueError, "tokens must hold at least one, got none"),
    (lambda: tree_from_levels("ab", [1.0]), ValueError, r"levels must be one for each of 2 tokens, got shape \(1,\)"),
    (lambda: tree_from_levels("ab", [-math.inf, 1.0]), ValueError, "levels must be finite, got -inf"),
    (lambda: split_tree("ab", [1.0, math.nan]), ValueError, "levels must be finite, got nan"),
    (lambda: tree_from_levels("ab", ["x", 1.0]), TypeError, r"levels must be numbers, got \['x', 1\.0\]"),
    (lambda: leaves(["a", 3]), TypeError, "tree must be made of strings and lists, got int"),
    (lambda: brackets(["a", ["b", 3]]), TypeError, "tree must be made of strings and lists, got int"),
    (lambda: brackets(("a", "b")), TypeError, "tree must be made of strings and lists, got tuple"),
    (lambda: brackets(["a", []]), ValueError, "tree must not have empty brackets"),
    (lambda: bracket_f1(["a", []], ["a"]), ValueError, "predicted must not have empty brackets"),
    (lambda: bracket_f1(["a"], ["a", []]), ValueError, "gold must not have empty brackets"),
    (lambda: corpus_f1(["a"], ["b"]), ValueError, r"predicted and gold must have the same words, got \['a'\] and \['b'\]"),
    (lambda: bracket_f1(["a", "b"], ["a", "c"]), ValueError, r"predicted and gold must have the same words, got \['a', 'b'\] and \['a', 'c'\]"),
    (lambda: corpus_f1(["a"], []), ValueError, "predicted must have as many trees as gold, 0, got 1"),
    (lambda: best_tree(["a", "b"], "best"), ValueError, "rule must be one of"),
    (lambda: best_tree(["a", 3]), TypeError, "gold must be made of strings and lists"),
])  # fmt: skip


# --- Faults: under each, its verifier fails ----------------------------------------------------


def last_maximum(tokens, levels):
    height = np.asarray(levels, dtype=float)
    return tree_from_levels_as_it_is(tokens, height + 1e-9 * np.arange(len(height)))


tree_from_levels_as_it_is = tree_from_levels


def with_the_root(predicted, gold):
    return brackets(predicted), brackets(gold)


FAULTS = [
    (lambda: test_trees_worked_by_hand([1, 5, 5, 1], ["a", ["b", ["c", "d"]]]), None, "tree_from_levels", last_maximum),
    (lambda: test_f1_worked_by_hand([["a", "b"], "c", "d"], [["a", "b"], ["c", "d"]], 2 / 3), onlstm, "_compared", with_the_root),
]  # fmt: skip
