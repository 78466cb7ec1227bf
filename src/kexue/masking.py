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

import copy
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kexue.nn import checks

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

# --- Masks and lengths -------------------------------------------------------------------------


def sequence_mask(
    lengths: Integer[Tensor, "*batch"], max_length: int | None = None
) -> Bool[Tensor, "*batch time"]:
    """The mask of sequences of these lengths: mask[…, t] = (t < length) (masking.eq4).

    Args:
        lengths: number of real positions of each sequence.
        max_length: size of the last axis, T; the largest length if None.

    Raises:
        TypeError: lengths are not integers, or max_length is not an int.
        ValueError: a length outside 0 … max_length, or no lengths and no max_length.
    """
    lengths = _integers("lengths", lengths)
    if max_length is None:
        if lengths.numel() == 0:
            raise ValueError(f"max_length must be given for lengths of shape {tuple(lengths.shape)}")
        max_length = max(0, int(lengths.max()))
    checks.count("max_length", max_length, 0)
    _check_range(lengths, max_length, "max_length")
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(-1)


def lengths_of(mask: Bool[Tensor, "*batch time"]) -> Integer[Tensor, "*batch"]:
    """The number of real positions of each row of a mask whose rows all begin with them.

    The inverse of `sequence_mask`.

    Raises:
        TypeError: mask is not boolean.
        ValueError: mask has no axis, or a row in which a real position comes after padding.
    """
    _check_boolean(mask)
    if mask.ndim == 0:
        raise ValueError("mask must have an axis of positions, got shape ()")
    lengths = mask.sum(-1)
    prefix = sequence_mask(lengths, mask.shape[-1])
    if not torch.equal(mask, prefix):
        *row, place = torch.nonzero(mask & ~prefix)[0].tolist()
        where = f"position {place}" + (f" of row {', '.join(map(str, row))}" if row else "")
        raise ValueError(
            f"mask must be True first and then False in every row, got True after False at {where}"
        )
    return lengths


# --- Mean, maximum, softmax --------------------------------------------------------------------


