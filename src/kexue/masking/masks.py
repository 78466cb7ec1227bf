"""Masks from lengths and back; mean, maximum and softmax over what is real."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from kexue.masking.inputs import aligned, as_int64, check_boolean, check_range
from kexue.nn import checks


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
    lengths = as_int64("lengths", lengths)
    if max_length is None:
        if lengths.numel() == 0:
            raise ValueError(f"max_length must be given for lengths of shape {tuple(lengths.shape)}")
        max_length = max(0, int(lengths.max()))
    checks.count("max_length", max_length, 0)
    check_range(lengths, max_length, "max_length")
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(-1)


def lengths_of(mask: Bool[Tensor, "*batch time"]) -> Integer[Tensor, "*batch"]:
    """The number of real positions of each row of a mask whose rows all begin with them.

    The inverse of `sequence_mask`.

    Raises:
        TypeError: mask is not boolean.
        ValueError: mask has no axis, or a row in which a real position comes after padding.
    """
    check_boolean(mask)
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
    mask = aligned(x, mask, dim)
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
    mask = aligned(x, mask, dim)
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
    mask = aligned(logits, mask, dim, "logits")
    filled = checks.working(logits).masked_fill(~mask, -torch.inf)
    largest = filled.detach().amax(dim, keepdim=True)
    bad = torch.isnan(largest) | (largest == torch.inf)
    if bad.any():
        raise ValueError(f"logits must be finite or −∞ where mask is True, got {largest[bad][0].item()}")
    # A row of −∞ has no softmax; any other row will do, since nothing of it remains.
    impossible = largest == -torch.inf
    weights = torch.softmax(filled.masked_fill(impossible, 0.0), dim)
    return weights.masked_fill(~mask | impossible, 0.0).to(logits.dtype)
