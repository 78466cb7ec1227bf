"""Words as tags, and back."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from seeded import gen

from kexue import reading
from kexue.reading import segmentation_counts, tags_of_words, word_places, words_of_tags

CUTS = st.lists(st.text("abc", min_size=1, max_size=5), max_size=6)


@given(CUTS)
def test_words_and_tags_are_inverse(words):
    tags, text = tags_of_words(words), "".join(words)
    assert len(tags) == len(text)
    assert words_of_tags(text, tags) == words
    joined = "".join(reading.WORD_TAGS[tag] for tag in tags)
    assert joined == "".join("S" if len(w) == 1 else "B" + "M" * (len(w) - 2) + "E" for w in words)


@given(st.lists(st.integers(0, 3), max_size=9))
def test_any_tags_mean_a_segmentation(tags):
    text = "abcdefghi"[: len(tags)]
    found = words_of_tags(text, tags)
    assert "".join(found) == text
    assert all(found)
    names = "".join("BMES"[tag] for tag in tags)
    cuts = {i for i in range(1, len(text)) if names[i - 1] in "ES" or names[i] in "BS"}
    assert set(itertools.accumulate(map(len, found[:-1]))) - {0} == cuts


@given(CUTS, st.integers(0, 9))
def test_segmentations_are_compared_place_by_place(true, seed):
    text = "".join(true)
    tags = torch.randint(4, (len(text),), generator=gen(seed)).tolist()
    found = words_of_tags(text, tags)
    for words in (found, true):
        assert list(word_places(words).values()) == words
        assert all(text[begin:end] == word for (begin, end), word in word_places(words).items())
    common = len(set(word_places(found)) & set(word_places(true)))
    assert segmentation_counts(found, true) == (common, len(found), len(true))


def test_equal_words_in_other_places_do_not_count():
    assert segmentation_counts(["a", "aa"], ["aa", "a"]) == (0, 2, 2)
    assert segmentation_counts(["ab", "c", "d"], ["ab", "cd"]) == (1, 3, 2)
