"""Padding."""

import torch
from refusing import refuses

from kexue.nn.sequences import pad_ids


def test_ids_are_padded_on_either_side():
    assert pad_ids([[3, 4, 5], [6], []]).tolist() == [[3, 4, 5], [6, 0, 0], [0, 0, 0]]
    assert pad_ids([(3, 0), (4,)], pad=7, length=3, left=True).tolist() == [[7, 3, 0], [7, 7, 4]]
    assert pad_ids([[]]).tolist() == [[0]]
    assert pad_ids([[]]).dtype == torch.int64


test_bad_input_is_named = refuses([
    (lambda: pad_ids([]), ValueError, "sequences must hold at least one, got none"),
    (lambda: pad_ids([[3], [1.5]]), ValueError, r"sequences must hold ids, of which 0 pads, got 1\.5"),
    (lambda: pad_ids([[3, 0]]), ValueError, "sequences must hold ids, of which 0 pads, got 0"),
    (lambda: pad_ids([[3, -1]]), ValueError, "sequences must hold ids, of which 0 pads, got -1"),
    (lambda: pad_ids([[3, 4]], length=1), ValueError, "length must be at least that of the longest sequence, 2, got 1"),
])  # fmt: skip
