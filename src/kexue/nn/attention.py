"""The book's one Transformer block. Masks are arguments; what masks and positions mean, the models say.

A mask is boolean, True where a query may look at a key, and of a shape that broadcasts to
(batch, heads, queries, keys). A query that may look at nothing receives zeros.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
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

    Raises TypeError for positions that are no integers, ValueError for an odd size, or positions that are not
    one for each vector.
    """
    checks.floating("x", x)
    checks.positive("base", base, x)
    checks.integers("positions", positions)
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

    @property
    def length(self) -> int:
        """How many positions there are."""
        return self.keys.shape[-2]

    def append(self, later: "KeyValues") -> "KeyValues":
        """These, and then those of later positions."""
        return KeyValues(*(torch.cat(pair, -2) for pair in zip(self, later, strict=True)))

    def select(self, rows: Shaped[Tensor, " rows"]) -> "KeyValues":
        """Those rows of the batch: by index, in that order (paths of a beam), or where a mask is True."""
        return KeyValues(self.keys[rows], self.values[rows])


class Attention(nn.Module):
    """Multi-head attention, softmax(QKᵀ/√size + mask)·V, size = hidden_size/num_heads.

    Args:
        hidden_size: of the input and the output.
        num_heads: a divisor of hidden_size.

    Raises ValueError where num_heads does not divide hidden_size.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        checks.heads(hidden_size, num_heads)
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def key_values(
        self,
        context: Float[Tensor, "batch keys hidden"],
        positions: Int[Tensor, " keys"] | None = None,
        past: KeyValues | None = None,
    ) -> KeyValues:
        """Keys and values of a context, behind those of the past: for `look`, and for the next call.

        Raises TypeError for a context of another dtype than the weights', ValueError for another shape.
        """
        self._check("context", context)
        keys, values = map(self._split, self.key_value(context).chunk(2, -1))
        known = KeyValues(keys if positions is None else rotary(keys, positions), values)
        return known if past is None else past.append(known)

    def look(
        self,
        x: Float[Tensor, "batch queries hidden"],
        known: KeyValues,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Int[Tensor, " queries"] | None = None,
    ) -> Float[Tensor, "batch queries hidden"]:
        """What every vector of x sees of a context, given its `key_values`.

        Args:
            x: who looks.
            known: keys and values of what is looked at.
            mask: True where a query may look at a key; everywhere if None.
            positions: of the vectors of x, if keys have positions, too: both are then rotary.

        Raises TypeError for a mask that is not boolean.
        """
        query = self._split(self.query(x))
        query = query if positions is None else rotary(query, positions)
        if mask is not None and mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean, got {mask.dtype}")
        seen = scaled_dot_product_attention(query, known.keys, known.values, attn_mask=mask)
        if mask is not None:
            seen = seen.masked_fill(~mask.any(-1, keepdim=True), 0.0)
        return self.out(seen.transpose(1, 2).flatten(2))

    def weights(
        self,
        x: Float[Tensor, "batch queries hidden"],
        known: KeyValues,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch heads queries keys"]:
        """How much every vector of x looks at each key, softmax(QKᵀ/√size + mask): what `look` does not keep.

        Without positions. A query that may look at nothing has zeros.
        """
        weight = self._scores(x, known.keys)
        if mask is None:
            return weight.softmax(-1)
        return weight.masked_fill(~mask, -torch.inf).softmax(-1).masked_fill(~mask, 0.0)

    def look_at_each(
        self,
        x: Float[Tensor, "batch queries hidden"],
        keys: Float[Tensor, "batch heads contexts length size"],
        values: Float[Tensor, "batch heads contexts length size"],
        mask: Bool[Tensor, "batch contexts length"],
    ) -> Float[Tensor, "batch queries contexts hidden"]:
        """What every vector of x sees of each of several contexts, as if that were the only one.

        The mask is True where a key may be looked at; each context has such a key.
        """
        weight = self._scores(x, keys.flatten(2, 3)).unflatten(-1, keys.shape[2:4])
        weight = weight.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        seen = weight.transpose(2, 3) @ values  # (batch, heads, contexts, queries, size)
        return self.out(seen.permute(0, 3, 2, 1, 4).flatten(3))

    def _check(self, name: str, value: Tensor) -> None:
        checks.floating(name, value)
        weight = self.query.weight
        if value.ndim != 3 or value.shape[-1] != weight.shape[1]:
            raise ValueError(
                f"{name} must have shape (B, length, {weight.shape[1]}), got {tuple(value.shape)}"
            )
        checks.like_weights(name, value, weight)

    def _scores(self, x: Tensor, keys: Tensor) -> Tensor:
        return self._split(self.query(x)) @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """A Transformer block with the norms in front: x += attention(norm(x)), then x += MLP(norm(x)).

    Args:
        hidden_size: of the vectors.
        num_heads: of the attention, a divisor of hidden_size.
        ffn_size: units of the MLP; 4·hidden_size if None.
        dropout: on both branches, in training.

    Raises ValueError where num_heads does not divide hidden_size, or dropout lies outside [0, 1).
    """

    def __init__(
        self, hidden_size: int, num_heads: int, ffn_size: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        checks.rate("dropout", dropout)
        self.attention = Attention(hidden_size, num_heads)
        self.first_norm, self.second_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        ffn_size = 4 * hidden_size if ffn_size is None else ffn_size
        checks.count("ffn_size", ffn_size, 1)
        self.enter, self.leave = nn.Linear(hidden_size, ffn_size), nn.Linear(ffn_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length hidden"],
        mask: Bool[Tensor, "..."] | None = None,
        positions: Int[Tensor, " length"] | None = None,
        past: KeyValues | None = None,
        keep: slice = slice(None),
    ) -> tuple[Float[Tensor, "batch kept hidden"], KeyValues]:
        """One block of self-attention; the second result is the `past` of the next call.

        With `keep`, only those vectors are wanted: what a last block need not compute is left out.

        Raises TypeError for an x of another dtype than the weights', or a mask that is no boolean tensor, and
        ValueError for an x of another shape.
        """
        self.attention._check("x", x)
        if mask is not None:
            checks.tensor("mask", mask)
        normed = self.first_norm(x)
        known = self.attention.key_values(normed, positions, past)
        rows = mask if mask is None or mask.shape[-2] == 1 else mask[..., keep, :]
        places = None if positions is None else positions[keep]
        x = x[:, keep] + self.dropout(self.attention.look(normed[:, keep], known, rows, places))
        return x + self.dropout(self.leave(gelu(self.enter(self.second_norm(x))))), known
