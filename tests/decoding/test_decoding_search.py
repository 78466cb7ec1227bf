"""The searches of kexue.decoding: against literal ones, enumeration, exact search, and bad input."""

import itertools
import math

import pytest
import torch
from refusing import refuses
from replacing import replace
from translators import (
    BOTH_WAYS,
    F64,
    KINDS,
    ONE_WAY,
    SIDES,
    SRC,
    HearsTheFuture,
    all_log_probs,
    both,
    model_of,
    ordered,
    search,
    sequences,
    single,
    sources,
)

from kexue import decoding
from kexue.decoding import Hypothesis, beam_search, bidirectional_beam_search, pad_ids, token_log_probs
from kexue.decoding.search import _Search

AVERAGES = ["mean", "weighted"]


def same(found, expected):
    assert [one[:1] + one[2:] for one in found] == [one[:1] + one[2:] for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-9)


@torch.no_grad()
def conditionals(model, source, several):
    """Of paths, one for each side, end markers included: the next word's probabilities on each side."""
    reads, places = [], []
    for paths in several:
        markers = map(model.start_end, model.directions)
        rows = [
            [start, *(w for w in path if w != end)] for path, (start, end) in zip(paths, markers, strict=True)
        ]
        reads.append(pad_ids(rows))
        places.append([len(row) - 1 for row in rows])
    longest = max(one.shape[1] for one in reads)
    batch = torch.stack([torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in reads])
    out = model(torch.tensor([source] * len(batch)), batch).exp()
    return [[out[b, row, n].tolist() for row, n in enumerate(where)] for b, where in enumerate(places)]


def literal_search(model, source, k, max_length, average="mean"):
    """One source; every path, or pair of paths, anew, as the article says it. k = 1 is greedy on both sides.

    What has not ended after `max_length` steps is returned unfinished.
    """
    sides, ends = model.directions, [model.start_end(side)[1] for side in model.directions]
    beams = [[((), 0.0)] for _ in sides]
    for _ in range(max_length):
        several = list(itertools.product(*([path for path, _ in beam] for beam in beams)))
        table = dict(zip(several, conditionals(model, source, several), strict=True))
        longer = []
        for row, beam in enumerate(beams):
            others = beams[1 - row] if len(sides) == 2 else [((), 0.0)]
            weights = [math.exp(score) if average == "weighted" else 1.0 for _, score in others]
            candidates = [(path, score) for path, score in beam if ends[row] in path]
            for path, score in beam:
                if ends[row] in path:
                    continue
                pairs = [((path, r) if row == 0 else (r, path))[: len(sides)] for r, _ in others]
                for word in [*range(3, model.tgt_vocab_size), ends[row]]:
                    mean = sum(w * table[p][row][word] for w, p in zip(weights, pairs, strict=True)) / sum(
                        weights
                    )
                    added = 1e-6 if len(sides) == 2 else 0.0
                    candidates.append(((*path, word), score + math.log(mean + added)))
            longer.append(sorted(candidates, key=lambda one: -one[1])[:k])
        beams = longer
        best = [beam[0] for beam in beams]
        if len(sides) == 2 and any(
            end in path and score == max(best[0][1], best[1][1])
            for end, (path, score) in zip(ends, best, strict=True)
        ):
            break
    found = []
    for side, end, beam in zip(sides, ends, beams, strict=True):
        for path, score in beam:
            tokens = [w for w in path if w != end]
            found.append(Hypothesis(tuple(ordered(side, tokens)), score, side, end in path))
    return sorted(found, key=lambda one: -one.score)


# Seeds and the end markers' logits with which hypotheses have various lengths and some do not end.
VARIED = {
    "l2r": [(21, -1.2), (15, -0.4)],
    "r2l": [(11, -0.4), (7, -0.8)],
    "shared": [(15, -1.2), (13, -0.4)],
    "separate": [(3, -1.2), (14, -0.4)],
}


