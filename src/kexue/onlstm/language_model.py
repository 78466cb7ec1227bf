"""A language model on any of these recurrent networks."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import linear

from kexue.nn import checks
from kexue.onlstm.cells import MasterInput, State
from kexue.onlstm.layers import LSTM, ONLSTM, checked_sizes, locked_dropout
from kexue.onlstm.recurrence import Trace

Cell = Literal["onlstm", "lstm"]


class Prediction(NamedTuple):
    """What a language model says of a text."""

    logits: Float[Tensor, "batch time vocab"]
    """Of the next word."""
    state: list[Any]
    """To go on from."""
    hidden: Float[Tensor, "batch time hidden"]
    """The last layer's outputs."""
    dropped: Float[Tensor, "batch time hidden"]
    """The same after dropout."""


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and a softmax that shares the embedding's weights (onlstm.claim1).

    Args:
        vocab_size: V.
        hidden_sizes: H of each layer; the last is that of the embeddings, too.
        cell: "onlstm" or "lstm".
        chunk_size: neurons a level; for "onlstm" only.
        master_input: of the ON-LSTM; see `ONLSTMCell`.
        embedding_dropout: whole words, the same in all of the batch.
        input_dropout: on the embeddings, one mask for all times; so are the next two.
        dropout: between the layers.
        output_dropout: on the last layer's output.
        recurrent_dropout: DropConnect on the recurrent weights.
        embedding_scale: factor of the embeddings where they are the input; √H if None, as in Transformers,
            since vectors that are shared with the softmax are short.
        output_scale: factor of the last layer's output before the softmax, for the same reason.
        paper_dropconnect: as in the published implementation; see `ONLSTM.load_paper_weights`.

    Raises:
        TypeError: a size that is no int, a scale or dropout that is no number.
        ValueError: a size or scale that is not positive, or a size that chunk_size does not divide; a
            dropout outside [0, 1); an unknown cell or master_input.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_sizes: Sequence[int] = (400, 400),
        cell: Cell = "onlstm",
        chunk_size: int = 10,
        master_input: MasterInput = "cumsum",
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        embedding_scale: float | None = None,
        output_scale: float = 1.0,
        paper_dropconnect: bool = False,
    ) -> None:
        super().__init__()
        checks.count("vocab_size", vocab_size, 1)
        checks.choice("cell", cell, get_args(Cell))
        sizes = checked_sizes(hidden_sizes)
        embedding_size = sizes[-1]
        checks.rate("embedding_dropout", embedding_dropout)
        checks.rate("input_dropout", input_dropout)
        checks.rate("output_dropout", output_dropout)
        self.embedding_dropout, self.input_dropout = embedding_dropout, input_dropout
        self.output_dropout = output_dropout
        self.embedding_scale = embedding_size**0.5 if embedding_scale is None else embedding_scale
        checks.positive("embedding_scale", self.embedding_scale, torch.empty(0))
        self.output_scale = output_scale
        checks.positive("output_scale", output_scale, torch.empty(0))
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.stack: ONLSTM | LSTM
        if cell == "onlstm":
            self.stack = ONLSTM(
                embedding_size,
                hidden_sizes=sizes,
                chunk_size=chunk_size,
                dropout=dropout,
                master_input=master_input,
                recurrent_dropout=recurrent_dropout,
                paper_dropconnect=paper_dropconnect,
            )
        else:
            self.stack = LSTM(
                embedding_size, sizes, dropout, recurrent_dropout, paper_dropconnect=paper_dropconnect
            )

    def forward(self, ids: Integer[Tensor, "batch time"], state: Sequence[Any] | None = None) -> Prediction:
        """Logits of the word that follows each position.

        Args:
            ids: (B, T), in 0 … V − 1.
            state: an earlier call's, or None for the start of a text.

        Raises:
            TypeError: ids are no integers.
            ValueError: ids are not (B, T), T = 0, or not in 0 … V − 1; a wrong state.
        """
        hidden, last = self.stack(self.embed(ids), state)[:2]
        dropped = locked_dropout(hidden, self.output_dropout, self.training)
        # Time comes first in memory, as the recurrence leaves it: nothing is copied.
        scaled = dropped if self.output_scale == 1 else self.output_scale * dropped
        logits = linear(scaled.transpose(0, 1), self.embedding.weight, self.bias).transpose(0, 1)
        return Prediction(logits, last, hidden, dropped)

    def embed(self, ids: Integer[Tensor, "batch time"]) -> Float[Tensor, "batch time hidden"]:
        """The embeddings, with dropout in training."""
        checks.integers("ids", ids)
        if ids.ndim != 2 or not ids.shape[1]:
            raise ValueError(f"ids must have shape (B, T) with T ≥ 1, got {tuple(ids.shape)}")
        ids, vocab_size = ids.long().t(), self.embedding.num_embeddings  # an embedding takes no narrower ids
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            raise ValueError(
                f"ids must be between 0 and {vocab_size - 1}, got {int(ids.min())} to {int(ids.max())}"
            )
        x = self.embedding(ids) * self.embedding_scale
        if self.training and self.embedding_dropout:
            known = drop(x.new_ones(vocab_size), self.embedding_dropout, True)
            x = x * known[ids].unsqueeze(-1)
        return locked_dropout(x.transpose(0, 1), self.input_dropout, self.training)

    def trace(self, ids: Integer[Tensor, "batch time"], state: Sequence[State] | None = None) -> list[Trace]:
        """h, c and master gates of each layer at each position. Raises as `forward` does."""
        return self.stack.trace(self.embed(ids), state)
