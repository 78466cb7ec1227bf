"""Prefix codes: lengths, Huffman's, and the code of two levels that names modules and nodes."""

import heapq
import itertools
import math
import numbers
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kexue.nn import arguments as checks

Symbol = Hashable


def kraft_sum(lengths: Iterable[int]) -> float:
    """Σ 2^(−l) over the codewords' lengths l, which is at most 1 for every prefix code (infomap.eq1).

    Raises:
        TypeError: a length is not an int.
        ValueError: a negative length.
    """
    checks.instance("lengths", lengths, Iterable, "an iterable of ints")
    total = 0.0
    for length in lengths:
        checks.count("lengths", length, 0)
        total += 2.0**-length
    return total


def entropy(p: ArrayLike) -> float:
    """−Σ pᵢ·log₂ pᵢ in bits, with 0·log 0 = 0: no prefix code has a shorter mean length (infomap.eq6).

    Raises:
        TypeError: p are no numbers.
        ValueError: probabilities that are negative or NaN, or do not sum to 1.
    """
    try:
        given = np.asarray(p)
        odd = given.dtype.kind == "O" and not all(isinstance(x, numbers.Real) for x in given.flat)
        if odd or given.dtype.kind not in "biufO":
            raise TypeError
        values = given.astype(float).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"p must be numbers, got {p!r}") from error
    if not (values >= 0).all() or not math.isclose(values.sum(), 1.0, abs_tol=1e-9):
        raise ValueError(f"p must be non-negative and sum to 1, got the sum {values.sum()}")
    return float(-plogp(values).sum()) + 0.0


def huffman_code(p: Mapping[Symbol, float] | Sequence[float]) -> dict[Symbol, str]:
    """A prefix code of the least mean length Σ pᵢ·lᵢ, which is in [H(p), H(p) + 1) (Huffman 1952).

    Args:
        p: weights of the symbols; they need not sum to 1. For a sequence, symbols are 0, 1, ….

    Returns:
        For each symbol its codeword, a string of "0" and "1"; a single symbol has the empty one.

    Raises:
        TypeError: a weight is no number.
        ValueError: no symbols, or a weight that is negative, infinite or NaN.
    """
    checks.instance("p", p, Iterable, "a mapping or a sequence")
    weights = dict(p) if isinstance(p, Mapping) else dict(enumerate(p))
    if not weights:
        raise ValueError("p must have at least one symbol")
    for symbol, weight in weights.items():
        if not isinstance(weight, numbers.Real):
            raise TypeError(f"p must be numbers, got {weight!r} for {symbol!r}")
        if not 0 <= weight < math.inf:
            raise ValueError(f"p must be non-negative and finite, got {weight} for {symbol!r}")
    code = dict.fromkeys(weights, "")
    # Of equal weights the older is taken first: the same code on every machine.
    heap = [(weight, age, [symbol]) for age, (symbol, weight) in enumerate(weights.items())]
    heapq.heapify(heap)
    for age in itertools.count(len(heap)):
        if len(heap) == 1:
            return code
        (zero_weight, _, zeros), (one_weight, _, ones) = heapq.heappop(heap), heapq.heappop(heap)
        for bit, symbols in (("0", zeros), ("1", ones)):
            for symbol in symbols:
                code[symbol] = bit + code[symbol]
        heapq.heappush(heap, (zero_weight + one_weight, age, zeros + ones))
    raise AssertionError  # not reached: every round takes one from the heap


EXIT = "↩"
"""Stands for a module's exit mark among its codewords; no item may be equal to it."""


