"""Bad input to kexue.reading: the argument, its value and what was expected are named."""

import math

import torch
from readers import PAPER, examples, reader_of
from refusing import refuses

from kexue import reading
from kexue.reading import (
    Answer,
    Characters,
    ClozeDataset,
    MaskedLM,
    exact_match,
    segmentation_counts,
    tags_of_words,
    vote,
    words_of_tags,
)

ASK, IDS = (["ab"], ["c"]), torch.tensor([[2, 6, 3]])
SHOW = torch.zeros(1, 3, dtype=torch.bool)


def lm(*args, **options):
    return MaskedLM(*args, **{"hidden_size": 8, "num_heads": 2, "num_layers": 1, **options})


def mlm(longest=2, **options):
    return reader_of("MLMReader", longest=longest, **options)


def s2s(longest=2, **options):
    return reader_of("Seq2SeqReader", longest=longest, **options)


def crf(emissions=(1, 3, 2), tags=(1, 3), value=0, mask=None):
    real = torch.ones(1, 3, dtype=torch.bool) if mask is None else mask
    return reading.LinearChainCRF(2)(torch.zeros(emissions), torch.full(tags, value), real)


test_bad_input_is_named = refuses([
    # cloze
    (lambda: ClozeDataset(PAPER, ()), ValueError, r"kinds must be tags, at least one, got \(\)"),
    (lambda: ClozeDataset(PAPER, passage_length=0), ValueError, "passage_length must be at least 1, got 0"),
    (lambda: ClozeDataset(PAPER, question_length=7), ValueError, "question_length must be at least 8, got 7"),
    (lambda: ClozeDataset(PAPER, max_answer_length=1), ValueError, "max_answer_length must be at least 2, got 1"),
    # crf
    (lambda: reading.LinearChainCRF(0), ValueError, "num_tags must be at least 1, got 0"),
    (lambda: crf(emissions=(1, 3, 3)), ValueError, r"emissions must have shape \(B, T, 2\), T ≥ 1, got \(1, 3, 3\)"),
    (lambda: crf(emissions=(1, 0, 2)), ValueError, r"emissions must have shape .*, got \(1, 0, 2\)"),
    (lambda: crf(tags=(1, 2)), ValueError, r"tags must have shape \(1, 3\), got \(1, 2\)"),
    (lambda: crf(value=2), ValueError, "tags must lie within 0 … 1, got 2 … 2"),
    (lambda: crf(mask=torch.ones(1, 2, dtype=torch.bool)), ValueError, r"mask must be boolean of shape \(1, 3\), got torch\.bool of shape \(1, 2\)"),
    (lambda: crf(mask=torch.ones(1, 3)), ValueError, r"mask must be boolean of shape \(1, 3\), got torch\.float32"),
    (lambda: crf(mask=torch.tensor([[False, True, True]])), ValueError, "mask must be True at the beginning of each row"),
    (lambda: reading.LinearChainCRF(2)(torch.zeros(1, 3, 2), torch.zeros(1, 3), torch.ones(1, 3) > 0), TypeError, "tags must be integers, got torch.float32"),
    # encoder
    (lambda: lm(9.0), TypeError, "vocab_size must be an int, got float"),
    (lambda: lm(9, num_heads=8), ValueError, "num_heads must divide hidden_size = 8 into even sizes, got 8"),
    (lambda: lm(9, dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
    (lambda: lm(9, vocabulary=Characters(["a"])), ValueError, "vocabulary must have vocab_size = 9 ids, got 7"),
    (lambda: lm(9)(torch.tensor([[9]])), ValueError, "ids must lie within 0 … 8, got 9 … 9"),
    (lambda: lm(9, max_length=5).states(IDS, past=lm(9).states(IDS)[1]), ValueError, "ids must be at most max_length = 5 tokens, got 6"),
    (lambda: lm(9).states(IDS, past=lm(9).states(IDS)[1]), ValueError, "mask must be given where past is, got None"),
    (lambda: lm(9)(torch.zeros(3, dtype=torch.long)), ValueError, r"ids must have shape \(B, T\), got \(3,\)"),
    (lambda: lm(9)(torch.zeros(1, 3)), TypeError, "ids must be integers, got torch.float32"),
    (lambda: Characters(["ab"]).decode([-1]), ValueError, "ids must lie within 0 … 7, got -1"),
    # evaluation
    (lambda: exact_match("a", []), ValueError, r"references must hold at least one, got \[\]"),
    (lambda: vote([]), ValueError, "answers must hold at least one, got none"),
    (lambda: vote([Answer("a", float("nan"))]), ValueError, r"answers must have scores within \[0, 1\], got nan"),
    # independence
    (lambda: reading.total_correlation(torch.ones(2, 2)), ValueError, r"joint must be nonnegative and sum to 1, got .* a sum 4\.0"),
    (lambda: reading.product_of_marginals(torch.tensor([1.5, -0.5])), ValueError, r"joint must be nonnegative .* smallest entry -0\.5"),
    (lambda: reading.total_correlation(torch.tensor([1.0, math.nan])), ValueError, "joint must be nonnegative and sum to 1"),
    (lambda: reading.total_correlation(torch.tensor(1.0)), ValueError, r"joint must have an axis for each variable, got shape \(\)"),
    (lambda: reading.total_correlation(torch.tensor([1, 0])), TypeError, "joint must have a floating-point dtype"),
    # mlm
    (lambda: mlm().answer(*ASK, passes=2), ValueError, "passes must be 1 where constrain is True, got 2"),
    (lambda: mlm().refinement_loss([], SHOW[:0]), ValueError, "batch must hold at least one question, got none"),
    (lambda: mlm().refinement_loss(examples()[:1], SHOW[:, :2]), ValueError, r"revealed must have shape \(1, 3\), got \(1, 2\)"),
    (lambda: mlm().refinement_loss(examples()[:1], torch.zeros(1, 3)), TypeError, "revealed must be boolean, got torch.float32"),
    # reader
    (lambda: reading.MLMReader(MaskedLM(9, 8, 2, 1), 2), ValueError, "encoder must carry a vocabulary, got None"),
    (lambda: mlm(0), ValueError, "max_answer_length must be at least 1, got 0"),
    (lambda: mlm().answer("ab", ["c"]), TypeError, "passages must be a list of strings, got 'ab'"),
    (lambda: s2s().answer(["ab", 1], ["c", "d"]), TypeError, r"passages must be a list of strings, got \['ab', 1\]"),
    (lambda: s2s().answer(["ab"], ["c", "d"]), ValueError, "questions must be as many as passages, at least one, got 2 and 1"),
    (lambda: mlm().answer(["ab", ""], ["c", "d"]), ValueError, "passages must not be empty, got '' at 1"),
    (lambda: mlm(max_length=10).answer(["ab"], ["ccc"]), ValueError, "a passage and a question must fit the encoder's 10 tokens beside an answer of 2, got 2 and 3 at 0"),
    (lambda: s2s(max_length=10).log_prob(["abc"], ["cc"], ["a"]), ValueError, "a passage and a question must fit the encoder's 10 tokens beside an answer of 2, got 3 and 2 at 0"),
    (lambda: mlm().answer(*ASK, batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    (lambda: mlm().log_prob(*ASK, ["abc"]), ValueError, "answers must have 1 to max_answer_length = 2 tokens, got 'abc' with 3"),
    (lambda: s2s().log_prob(*ASK, []), ValueError, "answers must be as many as passages, 1, got 0"),
    (lambda: mlm().log_prob(*ASK, [3]), TypeError, r"answers must be a list of strings, got \[3\]"),
    (lambda: mlm().candidate_log_probs(*ASK, [["a"], ["b"]]), ValueError, "candidates must be as many as passages, 1, got 2"),
    (lambda: s2s().candidate_log_probs(*ASK, [[]]), ValueError, "candidates must hold at least one for each question, got none at 0"),
    (lambda: s2s().candidate_log_probs(*ASK, ["ab"]), TypeError, "candidates must be a list of strings, got 'ab'"),
    (lambda: mlm().loss([]), ValueError, "batch must hold at least one question, got none"),
    (lambda: mlm().answer(*ASK, "no"), TypeError, "constrain must be a bool, got str"),
    # segmentation
    (lambda: tags_of_words(["a", ""]), ValueError, r"words must not be empty, got \['a', ''\]"),
    (lambda: words_of_tags("ab", [0]), ValueError, "tags must be as many as the text's characters, 2, got 1"),
    (lambda: segmentation_counts(["ab"], ["a", "c"]), ValueError, "found must be a segmentation of the text of true, got 'ab'"),
    # seq2seq
    (lambda: s2s().answer(*ASK, beam_size=0), ValueError, "beam_size must be at least 1, got 0"),
])  # fmt: skip
