"""Reviews, captions, pronunciations, English text."""

import gzip
import re
import time

import pytest
import torch
from refusing import refuses

from kexue import data


def test_brown_is_cut_as_the_treebank_is(registered, archive):
    files = {
        "ca02": "She/pps can't/md* see/vb ,/, ``/`` the/at boys'/nns$ 3/4/cd ''/'' ./.\n",
        "ca01": "\n\n\tThe/at jury's/nn$ Mary/np-hl and/or/cc I'd/ppss+md ./.\n\n./.\n",
        "cr09": "Get/vb 'em/ppo NOW/rb --/-- he'll/x they're/x we've/x I'm/x ISN'T/x class's/x o'clock/x\n",
        "cs01": "No/at category/nn\n",
        "ca1": "No/at number/nn\n",
        "README": "no/x words/x\n",
    }
    registered("brown/brown.zip", archive({f"brown/{name}": text for name, text in files.items()}))
    assert data.brown() == (
        ("The", "jury", "'s", "Mary", "and/or", "I", "'d"),
        ("She", "ca", "n't", "see", "the", "boys", "3/4"),
        ("Get", "'em", "NOW", "he", "'ll", "they", "'re", "we", "'ve", "I", "'m", "IS", "N'T", "class", "'s", "o'clock"),
    )  # fmt: skip


def test_mikolov_s_treebank_is_three_texts(registered):
    for name, text in (("train", " a b <unk> \n c N\n"), ("valid", " d\n"), ("test", " e\n f\n")):
        registered(f"ptb/ptb.{name}.txt", text.encode())
    assert data.mikolov_ptb() == ((" a b <unk> ", " c N"), (" d",), (" e", " f"))


def test_formulas_are_pairs_by_part_and_operators(registered):
    for name in ("train", "test"):
        for k in range(13):
            text = "#\t( not a )\t( b ( and c ) )\n" if (name, k) == ("test", 2) else f"=\ta\t{name}\n" * k
            registered(f"propositional_logic/{name}{k}", text.encode())
    found = data.propositional_logic()
    assert found["train"] == {k: ((("a",), ("train",), "="),) * k for k in range(13)}
    assert found["test"][2] == ((("(", "not", "a", ")"), ("(", "b", "(", "and", "c", ")", ")"), "#"),)


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
    whole, parts = data.pronunciations(), data.pronunciations_parts()
    assert len(whole.word) == 117_493
    assert sum(map(len, whole.phonemes)) == 125_855
    assert all(re.fullmatch("[a-z]+", word) for word in whole.word)
    known = dict(zip(whole.word, whole.phonemes, strict=True))
    assert known["decoding"] == (("D", "IH0", "K", "OW1", "D", "IH0", "NG"),)
    assert len(known["tomato"]) == 2
    assert [len(part.word) for part in parts] == [105_493, 2_000, 10_000]
    assert {w: p for part in parts for w, p in zip(part.word, part.phonemes, strict=True)} == known


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


@pytest.mark.system  # reads them all
def test_reviews_are_distinct_and_of_one_class_and_their_parts_share_no_text():
    reviews = data.reviews()
    assert len(reviews.text) == len(reviews.label) == len(set(reviews.text)) == 17_321
    assert all(reviews.text)
    assert set(reviews.label.tolist()) == {0, 1}
    assert reviews.label[0] == 1
    assert reviews.label.double().mean() == pytest.approx(0.479, abs=0.001)
    parts = data.reviews_parts()
    assert [len(part.text) for part in parts] == [12_124, 1_732, 3_465]
    assert len({text for part in parts for text in part.text}) == 17_321
    # Always the same parts: what was trained on must not be tested on later.
    assert [part.text[0][:6] for part in parts] == ["对房间的大小", "酒店设施陈旧", "1、机身较小"]
    whole = dict(zip(reviews.text, reviews.label.tolist(), strict=True))
    for part in parts:
        assert [whole[text] for text in part.text] == part.label.tolist()


REVIEWS = data.Reviews(("好", "坏"), torch.tensor([1, 0]), data.SOURCES["reviews"])

test_a_bad_index_of_reviews_is_named = refuses([
    (lambda: REVIEWS[torch.tensor([True])], TypeError, "index must be a vector of integers"),
    (lambda: REVIEWS[:3], TypeError, "index must be a vector of integers"),
])  # fmt: skip


def test_plain_english_of_a_sentence():
    assert data.plain_english(iter(["In", "1961", ",", "3", "Men"])) == ("in", "N", ",", "N", "men")
    assert data.plain_english([]) == ()


def test_long_words_take_time_in_proportion():
    word = "1," * 200_000 + "x"
    began = time.process_time()
    assert data.plain_english([word, word + "%", "1," * 200_000]) == (word, word + "%", "N")
    assert time.process_time() - began < 2