@dataclass(frozen=True)
class HierarchicalCode:
    """Names of categories, and in each category names of its items and an exit mark (infomap.coding).

    A sequence is written as: category, its items up to the next that is in another category, exit mark;
    next category, …. Each codebook is a Huffman code of its own, so short names occur many times.
    """

    category: Mapping[Symbol, Symbol]
    """The category of each item."""
    index: Mapping[Symbol, str]
    """Codewords of the categories."""
    modules: Mapping[Symbol, Mapping[Symbol, str]]
    """For each category codewords of its items and of `EXIT`."""
    counts: Mapping[Symbol, Mapping[Symbol, int]]
    """How often each codeword of `modules` was used in the sequence that the code was made for."""

    @classmethod
    def fit(cls, sequence: Sequence[Symbol], partition: Mapping[Symbol, Symbol]) -> "HierarchicalCode":
        """The code for the frequencies of this sequence.

        Args:
            sequence: items.
            partition: the category of each item.

        Raises:
            TypeError: sequence is no collection, partition no mapping, or a category not hashable.
            ValueError: an empty sequence, an item without category, or one equal to `EXIT`.
        """
        checks.instance("sequence", sequence, Collection, "a sequence")
        checks.instance("partition", partition, Mapping, "a mapping")
        if len(sequence) == 0:
            raise ValueError("sequence must not be empty")
        checks.hashable("items of sequence", sequence)
        for item in dict.fromkeys(sequence):
            if item not in partition:
                raise ValueError(f"partition must have a category for every item, got none for {item!r}")
            checks.instance(f"partition[{item!r}]", partition[item], Hashable, "hashable")
            if item == EXIT:
                raise ValueError(f"sequence must not contain the exit mark {EXIT!r}")
        counts: dict[Symbol, Counter[Symbol]] = defaultdict(Counter)
        for category, visit in itertools.groupby(sequence, partition.__getitem__):
            counts[category].update(visit)
            counts[category][EXIT] += 1
        index = huffman_code({category: of[EXIT] for category, of in counts.items()})
        modules = {category: huffman_code(of) for category, of in counts.items()}
        return cls(dict(partition), index, modules, {c: dict(of) for c, of in counts.items()})

    def encode(self, sequence: Sequence[Symbol]) -> str:
        """The sequence in bits, a string of "0" and "1".

        Raises TypeError for what is no collection of hashable items, and ValueError for an item without name.
        """
        return "".join(self._words(sequence))

    def costs(self, sequence: Sequence[Symbol]) -> list[int]:
        """Bits of `encode` for each item, with what is written before and after it.

        Raises what `encode` raises.
        """
        return [len(word) for word in self._words(sequence)]

    def _words(self, sequence: Sequence[Symbol]) -> list[str]:
        """What is written for each item: its name, before it the category's, after it an exit mark."""
        checks.instance("sequence", sequence, Collection, "a sequence")
        words: list[str] = []
        checks.hashable("items of sequence", sequence)
        for category, visit in itertools.groupby(sequence, self.category.get):
            items = list(visit)
            names = self.modules.get(category, {})
            for item in items:
                if item not in names or item == EXIT:
                    raise ValueError(f"sequence must contain items that the code has names for, got {item!r}")
            written = [names[item] for item in items]
            written[0] = self.index[category] + written[0]
            written[-1] += names[EXIT]
            words += written
        return words

    def decode(self, bits: str) -> list[Symbol]:
        """The sequence that `encode` wrote.

        Raises:
            TypeError: bits is no string.
            ValueError: other characters than 0 and 1, or bits that `encode` does not write.
        """
        checks.instance("bits", bits, str, "a string")
        if set(bits) - {"0", "1"}:
            raise ValueError(f"bits must consist of 0 and 1, got {sorted(set(bits) - {'0', '1'})}")
        of_index = {word: category for category, word in self.index.items()}
        of_module = {
            category: {word: item for item, word in names.items()} for category, names in self.modules.items()
        }
        sequence: list[Symbol] = []
        place = 0
        while place < len(bits):
            before = [self.category[item] for item in sequence[-1:]]
            start = len(sequence)
            category, place = _read(bits, place, of_index)
            while True:
                item, place = _read(bits, place, of_module[category])
                if item == EXIT:
                    break
                sequence.append(item)
            if len(sequence) == start or category in before:
                raise ValueError(f"bits must be what encode writes, but {category!r} is entered for nothing")
        return sequence

    @property
    def mean_length(self) -> float:
        """Bits for each item of the sequence that the code was made for, entries and exits included."""
        bits = sum(
            count * (len(self.modules[category][symbol]) + len(self.index[category]) * (symbol == EXIT))
            for category, of in self.counts.items()
            for symbol, count in of.items()
        )
        return bits / self._items

    @property
    def codelength(self) -> float:
        """What the map equation says of it, with the rates counted from the sequence (infomap.eq11).

        At most `mean_length`, and less than 1 + 2q below it, where q is the number of exits for an item.
        """
        exits = np.array([of[EXIT] for of in self.counts.values()]) / self._items
        rates = [np.array(list(of.values())) / self._items for of in self.counts.values()]
        return codebook_cost(exits) + sum(map(codebook_cost, rates))

    @property
    def _items(self) -> int:
        return sum(sum(of.values()) - of[EXIT] for of in self.counts.values())


def _read(bits: str, place: int, symbols: Mapping[str, Symbol]) -> tuple[Symbol, int]:
    """The next symbol, and where it ends."""
    for end in range(place, len(bits) + 1):
        if bits[place:end] in symbols:
            return symbols[bits[place:end]], end
    raise ValueError(f"bits must be a whole sequence, but no codeword begins at {place}")


def plogp(x: Any) -> Any:
    values = np.asarray(x, dtype=float)
    return values * np.log2(np.where(values > 0, values, 1.0))


def codebook_cost(rates: ArrayLike) -> float:
    """How many bits a step a codebook costs whose names are used at these rates: Σr·H(r/Σr)."""
    values = np.asarray(rates, dtype=float)
    return float(plogp(values.sum()) - plogp(values).sum())
