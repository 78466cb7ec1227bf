"""Scores on a treebank of four sentences, worked by hand, and the levels that a model gives."""

import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from replacing import replace

from kexue import data
from kexue.onlstm import LanguageModel, parsing

# Ten words and a stop, seven words with marks within, two, and eleven with many marks.
SENTENCES = """
( (S (NP-SBJ (DT The) (NN cat) )
    (VP (VBD saw)
      (NP (NP (DT a) (JJ small) (NN dog) )
        (PP (IN in) (NP (DT the) (JJ old) (NN park) ))))
    (. .) ))
( (S (PP (IN In) (NP (NNP May) )) (, ,)
    (NP-SBJ-1 (PRP we) )
    (VP (VBD hoped)
      (S (NP-SBJ (-NONE- *-1) )
        (VP (TO to) (VP (VB sell) (NP (PRP it) )))))
    (. .) ))
( (FRAG (NP (NN Price) ) (: :) (NP ($ $) (CD five) (-NONE- *U*) )))
( (S (NP-SBJ (NNP Ann) )
    (VP (VBD met)
      (NP (NNP Bea) (, ,) (NNP Cy) (, ,) (NNP Dan) (, ,) (NNP Eve) (, ,) (NNP Fay) (, ,) (NNP Gus) (, ,)
        (NNP Ida) (CC and) (NNP Joe) ))
    (. .) ))
"""


@pytest.fixture
def small_treebank(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "treebank.zip", "w") as archive:
        archive.writestr("treebank/combined/wsj_0001.mrg", SENTENCES)
    replace(data, "fetch", lambda name: tmp_path / Path(name).name, monkeypatch)
    replace(data, "treebank", cache(data.treebank.__wrapped__), monkeypatch)


class Rising:
    """A generator whose numbers rise: the trees they give branch to the left, by either rule."""

    def random(self, n):
        return np.arange(n) / n


def test_baselines_on_a_small_treebank_with_and_without_punctuation(small_treebank, monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Rising())
    found = parsing.baseline_scores()

    # The spans of the annotated trees, without the root's and those of single words:
    #   cat    10 words  0-2 2-10 3-10 3-6 6-10 7-10
    #   May     7 words  0-2 3-7 4-7 5-7; "May", "we", "it" are brackets of one word, 4-7 is one twice
    #   Price   2 words  none: precision and recall 1, whatever the baseline
    #   Ann    11 words  1-11 2-11
    # A binary tree of n words has n - 2 such spans: 8, 5, 0, 9. F1 is 2 · common/(n - 2 + annotated).
    #
    # right     common  2-10 3-10 6-10 7-10 | 3-7 4-7 5-7 | | 1-11 2-11
    # left      common  0-2 | 0-2 | | none
    # balanced  spans   0-5 5-10 0-2 2-5 3-5 5-7 7-10 8-10 | 0-3 1-3 3-7 3-5 5-7
    #                   | | 0-5 5-11 0-2 2-5 3-5 5-8 6-8 8-11 9-11
    #           common  0-2 7-10 | 3-7 5-7 | | none
    # best      common  all 6 | all 4 | | both, by either rule: each right part begins with a word alone
    common = {"right": (4, 3, 2), "left": (1, 1, 0), "balanced": (2, 2, 0)}
    common |= {"best_article": (6, 4, 2), "best_split": (6, 4, 2)}
    common |= {"random_levels": common["left"], "random_splits": common["left"]}
    kinds = {f"{kind}_{name}" for kind in ("f1", "f1_short", "corpus_f1") for name in common}
    assert found.keys() == kinds - {"corpus_f1_best_article", "corpus_f1_best_split"}
    for name, (cat, may, ann) in common.items():
        short = [2 * cat / (8 + 6), 2 * may / (5 + 4), 1]
        assert found[f"f1_short_{name}"] == pytest.approx(100 * sum(short) / 3), name
        assert found[f"f1_{name}"] == pytest.approx(100 * (sum(short) + 2 * ann / (9 + 2)) / 4), name
        if not name.startswith("best"):
            corpus = 2 * (cat + may + ann) / (8 + 5 + 0 + 9 + 6 + 4 + 0 + 2)
            assert found[f"corpus_f1_{name}"] == pytest.approx(100 * corpus), name

    # With marks a right-branching tree of n tokens has the spans k-n. Where a stop ends the sentence, only
    # the root's ends with it: F1 is 0. "Price : $ five" has the span 2-4, of 1-4 and 2-4: F1 is 2/3.
    protocols = parsing.protocol_scores()
    for name in ("right", "left", "balanced", "random_splits"):
        assert protocols[False, False, False][name] == found[f"f1_{name}"]
    assert protocols[True, False, False]["right"] == pytest.approx(100 * (0 + 0 + 2 / 3 + 0) / 4)

    # The same, binary (wide brackets branch to the right) and with the root, as a share of n - 1 spans:
    #   cat    11 tokens  [subject [predicate .]]      0-11 2-11           2 of 10
    #   May     9 tokens  [PP [, [we [predicate .]]]]  0-9 2-9 3-9 4-9     4 of 8
    #   Price   4 tokens  [Price [: [$ five]]]         0-4 1-4 2-4         3 of 3
    #   Ann    18 tokens  [Ann [predicate .]]          0-18 1-18           2 of 17
    right = pytest.approx(100 * (2 / 10 + 4 / 8 + 3 / 3 + 2 / 17) / 4)
    assert protocols[True, True, True]["right"] == right
    # Without marks, binary and with the root: of "cat", [[The cat] [saw [[a [small dog]] [in [the old …]]]]],
    # 10 words, all of 0-10 2-10 3-10 6-10 7-10 8-10; of "May" 0-7 2-7 3-7 4-7 5-7 of 6; 1 of 1; all 10.
    assert protocols[False, True, True]["right"] == pytest.approx(100 * (6 / 9 + 5 / 6 + 1 + 1) / 4)


