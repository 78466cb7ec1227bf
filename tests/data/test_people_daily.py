"""The newspaper: a month of words with their tags."""

import pytest

from kexue import data


@pytest.mark.system  # reads it all
def test_the_newspaper_is_a_month_of_tagged_words():
    text = data.people_daily()
    assert len(text.word) == len(text.tag) == 19_484
    assert sum(map(len, text.word)) == sum(map(len, text.tag)) == 1_121_447
    pairs = [tuple(zip(w, t, strict=True)) for w, t in zip(text.word, text.tag, strict=True)]
    assert pairs[0][:3] == (("迈向", "v"), ("充满", "v"), ("希望", "n"))
    assert all(word and tag for sentence in pairs for word, tag in sentence)
    assert {"，", "。", "、"} <= {word for sentence in pairs for word, tag in sentence if tag == "w"}