def agrees_with_the_literal_search(kind, k, *average, models=2, lengths=(3, 1, 5)):
    """All hypotheses of both."""
    everything = []
    for seed, end in VARIED[kind][:models]:
        model, source = model_of(kind, seed, end=end), sources(*lengths, seed=seed)
        for found, src in zip(search(model, pad_ids(source), k, 6, *average), source, strict=True):
            same(found, literal_search(model, src, k, 6, *average))
            everything += found
    return everything


@pytest.mark.verifies("decoding.search", "decoding.eq1")
@pytest.mark.parametrize("kind", ONE_WAY)
def test_a_wide_beam_finds_the_best_of_all_sequences(kind):
    model = model_of(kind, words=2)
    for source in sources(3, 1):
        exact = sorted(all_log_probs(model, source, 2, 4).items(), key=lambda one: -one[1])
        (found,) = decoding.beam_search(model, torch.tensor([source]), 40, 4)
        assert len(found) == len(exact) == 31
        for one, (tokens, log_prob) in zip(found, exact, strict=True):
            # A prefix of four tokens is unfinished.
            assert (one.tokens, one.direction, one.finished) == (tokens, kind, len(tokens) < 4)
            assert one.score == pytest.approx(log_prob, abs=1e-10)


@pytest.mark.slow
@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize(
    ("kind", "average"),
    [("l2r", []), ("r2l", []), *itertools.product(BOTH_WAYS, (["mean"], ["weighted"]))],
)
def test_the_search_is_the_literal_one(kind, average, k):
    found = agrees_with_the_literal_search(kind, k, *average)
    assert {one.direction for one in found} == ({kind} if kind in ONE_WAY else set(SIDES))
    assert {one.finished for one in found} == {True, False}
    assert len({len(one.tokens) for one in found}) >= 3


@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("average", AVERAGES)
def test_a_beam_as_wide_as_all_prefixes_is_an_enumeration(average):
    model, source = model_of("shared", 3, words=2, end=-1.0), [3, 6]
    for steps in (1, 2, 3):
        (found,) = decoding.bidirectional_beam_search(model, torch.tensor([source]), 20, steps, average)
        # Nothing has been left out, and no search has stopped early.
        for side in SIDES:
            paths = [(*h.tokens, h.finished) for h in found if h.direction == side]
            assert len(set(paths)) == len(paths) == 2 ** (steps + 1) - 1
        same(found, literal_search(model, source, 10**6, steps, average))


@pytest.mark.slow
@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("kind", ["l2r", "r2l", "shared"])
def test_sources_are_searched_alone_whatever_their_order_and_number(kind, monkeypatch):
    model, source = model_of(kind, 1, end=-0.5), sources(3, 1, 5, 2, 5, 4, 7)
    alone = [search(model, torch.tensor([one]), 3, 6)[0] for one in source]
    order = [4, 0, 6, 2, 5, 1, 3]
    src = torch.nn.functional.pad(pad_ids([source[i] for i in order]), (0, 2))
    for found, i in zip(search(model, src, 3, 6), order, strict=True):
        same(found, alone[i])
    sizes, encode = [], model.encode
    replace(decoding, "AT_ONCE", 3, monkeypatch)
    monkeypatch.setattr(model, "encode", lambda src: (sizes.append(src.shape), encode(src))[1])
    for found, one in zip(search(model, pad_ids(source), 3, 6), alone, strict=True):
        same(found, one)
    assert sizes == [(3, 3), (3, 5), (1, 7)]  # sources of like lengths together, no longer than they must


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_candidates_than_paths_give_fewer_hypotheses(kind):
    model, source = model_of(kind, words=1, end=-2.0), sources(3, 1)
    for n, average in itertools.product((1, 2, 3), [[]] if kind in ONE_WAY else [["mean"], ["weighted"]]):
        for src, found in zip(source, search(model, pad_ids(source), 9, n, *average), strict=True):
            same(found, literal_search(model, src, 9, n, *average))
            steps = max(len(one.tokens) for one in found)
            for side in model.directions:  # ended after 0, 1, … tokens, or not at all
                ended = {one.tokens: one.finished for one in found if one.direction == side}
                assert ended == {(3,) * m: m < steps for m in range(steps + 1)}
            assert len(found) == len(model.directions) * (steps + 1)


