"""Treebanks, captions, pronunciations, English text."""

import gzip
import io
import re
import time
import zipfile
from pathlib import Path

import pytest

from kexue import data

ROOT = Path(__file__).parents[2]


def archive(**files: str) -> bytes:
    """A zip file; `__` in a name stands for a slash, `_0` at its end for `.mrg`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as found:
        for name, text in files.items():
            found.writestr(re.sub("_0$", ".mrg", name).replace("__", "/"), text)
    return buffer.getvalue()


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


def test_the_treebank_is_the_parsed_files_in_order(registered):
    registered(
        "treebank/treebank.zip",
        archive(
            treebank__combined__wsj_0002_0="( (S (NN b) (. .)) )\n\n( (S (NN c)) )",
            treebank__combined__wsj_0001_0="( (S (NN a)) )\n( (X (. .)) )",
            treebank__raw__wsj_0001="b .",
            treebank__tagged__readme="(NN no",
        ),
    )
    found = data.treebank()
    assert found.tree == ([["a"]], [["b"]], [["c"]])
    assert found.source is data.SOURCES["treebank"]
    assert data.treebank(punctuation=True).tree == ([["a"]], [["."]], [["b", "."]], [["c"]])
    assert data.treebank() is found


def test_brown_is_cut_as_the_treebank_is(registered):
    registered(
        "brown/brown.zip",
        archive(
            brown__ca02="She/pps can't/md* see/vb ,/, ``/`` the/at boys'/nns$ 3/4/cd ''/'' ./.\n",
            brown__ca01="\n\n\tThe/at jury's/nn$ Mary/np-hl and/or/cc I'd/ppss+md ./.\n\n./.\n",
            brown__cr09="Get/vb 'em/ppo NOW/rb --/-- he'll/x they're/x we've/x I'm/x ISN'T/x class's/x o'clock/x\n",
            brown__cs01="No/at category/nn\n",
            brown__ca1="No/at number/nn\n",
            brown__README="no/x words/x\n",
        ),
    )
    assert data.brown() == (
        ("The", "jury", "'s", "Mary", "and/or", "I", "'d"),
        ("She", "ca", "n't", "see", "the", "boys", "3/4"),
        ("Get", "'em", "NOW", "he", "'ll", "they", "'re", "we", "'ve", "I", "'m", "IS", "N'T", "class", "'s", "o'clock"),
    )  # fmt: skip


def test_mikolov_s_treebank_is_three_texts(registered):
    for name, text in (("train", " a b <unk> \n c N\n"), ("valid", " d\n"), ("test", " e\n f\n")):
        registered(f"ptb/ptb.{name}.txt", text.encode())
    assert data.mikolov_ptb() == ((" a b <unk> ", " c N"), (" d",), (" e", " f"))


def test_captions_are_pairs_by_part(registered):
    names = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    for part, name in names.items():
        for language in ("de", "en"):
            text = f"{part} {language} ä\n{part} {language} two\n"
            registered(f"multi30k/{name}.{language}.gz", gzip.compress(text.encode()))
    found = data.multi30k()
    assert list(found) == ["train", "valid", "test"]
    for part in names:
        assert found[part] == ((f"{part} de ä", f"{part} en ä"), (f"{part} de two", f"{part} en two"))


@pytest.mark.slow
def test_pronunciations_are_words_of_letters_and_no_word_is_in_two_parts():
    whole = data.pronunciations()
    assert len(whole.word) == len(set(whole.word)) == 117_493
    assert sum(map(len, whole.phonemes)) == 125_855
    assert all(re.fullmatch("[a-z]+", word) for word in whole.word)
    known = dict(zip(whole.word, whole.phonemes, strict=True))
    assert known["decoding"] == (("D", "IH0", "K", "OW1", "D", "IH0", "NG"),)
    assert len(known["tomato"]) == 2
    parts = data.pronunciations_parts()
    assert [len(part.word) for part in parts] == [105_493, 2_000, 10_000]
    assert len({word for part in parts for word in part.word}) == 117_493
    assert all(
        known[word] == several
        for part in parts
        for word, several in zip(part.word, part.phonemes, strict=True)
    )


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        ("The", "the"), ("N.V.", "n.v."), ("n't", "n't"), ("3", "N"), ("1,234.5", "N"), ("10:30", "N"), ("1/2", "N"),
        (".5", "N"), ("5.", "N"), ("-3", "N"), ("+4.0", "N"), ("3.5%", "N"), ("1st", "N"), ("22ND", "N"), ("3rd", "N"),
        ("4th", "N"), ("1990s", "1990s"), ("7-up", "7-up"), ("$5", "$5"), ("twenty-1", "twenty-1"), ("-", "-"),
        ("...", "..."), (",", ","), ("/", "/"), ("th", "th"), ("%", "%"), ("", ""), ("ÄRGER", "ärger"),
    ],
)  # fmt: skip
def test_plain_english(word, plain):
    assert data.plain_english([word]) == (plain,)


def test_plain_english_of_a_sentence():
    assert data.plain_english(iter(["In", "1961", ",", "3", "Men"])) == ("in", "N", ",", "N", "men")
    assert data.plain_english([]) == ()


def test_long_words_take_time_in_proportion():
    word = "1," * 200_000 + "x"
    began = time.process_time()
    assert data.plain_english([word, word + "%", "1," * 200_000]) == (word, word + "%", "N")
    assert time.process_time() - began < 2
