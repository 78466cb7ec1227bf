"""Speed of kexue.masking beside PyTorch's packed sequences, as ratios within one run: make bench."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kexue.masking import BiRNN, masked_softmax, sequence_mask

B, T, D = 64, 200, 128
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(B, T, D, generator=GENERATOR)
SHORT = torch.randint(1, T // 2 + 1, (B,), generator=GENERATOR)
LENGTHS = {
    "no padding": torch.full((B,), T),
    "lengths 1 to 200": torch.randint(1, T + 1, (B,), generator=GENERATOR),
    "three quarters padding": SHORT.index_fill(0, torch.tensor([0]), T),
}


@pytest.mark.parametrize("which", ["kexue", "packed"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_both_directions(benchmark, kind, lengths, which):
    benchmark.group = f"BiRNN of {kind.__name__}, 64 × 200 × 128, forward and backward, {lengths}"
    x, real = X.clone().requires_grad_(), LENGTHS[lengths]
    if which == "kexue":
        birnn, mask = BiRNN(kind(D, D, batch_first=True)), sequence_mask(real, T)

        def run():
            birnn(x, mask).sum().backward()
    else:
        both = kind(D, D, batch_first=True, bidirectional=True)

        def run():
            packed = pack_padded_sequence(x, real, batch_first=True, enforce_sorted=False)
            pad_packed_sequence(both(packed)[0], batch_first=True)[0].sum().backward()

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="softmax over 64 × 8 × 200 × 200 scores")
@pytest.mark.parametrize("which", ["kexue", "masked_fill and softmax"])
def test_softmax(benchmark, which):
    scores = torch.randn(B, 8, T, T, generator=GENERATOR)
    mask = sequence_mask(LENGTHS["lengths 1 to 200"], T)[:, None, None]
    if which == "kexue":
        benchmark(lambda: masked_softmax(scores, mask))
    else:
        benchmark(lambda: torch.softmax(scores.masked_fill(~mask, -torch.inf), -1))
