"""Counting: the symbols, what counts as right, and what was recorded."""

import pytest
import torch

from kexue.experiments import onlstm_counting as counting
from kexue.experiments import recorded


def test_words_are_as_many_a_as_b_between_marks():
    assert counting.words([1, 3]).tolist() == [[3, 1, 2, 3, 0, 0, 0, 0], [3, 1, 1, 1, 2, 2, 2, 3]]


@pytest.mark.parametrize("wrong_from", [2, 4, 9])
def test_a_network_counts_as_far_as_it_is_right(wrong_from):
    def oracle(ids):  # after the first b: as many b as there were a; but none after so many
        following = torch.zeros(*ids.shape, 4)
        for row, place in torch.cartesian_prod(*map(torch.arange, ids.shape)).tolist():
            seen = ids[row, : place + 1].tolist()
            n = seen.count(counting.A)
            done = n >= wrong_from or seen.count(counting.B) == n
            following[row, place, counting.MARK if done else counting.B] = 1
        return following

    assert counting.counts_to(oracle, 6) == min(wrong_from - 1, 6)


@pytest.mark.parametrize("cell", ["lstm", "onlstm"])
def test_a_network_learns_to_count_as_far_as_it_is_shown(cell, tmp_path):
    config = counting.Config(cell=cell, longest=3, tried=6, steps=60, hidden_size=16)
    assert counting.counts_to(counting.build(config), 6) < 3
    assert 3 <= counting.run(config, tmp_path)["right_up_to"] <= 6


def test_recorded_networks_count_beyond_what_they_were_shown_but_not_all_to_twice_that():
    ends = [run.summary["right_up_to"] for run in recorded("onlstm_counting").values()]
    assert len(ends) == 10
    assert 20 < min(ends) < 40
