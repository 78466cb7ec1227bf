"""Levels from counts of neighbouring words, by hand."""

import math

import pytest

from kexue.experiments.tasks.bigrams import NAMES, entropy, levels_of_words


def test_entropy_is_that_of_shares():
    assert entropy([3, 1]) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert entropy([7]) == 0


def test_levels_of_three_texts_by_hand():
    found = levels_of_words([["the", "dog", "barks"], ["the", "cat"], ["a", "dog"]])
    assert list(found) == list(NAMES)
    assert found["before"] == {"the": 1, "dog": 2, "barks": 1, "cat": 1, "a": 1}  # the start counts once
    assert found["entropy_before"]["dog"] == pytest.approx(math.log(2))
    assert found["entropy_before"]["cat"] == 0
    assert found["sure_after"]["the"] == pytest.approx(-math.log(2))
    assert found["sure_after"]["barks"] == 0  # nothing follows
