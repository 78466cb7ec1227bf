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
    Example,
    agrees,
    distribution,
    examples,
    ids_of,
    literal_text,
    options_of,
    reader_of,
)
from torch import nn

from kexue import reading
from kexue.reading import BLANK, Answer, Characters, MaskedLM
from kexue.reading.reader import Spans

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")


@pytest.mark.verifies("reading.input")
@pytest.mark.parametrize("head", HEADS)
def test_the_masks_are_to_become_the_answer_and_then_the_end_mark(head):
    found = reader_of(head, longest=3).targets(["a", "dXb", "cd"])
    assert found.tolist() == [[6, SEP, PAD, PAD], [9, UNK, 7, SEP], [8, 9, SEP, PAD]]


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
def test_dropout_in_training_only(head):
    reader, batch = reader_of(head, dropout=0.5), examples()
    expected = reader.answer(PASSAGES, QUESTIONS)
    reader.train()
    assert reader.answer(PASSAGES, QUESTIONS) == expected
    assert reader.training
    assert reader.loss(batch).item() != reader.loss(batch).item()


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


def mlm(longest=2, **options):
    return reader_of("MLMReader", longest=longest, **options)


def s2s(longest=2, **options):
    return reader_of("Seq2SeqReader", longest=longest, **options)


ASK = (["ab"], ["c"])


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reading.MLMReader(MaskedLM(9, 8, 2, 1), 2), ValueError, "encoder must carry a vocabulary, got None"),
        (lambda: reading.Seq2SeqReader(nn.Linear(2, 2), 2), ValueError, "encoder must carry a vocabulary, got None"),
        (lambda: mlm(0), ValueError, "max_answer_length must be at least 1, got 0"),
        (lambda: s2s(2.0), TypeError, "max_answer_length must be an int, got float"),
        (lambda: mlm().answer("ab", ["c"]), TypeError, "passages must be a list of strings, got 'ab'"),
        (lambda: mlm().answer(["ab"], "c"), TypeError, "questions must be a list of strings, got 'c'"),
        (lambda: s2s().answer(["ab", 1], ["c", "d"]), TypeError, r"passages must be a list of strings, got \['ab', 1\]"),
        (lambda: mlm().answer([], []), ValueError, "questions must be as many as passages, at least one, got 0 and 0"),
        (lambda: s2s().answer(["ab"], ["c", "d"]), ValueError, "questions must be as many as passages, at least one, got 2 and 1"),
        (lambda: mlm().answer(["ab", ""], ["c", "d"]), ValueError, "passages must not be empty, got '' at 1"),
        (lambda: s2s().answer(["ab"], [""]), ValueError, "questions must not be empty, got '' at 0"),
        (lambda: mlm(max_length=10).answer(["ab"], ["ccc"]), ValueError, "must fit the encoder's 10 tokens beside an answer of 2, got 2 and 3 at 0"),
        (lambda: s2s(max_length=10).log_prob(["abc"], ["cc"], ["a"]), ValueError, "must fit the encoder's 10 tokens beside an answer of 2, got 3 and 2 at 0"),
        (lambda: mlm().answer(*ASK, batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: mlm().log_prob(*ASK, ["abc"]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got 'abc' with 3"),
        (lambda: s2s().log_prob(*ASK, [""]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got '' with 0"),
        (lambda: s2s().log_prob(*ASK, []), ValueError, "answers must be as many as passages, 1, got 0"),
        (lambda: mlm().log_prob(*ASK, [3]), TypeError, r"answers must be a list of strings, got \[3\]"),
        (lambda: mlm().candidate_log_probs(*ASK, [["a"], ["b"]]), ValueError, "candidates must be as many as passages, 1, got 2"),
        (lambda: s2s().candidate_log_probs(*ASK, [[]]), ValueError, "candidates must hold at least one for each question, got none at 0"),
        (lambda: s2s().candidate_log_probs(*ASK, ["ab"]), TypeError, "candidates must be a list of strings, got 'ab'"),
        (lambda: s2s().candidate_log_probs(*ASK, [["abc"]]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got 'abc' with 3"),
        (lambda: mlm().loss([]), ValueError, "batch must hold at least one question, got none"),
        (lambda: mlm().answer(*ASK, "no"), TypeError, "constrain must be a bool, got str"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


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


def greedy_fault(head):
    return lambda: agrees_with_the_literal_greedy(head, PASSAGES, QUESTIONS)


FAULTS = [
    (lambda: test_the_masks_are_to_become_the_answer_and_then_the_end_mark("MLMReader"), "MLMReader", WithoutTheEnd),
    (greedy_fault("MLMReader"), "Spans", IgnoresWhatIsWritten),
    (greedy_fault("Seq2SeqReader"), "Spans", IgnoresWhatIsWritten),
]  # fmt: skip
