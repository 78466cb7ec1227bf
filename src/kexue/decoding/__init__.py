"""Sequence to sequence from both ends: two decoders that listen to each other, and the search for both.

Source: 苏剑林, 《seq2seq之双向解码》, https://kexue.fm/archives/6877; L. Zhou, J. Zhang and C. Zong,
Synchronous Bidirectional Neural Machine Translation, TACL 2019. The ids in brackets (decoding.eq2) are rows
of the ledger.

Sequences are ids, padded on the right: 0 pads, 1 and 2 are the markers, tokens begin with 3. Who writes from
left to right begins after marker 1 and ends with marker 2; from right to left it is the other way round.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the message
names the argument and the value.
"""

from kexue.decoding.errors import error_rate
from kexue.decoding.models import (
    BidirectionalSeq2Seq,
    Encoded,
    Model,
    Seq2Seq,
    cross_entropy,
    token_log_probs,
)
from kexue.decoding.search import AT_ONCE, TINY, Hypothesis, beam_search, bidirectional_beam_search
from kexue.decoding.sequences import (
    FIRST,
    LAST,
    TOKENS,
    Direction,
    Markers,
    with_markers,
    without_markers,
)
from kexue.nn.sequences import PAD, pad_ids

__all__ = [
    "AT_ONCE",
    "FIRST",
    "LAST",
    "PAD",
    "TINY",
    "TOKENS",
    "BidirectionalSeq2Seq",
    "Direction",
    "Encoded",
    "Hypothesis",
    "Markers",
    "Model",
    "Seq2Seq",
    "beam_search",
    "bidirectional_beam_search",
    "cross_entropy",
    "error_rate",
    "pad_ids",
    "token_log_probs",
    "with_markers",
    "without_markers",
]
