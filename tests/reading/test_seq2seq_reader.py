"""The reader that writes token by token: eq1 by enumeration, its mask, its cache, its beam."""

import itertools
import math

import pytest
import torch
from readers import (
    CLS,
    MASK,
    PAD,
    PASSAGES,
    QUESTIONS,
    SEP,
    agrees,
    agrees_with_the_literal_decoder,
    answers_of,
    ids_of,
    literal_next,
    longest_answers,
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
    for m in range(5):
        moved = written.clone()
        moved[:, m] = 6 + (moved[:, m] - 5) % 4
        after = states(moved)
        assert torch.equal(after[:, : 7 + m], before[:, : 7 + m])
        assert ((after - before)[:, 7 + m :].abs().amax(-1) > 1e-7).all()
    for place in (1, 3, 5):  # the passage, its last token, the question: all of the answer sees them
        moved = prefix.clone()
        moved[0, place] = 6 + (moved[0, place] - 5) % 4
        assert ((reader.next_log_probs(moved, written) - log_probs)[0].abs().amax(-1) > 1e-7).all()


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
    (lambda: agrees_with_the_literal_decoder("Seq2SeqReader", 3, False, longest=5), "_Search", ForgetsParents),
    (lambda: test_with_and_without_cached_keys_and_values(3, False), "_Search", ForgetsParents),
    (lambda: agrees_with_the_literal_decoder("Seq2SeqReader", 3), "_Search", GeometricMean),
]  # fmt: skip