def masked_mean(x: Float[Tensor, "..."], mask: Bool[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """The mean of the real positions along `dim`, Σ(x⊗m)/Σm (masking.eq7).

    0 where none is real. Half precision is summed in float32; the sum must not overflow, as in torch.mean.

    Args:
        x: any values; for example (B, T, D) with dim=1.
        mask: True where real, on x's device: of x's shape, or of its leading axes up to `dim`, (B, T); an
            axis of size 1 stands for all.
        dim: the axis of the positions, which the result lacks.

    Raises:
        TypeError: x is not a floating-point tensor, mask not a boolean one, or dim no int.
        ValueError: dim is not an axis of x, x is empty there, or the mask does not broadcast to x, or is on
            another device.
    """
    mask = _aligned(x, mask, dim)
    total = checks.working(x).masked_fill(~mask, 0.0).sum(dim)
    count = mask.sum(dim).clamp(min=1)  # a row of padding: 0/1
    # masking.eq7: Σ(x⊗m)/Σm
    return (total / count).to(x.dtype)


def masked_max(x: Float[Tensor, "..."], mask: Bool[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """The largest of the real positions along `dim`, max(x with −∞ for padding) (masking.eq10).

    0 where none is real. The article subtracts 10¹⁰ from padding, which float16 does not know. Several
    largest share the gradient evenly; if it is a real −∞, the padding has a share, which is lost.

    Args and errors are those of `masked_mean`.
    """
    mask = _aligned(x, mask, dim)
    largest = x.masked_fill(~mask, -torch.inf).amax(dim)
    return largest.masked_fill(~mask.any(dim), 0.0)


def masked_softmax(
    logits: Float[Tensor, "..."], mask: Bool[Tensor, "..."], dim: int = -1
) -> Float[Tensor, "..."]:
    """Softmax over the real positions along `dim`, m⊗eˣ/Σ(m⊗eˣ); 0 at the others (masking.eq11).

    A row in which nothing is possible, be it masked or −∞, gives zeros. Half precision is computed in
    float32.

    Args:
        logits: unnormalised log-probabilities; −∞ is probability 0.
        mask: True where real, on the logits' device: of their shape, or of their leading axes up to `dim`;
            an axis of size 1 stands for all.
        dim: the axis of the positions.

    Raises:
        TypeError: logits are not a floating-point tensor, mask not a boolean one, or dim no int.
        ValueError: dim is not an axis of the logits, they are empty there, a real one is NaN or +∞, or
            the mask does not broadcast to them, or is on another device.
    """
    mask = _aligned(logits, mask, dim, "logits")
    filled = checks.working(logits).masked_fill(~mask, -torch.inf)
    largest = filled.detach().amax(dim, keepdim=True)
    bad = torch.isnan(largest) | (largest == torch.inf)
    if bad.any():
        raise ValueError(f"logits must be finite or −∞ where mask is True, got {largest[bad][0].item()}")
    # A row of −∞ has no softmax; any other row will do, since nothing of it remains.
    impossible = largest == -torch.inf
    weights = torch.softmax(filled.masked_fill(impossible, 0.0), dim)
    return weights.masked_fill(~mask | impossible, 0.0).to(logits.dtype)


# --- Recurrent networks in both directions -----------------------------------------------------


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
    lengths = _integers("lengths", lengths)
    if lengths.shape != x.shape[:1]:
        raise ValueError(f"lengths must have shape ({x.shape[0]},), got {tuple(lengths.shape)}")
    _check_range(lengths, x.shape[dim], "T")
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
        _check_choice("merge", merge, Merge)
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
        _check_boolean(mask, x)
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


# --- A classifier with more masks or fewer -----------------------------------------------------

Pooling = Literal["mean", "max", "attention"]
Masks = Literal["none", "pooling", "everywhere"]


class TextClassifier(nn.Module):
    """Embedding, GRU in both directions, pooling, linear layer: masks where `masks` says (masking.claim2).

    Without its mask, an operation takes the padding for text, as if all positions were real.

    Args:
        vocab_size: V; id 0 is padding, and has an embedding like any other.
        num_classes: C.
        embedding_size: D.
        hidden_size: units of each direction, H.
        pooling: over the positions: mean, maximum, or Σ αₜhₜ with α = softmax(wᵀtanh(Uhₜ)).
        masks: for nothing, for the pooling, or for the recurrent network as well.
        dropout: on embeddings and on what was pooled, in training.

    Raises TypeError for a size that is no int, and ValueError for one below 1, an unknown pooling or masks,
    or a dropout outside [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int = 2,
        embedding_size: int = 64,
        hidden_size: int = 64,
        pooling: Pooling = "attention",
        masks: Masks = "everywhere",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        checks.count("vocab_size", vocab_size, 1)
        checks.count("num_classes", num_classes, 1)
        checks.count("embedding_size", embedding_size, 1)
        checks.count("hidden_size", hidden_size, 1)
        _check_choice("pooling", pooling, Pooling)
        _check_choice("masks", masks, Masks)
        checks.rate("dropout", dropout)
        self.pooling, self.masks = pooling, masks
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.rnn = BiRNN(nn.GRU(embedding_size, hidden_size, batch_first=True))
        self.score = nn.Sequential(
            nn.Linear(2 * hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 1)
        )
        self.out = nn.Linear(2 * hidden_size, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, ids: Integer[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes, (B, C), from ids (B, T) and their mask (B, T).

        Raises:
            TypeError: ids are not integers, or mask is not boolean.
            ValueError: ids are not (B, T) or not in 0 … V − 1; mask not (B, T), on their device, or with
                real positions that are not the first of their row.
        """
        table = _integers("ids", ids)
        if table.ndim != 2:
            raise ValueError(f"ids must have shape (B, T), got {tuple(table.shape)}")
        vocab_size = self.embedding.num_embeddings
        bad = (table < 0) | (table >= vocab_size)
        if bad.any():
            raise ValueError(f"ids must be between 0 and {vocab_size - 1}, got {int(table[bad][0])}")
        _check_boolean(mask, table)
        all_real = torch.ones_like(mask)
        x = self.dropout(self.embedding(table))
        h = self.rnn(x, mask if self.masks == "everywhere" else all_real)
        pooled = self._pool(h, all_real if self.masks == "none" else mask)
        return self.out(self.dropout(pooled))

    def _pool(self, h: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "mean":
            return masked_mean(h, mask, 1)
        if self.pooling == "max":
            return masked_max(h, mask, 1)
        weight = masked_softmax(self.score(h).squeeze(-1), mask)
        return (weight.unsqueeze(-1) * h).sum(1)


@torch.no_grad()
def predict(
    model: TextClassifier, ids: Sequence[Integer[Tensor, " _"]], added: int = 0, batch_size: int = 256
) -> Float[Tensor, "n classes"]:
    """Logits of texts, each followed by exactly `added` positions of padding.

    Texts of the same length go through the model together, so that there is no other padding.

    Args:
        model: in the mode for evaluation, if dropout is not wanted.
        ids: of each text, on the model's device.
        added: positions of padding.
        batch_size: at most so many texts at a time.

    Raises TypeError for a model that is no module, or texts that are no integers, and ValueError for no
    texts, an empty text, one that is no vector, a negative `added` or a batch size below 1.
    """
    checks.instance("model", model, nn.Module, "an nn.Module")
    checks.instance("ids", ids, Sequence, "a sequence of tensors")
    for text in ids:
        checks.integers("ids", text)
        if text.ndim != 1:
            raise ValueError(f"ids must be vectors, got shape {tuple(text.shape)}")
    checks.count("added", added, 0)
    checks.count("batch_size", batch_size, 1)
    if not ids or not all(map(len, ids)):
        raise ValueError(f"ids must be texts of at least one symbol, got lengths {[len(t) for t in ids]}")
    places: dict[int, list[int]] = {}
    for i, text in enumerate(ids):
        places.setdefault(len(text), []).append(i)
    order, found = [], []
    for length, places_of_length in places.items():
        for start in range(0, len(places_of_length), batch_size):
            group = places_of_length[start : start + batch_size]
            table = pad(torch.stack([ids[i] for i in group]), (0, added))
            mask = sequence_mask(torch.tensor(length, device=table.device), length + added)
            found.append(model(table, mask.expand_as(table)))
            order += group
    logits = torch.cat(found)
    return torch.empty_like(logits).index_copy_(0, torch.tensor(order, device=logits.device), logits)


# --- Checks ------------------------------------------------------------------------------------


def _check_boolean(mask: object, x: Tensor | None = None) -> None:
    checks.tensor("mask", mask)
    assert isinstance(mask, Tensor)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where real, got {mask.dtype}")
    if x is not None and mask.device != x.device:
        raise ValueError(f"mask must be on the device {x.device}, got {mask.device}")


def _integers(name: str, value: Tensor) -> Tensor:
    """The value as int64: in the narrow dtypes, comparisons with larger numbers wrap around."""
    checks.integers(name, value)
    return value.to(torch.int64)


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {get_args(choices)}, got {value!r}")


def _check_range(lengths: Tensor, high: int, meaning: str) -> None:
    if (lengths < 0).any():
        raise ValueError(f"lengths must be at least 0, got {int(lengths.min())}")
    if (lengths > high).any():
        raise ValueError(f"lengths must be between 0 and {meaning} = {high}, got {int(lengths.max())}")


def _aligned(x: Tensor, mask: Tensor, dim: int, name: str = "x") -> Tensor:
    """The mask with all axes of x, those that it lacks of size 1, and of x's size along `dim`."""
    checks.floating(name, x)
    checks.axis(name, x, dim)
    _check_boolean(mask, x)
    dim %= x.ndim
    fits = mask.ndim in (dim + 1, x.ndim) and all(
        m in (1, n) for m, n in zip(mask.shape, x.shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"mask must broadcast to the shape of {name}, {tuple(x.shape)}, or to its leading axes "
            f"{tuple(x.shape[: dim + 1])}, got shape {tuple(mask.shape)}"
        )
    mask = mask.view(*mask.shape, *(1,) * (x.ndim - mask.ndim))
    return mask.expand(*mask.shape[:dim], x.shape[dim], *mask.shape[dim + 1 :])