@pytest.mark.parametrize("short_only", [True, False])
def test_scores_of_levels_that_rise_or_fall_are_those_of_one_sided_trees(
    small_treebank, monkeypatch, short_only
):
    """Rising levels make left-branching trees, falling ones right-branching trees."""

    def levels(model, vocabulary, sentences, batch_size=64):
        assert [len(words) for words in sentences] == ([10, 7, 2] if short_only else [10, 7, 2, 11])
        assert sentences[0][0] == "the"  # as the vocabulary has it
        rise = [np.arange(len(words)) for words in sentences]
        return [np.array([[up, -up], [-up, up]]) for up in rise]

    monkeypatch.setattr(parsing, "master_levels", levels)
    vocabulary = data.Vocabulary(["ab"])
    found = parsing.tree_scores(LanguageModel(len(vocabulary), (2, 2), "lstm"), vocabulary, short_only)
    right, names = parsing.baseline_scores(), ["f1_short"] if short_only else ["f1_short", "f1", "corpus_f1"]
    sides = {"forget_1": "left", "forget_2": "right", "input_1": "right", "input_2": "left"}
    assert found == {
        f"{name}_{key}": right[f"{name}_{side}"] for name in names for key, side in sides.items()
    }


def test_master_levels_are_those_of_each_sentence_alone():
    sentences = ["ab", "c", "abcabc", "bca"]
    vocabulary = data.Vocabulary([*sentences, [parsing.END]])
    torch.manual_seed(0)
    model = LanguageModel(len(vocabulary), (8, 6), chunk_size=2)
    for sentence, levels in zip(
        sentences, parsing.master_levels(model, vocabulary, sentences, 2), strict=True
    ):
        for layer, trace in enumerate(model.trace(vocabulary.ids([parsing.END, *sentence])[None])):
            assert levels[0, layer] == pytest.approx(1 - trace.master_forget[0, 1:].mean(-1).detach())
            assert levels[1, layer] == pytest.approx(trace.master_input[0, 1:].mean(-1).detach())


def test_levels_of_an_lstm_are_those_of_its_own_gates():
    sentences = ["ab", "abcabc"]
    vocabulary = data.Vocabulary([*sentences, [parsing.END]])
    torch.manual_seed(0)
    model = LanguageModel(len(vocabulary), (8, 6), "lstm")
    for sentence, levels in zip(sentences, parsing.master_levels(model, vocabulary, sentences), strict=True):
        x = model.embed(vocabulary.ids([parsing.END, *sentence])[None])[0].detach()
        for layer, cell in enumerate(model.stack.layers):
            state, rows, above = None, [], []
            for step in x:
                before = torch.zeros(1, cell.hidden_size) if state is None else state[0]
                _, _, write, keep = (cell.ih(step) + cell.hh(before)).sigmoid().chunk(4, -1)
                rows.append([1 - keep.mean().item(), write.mean().item()])
                state = cell(step[None], state)
                above.append(state[0][0].detach())
            x = torch.stack(above)
            assert levels[:, layer].T.tolist() == [pytest.approx(row, abs=1e-6) for row in rows[1:]]