@pytest.mark.parametrize("kind", ["l2r", "r2l", "shared"])
def test_a_search_uses_no_dropout_and_leaves_the_mode(kind):
    model, src = model_of(kind, dropout=0.5), pad_ids(sources(3, 1))
    expected = search(model, src, 2, 5)
    model.train()
    assert search(model, src, 2, 5) == expected
    assert model.training


# --- No model's probability, and yet a model of pairs ------------------------------------------


@pytest.mark.verifies("decoding.claim3")
@pytest.mark.parametrize("kind", BOTH_WAYS)
@torch.no_grad()
def test_both_sides_conditionals_make_a_model_of_pairs_of_which_few_agree(kind):
    model, source, steps = model_of(kind, words=2, end=1.0), [3, 6], 3
    ends = [model.start_end(side)[1] for side in SIDES]
    mass = {((), ()): 1.0}
    for _ in range(steps):
        longer = {}
        for (pair, p), table in zip(mass.items(), conditionals(model, source, mass), strict=True):
            options = [
                [(path, 1.0)] if end in path else [((*path, w), row[w]) for w in (3, 4, end)]
                for path, end, row in zip(pair, ends, table, strict=True)
            ]
            for (left, q), (right, r) in itertools.product(*options):
                longer[left, right] = p * q * r
        mass = longer
    assert len(mass) == 15**2
    assert math.fsum(mass.values()) == pytest.approx(1, abs=1e-12)
    # Pairs that agree: what teacher forcing gives them is what the product gives them.
    agree = 0.0
    for n in range(steps):
        for sequence in sequences(2, n):
            pair = (*sequence, ends[0]), (*sequence[::-1], ends[1])
            chosen, _ = token_log_probs(
                model, torch.tensor([source]), torch.tensor(sequence).long().view(1, -1)
            )
            assert mass[pair] == pytest.approx(float(chosen.sum().exp()), rel=1e-10)
            agree += mass[pair]
    ended = math.fsum(p for (left, right), p in mass.items() if ends[0] in left and ends[1] in right)
    assert 0 < agree < 0.9 * ended < 0.9
    assert 1 - (ended - agree) < 0.9  # however those go on that have not ended


# --- An average that dilutes -------------------------------------------------------------------


def scripted(model, first, hearing_best, hearing_others):
    """Lets the model give step 1 these probabilities, and later steps these, by the rank of who is heard."""
    steps = []

    def log_probs(state, heard, seen):
        steps.append(0)
        out = torch.tensor(first if len(steps) == 1 else hearing_others, dtype=F64).repeat(
            *heard.shape[:-1], 1
        )
        if len(steps) > 1:
            out[..., 0, :] = torch.tensor(hearing_best, dtype=F64)
        ids = torch.zeros(*out.shape[:-1], model.tgt_vocab_size, dtype=F64)
        ids[..., 3:] = out[..., 1:]
        ids[:, 0, ..., 2] = ids[:, 1, ..., 1] = out[:, 0, ..., 0]
        return ids.log()

    model.log_probs = log_probs
    return model


@pytest.mark.verifies("decoding.claim7", "decoding.search")
def test_the_mean_over_the_other_beam_dilutes_and_weights_repair_it():
    # Of the end marker and of tokens 3 to 6.
    first, best, others = (
        [0.01, 0.85, 0.06, 0.05, 0.03],
        [0.02, 0.9, 0.05, 0.02, 0.01],
        [0.02, 0.06, 0.89, 0.02, 0.01],
    )

    def search(k, average):
        model = scripted(model_of("shared", words=4), first, best, others)
        (found,) = decoding.bidirectional_beam_search(model, torch.tensor([[3]]), k, 2, average)
        return next(one for one in found if one.direction == "l2r")

    kept = [p + 1e-6 for p in first[1:]]
    for k in (1, 2, 3, 4):
        for average, weight in (("mean", 1 / k), ("weighted", kept[0] / sum(kept[:k]))):
            right, wrong = weight * 0.9 + (1 - weight) * 0.06, weight * 0.05 + (1 - weight) * 0.89
            found = search(k, average)
            assert found.tokens == ((3, 3) if right > wrong else (3, 4))
            assert found.score == pytest.approx(math.log(kept[0] * (max(right, wrong) + 1e-6)), abs=1e-12)
    assert (search(1, "mean").tokens, search(4, "mean").tokens) == ((3, 3), (3, 4))
    assert search(4, "weighted").tokens == (3, 3)


