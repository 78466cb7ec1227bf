"""Stacks of layers, of which each reads the one below."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import dropout as drop

from kexue.masking import sequence_mask
from kexue.nn import checks
from kexue.onlstm.cells import LSTMCell, MasterInput, ONLSTMCell, State, checked_state
from kexue.onlstm.recurrence import Trace, run_cell


class _Stack(nn.Module):
    """Recurrent layers on top of each other."""

    cells: nn.ModuleList

    def __init__(
        self,
        cells: Sequence[LSTMCell],
        dropout: float,
        recurrent_dropout: float,
        batch_first: bool,
        paper_dropconnect: bool,
    ) -> None:
        super().__init__()
        if batch_first is not True:
            raise ValueError(
                "batch_first must be True, since sequences are (B, T, D) here and (T, B, D) would be read "
                f"across the batch without an error, got {batch_first!r}"
            )
        checks.rate("dropout", dropout)
        checks.rate("recurrent_dropout", recurrent_dropout)
        self.cells = nn.ModuleList(cells)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.paper_dropconnect = paper_dropconnect

    @property
    def recurrent_scale(self) -> float:
        """What U is multiplied by: in evaluation, and, after DropConnect has made it larger, in training."""
        return 1 - self.recurrent_dropout if self.paper_dropconnect else 1.0

    @property
    def layers(self) -> list[LSTMCell]:
        """The cells, from the input on."""
        return list(self.cells)  # type: ignore[arg-type]

    def trace(
        self, x: Float[Tensor, "batch time input"], state: Sequence[State] | None = None
    ) -> list[Trace]:
        """h, c and master gates of every layer at every time; arguments as those of `forward`."""
        checks.floating("x", x)
        input_size = self.layers[0].input_size
        if x.ndim != 3 or x.shape[-1] != input_size:
            raise ValueError(f"x must have shape (B, T, {input_size}), got {tuple(x.shape)}")
        checks.axis("x", x, 1)
        checks.like_weights("x", x, self.layers[0].ih.weight)
        if state is not None and len(state) != len(self.cells):
            raise ValueError(
                f"state must have one (h, c) for each of {len(self.cells)} layers, got {len(state)}"
            )
        found: list[Trace] = []
        for layer, cell in enumerate(self.layers):
            if layer:
                x = locked_dropout(found[-1].h, self.dropout, self.training)
            start = checked_state(
                f"state[{layer}]", None if state is None else state[layer], x, cell.hidden_size
            )
            found.append(run_cell(cell, x, start, self.recurrent_dropout, self.recurrent_scale))
        return found

    def _last(self, traces: Sequence[Trace], lengths: Tensor | None) -> tuple[Tensor, list[State]]:
        """The output, with zeros in the padding, and the states after the last real position."""
        output = traces[-1].h
        if lengths is None:
            return output, [(trace.h[:, -1], trace.c[:, -1]) for trace in traces]
        checks.tensor("lengths", lengths)
        batch, steps = output.shape[:2]
        if lengths.shape != (batch,):
            raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
        real = sequence_mask(lengths, steps).to(output.device)
        if not real[:, 0].all():
            raise ValueError("lengths must be at least 1, got 0")
        place = lengths.to(output.device, torch.int64) - 1
        rows = torch.arange(batch, device=output.device)
        states = [(trace.h[rows, place], trace.c[rows, place]) for trace in traces]
        return output.masked_fill(~real.unsqueeze(-1), 0.0), states


def locked_dropout(
    x: Float[Tensor, "_ _ hidden"], p: float, training: bool, dim: int = 1
) -> Float[Tensor, "_ _ hidden"]:
    """Dropout with one mask for all times, which are along `dim` (Gal and Ghahramani 2016).

    Raises TypeError for an x that is not floating-point, ValueError for a p outside [0, 1), or no such axis.
    """
    checks.floating("x", x)
    checks.axis("x", x, dim)
    checks.rate("p", p)
    if not training or p == 0:
        return x
    return x * drop(torch.ones_like(x.narrow(dim, 0, 1)), p, True)


class LSTM(_Stack):
    """Layers of `LSTMCell`: the plain network in the book's comparisons, with the same loop.

    Args:
        input_size: D.
        hidden_sizes: H of each layer.
        dropout: between the layers, one mask for all times.
        recurrent_dropout: DropConnect on the recurrent weights, one mask for all times.
        paper_dropconnect: as in the published implementation; see `ONLSTM.load_paper_weights`.
        batch_first: True, as in every network of the book; False is refused.

    Raises TypeError and ValueError as `ONLSTM` does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        batch_first: bool = True,
        paper_dropconnect: bool = False,
    ) -> None:
        sizes = checked_sizes(hidden_sizes)
        cells = [LSTMCell(d, h) for d, h in zip((input_size, *sizes), sizes, strict=False)]
        super().__init__(cells, dropout, recurrent_dropout, batch_first, paper_dropconnect)

    def forward(
        self,
        x: Float[Tensor, "batch time input"],
        state: Sequence[State] | None = None,
        lengths: Integer[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch time hidden"], list[State]]:
        """Outputs of the last layer, and h and c of each layer; see `ONLSTM.forward`."""
        return self._last(self.trace(x, state), lengths)


class ONLSTM(_Stack):
    """Layers of `ONLSTMCell` (onlstm.eq10, onlstm.group).

    Args:
        input_size: D.
        hidden_size: H of every layer.
        num_levels: n of every layer, a divisor of H.
        num_layers: how many.
        dropout: between the layers, one mask for all times.
        hidden_sizes: H of each layer, instead of hidden_size and num_layers.
        chunk_size: neurons a level, q, of every layer, instead of num_levels.
        master_input: the article's ("cumsum") or the paper's ("complement"); see `ONLSTMCell`.
        recurrent_dropout: DropConnect on the recurrent weights, one mask for all times.
        paper_dropconnect: as in the published implementation; see `ONLSTM.load_paper_weights`.
        batch_first: True, as in every network of the book; False is refused.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1, or one that its number of levels does not divide; sizes or levels
            given twice or not at all; a dropout outside [0, 1); an unknown master_input; batch_first=False.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | None = None,
        num_levels: int | None = None,
        num_layers: int = 1,
        dropout: float = 0.0,
        *,
        hidden_sizes: Sequence[int] | None = None,
        chunk_size: int | None = None,
        master_input: MasterInput = "cumsum",
        recurrent_dropout: float = 0.0,
        batch_first: bool = True,
        paper_dropconnect: bool = False,
    ) -> None:
        checks.count("num_layers", num_layers, 1)
        if (hidden_size is None) == (hidden_sizes is None):
            raise ValueError(
                f"one of hidden_size and hidden_sizes must be given, got {hidden_size}, {hidden_sizes}"
            )
        if hidden_size is not None:
            checks.count("hidden_size", hidden_size, 1)
        if hidden_sizes is not None and num_layers not in (1, len(hidden_sizes)):
            raise ValueError(
                f"num_layers must be the length of hidden_sizes, {len(hidden_sizes)}, got {num_layers}"
            )
        sizes = checked_sizes(hidden_sizes if hidden_sizes is not None else [hidden_size] * num_layers)  # type: ignore[list-item]
        if (num_levels is None) == (chunk_size is None):
            raise ValueError(
                f"one of num_levels and chunk_size must be given, got {num_levels}, {chunk_size}"
            )
        if chunk_size is not None:
            checks.count("chunk_size", chunk_size, 1)
            if any(size % chunk_size for size in sizes):
                raise ValueError(f"hidden sizes must be divisible by chunk_size = {chunk_size}, got {sizes}")
        cells = [
            ONLSTMCell(d, h, h // chunk_size if chunk_size else num_levels, master_input)  # type: ignore[arg-type]
            for d, h in zip((input_size, *sizes), sizes, strict=False)
        ]
        super().__init__(cells, dropout, recurrent_dropout, batch_first, paper_dropconnect)

    def forward(
        self,
        x: Float[Tensor, "batch time input"],
        state: Sequence[State] | None = None,
        lengths: Integer[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch time hidden"], list[State], Float[Tensor, "layers batch time"]]:
        """Read sequences.

        Args:
            x: (B, T, D).
            state: h and c of each layer, (B, H) each; zeros if None.
            lengths: of the sequences, at least 1; what follows is padding, whose output and level are 0.

        Returns:
            The last layer's h, (B, T, H); h and c of each layer after the last real position; and the
            level of each position in each layer, 1 − mean f̃, (layers, B, T), within [0, 1): high where
            much of the history ends (onlstm.eq14).

        Raises:
            TypeError: x is not floating-point, lengths are no integers.
            ValueError: wrong shapes, T = 0, or lengths outside 1 … T.
        """
        traces = self.trace(x, state)
        output, states = self._last(traces, lengths)
        levels = torch.stack([1 - trace.master_forget.mean(-1) for trace in traces])
        if lengths is not None:
            levels = levels.masked_fill(~sequence_mask(lengths, x.shape[1]).to(x.device), 0.0)
        return output, states, levels

    def load_paper_weights(self, state_dict: Mapping[str, Tensor], dropconnect: float = 0.0) -> None:
        """Take weights in the layout of the paper's published implementation.

        `cells.{l}.ih.0.weight`, `cells.{l}.ih.0.bias`, `cells.{l}.hh.weight`, `cells.{l}.hh.bias`, with any
        prefix (`rnn.`) before; rows: master input, master forget, output, cell, input, forget. Other
        entries, those of the embedding and the decoder, are left alone.

        Their DropConnect drops entries of U (`hh.weight`) in training, without making the others larger, and
        multiplies U by 1 − dropconnect in evaluation. Ours makes the others larger in training and leaves
        evaluation alone. So U·(1 − dropconnect) is what is stored here: it gives their outputs in evaluation,
        and in training with recurrent_dropout = dropconnect, given the same mask. A gradient step is another
        one, though. A network with paper_dropconnect=True does as theirs, and stores U as it is.

        Args:
            state_dict: the published weights.
            dropconnect: the rate of DropConnect that they were trained with, p_wdrop; it is not among them.

        Raises:
            TypeError: entries that are not floating-point.
            ValueError: missing entries, other shapes, entries that are not finite, more layers than there are
                here, a network with another master_input than theirs, "complement", or dropconnect outside
                [0, 1), or other than the recurrent_dropout of a network with paper_dropconnect=True.
        """
        checks.rate("dropconnect", dropconnect)
        if self.paper_dropconnect and dropconnect != self.recurrent_dropout:
            raise ValueError(
                f"dropconnect must be the network's recurrent_dropout, {self.recurrent_dropout}, "
                f"got {dropconnect}"
            )
        if not all(cell.complement for cell in self.layers):
            raise ValueError('master_input must be "complement" for published weights, got "cumsum"')
        prefixes = {key[: key.index("cells.")] for key in state_dict if "cells." in key}
        if len(prefixes) != 1:
            raise ValueError(
                f"state_dict must have entries cells.0.ih.0.weight, …, got {list(state_dict)[:4]}"
            )
        prefix = prefixes.pop()
        own, wanted = {}, {f"{prefix}cells.{i}." for i in range(len(self.cells))}
        for key in state_dict:
            if key.startswith(f"{prefix}cells.") and not any(key.startswith(start) for start in wanted):
                raise ValueError(f"state_dict must have {len(self.cells)} layers, got {key}")
        for name, value in self.state_dict().items():
            key = prefix + name.replace(".ih.", ".ih.0.")
            if key not in state_dict:
                raise ValueError(f"state_dict must have {key}, but it is missing")
            checks.floating(key, state_dict[key])
            if state_dict[key].shape != value.shape:
                shape = tuple(state_dict[key].shape)
                raise ValueError(f"{key} must have shape {tuple(value.shape)}, got {shape}")
            if not torch.isfinite(state_dict[key]).all():
                raise ValueError(f"{key} must be finite, got NaN or ∞")
            scaled = name.endswith(".hh.weight") and not self.paper_dropconnect
            scale = 1 - dropconnect if scaled else 1.0
            own[name] = scale * state_dict[key]
        self.load_state_dict(own)


def checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    checks.instance("hidden_sizes", sizes, Sequence, "a sequence of ints")
    if not sizes:
        raise ValueError(f"hidden_sizes must hold at least one size, got {sizes}")
    for size in sizes:
        checks.count("hidden_sizes", size, 1)
    return tuple(sizes)
