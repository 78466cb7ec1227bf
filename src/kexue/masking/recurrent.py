"""Sequences backwards, each within its length, and recurrent networks in both directions."""

import copy
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kexue.masking.inputs import as_int64, check_boolean, check_range
from kexue.masking.masks import lengths_of
from kexue.nn import checks


def reverse_sequence(
    x: Shaped[Tensor, "batch ..."], lengths: Integer[Tensor, " batch"], dim: int = 1
) -> Shaped[Tensor, "batch ..."]:
    """Each sequence backwards, its padding where it was: y[b, t] = x[b, length − 1 − t] for t < length.

    Its own inverse (masking.birnn).

    Args:
        x: anything that torch.gather takes, ids as well; sequences along the first axis.
        lengths: number of real positions of each, on any device.
        dim: the axis of the positions, of size T; not the first.

    Raises:
        TypeError: x is not a tensor, lengths are not integers, or dim is no int.
        ValueError: dim is not an axis of x, or the first, or x is empty there; not one length for each
            sequence; or a length outside 0 … T.
    """
    checks.tensor("x", x)
    checks.axis("x", x, dim)
    dim %= x.ndim
    if dim == 0:
        raise ValueError("dim must not be 0, the axis of the sequences")
    lengths = as_int64("lengths", lengths)
    if lengths.shape != x.shape[:1]:
        raise ValueError(f"lengths must have shape ({x.shape[0]},), got {tuple(lengths.shape)}")
    check_range(lengths, x.shape[dim], "T")
    time = torch.arange(x.shape[dim], device=x.device)
    last = lengths.to(x.device)[:, None] - 1
    source = torch.where(time <= last, last - time, time)
    sizes = [x.shape[0], *(x.shape[dim] if axis == dim else 1 for axis in range(1, x.ndim))]
    return x.gather(dim, source.view(sizes).expand_as(x))


Merge = Literal["concat", "sum"]


class BiRNN(nn.Module):
    """A recurrent network in both directions over padded sequences (masking.birnn).

    The backward one reads each sequence from its last real position: reverse the real part, run, reverse
    back. Equals PyTorch's bidirectional network on packed sequences, for weights that are not so large that
    gates overflow: it does run through the padding, as zeros (a ReLU network does not).

    Args:
        rnn: an `nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer and one direction, batch first, which becomes
            `forward_rnn`. `backward_rnn` is a copy of it, whose parameters are drawn anew from torch's
            global generator and are trained, also if those of rnn are frozen.
        merge: put the two outputs beside each other ("concat"), or add them ("sum").

    Raises:
        TypeError: rnn is none of the three.
        ValueError: rnn has several layers, two directions, or is not batch first; or an unknown merge.
    """

    def __init__(self, rnn: nn.LSTM | nn.GRU | nn.RNN, merge: Merge = "concat") -> None:
        super().__init__()
        if not isinstance(rnn, nn.LSTM | nn.GRU | nn.RNN):
            raise TypeError(f"rnn must be an nn.LSTM, nn.GRU or nn.RNN, got {type(rnn).__name__}")
        for name, wanted in (("num_layers", 1), ("bidirectional", False), ("batch_first", True)):
            if getattr(rnn, name) != wanted:
                raise ValueError(f"rnn must have {name}={wanted}, got {getattr(rnn, name)}")
        checks.choice("merge", merge, get_args(Merge))
        self.forward_rnn = rnn
        self.backward_rnn = copy.deepcopy(rnn).requires_grad_()
        self.backward_rnn.reset_parameters()
        self.merge = merge

    def forward(
        self, x: Float[Tensor, "batch time input"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time out"]:
        """Outputs of both directions at each real position, zeros at padded ones.

        Args:
            x: (B, T, D).
            mask: (B, T), True where real, which must be the first positions of each row.

        Returns:
            (B, T, 2H) for "concat", (B, T, H) for "sum".

        Raises:
            TypeError: x is not a floating-point tensor, or mask not a boolean one.
            ValueError: x is not (B, T, D) with rnn's D and T ≥ 1, mask not (B, T) on x's device, or real
                positions that are not the first of their row.
        """
        checks.floating("x", x)
        input_size = self.forward_rnn.input_size
        if x.ndim != 3 or x.shape[-1] != input_size:
            raise ValueError(f"x must have shape (B, T, {input_size}), got {tuple(x.shape)}")
        checks.axis("x", x, 1)
        check_boolean(mask, x)
        if mask.shape != x.shape[:2]:
            raise ValueError(f"mask must have shape {tuple(x.shape[:2])}, got {tuple(mask.shape)}")
        lengths = lengths_of(mask)
        padding = ~mask.unsqueeze(-1)
        x = x.masked_fill(padding, 0.0)
        ahead = _run(self.forward_rnn, x, lengths)
        back = reverse_sequence(_run(self.backward_rnn, reverse_sequence(x, lengths), lengths), lengths)
        out = torch.cat((ahead, back), -1) if self.merge == "concat" else ahead + back
        return out.masked_fill(padding, 0.0)


def _run(rnn: nn.RNNBase, x: Tensor, lengths: Tensor) -> Tensor:
    """The outputs over each sequence; those in its padding may be anything finite."""
    if getattr(rnn, "nonlinearity", None) != "relu" or len(x) == 0:
        return rnn(x)[0]
    # The state of a ReLU network may grow beyond all bounds in the padding, and ∞ times a gradient of 0
    # is NaN: stop each sequence at its end.
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]
