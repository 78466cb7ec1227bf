"""The models of kexue.decoding: against loops over single vectors, finite differences, and bad input."""

import copy
import itertools
import math

import pytest
import torch
from refusing import refuses
from translators import (
    BOTH_WAYS,
    KINDS,
    ONE_WAY,
    SRC,
    TGT,
    HearsTheFuture,
    all_log_probs,
    both,
    literal_log_probs,
    model_of,
    ordered,
    randint,
    search,
    single,
    sources,
    targets,
)

from kexue import decoding
from kexue.decoding import BidirectionalSeq2Seq, Seq2Seq, pad_ids, token_log_probs

INF = math.inf


# Only a model of both directions hears another target than its own.
CASES = [(kind, heard) for kind in KINDS for heard in (False, True) if kind in BOTH_WAYS or not heard]


def reads_of(model, target):
    """(1, D, T): what each side reads of one target."""
    return model.reads_and_writes(torch.tensor([target]).long().view(1, -1))[0]


@torch.no_grad()
def agrees_with_the_literal_model(model, source, target, heard=None):
    reads = reads_of(model, target)
    told = reads if heard is None else reads_of(model, heard)
    out = model(torch.tensor([source]), reads, *[] if heard is None else [told])
    assert out.shape == (1, len(model.directions), len(target) + 1, len(model.out.bias))
    for row, side in enumerate(model.directions):
        own, other = reads[0, row].tolist(), told[0, len(model.directions) - 1 - row].tolist()
        for n in range(len(own)):
            expected = literal_log_probs(model, source, side, own, other, n)
            found = {i: p for i, p in enumerate(out[0, row, n].tolist()) if p > -INF}
            assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.slow
@pytest.mark.verifies("decoding.eq1", "decoding.eq2", "decoding.eq3")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_each_side_listens_to_the_other_s_first_states(kind, layers):
    model = model_of(kind, layers=layers)
    agrees_with_the_literal_model(model, [3, 7, 5], [4, 3, 5, 5])
    agrees_with_the_literal_model(model, [6], [])
    if kind in BOTH_WAYS:  # which may hear another target than what is written
        agrees_with_the_literal_model(model, [3, 7], [4, 3, 5], [3])
        agrees_with_the_literal_model(model, [3, 7], [4, 3, 5], [5, 4, 3, 3, 5, 4])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("words", [1, 5])
def test_both_models_have_the_same_parameters(words, layers):
    single, pair, apart = (model_of(kind, words=words, layers=layers) for kind in ("r2l", *BOTH_WAYS))
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (single, pair)]
    assert shapes[0] == shapes[1]
    assert single.state_dict().keys() == shapes[0].keys()
    count = [sum(p.numel() for p in model.parameters()) for model in (pair, apart)]
    assert count[1] - count[0] == 2 * 8 + 2 * 9  # embeddings of two more markers, and their rows of `out`
    cross = decoding.cross_entropy(single, pad_ids([[3, 4]]), pad_ids([[3, 3]])).sum()
    assert all(g.isfinite().all() for g in torch.autograd.grad(cross, list(single.parameters())))


def test_embedded_ids_have_variance_one_at_first():
    torch.manual_seed(0)
    model = Seq2Seq(2000, 2000, 16, 2, 1, 1, 0.0)
    for embedding in (model.src_embedding, model.tgt_embedding):
        assert float(model._embed(embedding, torch.arange(2000)).detach().var()) == pytest.approx(1, abs=0.05)


def test_markers():
    for kind, left, right in (("shared", (1, 2), (2, 1)), ("separate", (1, 2), (7, 6))):
        model = model_of(kind)
        assert model.start_end("l2r") == left
        assert model.start_end("r2l") == right
    assert model_of("r2l").start_end("r2l") == (2, 1)


@pytest.mark.verifies("decoding.eq1")
@pytest.mark.parametrize("kind", ONE_WAY)
def test_the_probabilities_of_all_sequences_sum_to_one(kind):
    found = all_log_probs(model_of(kind, words=2), [3, 7], 2, 4)
    assert len(found) == 1 + 2 + 4 + 8 + 16
    assert math.fsum(map(math.exp, found.values())) == pytest.approx(1, abs=1e-12)
    finished = math.fsum(math.exp(p) for s, p in found.items() if len(s) < 4)
    assert 0.05 < finished < 0.999  # both parts count


# --- Causality, padding, batches ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.verifies("decoding.eq2", "decoding.eq3")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_step_depends_on_both_sides_up_to_it_and_on_nothing_later(kind, layers):
    model, src = model_of(kind, layers=layers), pad_ids(sources(3))
    sides, steps = len(model.directions), 6
    reads = randint(3, 6, 1, sides, steps)
    before = model(src, reads)
    for side, m in itertools.product(range(sides), range(steps)):
        moved = reads.clone()
        moved[0, side, m] = 3 + (moved[0, side, m] - 2) % 3
        after = model(src, moved)
        assert torch.equal(after[:, :, :m], before[:, :, :m])
        change = (after - before)[0, :, m:].nan_to_num().abs().amax(-1)
        assert (change > 1e-7).all()


