"""The grammar with known trees: its sentences, and what is compared on it."""

import numpy as np
import pytest

from kexue import runs
from kexue.experiments import onlstm_grammar as grammar
from kexue.experiments import recorded
from kexue.experiments.tasks import bigrams
from kexue.experiments.tasks import onlstm_rules as rules
from kexue.onlstm import brackets, leaves, split_tree
from kexue.runs.statistics import mean_interval


@pytest.mark.slow
def test_sentences_are_clauses_of_one_topic_each():
    words = [leaves(tree) for tree in grammar.gold()]
    assert len({tuple(text) for text in words}) > 290
    for tree, text in zip(grammar.gold(), words, strict=True):
        assert len(brackets(tree)) == len(text) - 1  # binary
        links = [i for i, word in enumerate(text) if word in ("and", "but", "while")]
        assert len(links) <= 1
        for part in (text[: links[0]], text[links[0] + 1 :]) if links else (text,):
            assert len({word[-3] for word in part if "." in word}) == 1
            assert sum(grammar.kind_of(word) == "verb" for word in part) == 1
    assert not {tuple(text) for text in words} & {*grammar.texts(3, 50)}
    assert grammar.texts(3, 50) != grammar.texts(4, 50)


def test_levels_are_averaged_over_the_words_with_a_key():
    levels = [np.arange(len(leaves(tree)), dtype=float) ** 2 for tree in grammar.gold()]
    for found, level in zip(grammar.averaged(levels, lambda i, word: i), levels, strict=True):
        np.testing.assert_allclose(found, level)  # they depend on the place alone
    by_kind = grammar.averaged(levels, lambda i, word: grammar.kind_of(word))
    assert np.concatenate(by_kind).sum() == pytest.approx(np.concatenate(levels).sum())
    words = [grammar.kind_of(word) for tree in grammar.gold() for word in leaves(tree)]
    assert len({*np.concatenate(by_kind).round(9)}) == len(set(words))


def mirrored(tree):
    return tree if isinstance(tree, str) else [mirrored(part) for part in reversed(tree)]


def test_a_cut_after_the_highest_level_is_a_cut_before_it_in_the_mirror():
    draw = np.random.default_rng(0)
    assert grammar.cut_after("abcd", np.array([1, 3, 2, 4])) == [["a", "b"], ["c", "d"]]
    for n in range(1, 9):
        words, levels = list("abcdefgh"[:n]), draw.permutation(n)
        assert grammar.cut_after(words, levels) == mirrored(split_tree(words[::-1], levels[::-1]))


def test_levels_of_kinds_of_words_are_those_that_a_run_recorded():
    run = recorded("onlstm_grammar")["onlstm-seed12"]
    for rule, f1 in grammar.f1_by_rule(grammar.by_kind(run.summary, "forget", 1)).items():
        assert f1 == pytest.approx(run.summary[f"{rule}_forget_1_by_kind"], abs=0.01)


@pytest.mark.slow
def test_each_word_of_the_grammar_has_an_english_one():
    words = {word for text in grammar.texts(0, 4000) for word in text}
    spoken = {grammar.spoken(word) for word in words}
    assert len(spoken) == len(words)
    assert not any(set(word) & set(".0123456789") for word in spoken)
    assert grammar.spoken([["the", "noun3.2"], "here"]) == [["the", "song"], "here"]


@pytest.mark.slow
def test_no_control_knows_the_trees_that_four_levels_give():
    orders = ("the a this", "of in with", "verb", "and but while")
    table = {kind: level for level, kinds in enumerate(orders, start=1) for kind in kinds.split()}
    by_hand = [np.array([table.get(grammar.kind_of(w), 0) for w in leaves(tree)]) for tree in grammar.gold()]
    scores = grammar.f1_by_rule(by_hand)
    assert min(scores.values()) > 65
    assert max(grammar.controls().values()) < 40


@pytest.mark.slow
def test_a_short_run_measures_trees_before_and_after(tmp_path):
    config = grammar.Config(
        cell="lstm", hidden_sizes=(8, 8), sentences=300, steps=2, every=1, learning_rate=1e-9
    )
    found = grammar.run(config, tmp_path)
    assert found["perplexity_of_counts"] < 40 < found["perplexity"]
    for reading in ("greedy_forget_2", "split_input_1"):  # nothing was learned
        assert found[reading] == pytest.approx(found[f"{reading}_untrained"], abs=2)


def recorded_f1(arm, reading):
    runs = recorded("onlstm_grammar")
    return np.array([runs[f"{arm}-seed{seed}"].summary[reading] for seed in range(11, 21)])


def over_each_control(rule):
    """Intervals of the F1 from d_f of layer 2, less that of each control."""
    networks = runs.table("onlstm_grammar")
    return grammar.over_controls(networks[networks.index.str.startswith("onlstm-")], "forget_2", rule)


@pytest.mark.slow
@pytest.mark.verifies("onlstm.grammar")
def test_recorded_trees_by_the_greedy_rule_are_better_than_every_control():
    found = over_each_control("greedy")
    assert len(found) == 9
    assert all(interval.beyond() for interval in found.values())
    # Written out for one that needs no network, and for one that does.
    own = recorded_f1("onlstm", "greedy_forget_2")
    assert found["right"] == mean_interval(own - grammar.controls()["right"])
    assert found["by_position"] == mean_interval(own - recorded_f1("onlstm", "greedy_forget_2_by_position"))


@pytest.mark.fails("onlstm.grammar")
def test_recorded_trees_by_splits_alone_are_not_better_than_the_mean_level_of_the_place():
    found = over_each_control("split")
    assert found.pop("by_position").beyond() is None
    assert all(interval.beyond() for interval in found.values())


def test_networks_are_compared_beside_the_best_tree_without_one():
    networks = runs.table("onlstm_grammar")
    ours, plain = (networks[networks.index.str.startswith(arm)] for arm in ("onlstm-", "lstm-"))
    groups, baselines = grammar.compared(ours, plain)
    assert list(groups) == ["greedy rule", "splits only"]
    assert [list(group) for group in groups.values()] == [["ON-LSTM", "by position", "untrained", "LSTM"]] * 2
    np.testing.assert_array_equal(groups["splits only"]["LSTM"], plain.split_forget_2)
    np.testing.assert_array_equal(groups["greedy rule"]["by position"], ours.greedy_forget_2_by_position)
    for rule, (name, f1) in zip(grammar.RULES, baselines, strict=True):
        assert f1 == max(grammar.controls_of(rule).values())
        assert name in rules.TREES.values()
    assert set(rules.TREES) == set(grammar.controls_of("split"))


@pytest.mark.verifies("onlstm.plain")
def test_recorded_trees_of_an_lstm_are_worse_by_the_same_reading():
    own, plain = (recorded_f1(arm, "greedy_forget_2") for arm in ("onlstm", "lstm"))
    assert mean_interval(own - plain).beyond()
    # Not by every reading: its input gate of layer 1 is as good.
    assert mean_interval(own - recorded_f1("lstm", "greedy_input_1")).beyond() is None


@pytest.mark.slow
def test_counts_of_pairs_give_trees_as_good_as_the_networks():
    """The chapter says so: the number of words before, and minus the entropy of the word after."""
    networks = runs.table("onlstm_grammar")
    ours = networks[networks.index.str.startswith("onlstm")]
    for rule in rules.RULES:
        own, found = ours[f"{rule}_forget_2"], grammar.counted(rule)
        assert list(found) == list(bigrams.NAMES)
        assert found["before"] > own.mean() - own.sem()
        assert found["sure_after"] > own.mean() + 2 * own.sem()
