"""Words and their numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from kexue.nn import checks
from kexue.nn.sequences import PAD as PAD

UNKNOWN = 1


class Vocabulary:
    """Ids of symbols: 0 is padding, 1 what is unknown, then come those that are reserved, then the others.

    Args:
        texts: where symbols are counted: strings, or sequences of words.
        at_least: symbols that are rarer are left out.
        reserved: symbols with the ids 2, 3, …, whether the texts have them or not.

    Raises TypeError for texts that are not made of strings, or an `at_least` that is no int, and ValueError
    for one below 1.
    """

    def __init__(
        self, texts: Iterable[Sequence[str]], at_least: int = 1, reserved: Sequence[str] = ()
    ) -> None:
        checks.count("at_least", at_least, 1)
        checks.instance("texts", texts, Iterable, "an iterable of texts")
        counts = Counter(symbol for text in texts for symbol in checks.strings("texts", text))
        frequent = [symbol for symbol, n in counts.items() if n >= at_least and symbol not in reserved]
        self.symbols = tuple(sorted(frequent, key=lambda symbol: (-counts[symbol], symbol)))
        """Those that are not reserved, the most frequent first."""
        self._ids = {symbol: i for i, symbol in enumerate((*reserved, *self.symbols), start=2)}

    def __len__(self) -> int:
        return len(self._ids) + 2

    def ids(self, text: Sequence[str]) -> Int[Tensor, " length"]:
        """The ids of a text's symbols, int64."""
        return torch.tensor([self._ids.get(symbol, UNKNOWN) for symbol in text], dtype=torch.int64)
