"""Words and their numbers."""

import pytest

from kexue import data


def test_a_vocabulary_counts_and_knows_what_it_does_not_know():
    vocabulary = data.Vocabulary(["好好书", "好坏"], 1)
    assert vocabulary.symbols[0] == "好"
    assert len(vocabulary) == 5
    assert vocabulary.ids("好X").tolist() == [2, data.UNKNOWN]
    assert vocabulary.ids("").shape == (0,)
    assert (data.PAD, data.UNKNOWN) == (0, 1)
    assert data.Vocabulary(["ba", "c"]).symbols == ("a", "b", "c")
    assert data.Vocabulary(["好好书", "好坏"], 2).symbols == ("好",)
    assert data.Vocabulary([["two", "words"], ["two"]], 2).symbols == ("two",)
    with pytest.raises(ValueError, match="at_least must be at least 1, got 0"):
        data.Vocabulary(["x"], 0)


def test_reserved_symbols_come_first_and_are_not_counted():
    vocabulary = data.Vocabulary(["aab", "b_"], reserved=("[CLS]", "_"))
    assert vocabulary.symbols == ("a", "b")
    assert vocabulary.ids(["[CLS]", "_", "a", "b", "c"]).tolist() == [2, 3, 4, 5, data.UNKNOWN]
    assert len(vocabulary) == 6
