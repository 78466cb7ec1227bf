"""What both readers share: answers to targets, batches, spans of the passage, windows, dtypes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import (
    ANSWERS,
    HEADS,
    PAD,
    PASSAGES,
    QUESTIONS,
    SEP,
    UNK,
    agrees,
    agrees_with_the_literal_decoder,
    examples,
    reader_of,
)

from kexue import reading
from kexue.reading import BLANK
from kexue.reading.reader import Spans


@pytest.mark.verifies("reading.input")
@pytest.mark.parametrize("head", HEADS)
def test_the_masks_are_to_become_the_answer_and_then_the_end_mark(head):
    found = reader_of(head, longest=3).targets(["a", "dXb", "cd"])
    assert found.tolist() == [[6, SEP, PAD, PAD], [9, UNK, 7, SEP], [8, 9, SEP, PAD]]


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_padding_and_batch_mates_change_nothing(head):
    reader = reader_of(head, longest=4)
    together = reader.log_prob(PASSAGES, QUESTIONS, ANSWERS)
    alone = [reader.log_prob([p], [q], [a]) for p, q, a in zip(PASSAGES, QUESTIONS, ANSWERS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-11, rtol=0)
    assert float(reader.loss(examples())) == pytest.approx(-float(together.mean()), abs=1e-12)
    for constrain in (True, False):
        answers = reader.answer(PASSAGES, QUESTIONS, constrain)
        agrees(reader.answer(PASSAGES, QUESTIONS, constrain, batch_size=2), answers)


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


@pytest.mark.slow
@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize(
    ("head", "k", "longest"),
    [
        *((head, 1, longest) for head in HEADS for longest in (1, 2, 5)),
        *(("Seq2SeqReader", k, 3) for k in (2, 3)),
    ],
)
def test_answers_are_those_of_the_literal_decoder(head, k, longest, constrain):
    agrees_with_the_literal_decoder(head, k, constrain, longest)


@pytest.mark.slow
@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("head", HEADS)
@settings(max_examples=15)
@given(st.lists(st.text("abcdXY", min_size=1, max_size=12), min_size=1, max_size=4), st.integers(0, 99))
def test_restricted_answers_are_spans_of_the_passage(head, passages, seed):
    asked = ["ab"] * len(passages)
    agrees_with_the_literal_decoder(head, 1, passages=passages, questions=asked, seeds=[seed])


@pytest.mark.verifies("reading.decode")
@pytest.mark.parametrize("head", HEADS)
def test_unknown_characters_come_back_as_they_stand_in_the_passage(head):
    reader = reader_of(head, longest=4)
    with torch.no_grad():
        reader.encoder.bias[UNK] += 1000.0
    found, free = (reader.answer(["ab東西 南b"], ["a"], constrain)[0].text for constrain in (True, False))
    assert found == "東西 南"
    assert free == "\N{REPLACEMENT CHARACTER}" * 4


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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.5), (torch.float32, 1e-4)])
@pytest.mark.parametrize("head", HEADS)
def test_coarse_modules_answer_and_learn(head, dtype, tolerance):
    reader, answers = reader_of(head, longest=2), ["ab"] * 5
    expected = reader.log_prob(PASSAGES, QUESTIONS, answers)
    reader = reader.to(dtype)
    found = reader.log_prob(PASSAGES, QUESTIONS, answers)
    candidates = torch.cat(reader.candidate_log_probs(PASSAGES, QUESTIONS, [[one] for one in answers]))
    assert found.dtype == candidates.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(candidates, found, atol=tolerance, rtol=0)
    reader.loss(examples(answers)).backward()
    assert all(one.grad.isfinite().all() for one in reader.parameters())
    more = {"constrain": False, "passes": 3} if head == "MLMReader" else {"beam_size": 3}
    for options in ({}, more):
        assert all(0 <= one.score <= 1 for one in reader.answer(PASSAGES, QUESTIONS, **options))


@pytest.mark.parametrize("head", HEADS)
def test_dropout_in_training_only(head):
    reader, batch = reader_of(head, dropout=0.5), examples()
    expected = reader.answer(PASSAGES, QUESTIONS)
    reader.train()
    assert reader.answer(PASSAGES, QUESTIONS) == expected
    assert reader.training
    assert reader.loss(batch).item() != reader.loss(batch).item()


# --- Faults: under each, its verifier fails ----------------------------------------------------------


class WithoutTheEnd(reading.MLMReader):
    def targets(self, answers):
        found = super().targets(answers)
        return found.masked_fill(found == SEP, PAD)


class IgnoresWhatIsWritten(Spans):
    def choose(self, tokens, goes_on):
        alive = self.alive
        super().choose(tokens, goes_on)
        self.alive = alive


FAULTS = [
    (lambda: test_the_masks_are_to_become_the_answer_and_then_the_end_mark("MLMReader"), "MLMReader", WithoutTheEnd),
    (lambda: agrees_with_the_literal_decoder("MLMReader", 1), "Spans", IgnoresWhatIsWritten),
    (lambda: agrees_with_the_literal_decoder("Seq2SeqReader", 1), "Spans", IgnoresWhatIsWritten),
]  # fmt: skip
