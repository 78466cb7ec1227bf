"""Speed of kexue.decoding's searches over 1,000 words, as ratios within one run: make bench.

Trained models (the book's recorded ones) on words of the dictionary, so that answers have their lengths.
The bidirectional search with a beam of 3 must not take longer than 2.5 times the one of one direction.
"""

import time

import pytest
import torch

from kexue import data
from kexue.decoding import (
    TOKENS,
    BidirectionalSeq2Seq,
    Seq2Seq,
    beam_search,
    bidirectional_beam_search,
    pad_ids,
)
from kexue.experiments import recorded

WORDS = pad_ids(
    [[TOKENS + ord(c) - ord("a") for c in word] for word in data.pronunciations_parts()[2].word[:1000]]
)


def trained() -> dict[str, BidirectionalSeq2Seq | Seq2Seq]:
    runs = recorded("decoding")
    return runs["apart-seed1"].model().each | runs["both-seed1"].model().each


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("name", ["l2r", "both"])
def test_search(benchmark, name, k):
    benchmark.group = f"1,000 words, beam {k}"
    search = bidirectional_beam_search if name == "both" else beam_search
    benchmark.pedantic(search, (trained()[name], WORDS, k, 30), rounds=3, warmup_rounds=1)


def test_the_bidirectional_search_takes_at_most_two_and_a_half_times_as_long():
    torch.set_num_threads(1)
    seconds = {"l2r": [], "both": []}
    models = trained()
    for _ in range(4):  # in turn, so that both see the same machine
        for name in seconds:
            began = time.perf_counter()
            (bidirectional_beam_search if name == "both" else beam_search)(models[name], WORDS, 3, 30)
            seconds[name].append(time.perf_counter() - began)
    assert min(seconds["both"][1:]) < 2.5 * min(seconds["l2r"][1:])
