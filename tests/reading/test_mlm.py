"""The reader that fills in all masks at once: eq2 by enumeration, its masks, Mask-Predict."""

import math

import pytest
import torch
from readers import (
    ANSWERS,
    CLS,
    MASK,
    PAD,
    PASSAGES,
    QUESTIONS,
    SEP,
    UNK,
    agrees,
    answers_of,
    examples,
    ids_of,
    literal_places,
    literal_text,
    longest_answers,
    reader_of,
)
from seeded import gen

from kexue import reading
from kexue.reading import BLANK


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
    (ids,) = calls
    monkeypatch.undo()
    assert torch.equal(ids, reader.inputs(*reader.encode(PASSAGES, QUESTIONS)))
    for row, pair in zip(reader.predict(ids).exp(), zip(PASSAGES, QUESTIONS, strict=True), strict=True):
        torch.testing.assert_close(row, literal_places(reader, *pair), atol=1e-12, rtol=0)


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


@torch.no_grad()
@pytest.mark.verifies("reading.eq2")
def test_the_refinement_loss_predicts_what_is_hidden_from_what_is_shown():
    reader, batch = reader_of("MLMReader"), examples()
    noise = torch.rand(5, 5, 4, generator=gen())
    behind = torch.tensor([[k > len(answer) for k in range(4)] for answer in ANSWERS])
    nothing = torch.zeros(5, 4, dtype=torch.bool)
    for revealed in (*(noise < 0.5), nothing, behind, ~nothing):
        total = 0.0
        for one, row in zip(batch, revealed.tolist(), strict=True):
            target = [*ids_of(reader, one.answer), SEP]
            shown = [t if row[k] else MASK for k, t in enumerate(target)]
            p = literal_places(reader, one.passage, one.question, shown + [MASK] * (4 - len(target)))
            total -= sum(math.log(p[k, t]) for k, t in enumerate(target) if not row[k])
        loss = reader.refinement_loss(batch, revealed)
        assert float(loss) == pytest.approx(total / 5, abs=1e-10)
        if revealed is nothing or revealed is behind:
            torch.testing.assert_close(loss, reader.loss(batch), atol=1e-12, rtol=0)


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


FAULTS = [
    (test_the_independent_factorisation_enumerated, "MLMReader", SeesTheAnswer),
    (test_a_token_of_the_answer_changes_no_other_place_of_the_masked_one, "MLMReader", SeesTheAnswer),
    (test_the_independent_factorisation_enumerated, "MLMReader", WithoutTheEnd),
    (test_the_masks_stand_in_front_of_question_and_passage, "MLMReader", OnlySoManyMasks),
]
