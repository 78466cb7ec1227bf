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
from kexue.onlstm.hgrn import HGRN
from kexue.onlstm.layers import LSTM, ONLSTM, checked_sizes, locked_dropout
from kexue.onlstm.recurrence import Trace

Cell = Literal["onlstm", "lstm", "hgrn"]


class Prediction(NamedTuple):
    """What a language model says of a text."""

    logits: Float[Tensor, "time batch symbols"]
    """Of the next symbol."""
    state: list[Any]
    """To go on from."""
    hidden: Float[Tensor, "time batch width"]
    """The last layer's outputs."""
    dropped: Float[Tensor, "time batch width"]
    """The same after dropout."""


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and a softmax that shares the embedding's weights (onlstm.claim1).

    Args:
        symbols: V.
        hidden_sizes: H of each layer; the last is the width of the embedding, too. For "hgrn" all are equal.
        cell: "onlstm", "lstm" or "hgrn".
        chunk_size: neurons a level; for "onlstm" only.
        master_input: of the ON-LSTM; see `ONLSTMCell`.
        embedding_dropout: whole words, the same in all of the batch.
        input_dropout: on the embeddings, one mask for all times; so are the next two.
        dropout: between the layers.
        output_dropout: on the last layer's output.
        recurrent_dropout: DropConnect on the recurrent weights; not for "hgrn", which has none.
        embedding_scale: factor of the embeddings where they are the input; √width if None, as in
            Transformers, since vectors that are shared with the softmax are short.

    Raises:
        TypeError: a size that is no int, an embedding_scale or dropout that is no number.
        ValueError: a size or scale that is not positive, or a size that chunk_size does not divide; a
            dropout outside [0, 1); an unknown cell or master_input; different sizes or a recurrent_dropout
            for "hgrn".
    """

    def __init__(
        self,
        symbols: int,
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
    ) -> None:
        super().__init__()
        checks.count("symbols", symbols, 1)
        sizes = checked_sizes(hidden_sizes)
        width = sizes[-1]
        rates = {"embedding_dropout": embedding_dropout, "input_dropout": input_dropout}
        for name, value in (rates | {"output_dropout": output_dropout}).items():
            checks.rate(name, value)
        self.embedding_dropout, self.input_dropout = embedding_dropout, input_dropout
        self.output_dropout = output_dropout
        self.embedding_scale = width**0.5 if embedding_scale is None else embedding_scale
        checks.positive("embedding_scale", self.embedding_scale, torch.empty(0))
        self.embedding = nn.Embedding(symbols, width)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.bias = nn.Parameter(torch.zeros(symbols))
        self.stack: ONLSTM | LSTM | HGRN
        if cell == "onlstm":
            self.stack = ONLSTM(
                width,
                hidden_sizes=sizes,
                chunk_size=chunk_size,
                dropout=dropout,
                master_input=master_input,
                recurrent_dropout=recurrent_dropout,
            )
        elif cell == "lstm":
            self.stack = LSTM(width, sizes, dropout, recurrent_dropout)
        elif cell == "hgrn":
            if len(set(sizes)) > 1:
                raise ValueError(f"hidden_sizes must be equal for hgrn, got {sizes}")
            if recurrent_dropout:
                raise ValueError(f"recurrent_dropout must be 0 for hgrn, got {recurrent_dropout}")
            self.stack = HGRN(width, len(sizes), dropout)
        else:
            raise ValueError(f"cell must be one of {get_args(Cell)}, got {cell!r}")

    def forward(self, ids: Integer[Tensor, "time batch"], state: Sequence[Any] | None = None) -> Prediction:
        """Logits of the symbol that follows each position.

        Args:
            ids: (T, B), in 0 … V − 1.
            state: an earlier call's, or None for the start of a text.

        Raises:
            TypeError: ids are no integers.
            ValueError: ids are not (T, B), T = 0, or not in 0 … V − 1; a wrong state.
        """
        output = self.stack(self.embed(ids), state)
        hidden = output[0]
        dropped = locked_dropout(hidden, self.output_dropout, self.training)
        return Prediction(linear(dropped, self.embedding.weight, self.bias), output[1], hidden, dropped)

    def embed(self, ids: Integer[Tensor, "time batch"]) -> Float[Tensor, "time batch width"]:
        """The embeddings, with dropout in training."""
        checks.integers("ids", ids)
        ids = ids.long()  # an embedding takes no narrower ones
        if ids.ndim != 2 or not len(ids):
            raise ValueError(f"ids must have shape (T, B) with T ≥ 1, got {tuple(ids.shape)}")
        symbols = self.embedding.num_embeddings
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < symbols:
            raise ValueError(
                f"ids must be between 0 and {symbols - 1}, got {int(ids.min())} to {int(ids.max())}"
            )
        x = self.embedding(ids) * self.embedding_scale
        if self.training and self.embedding_dropout:
            known = drop(x.new_ones(symbols), self.embedding_dropout, True)
            x = x * known[ids].unsqueeze(-1)
        return locked_dropout(x, self.input_dropout, self.training)

    def trace(self, ids: Integer[Tensor, "time batch"], state: Sequence[State] | None = None) -> list[Trace]:
        """h, c and master gates of each layer at each position; not for "hgrn".

        Raises ValueError for an "hgrn", and as `forward` does.
        """
        if isinstance(self.stack, HGRN):
            raise ValueError('cell must be "onlstm" or "lstm" for a trace, got "hgrn"')
        return self.stack.trace(self.embed(ids), state)