@pytest.mark.parametrize("part", ["embedding", "mix", "states"])
def test_dropout_acts_in_three_places(part):
    noisy, quiet = model_of("shared", dropout=0.5), model_of("shared")
    noisy.train()
    for block in (*noisy.encoder, *noisy.decoder):  # what they do is tested with them
        block.eval()
    encoded, reads = quiet.encode(pad_ids(sources(4))), randint(3, 6, 1, 2, 6)
    h, _ = quiet.states(reads, encoded)
    if part == "states":  # beside the embedding, what is seen of the source
        noisy._embed = quiet._embed
    once, twice, exact = (
        {
            "embedding": lambda: model._embed(model.tgt_embedding, reads),  # noqa: B023
            "mix": lambda: model.log_probs(h, h, h).exp(),  # noqa: B023
            "states": lambda: model.states(reads, encoded)[0],  # noqa: B023
        }[part]()
        for model in (noisy, noisy, quiet)
    )
    assert not torch.allclose(once, twice, atol=1e-3)
    assert not torch.allclose(once, exact, atol=1e-3)


# --- Loss --------------------------------------------------------------------------------------


@pytest.mark.verifies("decoding.eq1", "decoding.eq2", "decoding.eq3", "decoding.loss")
@pytest.mark.parametrize(("kind", "with_heard"), CASES)
@torch.no_grad()
def test_teacher_forcing_is_step_by_step_and_the_cross_entropy_a_loop(kind, with_heard):
    model, source = model_of(kind), sources(3, 1, 5)
    target, heard = targets(4, 0, 2), targets(1, 3, 6, seed=2)
    more = [pad_ids(heard)] if with_heard else []
    src, tgt = (torch.nn.functional.pad(pad_ids(one), (0, 2)) for one in (source, target))
    chosen, mask = token_log_probs(model, src, tgt, *more)
    assert mask.tolist() == [[n <= len(words) for n in range(7)] for words in target]
    assert not chosen[~mask[:, None].expand_as(chosen)].any()
    total = [0.0] * len(model.directions)
    for b, (one, words) in enumerate(zip(source, target, strict=True)):
        told = [reads_of(model, heard[b])] if with_heard else []
        for row, side in enumerate(model.directions):
            for n, word in enumerate([*ordered(side, words), model.start_end(side)[1]]):
                reads = reads_of(model, words)[:, :, : n + 1]
                step = model(torch.tensor([one]), reads, *told)[0, row, -1, word]
                assert float(chosen[b, row, n]) == pytest.approx(float(step), abs=1e-12)
                total[row] -= float(step)
    found = decoding.cross_entropy(model, src, tgt, *more)
    assert found.tolist() == pytest.approx([one / 9 for one in total], abs=1e-12)  # 4 + 0 + 2 tokens, 3 ends


@pytest.mark.verifies("decoding.loss")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences(kind):
    model, src, tgt = model_of(kind), pad_ids(sources(3, 1)), pad_ids(targets(4, 2))
    decoding.cross_entropy(model, src, tgt).mean().backward()
    for name in ("src_embedding", "encoder.0.enter", "source.1.query", "listen.key_value", "mix_heard"):
        parameter = model.get_parameter(f"{name}.weight")
        place = divmod(int(parameter.grad.abs().argmax()), parameter.shape[1])
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[place] += step
                values.append(float(decoding.cross_entropy(model, src, tgt).mean()))
                parameter[place] -= step
        slope = float(parameter.grad[place])
        assert abs(slope) > 1e-4
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_coarser_numbers_and_narrower_ids(kind):
    model, src, tgt = model_of(kind, scale=1.0), pad_ids(sources(3, 1)), pad_ids(targets(4, 2))
    exact, best = token_log_probs(model, src, tgt)[0], search(model, src, 3, 5)
    assert torch.equal(token_log_probs(model, src.int(), tgt.int())[0], exact)
    assert search(model, src.int(), 3, 5) == best
    single, half = copy.deepcopy(model).float(), copy.deepcopy(model).bfloat16()
    for coarse, autocast, tolerance in ((single, False, 1e-4), (single, True, 0.1), (half, False, 0.3)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found, hypotheses = token_log_probs(coarse, src, tgt)[0], search(coarse, src, 3, 5)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=0)
        scores = [[several[0].score for several in each] for each in (hypotheses, best)]
        assert scores[0] == pytest.approx(scores[1], abs=3 * tolerance)


# --- Bad input ---------------------------------------------------------------------------------


def ids(*rows, dtype=torch.int64):
    return torch.tensor(rows, dtype=dtype)


