"""Brackets of the Penn Treebank."""

import pytest

from kexue import data

SENTENCE = """
( (S
    (NP-SBJ (NNP Mr.) (NNP Vinken) )
    (VP (VBZ is)
      (NP-PRD
        (NP (NN chairman) )
        (PP (IN of)
          (NP (NNP Elsevier) (NNP N.V.) (, ,) (DT the) ))))
    (. .) ))
"""


@pytest.mark.parametrize(
    ("text", "plain", "marks"),
    [
        ("", [], []),
        ("(NN a)", ["a"], ["a"]),
        ("( (NN a) )", [["a"]], [["a"]]),
        ("(NP (NN a))", [["a"]], [["a"]]),
        ("(S (NN a) (NN b))(S (NN c))", [["a", "b"], ["c"]], [["a", "b"], ["c"]]),
        ("(NP (DT the) (NP (JJ old) (NN man)))", [["the", ["old", "man"]]], [["the", ["old", "man"]]]),
        ("(S (NP-SBJ (-NONE- *T*-1)) (VP (VB go)))", [[["go"]]], [[["go"]]]),
        ("(S (NP (-NONE- *)))", [None], [None]),
        ("(. .)", [None], ["."]),
        ("(S (`` ``) (UH yes) ('' ''))", [["yes"]], [["``", "yes", "''"]]),
        ("(NP ($ $) (CD 3) (-NONE- *U*))", [["3"]], [["$", "3"]]),
        ("(NP (# #) (CD 3) (: --) (-LRB- -LRB-) (NN x) (-RRB- -RRB-))", [["3", "x"]], [["#", "3", "--", "-LRB-", "x", "-RRB-"]]),
        ("(S (PRN (, ,) (. .)) (NN a))", [["a"]], [[[",", "."], "a"]]),
        ("(NP (PRP$ my) (POS 's) (WP$ whose))", [["my", "'s", "whose"]], [["my", "'s", "whose"]]),
        ("()", [None], [None]),
        (SENTENCE, [[[["Mr.", "Vinken"], ["is", [["chairman"], ["of", ["Elsevier", "N.V.", "the"]]]]]]], [[[["Mr.", "Vinken"], ["is", [["chairman"], ["of", ["Elsevier", "N.V.", ",", "the"]]]], "."]]]),
    ],
)  # fmt: skip
def test_brackets_of_the_treebank(text, plain, marks):
    assert data.parse_brackets(text) == plain
    assert data.parse_brackets(text, punctuation=True) == marks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(NN a))", r"got one \) too many"),
        (")", r"got one \) too many"),
        ("(S (NN a)", r"got 1 \( too many"),
        ("((S (NN a)", r"got 2 \( too many"),
    ],
)
def test_brackets_that_do_not_match_are_named(text, message):
    with pytest.raises(ValueError, match="text must have matching brackets, " + message):
        data.parse_brackets(text)


def test_the_treebank_is_the_parsed_files_in_order(registered, archive):
    files = {
        "combined/wsj_0002.mrg": "( (S (NN b) (. .)) )\n\n( (S (NN c)) )",
        "combined/wsj_0001.mrg": "( (S (NN a)) )\n( (X (. .)) )",
        "raw/wsj_0001": "b .",
        "tagged/readme": "(NN no",
    }
    registered("treebank/treebank.zip", archive({f"treebank/{name}": text for name, text in files.items()}))
    found = data.treebank()
    assert found.tree == ([["a"]], [["b"]], [["c"]])
    assert found.source is data.SOURCES["treebank"]
    assert data.treebank(punctuation=True).tree == ([["a"]], [["."]], [["b", "."]], [["c"]])
    assert data.treebank() is found


def test_a_deep_text_in_brackets_is_parsed():
    depth = 5000
    text = "(S " * depth + "(NN a)" + ")" * depth
    (tree,) = data.parse_brackets(text)
    for _ in range(depth):
        (tree,) = tree
    assert tree == "a"
    assert data.parse_brackets("(S " * depth + "(, ,)" + ")" * depth) == [None]
