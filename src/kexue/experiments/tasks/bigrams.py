"""Levels of words from counts of neighbouring words, for trees that need no network."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

NAMES = {
    "before": "different words seen before it",
    "entropy_before": "entropy of the word before it",
    "sure_after": "minus the entropy of the word after it",
}
"""Of the levels, as a reader is told."""


def entropy(counts: Iterable[int]) -> float:
    """−Σ p log p of the shares of counts, in nats."""
    counts = list(counts)
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts)


def levels_of_words(texts: Iterable[Sequence[Hashable]]) -> dict[str, dict[Any, float]]:
    """By the names of `NAMES`, the level of each word of texts.

    The start of a text counts as a word before its first one. The last word of a text has none after it; a
    word that is always the last has the entropy 0 there.
    """
    before: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    after: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for text in texts:
        for one, other in zip([None, *text], text, strict=False):
            before[other][one] += 1
            after[one][other] += 1
    return {
        "before": {word: float(len(found)) for word, found in before.items()},
        "entropy_before": {word: entropy(found.values()) for word, found in before.items()},
        "sure_after": {word: -entropy(after[word].values()) if word in after else 0.0 for word in before},
    }