test_bad_input_is_named = refuses([
    (lambda: Seq2Seq(3, 6), ValueError, "src_vocab_size must be at least 4, got 3"),
    (lambda: BidirectionalSeq2Seq(8, True), TypeError, "tgt_vocab_size must be an int, got bool"),
    (lambda: single(num_encoder_layers=0), ValueError, "num_encoder_layers must be at least 1, got 0"),
    (lambda: both(num_decoder_layers=1.0), TypeError, "num_decoder_layers must be an int, got float"),
    (lambda: single(num_heads=3), ValueError, "num_heads must divide hidden_size = 8 into even sizes, got 3"),
    (lambda: both(hidden_size=6), ValueError, "num_heads must divide hidden_size = 6 into even sizes, got 2"),
    (lambda: single(dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
    (lambda: single(direction="left"), ValueError, r"direction must be one of \('l2r', 'r2l'\), got 'left'"),
    (lambda: both(markers="own"), ValueError, r"markers must be one of \('shared', 'separate'\), got 'own'"),
    (lambda: search(single(), SRC * 0, 2, 3), ValueError, "src must not have empty rows, got one at 0"),
    (lambda: search(both(), SRC[:, :0], 2, 3), ValueError, "src must not have empty rows, got one at 0"),
    (lambda: search(both(), SRC + 5, 2, 3), ValueError, "src must hold ids from 3 to 7, and 0 as padding, got 8"),
    (lambda: both()(SRC + 5, ids([[1], [2]])), ValueError, "src must hold ids from 3 to 7, and 0 as padding, got 8"),
    (lambda: both()(SRC[:1], ids([[1, 3]])), ValueError, r"reads must have shape \(1, 2, steps\), at least one step, got \(1, 1, 2\)"),
    (lambda: both()(SRC[:1], ids([[1], [2]]), ids([[1]])), ValueError, r"heard must have shape \(1, 2, steps\), .* got \(1, 1, 1\)"),
    (lambda: both()(SRC[:1], ids([[1], [6]])), ValueError, "reads must hold ids from 0 to 5, got 6"),
    (lambda: single()(SRC[:1], ids([[-1]])), ValueError, "reads must hold ids from 0 to 5, got -1"),
    (lambda: single()(SRC[:1], ids([[1.0]], dtype=torch.float32)), TypeError, r"reads must have dtype int64 or int32, got torch\.float32"),
    (lambda: token_log_probs(torch.nn.Linear(2, 2), SRC, TGT), TypeError, "model must be a Seq2Seq or a BidirectionalSeq2Seq, got Linear"),
    (lambda: token_log_probs(single(), SRC, TGT[:1]), ValueError, "tgt must have as many rows as src, 2, got 1"),
    (lambda: decoding.cross_entropy(both(markers="separate"), SRC, TGT + 3), ValueError, "tgt must hold ids from 3 to 5, and 0 as padding, got 6"),
    (lambda: token_log_probs(both(), SRC, TGT, TGT[:1]), ValueError, "heard must have as many rows as src, 2, got 1"),
    (lambda: token_log_probs(both(), SRC, TGT, TGT.double()), TypeError, r"heard must have dtype .*, got torch\.float64"),
    (lambda: token_log_probs(single(), SRC, TGT, TGT), ValueError, "heard must be None for a model of one direction"),
])  # fmt: skip


# --- Faults: under each, its verifier fails ----------------------------------------------------


class HearsItself(BidirectionalSeq2Seq):
    def forward(self, src, reads, heard=None):
        return super().forward(src, reads, reads.flip(1))


def per_sequence(model, src, tgt, heard=None):
    chosen, mask = token_log_probs(model, src, tgt, heard)
    return (-chosen.sum(-1) / mask.sum(-1, keepdim=True)).mean(0)


def without_the_end(model, src, tgt, heard=None):
    chosen, mask = token_log_probs(model, src, tgt, heard)
    tokens = mask[:, 1:]  # one step less in each row
    return -(chosen[..., :-1] * tokens[:, None]).sum((0, 2)) / tokens.sum()


def causality(kind="shared"):
    test_a_step_depends_on_both_sides_up_to_it_and_on_nothing_later(kind, 1)


FAULTS = [
    (causality, "BidirectionalSeq2Seq", HearsTheFuture),
    (causality, "BidirectionalSeq2Seq", HearsItself),
    (lambda: test_each_side_listens_to_the_other_s_first_states("shared", 1), "BidirectionalSeq2Seq", HearsItself),
    (lambda: test_the_probabilities_of_all_sequences_sum_to_one("l2r"), "causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)),
    (lambda: test_teacher_forcing_is_step_by_step_and_the_cross_entropy_a_loop("shared", False), "cross_entropy", per_sequence),
    (lambda: test_teacher_forcing_is_step_by_step_and_the_cross_entropy_a_loop("l2r", False), "cross_entropy", without_the_end),
]  # fmt: skip
