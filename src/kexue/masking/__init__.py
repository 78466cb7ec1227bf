"""Masks for padded batches: every operation gets its own, so that the padding cannot reach the result.

Source: 苏剑林, 《“让Keras更酷一些！”：层中层与mask》, https://kexue.fm/archives/6810.
The ids in brackets (masking.eq7) are rows of the ledger.

A mask is a boolean tensor, True where a position is real. It comes from lengths or from token ids, never
from values. What stands in the padding, NaN and ∞ included, changes neither a result nor a gradient, and
the gradient there is exactly 0 (`masked_max` names the one corner case). A row without a real position
gives zeros.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

from kexue.masking.classifier import Masks, Pooling, TextClassifier, predict
from kexue.masking.masks import lengths_of, masked_max, masked_mean, masked_softmax, sequence_mask
from kexue.masking.recurrent import BiRNN, Merge, reverse_sequence

__all__ = [
    "BiRNN",
    "Masks",
    "Merge",
    "Pooling",
    "TextClassifier",
    "lengths_of",
    "masked_max",
    "masked_mean",
    "masked_softmax",
    "predict",
    "reverse_sequence",
    "sequence_mask",
]
