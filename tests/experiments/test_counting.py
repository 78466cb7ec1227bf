"""Counting: the symbols, and what counts as right."""

import pytest
import torch

from kexue.experiments.tasks import counting


def test_words_are_as_many_a_as_b_between_marks():
    assert counting.words([1, 3]).tolist() == [[3, 1, 2, 3, 0, 0, 0, 0], [3, 1, 1, 1, 2, 2, 2, 3]]


@pytest.mark.parametrize("cell", ["lstm", "onlstm"])
def test_a_network_counts_no_further_than_it_is_right(cell):
    assert counting.counts_to(cell, seed=0, train=3, test=6, steps=0) < 3
    reached = counting.counts_to(cell, seed=0, train=3, test=6, steps=60, hidden_size=16)
    assert 3 <= reached <= 6
    # The same each time, whatever was drawn before.
    torch.rand(3)
    assert counting.counts_to(cell, seed=0, train=3, test=6, steps=60, hidden_size=16) == reached
