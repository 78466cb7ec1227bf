"""The reader that writes token by token: eq1 by enumeration, its mask, its cache, its beam."""

import itertools
import math

import pytest
import torch
from readers import (
    ANSWERS,
    CLS,
    F64,
    MASK,
    PAD,
    PASSAGES,
    QUESTIONS,
    SEP,
    agrees,
    answers_of,
    distribution,
    ids_of,
    literal_next,
    literal_text,
    longest_answers,
    options_of,
    reader_of,
)

from kexue.reading import BLANK
from kexue.reading.seq2seq import _Search


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


@pytest.mark.unchecked
def test_a_beam_without_paths_is_named():
    with pytest.raises(ValueError, match="beam_size must be at least 1, got 0"):
        reader_of("Seq2SeqReader").answer(["ab"], ["c"], beam_size=0)


# --- Faults: under each, its verifier fails ----------------------------------------------------------


class ForgetsParents(_Search):
    def choose(self, log_probs):
        past = self.past
        super().choose(log_probs)
        self.past = past


class GeometricMean(_Search):
    def run(self):
        found = super().run()
        return found._replace(score=(self.beam.score.amax(1) / (found.tokens != PAD).sum(1)).exp())


FAULTS = [
    (test_the_autoregressive_factorisation_enumerated, "causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)),
    (test_no_token_sees_what_comes_later_and_the_passage_does_not_see_the_answer, "causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)),
    (lambda: agrees_with_the_literal_beam(3, False, longest=5), "_Search", ForgetsParents),
    (lambda: test_with_and_without_cached_keys_and_values(3, False), "_Search", ForgetsParents),
    (lambda: agrees_with_the_literal_beam(3), "_Search", GeometricMean),
]  # fmt: skip
