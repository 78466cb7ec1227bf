"""Questions of three kinds: cloze questions from a newspaper, persons in places, CMRC 2018."""

from dataclasses import replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from kexue import data
from kexue.experiments import reading_pretraining
from kexue.reading import BLANK, ENTITIES, ClozeDataset, ClozeQuestion

LONGEST = 8
"""Characters of an answer."""
MASKED = "\N{REPLACEMENT CHARACTER}"
"""A character that the vocabulary does not know."""


@cache
def cloze(part: int, kinds: tuple[str, ...] = ENTITIES) -> ClozeDataset:
    return ClozeDataset(data.people_daily_parts()[part], kinds, max_answer_length=LONGEST)


@cache
def persons() -> tuple[str, ...]:
    """Persons' names of three characters in the part for training, of characters that are known."""
    known = reading_pretraining.vocabulary()
    found = {one.answer for one in cloze(0, ("nr",)) if len(one.answer) == 3}
    return tuple(sorted(name for name in found if known.unknown not in known.encode(name)[0]))


def new_name(generator: torch.Generator) -> str:
    """A name that nobody has: each character is that of a person drawn at random, at its place."""
    chosen = torch.randint(len(persons()), (3,), generator=generator).tolist()
    return "".join(persons()[i][place] for place, i in enumerate(chosen))


SPAN = 32
"""Tokens of an answer of the task "cmrc", as in the article."""
NEAR = 400
"""Characters of a passage that are read in training: a part in which the answer is."""


@cache
def cmrc(part: Literal["train", "valid", "test"]) -> tuple[data.PassageQuestion, ...]:
    """In training, without the few whose first answer is too long or not to be found."""
    questions = data.cmrc2018()[part]
    if part != "train":
        return questions
    return tuple(q for q in questions if len(q.answers[0]) <= SPAN and q.answers[0] in q.passage)


def near_answer(question: data.PassageQuestion, generator: torch.Generator) -> ClozeQuestion:
    """The question with a part of its passage, at a random place around the answer."""
    answer, passage = question.answers[0], question.passage
    at = passage.index(answer)
    low, high = max(0, at + len(answer) - NEAR), max(0, min(at, len(passage) - NEAR))
    begin = int(torch.randint(low, high + 1, (), generator=generator))
    return ClozeQuestion(passage[begin : begin + NEAR], question.question, answer, "", ())


PLACES = ("北京", "上海", "广州", "天津", "武汉", "成都", "西安", "沈阳", "南京", "重庆")


def name_question(persons: int, valid: int, generator: torch.Generator) -> tuple[ClozeQuestion, list[str]]:
    """Who is there? Each of the persons is in a place, `valid` of them in the one that is asked for.

    Any of these is a right answer, and one of them, drawn at random, is the question's. Their names are new
    each time, without a character in common: they can be copied, not remembered.
    """
    names: list[str] = []
    while len(names) < persons:
        name = new_name(generator)
        if not any(set(name) & set(other) for other in names) and len(set(name)) == 3:
            names.append(name)
    where = torch.randperm(len(PLACES), generator=generator).tolist()
    places = [PLACES[where[max(0, i - valid + 1)]] for i in range(persons)]
    order = torch.randperm(persons, generator=generator).tolist()
    passage = "".join(f"{names[i]}在{places[i]}。" for i in order)
    answer = names[int(torch.randint(valid, (), generator=generator))]
    return ClozeQuestion(passage, f"{BLANK}在{places[0]}。", answer, "nr", tuple(names)), names[:valid]


def hidden(question: ClozeQuestion, rate: float, generator: torch.Generator) -> ClozeQuestion:
    """A question with some of its characters hidden, but for the blank."""
    texts = []
    for text in (question.passage, question.question):
        hide = torch.rand(len(text), generator=generator) < rate
        pairs = zip(text, hide.tolist(), strict=True)
        texts.append("".join(MASKED if gone and one != BLANK else one for one, gone in pairs))
    return replace(question, passage=texts[0], question=texts[1])


def shown(batch_size: int, targets: Tensor, end: int, generator: torch.Generator) -> Tensor:
    """Which tokens of an answer are shown for Mask-Predict: none in half of the rows, else the end and some.

    Of the others, at least one is hidden.
    """
    noise = torch.rand(targets.shape, generator=generator)
    kept = torch.rand(batch_size, 1, generator=generator) < 0.5
    share = torch.rand(batch_size, 1, generator=generator)
    answer = (targets != 0) & (targets != end)
    noise = noise.masked_fill(~answer, -1.0)
    some = (noise < share) & answer & (noise < noise.max(1, keepdim=True).values)
    return kept & (some | (targets == end))


def candidates(question: ClozeQuestion) -> list[str]:
    """The names of the passage that are short enough."""
    return [name for name in question.entities if len(name) <= LONGEST]


def rivals(question: ClozeQuestion) -> list[str]:
    """Those that do not stand in the question, where the answer is blanked out wherever it occurs."""
    return [name for name in candidates(question) if name not in question.question]
