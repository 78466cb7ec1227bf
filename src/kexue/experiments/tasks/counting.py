"""Can a recurrent network count? aⁿbⁿ: after n times a come n times b, and then the end."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue.onlstm import LSTM, ONLSTM

PAD, A, B, MARK = range(4)
"""Padding, the two letters, and what stands before the first and after the last."""


def words(lengths: Iterable[int]) -> Tensor:
    """Ids of aⁿbⁿ between marks, a row for each n, padded."""
    rows = [torch.tensor([MARK, *[A] * n, *[B] * n, MARK]) for n in lengths]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


def counts_to(
    cell: Literal["onlstm", "lstm"],
    seed: int,
    train: int = 20,
    test: int = 60,
    steps: int = 400,
    hidden_size: int = 32,
) -> int:
    """The largest n up to which a network, trained to predict the next symbol for n ≤ train, is right.

    Right is every prediction after the first b, the end included; tried up to `test`.
    """
    torch.manual_seed(seed)
    rnn = LSTM(8, [hidden_size]) if cell == "lstm" else ONLSTM(8, hidden_size, 8)
    embed, out = nn.Embedding(4, 8), nn.Linear(hidden_size, 4)
    parameters = [p for part in (embed, rnn, out) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters)
    ids = words(range(1, train + 1))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        logits = out(rnn(embed(ids[:, :-1]))[0]).flatten(0, 1)
        loss = cross_entropy(logits, ids[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    ids = words(range(1, test + 1))
    with torch.no_grad():
        guess = out(rnn(embed(ids[:, :-1]))[0]).argmax(-1)
    for n in range(1, test + 1):
        if not torch.equal(guess[n - 1, n + 1 : 2 * n + 1], ids[n - 1, n + 2 : 2 * n + 2]):
            return n - 1
    return test