@pytest.mark.verifies("decoding.search")
def test_a_tie_between_the_sides_ends_the_search():
    # Both sides' best paths have ended at once, with the same score; the others are not gone on with.
    model = scripted(model_of("shared", words=4), [0.6, 0.2, 0.1, 0.07, 0.03], [0.2] * 5, [0.2] * 5)
    (found,) = decoding.bidirectional_beam_search(model, torch.tensor([[3]]), 2, 5)
    assert [(one.tokens, one.finished) for one in found] == [((), True)] * 2 + [((3,), False)] * 2
    assert {one.direction for one in found[:2]} == {one.direction for one in found[2:]} == set(SIDES)
    assert [one.score for one in found] == pytest.approx([math.log(p + 1e-6) for p in (0.6, 0.6, 0.2, 0.2)])


# --- Bad input ---------------------------------------------------------------------------------


test_bad_input_is_named = refuses([
    (lambda: beam_search(both(), SRC, 2, 3), TypeError, "model must be a Seq2Seq, got BidirectionalSeq2Seq"),
    (lambda: bidirectional_beam_search(single(), SRC, 2, 3), TypeError, "model must be a BidirectionalSeq2Seq, got Seq2Seq"),
    (lambda: beam_search(single(), SRC, 0, 3), ValueError, "beam_size must be at least 1, got 0"),
    (lambda: bidirectional_beam_search(both(), SRC, 1.5, 3), TypeError, "beam_size must be an int, got float"),
    (lambda: beam_search(single(), SRC, 1, 0), ValueError, "max_length must be at least 1, got 0"),
    (lambda: bidirectional_beam_search(both(), SRC, 1, 3, "max"), ValueError, "average must be 'mean' or 'weighted', got 'max'"),
])  # fmt: skip


# --- Faults: under each, its verifier fails ----------------------------------------------------


class ForgetsParents(_Search):
    def select(self, rows):
        super().select(torch.arange(len(rows)) if rows.dtype == torch.int64 else rows)


class StopsWhenAllHaveEnded(_Search):
    def done(self):
        return self.beam.finished.all(-1).all(-1)


class ExtendsWhatHasEnded(_Search):
    def choose(self, log_probs):
        self.beam.finished = torch.zeros_like(self.beam.finished)
        super().choose(log_probs)


class NeverWeighs(_Search):
    def step_log_probs(self, average):
        return super().step_log_probs("mean")


def literal(kind, k, *average):
    return lambda: agrees_with_the_literal_search(kind, k, *average, models=1, lengths=(3, 5, 1))


FAULTS = [
    (literal("l2r", 3), "_Search", ForgetsParents),
    (lambda: test_a_wide_beam_finds_the_best_of_all_sequences("r2l"), "_Search", ForgetsParents),
    (literal("shared", 2, "mean"), "_Search", ForgetsParents),
    (literal("shared", 2, "mean"), "_Search", StopsWhenAllHaveEnded),
    (literal("shared", 2, "mean"), "_Search", ExtendsWhatHasEnded),
    (literal("shared", 2, "weighted"), "_Search", NeverWeighs),
    (literal("shared", 1, "mean"), "TINY", 0.0),
    (literal("shared", 1, "mean"), "TINY", 1e-3),
    (test_the_mean_over_the_other_beam_dilutes_and_weights_repair_it, "_Search", NeverWeighs),
    (lambda: test_both_sides_conditionals_make_a_model_of_pairs_of_which_few_agree("shared"), "BidirectionalSeq2Seq", HearsTheFuture),
]  # fmt: skip
