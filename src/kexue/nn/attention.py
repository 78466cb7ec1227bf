"""The book's one Transformer block. Masks are arguments; what masks and positions mean, the models say.

A mask is boolean, True where a query may look at a key, and of a shape that broadcasts to
(batch, heads, queries, keys). A query that may look at nothing receives zeros.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from kexue.nn import checks

__all__ = [
    "Attention",
    "Block",
    "KeyValues",
    "causal_mask",
    "rotary",
]


def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "length length"]:
    """True where a query may look at a key: at its own place and before it."""
    checks.count("length", length, 1)
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def rotary(
    x: Float[Tensor, "*batch length size"], positions: Int[Tensor, " length"], base: float = 10000.0
) -> Float[Tensor, "*batch length size"]:
    """Rotary position embedding (苏剑林 2021): (x₂ᵢ, x₂ᵢ₊₁) at position p turns by p·base^(−2i/size).

    The inner product of two rotated vectors depends on their positions' difference only.

    Raises ValueError for an odd size, or positions that are not one for each vector.
    """
    checks.floating("x", x)
    checks.positive("base", base, x)
    checks.tensor("positions", positions)
    if x.ndim < 2:
        raise ValueError(f"x must have the shape (..., length, size), got {tuple(x.shape)}")
    if x.shape[-1] % 2:
        raise ValueError(f"x must have an even last dimension, got {x.shape[-1]}")
    if positions.shape != x.shape[-2:-1]:
        raise ValueError(f"positions must have shape ({x.shape[-2]},), got {tuple(positions.shape)}")
    exact = torch.float64 if x.device.type in ("cpu", "cuda") else torch.float32
    exponent = torch.arange(0, x.shape[-1], 2, device=x.device, dtype=exact) / x.shape[-1]
    angle = positions.to(x.device, exact)[:, None] * base**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class KeyValues(NamedTuple):
    """Keys and values of the positions so far: what a decoder keeps from step to step."""

    keys: Float[Tensor, "batch heads length size"]
    values: Float[Tensor, "batch heads length size"]


class Attention(nn.Module):
    """Multi-head attention, softmax(QKᵀ/√size + mask)·V, size = width/heads.

    Args:
        width: of the input and the output.
        heads: a divisor of width.

    Raises ValueError where heads does not divide width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        checks.count("width", width, 1)
        checks.count("heads", heads, 1)
        if width % heads:
            raise ValueError(f"heads must divide width = {width}, got {heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch queries width"],
        context: Float[Tensor, "batch keys width"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Int[Tensor, " queries"] | None = None,
        past: KeyValues | None = None,
    ) -> tuple[Float[Tensor, "batch queries width"], KeyValues]:
        """Let every vector of x look at those of the context, and give what it saw.

        Args:
            x: who looks.
            context: what is looked at; x itself if None.
            mask: True where a query may look at a key; everywhere if None. With `past`, the keys are those
                of the past and then those of the context.
            positions: of the vectors of x, for rotary positions of queries and keys; x is then the context.
            past: keys and values of earlier calls.

        Returns:
            The output, and the keys and values for the next call.
        """
        if positions is not None and context is not None:
            raise ValueError("positions must be None where a context is given")
        known = self.key_values(x if context is None else context, positions)
        if past is not None:
            known = KeyValues(*(torch.cat(pair, -2) for pair in zip(past, known, strict=True)))
        return self.look(x, known, mask, positions), known

    def key_values(
        self, context: Float[Tensor, "batch keys width"], positions: Int[Tensor, " keys"] | None = None
    ) -> KeyValues:
        """Keys and values of a context that is looked at more than once; see `look`."""
        keys, values = map(self._split, self.key_value(context).chunk(2, -1))
        return KeyValues(keys if positions is None else rotary(keys, positions), values)

    def look(
        self,
        x: Float[Tensor, "batch queries width"],
        known: KeyValues,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Int[Tensor, " queries"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """What every vector of x sees of `key_values`: `forward` in two steps.

        With positions, of x here and of the context there, both are rotary.
        """
        query = self._split(self.query(x))
        return self._seen(query if positions is None else rotary(query, positions), known, mask)

    def _seen(self, query: Tensor, known: KeyValues, mask: Tensor | None) -> Tensor:
        if mask is not None and mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, got {mask.dtype}")
        seen = scaled_dot_product_attention(query, known.keys, known.values, attn_mask=mask)
        if mask is not None:
            seen = seen.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return self.out(seen.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """A Transformer block with the norms in front: x += attention(norm(x)), then x += MLP(norm(x)).

    Args:
        width: of the vectors.
        heads: of the attention, a divisor of width.
        hidden: units of the MLP; 4·width if None.
        dropout: on both branches, in training.

    Raises ValueError where heads does not divide width, or dropout lies outside [0, 1).
    """

    def __init__(self, width: int, heads: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        checks.rate("dropout", dropout)
        self.attention = Attention(width, heads)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        hidden = 4 * width if hidden is None else hidden
        checks.count("hidden", hidden, 1)
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        mask: Bool[Tensor, "..."] | None = None,
        positions: Int[Tensor, " length"] | None = None,
        past: KeyValues | None = None,
        keep: slice | None = None,
    ) -> tuple[Float[Tensor, "batch kept width"], KeyValues]:
        """One block of self-attention; the arguments and the second result are those of `Attention`.

        With `keep`, only those vectors are wanted: what a last block need not compute is left out.
        """
        if keep is None:
            seen, kept = self.attention(self.first_norm(x), None, mask, positions, past)
        else:
            normed = self.first_norm(x)
            kept = self.attention.key_values(normed, positions)
            if past is not None:
                kept = KeyValues(*(torch.cat(pair, -2) for pair in zip(past, kept, strict=True)))
            rows = mask if mask is None or mask.shape[-2] == 1 else mask[..., keep, :]
            seen = self.attention.look(
                normed[:, keep], kept, rows, None if positions is None else positions[keep]
            )
            x = x[:, keep]
        x = x + self.dropout(seen)
        return x + self.dropout(self.leave(gelu(self.enter(self.second_norm(x))))), kept
