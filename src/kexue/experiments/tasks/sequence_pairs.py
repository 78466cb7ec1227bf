"""Words and captions as pairs of sequences: spelling to pronunciation, German to English."""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import Any

from torch import Tensor

from kexue import data
from kexue.decoding import TOKENS, pad_ids


@dataclass(frozen=True)
class Part:
    """Sources, and of each the references."""

    source: list[list[int]]
    references: list[list[tuple[int, ...]]]

    @cached_property
    def src(self) -> Tensor:
        return pad_ids(self.source)

    @cached_property
    def first(self) -> Tensor:
        """The first reference of each."""
        return pad_ids([several[0] for several in self.references])


@cache
def phonemes() -> tuple[str, ...]:
    return tuple(sorted(set(chain.from_iterable(chain.from_iterable(data.pronunciations().phonemes)))))


@cache
def cmudict() -> tuple[Part, Part, Part]:
    """Letters and phonemes as ids. In training, each pronunciation is an example of its own."""
    index = {phoneme: i for i, phoneme in enumerate(phonemes(), start=TOKENS)}

    def ids(part: Any, apart: bool) -> Part:
        sources, references = [], []
        for word, several in zip(part.word, part.phonemes, strict=True):
            source = [TOKENS + ord(letter) - ord("a") for letter in word]
            each = [tuple(index[phoneme] for phoneme in one) for one in several]
            for group in [[one] for one in each] if apart else [each]:
                sources.append(source)
                references.append(group)
        return Part(sources, references)

    train, valid, test = data.pronunciations_parts()
    return ids(train, True), ids(valid, False), ids(test, False)


SUBWORDS = 4000


@cache
def subwords() -> Any:
    """Byte-pair encoding of both languages together, from the captions for training."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SUBWORDS,
        special_tokens=["<pad>", "<first>", "<last>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain.from_iterable(data.multi30k()["train"]), trainer)
    return tokenizer


@cache
def multi30k() -> tuple[Part, Part, Part]:
    tokenizer = subwords()

    def ids(pairs: Any) -> Part:
        de, en = (tokenizer.encode_batch(list(side)) for side in zip(*pairs, strict=True))
        return Part([one.ids for one in de], [[tuple(one.ids)] for one in en])

    train, valid, test = map(ids, data.multi30k().values())
    return train, valid, test


def batches(part: Part, size: int = 500) -> tuple[Tensor, ...]:
    """Indices of sequences of like lengths."""
    return (part.first != 0).sum(1).argsort(stable=True).split(size)


def cut(ids: Tensor) -> Tensor:
    """Without the columns that are all padding."""
    return ids[:, : max(1, int((ids != 0).sum(1).max()))]
