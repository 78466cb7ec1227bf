"""Cloze questions from tagged text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kexue.data import Source, TaggedText
from kexue.nn import checks
from kexue.reading.encoder import BLANK

ENTITIES = ("nr", "ns", "nt", "nz")
"""Tags of persons, places, organisations and other names."""


@dataclass(frozen=True)
class ClozeQuestion:
    """A sentence with a blank, the text before it, and what stood in the blank."""

    passage: str
    question: str
    """With `BLANK` wherever the answer stood."""
    answer: str
    kind: str
    """The answer's tag."""
    entities: tuple[str, ...]
    """Names in the passage, the most frequent first, of equally frequent ones the last mentioned."""


class ClozeDataset(Sequence[ClozeQuestion]):
    """Cloze questions from a tagged text: which word of the passage is missing in the next sentence?

    The passage is as many whole sentences before the question as fit. The answer is a word of the question
    that is a word of the passage, too, both with tags of `kinds`; it is blanked out wherever it occurs in the
    question. A family name and the given name after it are one word. Each such word of a sentence gives a
    question (Cui et al. 2016 built their People's Daily set in this way, of one noun a document).

    Args:
        text: paragraphs in their order.
        kinds: tags of answers.
        passage_length: at most so many characters.
        question_length: sentences with more characters, or fewer than 8, are no questions.
        max_answer_length: characters of an answer, at least 2.

    Raises:
        TypeError: a text that is no TaggedText, kinds that are no strings, or lengths that are no ints.
        ValueError: lengths too small, or no kinds.
    """

    SHORTEST = 8

    def __init__(
        self,
        text: TaggedText,
        kinds: Sequence[str] = ENTITIES,
        passage_length: int = 150,
        question_length: int = 80,
        max_answer_length: int = 8,
    ) -> None:
        checks.instance("text", text, TaggedText, "a TaggedText")
        checks.count("passage_length", passage_length, 1)
        checks.count("question_length", question_length, self.SHORTEST)
        checks.count("max_answer_length", max_answer_length, 2)
        tags = checks.strings("kinds", kinds)
        if isinstance(kinds, str) or not tags:
            raise ValueError(f"kinds must be tags, at least one, got {kinds!r}")
        self.source: Source = text.source
        sentences = list(_sentences(text))
        lengths = [sum(len(word) for word, _ in sentence) for sentence in sentences]
        self._questions: list[ClozeQuestion] = []
        for place, sentence in enumerate(sentences):
            if not self.SHORTEST <= lengths[place] <= question_length:
                continue
            begin, room = place, passage_length
            while begin > 0 and lengths[begin - 1] <= room:
                begin -= 1
                room -= lengths[begin]
            context = [pair for before in sentences[begin:place] for pair in before]
            self._questions += _questions(context, sentence, tags, max_answer_length)

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index: Any) -> Any:
        """A question, or a list of them for a slice."""
        return self._questions[index]


def most_frequent_entity(question: ClozeQuestion) -> str:
    """The baseline: the name that the passage has most often, "" where it has none."""
    return question.entities[0] if question.entities else ""


def _questions(
    context: list[tuple[str, str]], sentence: list[tuple[str, str]], kinds: tuple[str, ...], longest: int
) -> Iterator[ClozeQuestion]:
    names = [word for word, tag in context if tag in ENTITIES and len(word) > 1]
    count, last = Counter(names), {name: i for i, name in enumerate(names)}
    entities = tuple(sorted(count, key=lambda name: (-count[name], -last[name])))
    known = {word for word, tag in context if tag in kinds}
    text = "".join(word for word, _ in sentence)
    asked = dict.fromkeys(
        (word, tag)
        for word, tag in sentence
        if tag in kinds and word in known and 2 <= len(word) <= longest and BLANK not in word
    )
    for word, tag in asked:
        yield ClozeQuestion(
            "".join(word for word, _ in context), text.replace(word, BLANK), word, tag, entities
        )


def _sentences(text: TaggedText) -> Iterator[list[tuple[str, str]]]:
    """Words with their tags, sentence by sentence; persons' names joined."""
    for words, tags in zip(text.word, text.tag, strict=True):
        sentence: list[tuple[str, str]] = []
        family = False
        for word, tag in zip(words, tags, strict=True):
            if family and tag == "nr" and len(word) <= 2:
                sentence[-1] = (sentence[-1][0] + word, "nr")
                family = False
            else:
                sentence.append((word, tag))
                family = tag == "nr" and len(word) <= 2
            if word in ("。", "！", "？"):
                yield sentence
                sentence, family = [], False
        if sentence:
            yield sentence
