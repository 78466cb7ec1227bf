"""Markers, and sequences with them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from translators import SIDES, SRC, ordered

from kexue import decoding
from kexue.decoding import pad_ids, with_markers, without_markers


@pytest.mark.slow
@pytest.mark.verifies("decoding.tokens")
@given(
    target=st.lists(st.lists(st.integers(3, 9), max_size=6), min_size=1, max_size=4),
    more=st.integers(0, 2),
    side=st.sampled_from(SIDES),
    markers=st.sampled_from([(1, 2), (10, 11)]),
)
def test_markers_and_back(target, more, side, markers):
    tgt = torch.nn.functional.pad(pad_ids(target), (0, more))
    reads, writes = decoding.with_markers(tgt, side, markers)
    start, end = markers if side == "l2r" else markers[::-1]
    size = tgt.shape[1] + 1
    for row, ids in enumerate(target):
        words, rest = ordered(side, ids), [0] * (size - 1 - len(ids))
        assert reads[row].tolist() == [start, *words, *rest]
        assert writes[row].tolist() == [*words, end, *rest]
        written = writes[row].tolist()
        assert decoding.without_markers(written, side, markers) == (tuple(ids), True)
        assert decoding.without_markers(words, side, markers) == (tuple(ids), False)
        assert decoding.without_markers([*words, end, 7, end], side, markers) == (tuple(ids), True)


@pytest.mark.verifies("decoding.tokens")
def test_one_pair_of_markers_is_swapped_between_the_directions():
    tgt = torch.tensor([[5, 6, 7]])
    assert [x.tolist() for x in decoding.with_markers(tgt, "l2r")] == [[[1, 5, 6, 7]], [[5, 6, 7, 2]]]
    assert [x.tolist() for x in decoding.with_markers(tgt, "r2l")] == [[[2, 7, 6, 5]], [[7, 6, 5, 1]]]
    assert decoding.without_markers([5, 1], "l2r") == ((5, 1), False)  # 1 ends nothing from the left
    for side in SIDES:
        empty = decoding.with_markers(torch.zeros(2, 0, dtype=torch.int64), side)
        assert [x.shape for x in empty] == [(2, 1)] * 2


test_bad_input_is_named = refuses([
    (lambda: with_markers(SRC, "x"), ValueError, r"direction must be one of \('l2r', 'r2l'\), got 'x'"),
    (lambda: without_markers([3, 2], "x"), ValueError, r"direction must be one of \('l2r', 'r2l'\), got 'x'"),
    (lambda: with_markers([[3]], "l2r"), TypeError, r"tgt must be a torch\.Tensor, got list"),
    (lambda: with_markers(SRC.float(), "l2r"), TypeError, r"tgt must have dtype int64 or int32, got torch\.float32"),
    (lambda: with_markers(SRC[0], "l2r"), ValueError, r"tgt must have shape \(B, length\) with B ≥ 1, got \(2,\)"),
    (lambda: with_markers(SRC[:0], "l2r"), ValueError, r"tgt must have shape .*, got \(0, 2\)"),
    (lambda: with_markers(SRC - 2, "l2r"), ValueError, "tgt must hold ids from 3, and 0 as padding, got 1"),
    (lambda: with_markers(SRC.flip(1), "r2l"), ValueError, "tgt must be padded on the right, got 0 before a token"),
])  # fmt: skip


# --- Faults: under each, its verifier fails ----------------------------------------------------


def keeps_the_order(tgt, direction, markers=(1, 2)):
    return with_markers(tgt, "l2r", markers if direction == "l2r" else markers[::-1])


def same_markers(tgt, direction, markers=(1, 2)):
    return with_markers(tgt, direction, markers if direction == "l2r" else markers[::-1])


FAULTS = [
    (test_markers_and_back, "with_markers", keeps_the_order),
    (test_one_pair_of_markers_is_swapped_between_the_directions, "with_markers", same_markers),
]
