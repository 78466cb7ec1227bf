"""Small readers with random weights, and the same once more, from the article's description."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from seeded import F64
from torch import nn

from kexue import data, reading
from kexue.reading import BLANK

HEADS = ["MLMReader", "Seq2SeqReader"]
PAD, UNK, CLS, SEP, MASK = range(5)
MIXTURE = torch.tensor([[0.5, 0.0], [0.0, 0.5]], dtype=F64)
PASSAGES = ["abXcdabY", "a", "dcbadcba", "XYZ", "bacYbadbac"]
QUESTIONS = ["cd", f"b{BLANK}Xa", "a", "dd", f"{BLANK}c"]
ANSWERS = ["ab", "c", "dcb", "Xd", "bac"]


class Example(NamedTuple):
    passage: str
    question: str
    answer: str


def examples(answers=ANSWERS):
    return list(map(Example, PASSAGES, QUESTIONS, answers))


def encoder_of(seed=0, letters="abcd", scale=3.0, max_length=64, layers=2, dropout=0.0):
    """A tiny encoder whose distributions are neither uniform nor certain."""
    torch.manual_seed(seed)
    vocabulary = reading.Characters([letters])
    encoder = reading.MaskedLM(len(vocabulary), 8, 2, layers, dropout, max_length, vocabulary)
    with torch.no_grad():
        for parameter in encoder.blocks.parameters():
            parameter.mul_(scale)
        nn.init.normal_(encoder.bias)
    return encoder.to(F64)


def reader_of(head, seed=0, longest=3, end=0.0, **options):
    """`end` is added to the end mark's logit."""
    encoder = encoder_of(seed, **options)
    with torch.no_grad():
        encoder.bias[SEP] += end
    return getattr(reading, head)(encoder, longest).to(F64).eval()


def ids_of(reader, text):
    """Letters of the vocabulary stand behind six others; whatever else is unknown."""
    letters = "".join(reader.vocabulary.symbols[6:])
    return [5 if one == BLANK else 6 + letters.index(one) if one in letters else UNK for one in text]


@torch.no_grad()
def literal_places(reader, passage, question, shown=None):
    """Probabilities in each place of an answer: [CLS] masks [SEP] question [SEP] passage [SEP]."""
    steps = reader.max_answer_length + 1
    middle = [MASK] * steps if shown is None else shown
    ids = [CLS, *middle, SEP, *ids_of(reader, question), SEP, *ids_of(reader, passage), SEP]
    return reader.encoder(torch.tensor([ids]))[0, 1 : 1 + steps].softmax(-1)


@torch.no_grad()
def literal_next(reader, passage, question, several):
    """Probabilities of what follows each of several beginnings of one length, every time read anew."""
    before = [CLS, *ids_of(reader, passage), SEP, *ids_of(reader, question), SEP]
    n, whole = len(before), len(before) + len(several[0])
    mask = [[j < n or j <= i for j in range(whole)] for i in range(whole)]
    ids = torch.tensor([[*before, *written] for written in several])
    out = reader.encoder(ids, torch.tensor([mask]).expand(len(ids), -1, -1))
    return out[:, -1].softmax(-1)


def distribution(reader, passage, question):
    """A function from what is written to the probabilities of the next token, a list."""
    if isinstance(reader, reading.MLMReader):
        places = literal_places(reader, passage, question).tolist()
        return lambda written: places[len(written)]
    return lambda written: literal_next(reader, passage, question, [list(written)])[0].tolist()


def continuations(passage, written):
    """Tokens that stand in a passage right behind an occurrence of what is written."""
    n = len(written)
    return {passage[i + n] for i in range(len(passage) - n) if passage[i : i + n] == list(written)}


def options_of(reader, passage, written, constrain):
    """Which tokens may come next."""
    if len(written) == reader.max_answer_length:
        return {SEP}
    if not constrain:
        return {UNK, SEP, *range(5, len(reader.vocabulary))}
    return continuations(ids_of(reader, passage), written) | ({SEP} if written else set())


def literal_text(reader, passage, written, constrain):
    if not constrain:
        return "".join(
            "\N{REPLACEMENT CHARACTER}" if one == UNK else reader.vocabulary.symbols[one] for one in written
        )
    ids = ids_of(reader, passage)
    begin = next(i for i in range(len(ids)) if ids[i : i + len(written)] == list(written))
    return passage[begin : begin + len(written)]


def agrees(found, expected, tolerance=1e-10):
    assert [one[0] for one in found] == [one[0] for one in expected]
    assert [one[1] for one in found] == pytest.approx([one[1] for one in expected], abs=tolerance)


def answers_of(longest, symbols=f"ab?{BLANK}"):
    """All texts that can be answers: known letters, an unknown one, and the blank."""
    return ["".join(one) for n in range(1, longest + 1) for one in itertools.product(symbols, repeat=n)]


def longest_answers(reader, change=None):
    """log p of each place of six-letter answers, one of them with another letter at `change`."""
    answer = list("abcdab")
    if change is not None:
        answer[change] = "d" if answer[change] != "d" else "a"
    found, real = reader.token_log_probs(["abXcdabY"], ["cd"], ["".join(answer)])
    assert real.all()
    return found[0]


def product_of(factors):
    out = torch.ones((), dtype=F64)
    for one in factors:
        out = out[..., None] * one
    return out


def literal_decoder(reader, passage, question, constrain, k):
    """The k best beginnings are kept at each step, those that have ended among them; k = 1 is greedy."""
    after = distribution(reader, passage, question)
    paths = [(0.0, (), (), False)]
    while not all(ended for *_, ended in paths):
        grown = [path for path in paths if path[3]]
        for score, written, steps, ended in paths:
            if not ended:
                p = after(written)
                for token in options_of(reader, passage, written, constrain):
                    tokens = written if token == SEP else (*written, token)
                    grown.append((score + math.log(p[token]), tokens, (*steps, p[token]), token == SEP))
        paths = sorted(grown, key=lambda path: -path[0])[:k]
    _, written, steps, _ = paths[0]
    return literal_text(reader, passage, written, constrain), sum(steps) / len(steps)


def agrees_with_the_literal_decoder(
    head, k, constrain=True, longest=3, passages=PASSAGES, questions=QUESTIONS, seeds=range(3)
):
    for seed in seeds:
        reader = reader_of(head, seed, longest=longest)
        expected = [
            literal_decoder(reader, *pair, constrain, k) for pair in zip(passages, questions, strict=True)
        ]
        found = reader.answer(passages, questions, constrain, **{"beam_size": k} if k > 1 else {})
        agrees(found, expected)
        for passage, one in zip(passages, found, strict=True):
            assert type(one) is reading.Answer
            assert 0 <= one.score <= 1
            assert not constrain or (one.text and one.text in passage)
            assert len(one.text) <= longest


def tagged(*paragraphs):
    rows = [[token.rpartition("/") for token in one.split()] for one in paragraphs]
    words = tuple(tuple(word for word, _, _ in row) for row in rows)
    tags = tuple(tuple(tag for _, _, tag in row) for row in rows)
    return data.TaggedText(words, tags, data.SOURCES["people_daily"])


PAPER = tagged(
    "王/nr 小明/nr 在/p 北京/ns 工作/v 。/w 他/r 喜欢/v 北京/ns 。/w",
    "北京/ns 的/u 王/nr 小明/nr 爱/v 北京/ns ！/w",
)
