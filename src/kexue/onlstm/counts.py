"""What a language model must beat before it is compared with another: counts of a few words."""

import numpy as np
from jaxtyping import Float, Integer

from kexue.nn import checks


def kneser_ney(
    text: Integer[np.ndarray, " n"], held_out: Integer[np.ndarray, " m"], symbols: int, order: int = 5
) -> Float[np.ndarray, " _"]:
    """The probability of each word of held_out but the first order − 1, after the order − 1 words before it.

    From n-grams of the text up to `order`, with interpolated modified Kneser-Ney smoothing (S. F. Chen and
    J. Goodman 1999): of every count 1, 2 and 3 or more a discount D₁, D₂, D₃ is taken, estimated from the
    counts of counts, and what was taken goes to the probability after one word less; there it counts after
    how many different words an n-gram stands, not how often. At last it goes to all symbols alike.

    Args:
        text: ids from 0 on.
        held_out: the same, at least `order` of them.
        symbols: how many there are; with 2⁶³^(1/order) or more it takes a minute for a million words.
        order: words of the longest n-gram.

    Returns:
        m − order + 1 probabilities.

    Raises:
        TypeError: symbols or order is no int, text or held_out no vector of integers.
        ValueError: one below 1, fewer than `order` ids in text or held_out, or ids outside
            0 … symbols − 1.
    """
    checks.count("order", order, 1)
    checks.count("symbols", symbols, 1)
    for name, ids in (("text", text), ("held_out", held_out)):
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or ids.ndim != 1:
            raise TypeError(f"{name} must be a vector of integers, got {ids!r:.60}")
        if len(ids) < order:
            raise ValueError(f"{name} must have at least {order} ids, got {len(ids)}")
        if ids.min() < 0 or ids.max() >= symbols:
            raise ValueError(f"{name} must be between 0 and {symbols - 1}, got {ids.min()} to {ids.max()}")
    # As many words as one number: if need be, of any size.
    kind = np.int64 if symbols**order < 2**63 else object
    text, held_out = text.astype(kind), held_out.astype(kind)
    grams, counts = {}, {}
    grams[order], counts[order] = np.unique(_grams(text, order, symbols), return_counts=True)
    for n in range(order - 1, 0, -1):  # after how many words, not how often
        grams[n], counts[n] = np.unique(grams[n + 1] % symbols**n, return_counts=True)
    probability = np.full(len(held_out) - order + 1, 1 / symbols)
    for n in range(1, order + 1):
        once = [int((counts[n] == k).sum()) for k in range(1, 5)]
        y = once[0] / max(1, once[0] + 2 * once[1])
        taken = [max(0.0, k - (k + 1) * y * once[k] / max(1, once[k - 1])) for k in (1, 2, 3)]
        less = np.array([0, *taken])[np.minimum(counts[n], 3)]
        context, group = np.unique(grams[n] // symbols, return_inverse=True)
        total = np.bincount(group, counts[n])
        spare = np.bincount(group, less) / total
        wanted = _grams(held_out[order - n :], n, symbols)
        seen = _look_up(context, total, wanted // symbols)
        kept = _look_up(grams[n], counts[n] - less, wanted)
        rest = np.where(seen > 0, _look_up(context, spare, wanted // symbols), 1)
        probability = kept / np.maximum(seen, 1) + rest * probability
    return probability


def _grams(ids: np.ndarray, n: int, symbols: int) -> np.ndarray:
    """n successive ids as one number."""
    parts = [ids[k : len(ids) - n + 1 + k] for k in range(n)]
    return np.sum([part * symbols ** (n - 1 - k) for k, part in enumerate(parts)], axis=0)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """values[k] where keys[k] is what is wanted, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
