"""Speed of kexue.reading's heads, as ratios within one run: make bench.

Encoders of the book's size with random weights that never choose the end by themselves, so that all answers
are as long as they may be; passages of 120 characters, questions of 30.
"""

import time

import pytest
import torch

from kexue.reading import Characters, MaskedLM, MLMReader, Seq2SeqReader

LETTERS = Characters(["".join(map(chr, range(0x4E00, 0x4E00 + 2850)))])
TEXT = "".join(chr(0x4E00 + i) for i in range(150))
WAYS = {
    "MLM": (MLMReader, {}),
    "seq2seq, cached": (Seq2SeqReader, {"cache": True}),
    "seq2seq, again each time": (Seq2SeqReader, {"cache": False}),
}


def reader_of(kind: type[MLMReader] | type[Seq2SeqReader], length: int) -> MLMReader | Seq2SeqReader:
    torch.manual_seed(0)
    encoder = MaskedLM(len(LETTERS), vocabulary=LETTERS).eval().requires_grad_(False)
    encoder.bias[LETTERS.end] = -1e4
    return kind(encoder, length)


def answered(name: str, length: int, batch: int):
    kind, options = WAYS[name]
    reader = reader_of(kind, length)
    return lambda: reader.answer([TEXT[:120]] * batch, [TEXT[120:]] * batch, False, **options)


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("length", [2, 6])
@pytest.mark.parametrize("name", WAYS)
def test_answers(benchmark, name, length, batch):
    benchmark.group = f"{batch} questions at once, answers of {length}"
    benchmark.pedantic(answered(name, length, batch), rounds=5, warmup_rounds=1)


def test_without_a_cache_the_seq2seq_head_takes_at_least_six_times_as_long():
    torch.set_num_threads(1)
    seconds = {"MLM": [], "seq2seq, again each time": []}
    for _ in range(4):  # in turn, so that both see the same machine
        for name, each in seconds.items():
            answer = answered(name, 8, 1)
            began = time.perf_counter()
            answer()
            each.append(time.perf_counter() - began)
    assert min(seconds["seq2seq, again each time"][1:]) > 6 * min(seconds["MLM"][1:])
