"""Mathematics of kexue.decoding: against loops over single sequences and pairs, enumeration, and bad input."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replacing import replace
from torch.nn.functional import gelu

from kexue import decoding
from kexue.decoding import (
    BidirectionalSeq2Seq,
    Hypothesis,
    Seq2Seq,
    beam_search,
    bidirectional_beam_search,
    error_rate,
    pad_ids,
    token_log_probs,
    with_markers,
    without_markers,
)
from kexue.decoding.search import _Search
from kexue.nn.attention import causal_mask

F64 = torch.float64
INF = math.inf
SIDES = ("l2r", "r2l")
ONE_WAY = SIDES
BOTH_WAYS = ("shared", "separate")
KINDS = [*ONE_WAY, *BOTH_WAYS]
AVERAGES = ["mean", "weighted"]

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")


def model_of(kind, seed=0, words=3, layers=2, end=0.0, scale=1.7, dropout=0.0):
    """Of one direction ("l2r", "r2l") or of both ("shared", "separate" markers), far from uniform.

    `end` is added to the logit of whatever ends a sequence.
    """
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 8,
        "num_heads": 2,
        "num_encoder_layers": 1,
        "num_decoder_layers": layers,
        "dropout": dropout,
    }
    if kind in ONE_WAY:
        model = decoding.Seq2Seq(8, 3 + words, direction=kind, **sizes)
    else:
        model = decoding.BidirectionalSeq2Seq(8, 3 + words, markers=kind, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
        model.out.bias.zero_()
        for side in model.directions:
            model.out.bias[model.start_end(side)[1]] = end
    return model.to(F64).eval()


def randint(low, high, *shape, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def sources(*lengths, seed=0):
    return [randint(3, 8, length, seed=100 * seed + i).tolist() for i, length in enumerate(lengths)]


def targets(*lengths, words=3, seed=1):
    return [randint(3, 3 + words, n, seed=100 * seed + i).tolist() for i, n in enumerate(lengths)]


def sequences(words, length):
    return list(itertools.product(range(3, 3 + words), repeat=length))


def reads_of(model, target):
    """(1, D, T): what each side reads of one target."""
    rows = [
        with_markers(torch.tensor([target]).long().view(1, -1), d, model.markers[d]) for d in model.directions
    ]
    return torch.stack([reads for reads, _ in rows], 1)


def ordered(side, target):
    return list(target) if side == "l2r" else list(target)[::-1]


# --- The models once more, one vector at a time ------------------------------------------------


def turned(vector, position):
    """Rotary: each pair of coordinates by its angle."""
    out = []
    for i in range(0, len(vector), 2):
        angle = position * 10_000 ** (-i / len(vector))
        a, b = vector[i], vector[i + 1]
        out += [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
    return torch.stack(out)


def literal_attention(attention, query, context, places=None):
    """What one vector sees of some others, head by head; places are its own, and those of the others."""
    q = attention.query(query)
    keys, values = attention.key_value(context).chunk(2, -1)
    size = len(q) // attention.num_heads
    here, there = (0, [0] * len(keys)) if places is None else places
    seen = []
    for head in range(attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        own = turned(q[part], here)
        scores = [float(turned(k[part], m) @ own) / math.sqrt(size) for k, m in zip(keys, there, strict=True)]
        total = math.fsum(map(math.exp, scores))
        seen.append(sum(math.exp(s) / total * value[part] for s, value in zip(scores, values, strict=True)))
    return attention.out(torch.cat(seen))


def literal_context(model, source, side):
    """The source's states, and their places as a side counts them, from its own end."""
    ids = torch.tensor([1, *source, 2])
    h = model.src_embedding.weight[ids] * model.hidden_size**0.5
    for block in model.encoder:
        h = block(h[None], None, torch.arange(len(ids)))[0][0]
    places = list(range(len(ids)))
    return model.encoder_norm(h), places if side == "l2r" else places[::-1]


def literal_states(model, source, side, ids):
    context, places = literal_context(model, source, side)
    h = model.tgt_embedding.weight[torch.tensor(ids)] * model.hidden_size**0.5
    for i, block in enumerate(model.decoder):
        if i:
            rows = enumerate(model.source_norm[i - 1](h))
            seen = [literal_attention(model.source[i - 1], row, context, (n, places)) for n, row in rows]
            h = h + torch.stack(seen)
        h = block(h[None], causal_mask(len(ids)), torch.arange(len(ids)))[0][0]
    return model.state_norm(h)


def other_side(model, side):
    return side if len(model.directions) == 1 else SIDES[1 - SIDES.index(side)]


def literal_log_probs(model, source, side, own, other, n):
    """Of what `side` writes at step n (from 0), a dictionary; own and other are ids that were read."""
    context, places = literal_context(model, source, side)
    h = literal_states(model, source, side, own)[n]
    told = literal_states(model, source, other_side(model, side), other)
    heard = literal_attention(model.listen, h, told[: n + 1])
    seen = literal_attention(model.source[-1], h, context, (n, places))
    mixed = model.mix_state(h) + model.mix_heard.weight @ heard + model.mix_source.weight @ seen
    logits = model.out(gelu(mixed)).tolist()
    allowed = [*range(3, model.tgt_vocab_size), model.start_end(side)[1]]
    total = math.log(math.fsum(math.exp(logits[i]) for i in allowed))
    return {i: logits[i] - total for i in allowed}


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
@pytest.mark.verifies("decoding.eq2", "decoding.eq3")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", BOTH_WAYS)
def test_each_side_listens_to_the_other_s_first_states(kind, layers):
    model = model_of(kind, layers=layers)
    agrees_with_the_literal_model(model, [3, 7, 5], [4, 3, 5, 5])
    agrees_with_the_literal_model(model, [6], [])


@pytest.mark.verifies("decoding.eq2", "decoding.eq3")
@pytest.mark.parametrize("heard", [[3], [5, 4, 3, 3, 5, 4]])
def test_the_sides_may_hear_another_target(heard):
    agrees_with_the_literal_model(model_of("shared"), [3, 7], [4, 3, 5], heard)


@pytest.mark.verifies("decoding.eq1")
@pytest.mark.parametrize("kind", ONE_WAY)
def test_a_single_side_listens_to_itself(kind):
    agrees_with_the_literal_model(model_of(kind), [3, 7, 5], [4, 3, 5, 5])


def test_the_model_of_one_direction_is_a_side_that_hears_itself():
    both = model_of("shared", layers=1)  # with more, states know from which end their side counts the source
    src, target = pad_ids(sources(3)), [4, 3, 5]
    reads = reads_of(both, target)
    out = both(src, reads, reads.flip(1))
    for row, side in enumerate(SIDES):
        one = model_of(side, layers=1)
        one.load_state_dict(both.state_dict())
        torch.testing.assert_close(
            one(src, reads[:, row : row + 1]), out[:, row : row + 1], atol=1e-12, rtol=0
        )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("words", [1, 5])
def test_both_models_have_the_same_parameters(words, layers):
    one, both, apart = (model_of(kind, words=words, layers=layers) for kind in ("r2l", *BOTH_WAYS))
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (one, both)]
    assert shapes[0] == shapes[1]
    assert one.state_dict().keys() == shapes[0].keys()
    count = [sum(p.numel() for p in model.parameters()) for model in (one, both, apart)]
    assert count[0] == count[1]
    assert count[2] - count[1] == 2 * 8 + 2 * 9  # embeddings of two more markers, and their rows of `out`
    parts = {name.split(".")[0] for name, p in one.named_parameters()}
    cross = decoding.cross_entropy(one, pad_ids([[3, 4]]), pad_ids([[3, 3]])).sum()
    grads = torch.autograd.grad(cross, list(one.parameters()))
    assert all(g.isfinite().all() for g in grads)
    assert {"listen", "mix_heard", "mix_source", "mix_state"} < parts


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


# --- One direction -----------------------------------------------------------------------------


@pytest.mark.verifies("decoding.eq1")
@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_normalised_over_what_may_be_written(kind):
    model = model_of(kind)
    out = model(pad_ids(sources(2)), reads_of(model, [4, 3, 5, 5]))
    torch.testing.assert_close(out.logsumexp(-1), torch.zeros(out.shape[:-1], dtype=F64), atol=1e-12, rtol=0)
    ends = {"l2r": [2], "r2l": [1], "shared": [2, 1], "separate": [2, 6]}[kind]
    for row, end in enumerate(ends):
        finite = out[0, row].isfinite()
        assert finite.all(0).nonzero().flatten().tolist() == sorted([3, 4, 5, end])
        assert (out[0, row][~finite] == -INF).all()


@pytest.mark.verifies("decoding.eq1", "decoding.eq2", "decoding.eq3")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_teacher_forced_sum_is_step_by_step(kind):
    model, source, target = model_of(kind), sources(3, 1, 5), targets(4, 0, 2)
    chosen, mask = token_log_probs(model, pad_ids(source), pad_ids(target))
    assert chosen.shape == (3, len(model.directions), 5)
    assert mask.tolist() == [[n <= len(one) for n in range(5)] for one in target]
    assert not chosen[~mask[:, None].expand_as(chosen)].any()
    for b, (src, tgt) in enumerate(zip(source, target, strict=True)):
        reads = reads_of(model, tgt)
        for row, side in enumerate(model.directions):
            total = 0.0
            for n, word in enumerate([*ordered(side, tgt), model.start_end(side)[1]]):
                step = model(torch.tensor([src]), reads[:, :, : n + 1])[0, row, -1, word]
                assert float(chosen[b, row, n]) == pytest.approx(float(step), abs=1e-12)
                total += float(step)
            assert float(chosen[b, row].sum()) == pytest.approx(total, abs=1e-12)


@torch.no_grad()
def all_log_probs(model, source, words, length):
    """log p of all sequences of fewer tokens, and of all prefixes of so many, by sequence."""
    found = {}
    for n in range(length + 1):
        several = sequences(words, n)
        tgt = torch.tensor(several, dtype=torch.int64).view(len(several), n)
        chosen, _ = token_log_probs(model, torch.tensor([source] * len(several)), tgt)
        steps = chosen[:, 0, :n].sum(-1) if n == length else chosen[:, 0].sum(-1)
        found.update(zip(several, steps.tolist(), strict=True))
    return found


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


@pytest.mark.verifies("decoding.eq2", "decoding.eq3")
def test_what_is_heard_takes_the_place_of_what_the_other_side_reads():
    model, src = model_of("shared"), pad_ids(sources(3))
    reads, heard = randint(3, 6, 1, 2, 6), randint(3, 6, 1, 2, 8, seed=1)
    before = model(src, reads, heard)
    for side, m in itertools.product(range(2), range(8)):
        moved = heard.clone()
        moved[0, side, m] = 3 + (moved[0, side, m] - 2) % 3
        after = model(src, reads, moved)
        assert torch.equal(after[:, side], before[:, side])
        assert torch.equal(after[:, :, :m], before[:, :, :m])
        assert ((after - before)[0, 1 - side, m:].nan_to_num().abs().amax(-1) > 1e-7).all()
        if m < 6:
            other = reads.clone()
            other[0, 1 - side, m] = 3 + (other[0, 1 - side, m] - 2) % 3
            assert torch.equal(model(src, other, heard)[:, side], before[:, side])


@pytest.mark.slow
@pytest.mark.verifies("decoding.eq2", "decoding.eq3")
@pytest.mark.parametrize("with_heard", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_batch_mates_change_nothing(kind, with_heard):
    model = model_of(kind)
    if with_heard and kind in ONE_WAY:
        return
    source, target, heard = sources(3, 1, 5, 2), targets(4, 0, 2, 5), targets(1, 3, 6, 0, seed=2)

    def padded(rows, more):
        return torch.nn.functional.pad(pad_ids(rows), (0, more))

    for more in (0, 3):
        others = [padded(heard, more)] if with_heard else []
        together, _ = token_log_probs(model, padded(source, more), padded(target, more), *others)
        for b in range(4):
            others = [pad_ids([heard[b]])] if with_heard else []
            alone, mask = token_log_probs(model, pad_ids([source[b]]), pad_ids([target[b]]), *others)
            n = mask.shape[1]
            torch.testing.assert_close(together[b, :, :n], alone[0], atol=1e-12, rtol=0)
            assert not together[b, :, n:].any()


def test_the_source_matters_in_both_places_where_the_decoder_looks_at_it():
    model = model_of("shared")
    reads = reads_of(model, [3, 4])
    first, second = (model.encode(torch.tensor([source])) for source in ([3, 4], [4, 3]))
    assert (model.states(reads, first)[0] - model.states(reads, second)[0]).abs().amax(-1).min() > 1e-4
    shallow = model_of("shared", layers=1)
    first, second = (shallow.encode(torch.tensor([source])) for source in ([3, 4], [4, 3]))
    (h, kept), (same, _) = (shallow.states(reads, encoded) for encoded in (first, second))
    assert torch.equal(h, same)
    steps = torch.arange(3)
    assert (shallow.see(h, steps, first) - shallow.see(h, steps, second)).abs().amax(-1).min() > 1e-4
    assert len(kept) == len(first.known) == 1


@pytest.mark.parametrize("layers", [1, 2])
def test_states_with_a_past_are_the_whole_s(layers):
    model = model_of("shared", layers=layers)
    encoded = model.encode(pad_ids(sources(3, 5)))
    reads = randint(3, 6, 2, 4, 5)  # four rows of each source
    whole, _ = model.states(reads, encoded)
    past, steps = None, []
    for n in range(5):
        step, past = model.states(reads[..., n : n + 1], encoded, past)
        steps.append(step)
    torch.testing.assert_close(torch.cat(steps, 2), whole, atol=1e-12, rtol=0)


def test_dropout_only_in_training():
    model = model_of("shared", dropout=0.5)
    src, tgt = pad_ids(sources(4)), pad_ids(targets(4))
    assert torch.equal(decoding.cross_entropy(model, src, tgt), decoding.cross_entropy(model, src, tgt))
    model.train()
    assert not torch.equal(decoding.cross_entropy(model, src, tgt), decoding.cross_entropy(model, src, tgt))


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


@pytest.mark.slow
@pytest.mark.verifies("decoding.loss")
@pytest.mark.parametrize("with_heard", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_cross_entropy_is_a_loop(kind, with_heard):
    model = model_of(kind)
    if with_heard and kind in ONE_WAY:
        return
    source, target, heard = sources(2, 3), targets(3, 1), targets(1, 2, seed=2)
    others = heard if with_heard else target
    loss = []
    for side in model.directions:
        total, count = 0.0, 0
        for src, tgt, other in zip(source, target, others, strict=True):
            start, end = model.start_end(side)
            words = ordered(side, tgt)
            opposite = other_side(model, side)
            told = [model.start_end(opposite)[0], *ordered(opposite, other)]
            for n, word in enumerate([*words, end]):
                total -= literal_log_probs(model, src, side, [start, *words], told, n)[word]
                count += 1
        loss.append(total / count)
    arguments = [pad_ids(heard)] if with_heard else []
    found = decoding.cross_entropy(model, pad_ids(source), pad_ids(target), *arguments)
    assert found.tolist() == pytest.approx(loss, abs=1e-10)


@pytest.mark.verifies("decoding.loss")
@pytest.mark.parametrize("kind", BOTH_WAYS)
def test_who_hears_the_target_hears_what_is_read(kind):
    model, src, tgt = model_of(kind), pad_ids(sources(3, 1, 5)), pad_ids(targets(4, 0, 2))
    plain, _ = token_log_probs(model, src, tgt)
    assert torch.equal(token_log_probs(model, src, tgt, tgt)[0], plain)
    other = tgt.clone()
    other[0, 1:3] = 3 + (other[0, 1:3] - 2) % 3
    changed, _ = token_log_probs(model, src, tgt, other)
    assert not torch.allclose(changed[0], plain[0], atol=1e-6)
    torch.testing.assert_close(changed[1:], plain[1:], atol=1e-12, rtol=0)


@pytest.mark.verifies("decoding.loss")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_differences(kind):
    model, src, tgt = model_of(kind), pad_ids(sources(3, 1)), pad_ids(targets(4, 2))
    decoding.cross_entropy(model, src, tgt).mean().backward()
    names = [
        "src_embedding",
        "tgt_embedding",
        "encoder.0.enter",
        "source.1.query",
        "listen.key_value",
        "mix_heard",
        "out",
    ]
    for name in names:
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
def test_single_and_half_precision(kind):
    model, src, tgt = model_of(kind, scale=1.0), pad_ids(sources(3, 1)), pad_ids(targets(4, 2))
    exact, _ = token_log_probs(model, src, tgt)
    search = beam_search if kind in ONE_WAY else bidirectional_beam_search
    best = [one[0] for one in search(model, src, 3, 5)]
    single = copy.deepcopy(model).float()
    found, _ = token_log_probs(single, src, tgt)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=0)
    for one, other in zip(search(single, src, 3, 5), best, strict=True):
        assert one[0].score == pytest.approx(other.score, abs=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = token_log_probs(single, src, tgt)
        hypotheses = search(single, src, 3, 5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=0.1, rtol=0)
    assert all(math.isfinite(one.score) for several in hypotheses for one in several)
    assert [several[0].score for several in hypotheses] == pytest.approx([b.score for b in best], abs=0.3)
    whole = copy.deepcopy(model).bfloat16()
    assert token_log_probs(whole, src, tgt)[0].dtype == torch.float32
    assert [several[0].score for several in search(whole, src, 3, 5)] == pytest.approx(
        [b.score for b in best], abs=0.5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_32_bits(kind):
    model, src, tgt = model_of(kind), pad_ids(sources(3, 1)), pad_ids(targets(4, 2))
    small = decoding.cross_entropy(model, src.int(), tgt.int())
    assert torch.equal(small, decoding.cross_entropy(model, src, tgt))
    search = beam_search if kind in ONE_WAY else bidirectional_beam_search
    assert search(model, src.int(), 2, 4) == search(model, src, 2, 4)


# --- Tokens ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.verifies("decoding.tokens")
@given(
    target=st.lists(st.lists(st.integers(3, 9), max_size=6), min_size=1, max_size=4),
    more=st.integers(0, 2),
    side=st.sampled_from(SIDES),
    markers=st.sampled_from([(1, 2), (10, 11)]),
)
def test_markers_and_back(target, more, side, markers):
    tgt = torch.nn.functional.pad(pad_ids(target), (0, more))
    reads, writes = decoding.with_markers(tgt, side, markers)
    start, end = markers if side == "l2r" else markers[::-1]
    size = tgt.shape[1] + 1
    for row, ids in enumerate(target):
        words, rest = ordered(side, ids), [0] * (size - 1 - len(ids))
        assert reads[row].tolist() == [start, *words, *rest]
        assert writes[row].tolist() == [*words, end, *rest]
        written = writes[row].tolist()
        assert decoding.without_markers(written, side, markers) == (tuple(ids), True)
        assert decoding.without_markers(words, side, markers) == (tuple(ids), False)
        assert decoding.without_markers([*words, end, 7, end], side, markers) == (tuple(ids), True)


@pytest.mark.verifies("decoding.tokens")
def test_one_pair_of_markers_is_swapped_between_the_directions():
    tgt = torch.tensor([[5, 6, 7]])
    assert [x.tolist() for x in decoding.with_markers(tgt, "l2r")] == [[[1, 5, 6, 7]], [[5, 6, 7, 2]]]
    assert [x.tolist() for x in decoding.with_markers(tgt, "r2l")] == [[[2, 7, 6, 5]], [[7, 6, 5, 1]]]
    assert decoding.without_markers([5, 1], "l2r") == ((5, 1), False)  # 1 ends nothing from the left
    for side in SIDES:
        empty = decoding.with_markers(torch.zeros(2, 0, dtype=torch.int64), side)
        assert [x.shape for x in empty] == [(2, 1)] * 2


def test_pad_ids():
    assert pad_ids([[3, 4, 5], [6], []]).tolist() == [[3, 4, 5], [6, 0, 0], [0, 0, 0]]
    assert pad_ids([[]]).tolist() == [[0]]
    assert pad_ids([[]]).dtype == torch.int64
    assert pad_ids([(3,), (4,)]).shape == (2, 1)


# --- Search, one direction ---------------------------------------------------------------------


def same(found, expected):
    assert [one[:1] + one[2:] for one in found] == [one[:1] + one[2:] for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-9)


@torch.no_grad()
def literal_beam_search(model, source, k, max_length):
    """One source, every path anew."""
    (side,) = model.directions
    start, end = model.start_end(side)
    beam = [((), 0.0)]
    for _ in range(max_length):
        candidates = []
        for path, score in beam:
            if end in path:
                candidates.append((path, score))
                continue
            log_probs = model(torch.tensor([source]), torch.tensor([[[start, *path]]]))[0, 0, -1].tolist()
            candidates += [((*path, w), score + log_probs[w]) for w in [*range(3, model.tgt_vocab_size), end]]
        beam = sorted(candidates, key=lambda one: -one[1])[:k]
    found = []
    for path, score in beam:
        tokens = [w for w in path if w != end]
        found.append(Hypothesis(tuple(ordered(side, tokens)), score, side, end in path))
    return found


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
        if kind in ONE_WAY:
            found, literal = decoding.beam_search(model, pad_ids(source), k, 6), literal_beam_search
        else:
            found = decoding.bidirectional_beam_search(model, pad_ids(source), k, 6, *average)
            literal = literal_search
        for one, src in zip(found, source, strict=True):
            same(one, literal(model, src, k, 6, *average))
            everything += one
    return everything


@pytest.mark.slow
@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", ONE_WAY)
def test_beam_search_is_the_literal_one(kind, k):
    found = agrees_with_the_literal_search(kind, k)
    assert {one.finished for one in found} == {True, False}
    assert len({len(one.tokens) for one in found}) >= 3


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


@pytest.mark.verifies("decoding.search")
def test_scores_are_those_of_teacher_forcing():
    for kind in ONE_WAY:
        model, source = model_of(kind, end=1.0), sources(4, 2)
        for src, found in zip(source, decoding.beam_search(model, pad_ids(source), 3, 9), strict=True):
            ended = [one for one in found if one.finished]
            assert ended
            chosen, _ = token_log_probs(
                model, torch.tensor([src] * len(ended)), pad_ids([one.tokens for one in ended])
            )
            assert [one.score for one in ended] == pytest.approx(chosen.sum((1, 2)).tolist(), abs=1e-10)


# --- Search, both directions -------------------------------------------------------------------


@torch.no_grad()
def conditionals(model, source, pairs):
    """Of each pair of paths (l2r, r2l; end markers included) the next word's probabilities on both sides."""
    reads, places = [], []
    for pair in pairs:
        rows = []
        for side, path in zip(SIDES, pair, strict=True):
            start, end = model.start_end(side)
            rows.append([start, *(w for w in path if w != end)])
        reads.append(pad_ids(rows))
        places.append([len(row) - 1 for row in rows])
    longest = max(one.shape[1] for one in reads)
    batch = torch.stack([torch.nn.functional.pad(one, (0, longest - one.shape[1])) for one in reads])
    out = model(torch.tensor([source] * len(batch)), batch).exp()
    return [[out[b, row, n].tolist() for row, n in enumerate(where)] for b, where in enumerate(places)]


def literal_search(model, source, k, max_length, average):
    """One source; every pair of paths anew, as the article says it."""
    ends = [model.start_end(side)[1] for side in SIDES]
    beams = [[((), 0.0)], [((), 0.0)]]
    for _ in range(max_length):
        pairs = list(itertools.product([p for p, _ in beams[0]], [p for p, _ in beams[1]]))
        table = dict(zip(pairs, conditionals(model, source, pairs), strict=True))
        longer = []
        for row in range(2):
            candidates = []
            for path, score in beams[row]:
                if ends[row] in path:
                    candidates.append((path, score))
                    continue
                for word in [*range(3, model.tgt_vocab_size), ends[row]]:
                    numerator = denominator = 0.0
                    for other, other_score in beams[1 - row]:
                        weight = math.exp(other_score) if average == "weighted" else 1.0
                        pair = (path, other) if row == 0 else (other, path)
                        numerator += weight * table[pair][row][word]
                        denominator += weight
                    candidates.append(((*path, word), score + math.log(numerator / denominator + 1e-6)))
            longer.append(sorted(candidates, key=lambda one: -one[1])[:k])
        beams = longer
        (left, a), (right, b) = beams[0][0], beams[1][0]
        if (ends[0] in left and a >= b) or (ends[1] in right and b >= a):
            break
    found = []
    for row, side in enumerate(SIDES):
        for path, score in beams[row]:
            tokens = [w for w in path if w != ends[row]]
            found.append(Hypothesis(tuple(ordered(side, tokens)), score, side, ends[row] in path))
    return sorted(found, key=lambda one: -one.score)


@pytest.mark.slow
@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("kind", BOTH_WAYS)
def test_the_bidirectional_search_is_the_literal_one(kind, k, average):
    found = agrees_with_the_literal_search(kind, k, average)
    assert {one.direction for one in found} == set(SIDES)
    assert {one.finished for one in found} == {True, False}
    assert len({len(one.tokens) for one in found}) >= 4


@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("average", AVERAGES)
def test_a_beam_as_wide_as_all_prefixes_is_an_enumeration(average):
    model, source = model_of("shared", 3, words=2, end=-1.0), [3, 6]
    ends = [2, 1]
    level = [{(): 0.0}, {(): 0.0}]
    for step in (1, 2, 3):
        pairs = list(itertools.product(*level))
        table = dict(zip(pairs, conditionals(model, source, pairs), strict=True))
        longer = [{}, {}]
        for row, own in enumerate(level):
            others = level[1 - row]
            weight = {r: math.exp(s) if average == "weighted" else 1.0 for r, s in others.items()}
            total = math.fsum(weight.values())
            for path, score in own.items():
                if ends[row] in path:
                    longer[row][path] = score
                    continue
                for word in (3, 4, ends[row]):
                    mean = math.fsum(
                        weight[r] / total * table[(path, r) if row == 0 else (r, path)][row][word]
                        for r in others
                    )
                    longer[row][(*path, word)] = score + math.log(mean + 1e-6)
        level = longer
        assert [len(one) for one in level] == [2 ** (step + 1) - 1] * 2
        best = [max(one, key=one.get) for one in level]
        assert not any(end in path for end, path in zip(ends, best, strict=True))  # no early stop
        (found,) = decoding.bidirectional_beam_search(model, torch.tensor([source]), 20, step, average)
        assert len(found) == 2 * (2 ** (step + 1) - 1)
        for one in found:
            row = SIDES.index(one.direction)
            path = tuple(ordered(one.direction, one.tokens)) + (ends[row],) * one.finished
            assert one.score == pytest.approx(level[row].pop(path), abs=1e-10)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        level = [
            {
                tuple(ordered(h.direction, h.tokens)) + (ends[row],) * h.finished: h.score
                for h in found
                if h.direction == side
            }
            for row, side in enumerate(SIDES)
        ]


@pytest.mark.verifies("decoding.search")
@torch.no_grad()
def test_a_beam_of_one_is_greedy_on_both_sides_at_once():
    for seed, end in VARIED["shared"]:
        model = model_of("shared", seed, end=end)
        for source in sources(3, 1):
            paths, scores = [[], []], [0.0, 0.0]
            for _ in range(7):
                ((left, right),) = conditionals(model, source, [paths])
                for row, (probabilities, end) in enumerate(((left, 2), (right, 1))):
                    if end not in paths[row]:
                        word = max(range(6), key=probabilities.__getitem__)
                        scores[row] += math.log(probabilities[word] + 1e-6)
                        paths[row] = [*paths[row], word]
                if any(end in paths[row] and scores[row] == max(scores) for row, end in enumerate((2, 1))):
                    break
            for average in AVERAGES:
                (found,) = decoding.bidirectional_beam_search(model, torch.tensor([source]), 1, 7, average)
                assert len(found) == 2
                for one in found:
                    row = SIDES.index(one.direction)
                    assert one.score == pytest.approx(scores[row], abs=1e-10)
                    assert list(one.tokens) == ordered(one.direction, [w for w in paths[row] if w > 2])


SEARCHES = {"l2r": beam_search, "r2l": beam_search, "shared": bidirectional_beam_search}


@pytest.mark.slow
@pytest.mark.verifies("decoding.search")
@pytest.mark.parametrize("kind", SEARCHES)
def test_sources_are_searched_alone_whatever_their_order_and_number(kind, monkeypatch):
    search = SEARCHES[kind]
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


@pytest.mark.parametrize("kind", SEARCHES)
def test_what_does_not_end_in_time_is_returned_unfinished(kind):
    search = SEARCHES[kind]
    never = model_of(kind, end=-30.0)
    for n in (1, 2, 5):
        for several in search(never, pad_ids(sources(3, 1)), 2, n):
            assert len(several) == 2 * len(never.directions)
            for one in several:
                assert not one.finished
                assert len(one.tokens) == n
    at_once = model_of(kind, end=30.0)
    for several in search(at_once, pad_ids(sources(3, 1)), 2, 5):
        assert (several[0].tokens, several[0].finished) == ((), True)
        assert several[0].score == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", ["l2r", "r2l", *BOTH_WAYS])
def test_fewer_candidates_than_paths_give_fewer_hypotheses(kind):
    search = beam_search if kind in ONE_WAY else bidirectional_beam_search
    model, source = model_of(kind, words=1, end=-2.0), sources(3, 1)
    for n, average in itertools.product((1, 2, 3), AVERAGES[: len(model.directions)]):
        more = [] if kind in ONE_WAY else [average]
        literal = literal_beam_search if kind in ONE_WAY else literal_search
        for src, found in zip(source, search(model, pad_ids(source), 9, n, *more), strict=True):
            same(found, literal(model, src, 9, n, *more))
            steps = max(len(one.tokens) for one in found)
            for side in model.directions:  # ended after 0, 1, … tokens, or not at all
                ended = {one.tokens: one.finished for one in found if one.direction == side}
                assert ended == {(3,) * m: m < steps for m in range(steps + 1)}
            assert len(found) == len(model.directions) * (steps + 1)
            assert all(math.isfinite(one.score) for one in found)


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_uses_neither_dropout_nor_gradients_and_restores_the_mode(kind, monkeypatch):
    search = SEARCHES[kind]
    model, src = model_of(kind, dropout=0.5), pad_ids(sources(3, 1))
    expected = search(model, src, 2, 5)
    assert not model.training
    model.train()
    seen, log_probs = [], model.log_probs
    monkeypatch.setattr(
        model, "log_probs", lambda *views: (seen.append(torch.is_grad_enabled()), log_probs(*views))[1]
    )
    assert search(model, src, 2, 5) == expected
    assert seen
    assert not any(seen)
    assert torch.is_grad_enabled()
    assert model.training
    assert all(module.training for module in model.modules())
    model.encoder.eval()  # a part with a mode of its own keeps it
    search(model, src, 1, 2)
    assert model.training
    assert not model.encoder.training

    def breaks(*views):
        raise RuntimeError("broken")

    monkeypatch.setattr(model, "log_probs", breaks)
    with pytest.raises(RuntimeError, match="broken"):
        search(model, src, 2, 5)
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


# --- Error rates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hypotheses", "references", "expected"),
    [
        ([[3, 4, 5]], [[[3, 4, 5]]], (0, 0)),
        ([[3, 4, 5]], [[[3, 5]]], (1 / 2, 1)),  # one too many
        ([[]], [[[3, 5, 4]]], (1, 1)),
        ([[3, 4], [5]], [[[3, 4]], [[3, 6, 5]]], (2 / 5, 1 / 2)),
        ([[3, 4, 3, 4, 3]], [[[5]]], (5, 1)),
        # The closest per token: 1 of 4, not 1 of 2.
        ([[3, 4, 5]], [[[3, 5], [3, 4, 5, 6]]], (1 / 4, 1)),
        ([[3, 4, 5]], [[[3, 4, 5, 6], [3, 5]]], (1 / 4, 1)),
        ([[3, 4, 5]], [[[7, 7, 7, 7], [3, 4, 5]]], (0, 0)),
        # Fewer edits, but more per token: 1 of 1, and 2 of 4.
        ([[3, 4]], [[[3], [3, 4, 5, 6]]], (2 / 4, 1)),
        ([[4, 3]], [[[3, 4]]], (1, 1)),  # no transpositions: two edits
        ([(3, 4)], [([3, 4],)], (0, 0)),
        # Equally many per token: the shorter one, wherever it stands.
        (["x", "q"], [["ab", "abcd"], ["q"]], (2 / 3, 1 / 2)),
        (["x", "q"], [["abcd", "ab"], ["q"]], (2 / 3, 1 / 2)),
    ],
)  # fmt: skip
def test_error_rates_worked_by_hand(hypotheses, references, expected):
    assert decoding.error_rate(hypotheses, references) == pytest.approx(expected)


def test_tokens_may_be_strings():
    found = decoding.error_rate([["AH", "B"], ["K"]], [[["AH", "P"], ["EH"]], [["K"]]])
    assert found == pytest.approx((1 / 3, 1 / 2))
    assert decoding.error_rate([["AH0"]], [[["AH1"]]]) == (1, 1)
    assert decoding.error_rate(["abc", ""], [["abd", "xyz"], ["q"]]) == (2 / 4, 1)  # characters


@given(st.lists(st.integers(3, 5), max_size=6), st.lists(st.integers(3, 5), min_size=1, max_size=6))
def test_edits_are_the_recursion_s(hypothesis, reference):
    row = list(range(len(reference) + 1))
    for i, a in enumerate(hypothesis, start=1):
        above, row = row, [i]
        for j, b in enumerate(reference, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    expected = row[-1] / len(reference), float(hypothesis != reference)
    assert decoding.error_rate([hypothesis], [[reference]]) == pytest.approx(expected)


# --- Bad input ---------------------------------------------------------------------------------

SRC, TGT = torch.tensor([[3, 4], [5, 0]]), torch.tensor([[3, 4, 5], [4, 0, 0]])


def one(**options):
    return Seq2Seq(
        8, 6, **{"hidden_size": 8, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1} | options
    )


def both(**options):
    sizes = {"hidden_size": 8, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1}
    return BidirectionalSeq2Seq(8, 6, **sizes | options)


def ids(*rows, dtype=torch.int64):
    return torch.tensor(rows, dtype=dtype)


BAD_SOURCES = [
    ([[3]], TypeError, r"src must be a torch\.Tensor, got list"),
    (ids([3], dtype=torch.float32), TypeError, r"src must have dtype int64 or int32, got torch\.float32"),
    (ids([True], dtype=torch.bool), TypeError, r"src must have dtype int64 or int32, got torch\.bool"),
    (torch.tensor([3, 4]), ValueError, r"src must have shape \(B, length\) with B ≥ 1, got \(2,\)"),
    (SRC[:0], ValueError, r"src must have shape \(B, length\) with B ≥ 1, got \(0, 2\)"),
    (SRC[:, :0], ValueError, "src must not have empty rows, got one at 0"),
    (ids([3, 4], [0, 0]), ValueError, "src must not have empty rows, got one at 1"),
    (ids([0, 3]), ValueError, "src must be padded on the right, got 0 before a token"),
    (ids([3, 0, 4]), ValueError, "src must be padded on the right, got 0 before a token"),
    (ids([3, 1]), ValueError, "src must hold ids from 3 to 7, and 0 as padding, got 1"),
    (ids([2]), ValueError, "src must hold ids from 3 to 7, and 0 as padding, got 2"),
    (ids([8]), ValueError, "got 8"),
    (ids([-1]), ValueError, "got -1"),
]  # fmt: skip

CALLS = {
    "beam_search": lambda src: beam_search(one(), src, 2, 3),
    "bidirectional_beam_search": lambda src: bidirectional_beam_search(both(), src, 2, 3),
    "token_log_probs": lambda src: token_log_probs(both(), src, TGT[: len(src)]),
    "cross_entropy": lambda src: decoding.cross_entropy(one(), src, TGT[: len(src)]),
    "forward": lambda src: both()(src, ids([[1, 3], [2, 3]])),
}


@pytest.mark.unchecked
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("src", "error", "message"), BAD_SOURCES, ids=range(len(BAD_SOURCES)))
def test_a_bad_source_is_named(src, error, message, call):
    with pytest.raises(error, match=message):
        call(src)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Seq2Seq(3, 6), ValueError, "src_vocab_size must be at least 4, got 3"),
        (lambda: Seq2Seq(8, 3), ValueError, "tgt_vocab_size must be at least 4, got 3"),
        (lambda: BidirectionalSeq2Seq(8.0, 6), TypeError, "src_vocab_size must be an int, got float"),
        (lambda: BidirectionalSeq2Seq(8, True), TypeError, "tgt_vocab_size must be an int, got bool"),
        (lambda: one(num_encoder_layers=0), ValueError, "num_encoder_layers must be at least 1, got 0"),
        (lambda: both(num_decoder_layers=0), ValueError, "num_decoder_layers must be at least 1, got 0"),
        (lambda: both(num_decoder_layers=1.0), TypeError, "num_decoder_layers must be an int, got float"),
        (lambda: one(num_heads=3), ValueError, "num_heads must divide hidden_size = 8 into even sizes, got 3"),
        (lambda: one(num_heads=0), ValueError, "num_heads must be at least 1, got 0"),
        (lambda: one(hidden_size=0), ValueError, "hidden_size must be at least 1, got 0"),
        (lambda: both(hidden_size=8.0), TypeError, "hidden_size must be an int, got float"),
        (lambda: both(hidden_size=6), ValueError, "num_heads must divide hidden_size = 6 into even sizes, got 2"),
        (lambda: one(dropout="x"), TypeError, "dropout must be a number, got str"),
        (lambda: one(dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
        (lambda: both(dropout=-0.1), ValueError, r"dropout must lie in \[0, 1\), got -0\.1"),
        (lambda: one(direction="left"), ValueError, r"direction must be one of \('l2r', 'r2l'\), got 'left'"),
        (lambda: one(direction=None), ValueError, "direction must be one of .*, got None"),
        (lambda: both(markers="own"), ValueError, r"markers must be one of \('shared', 'separate'\), got 'own'"),
        (lambda: beam_search(both(), SRC, 2, 3), TypeError, "model must be a Seq2Seq, got BidirectionalSeq2Seq"),
        (lambda: bidirectional_beam_search(one(), SRC, 2, 3), TypeError, "model must be a BidirectionalSeq2Seq, got Seq2Seq"),
        (lambda: beam_search(None, SRC, 2, 3), TypeError, "model must be a Seq2Seq, got NoneType"),
        (lambda: beam_search(one(), SRC, 0, 3), ValueError, "beam_size must be at least 1, got 0"),
        (lambda: beam_search(one(), SRC, -1, 3), ValueError, "beam_size must be at least 1, got -1"),
        (lambda: beam_search(one(), SRC, True, 3), TypeError, "beam_size must be an int, got bool"),
        (lambda: bidirectional_beam_search(both(), SRC, 1.5, 3), TypeError, "beam_size must be an int, got float"),
        (lambda: bidirectional_beam_search(both(), SRC, 0, 3), ValueError, "beam_size must be at least 1, got 0"),
        (lambda: beam_search(one(), SRC, 1, 0), ValueError, "max_length must be at least 1, got 0"),
        (lambda: bidirectional_beam_search(both(), SRC, 1, "3"), TypeError, "max_length must be an int, got str"),
        (lambda: bidirectional_beam_search(both(), SRC, 1, 3, "max"), ValueError, "average must be 'mean' or 'weighted', got 'max'"),
        (lambda: bidirectional_beam_search(both(), SRC, 1, 3, None), ValueError, "average must be .*, got None"),
        (lambda: token_log_probs(both(), None, SRC), TypeError, r"src must be a torch\.Tensor, got NoneType"),
        (lambda: token_log_probs(torch.nn.Linear(2, 2), SRC, TGT), TypeError, "model must be a Seq2Seq or a BidirectionalSeq2Seq, got Linear"),
        (lambda: token_log_probs(both(), SRC, TGT, TGT[:1]), ValueError, "heard must have as many rows as src, 2, got 1"),
        (lambda: both()(SRC[:1], ids([[1, 3]])), ValueError, r"reads must have shape \(1, 2, steps\), at least one step, got \(1, 1, 2\)"),
        (lambda: one()(SRC[:1], ids([[1, 3], [2, 3]])), ValueError, r"reads must have shape \(1, 1, steps\), .* got \(1, 2, 2\)"),
        (lambda: both()(SRC[:1], ids([[1], [2]], [[1], [2]])), ValueError, r"reads must have shape \(1, 2, steps\), .* got \(2, 2, 1\)"),
        (lambda: both()(SRC[:1], ids([1, 3])), ValueError, r"reads must have shape .* got \(1, 2\)"),
        (lambda: both()(SRC[:1], ids([[1], [2]]), ids([[1]])), ValueError, r"heard must have shape \(1, 2, steps\), .* got \(1, 1, 1\)"),
        (lambda: both()(SRC[:1], ids([[1], [6]])), ValueError, "reads must hold ids from 0 to 5, got 6"),
        (lambda: one()(SRC[:1], ids([[-1]])), ValueError, "reads must hold ids from 0 to 5, got -1"),
        (lambda: one()(SRC[:1], ids([[1.0]], dtype=torch.float32)), TypeError, r"reads must have dtype int64 or int32, got torch\.float32"),
        (lambda: with_markers(SRC, "x"), ValueError, r"direction must be one of \('l2r', 'r2l'\), got 'x'"),
        (lambda: without_markers([3, 2], "x"), ValueError, r"direction must be one of \('l2r', 'r2l'\), got 'x'"),
        (lambda: with_markers(SRC.float(), "l2r"), TypeError, "tgt must have dtype int64 or int32, got"),
        (lambda: with_markers([[3]], "l2r"), TypeError, r"tgt must be a torch\.Tensor, got list"),
        (lambda: with_markers(SRC[0], "l2r"), ValueError, r"tgt must have shape \(B, length\) with B ≥ 1, got \(2,\)"),
        (lambda: with_markers(SRC - 2, "l2r"), ValueError, "tgt must hold ids from 3, and 0 as padding, got 1"),
        (lambda: with_markers(SRC.flip(1), "r2l"), ValueError, "tgt must be padded on the right, got 0 before a token"),
        (lambda: pad_ids([]), ValueError, "sequences must hold at least one, got none"),
        (lambda: pad_ids([[3], [1.5]]), ValueError, r"sequences must hold ids, of which 0 pads, got 1\.5"),
        (lambda: pad_ids([[3, 0]]), ValueError, "sequences must hold ids, of which 0 pads, got 0"),
        (lambda: error_rate(["ab"], ["ab"]), TypeError, "hypotheses and references must be sequences of tokens, .* got 'ab' and 'ab' at 0"),
        (lambda: error_rate([[1]], [[1]]), TypeError, r"must be sequences of tokens, .* got \[1\] and \[1\] at 0"),
        (lambda: error_rate([5], [[[1]]]), TypeError, "must be sequences of tokens, .* got 5"),
        (lambda: token_log_probs(one(), SRC, [[3]]), TypeError, r"tgt must be a torch\.Tensor, got list"),
        (lambda: token_log_probs(one(), SRC, TGT.float()), TypeError, r"tgt must have dtype int64 or int32, got torch\.float32"),
        (lambda: token_log_probs(one(), SRC, TGT == 3), TypeError, r"tgt must have dtype int64 or int32, got torch\.bool"),
        (lambda: token_log_probs(one(), SRC, TGT[0]), ValueError, r"tgt must have shape \(B, length\) with B ≥ 1, got \(3,\)"),
        (lambda: token_log_probs(one(), SRC, TGT[:1]), ValueError, "tgt must have as many rows as src, 2, got 1"),
        (lambda: decoding.cross_entropy(both(), SRC, TGT + 3), ValueError, "tgt must hold ids from 3 to 5, and 0 as padding, got 6"),
        (lambda: decoding.cross_entropy(both(markers="separate"), SRC, TGT + 3), ValueError, "tgt must hold ids from 3 to 5, .* got 6"),
        (lambda: token_log_probs(one(), SRC, TGT - 2), ValueError, "tgt must hold ids from 3 to 5, .* got 1"),
        (lambda: token_log_probs(one(), SRC, -TGT), ValueError, "got -3"),
        (lambda: token_log_probs(one(), SRC, TGT.flip(1)), ValueError, "tgt must be padded on the right, got 0 before a token"),
        (lambda: token_log_probs(both(), SRC, TGT, TGT.flip(1)), ValueError, "heard must be padded on the right"),
        (lambda: token_log_probs(both(), SRC, TGT, TGT + 3), ValueError, "heard must hold ids from 3 to 5, .* got 6"),
        (lambda: token_log_probs(both(), SRC, TGT, TGT.double()), TypeError, r"heard must have dtype .*, got torch\.float64"),
        (lambda: token_log_probs(one(), SRC, TGT, TGT), ValueError, "heard must be None for a model of one direction"),
        (lambda: error_rate([], []), ValueError, "hypotheses must be as many as references, at least one, got 0 and 0"),
        (lambda: error_rate([[3]], []), ValueError, "got 1 and 0"),
        (lambda: error_rate([[3], [4]], [[[3]], []]), ValueError, r"references must have a token for every word, got \[\] at 1"),
        (lambda: error_rate([[3]], [[[3], []]]), ValueError, r"references must have a token .*, got \[\[3\], \[\]\] at 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- Faults: under each, its verifier fails ----------------------------------------------------


def keeps_the_order(tgt, direction, markers=(1, 2)):
    return with_markers(tgt, "l2r", markers if direction == "l2r" else markers[::-1])


def same_markers(tgt, direction, markers=(1, 2)):
    return with_markers(tgt, direction, markers if direction == "l2r" else markers[::-1])


class HearsTheFuture(BidirectionalSeq2Seq):
    def forward(self, src, reads, heard=None):
        told = reads if heard is None else heard
        return super().forward(src, reads, torch.cat((told[..., 1:], told[..., -1:]), -1))


class HearsItself(BidirectionalSeq2Seq):
    def forward(self, src, reads, heard=None):
        return super().forward(src, reads, reads.flip(1))


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


def per_sequence(model, src, tgt, heard=None):
    chosen, mask = token_log_probs(model, src, tgt, heard)
    return (-chosen.sum(-1) / mask.sum(-1, keepdim=True)).mean(0)


def without_the_end(model, src, tgt, heard=None):
    chosen, mask = token_log_probs(model, src, tgt, heard)
    return -chosen[..., :-1].sum((0, 2)) / mask[:, :-1].sum()


def first_reference(hypotheses, references):
    return error_rate(hypotheses, [several[:1] for several in references])


def literal(kind, k, *average):
    return lambda: agrees_with_the_literal_search(kind, k, *average, models=1, lengths=(3, 5, 1))


FAULTS = [
    (test_markers_and_back, "with_markers", keeps_the_order),
    (test_one_pair_of_markers_is_swapped_between_the_directions, "with_markers", same_markers),
    (lambda: test_a_step_depends_on_both_sides_up_to_it_and_on_nothing_later("shared", 1), "BidirectionalSeq2Seq", HearsTheFuture),
    (lambda: test_a_step_depends_on_both_sides_up_to_it_and_on_nothing_later("shared", 1), "BidirectionalSeq2Seq", HearsItself),
    (lambda: test_each_side_listens_to_the_other_s_first_states("shared", 1), "BidirectionalSeq2Seq", HearsItself),
    (lambda: test_the_probabilities_of_all_sequences_sum_to_one("l2r"), "causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)),
    (lambda: test_the_cross_entropy_is_a_loop("shared", False), "cross_entropy", per_sequence),
    (lambda: test_the_cross_entropy_is_a_loop("l2r", False), "cross_entropy", without_the_end),
    (literal("l2r", 3), "_Search", ForgetsParents),
    (lambda: test_a_wide_beam_finds_the_best_of_all_sequences("r2l"), "_Search", ForgetsParents),
    (literal("shared", 2, "mean"), "_Search", ForgetsParents),
    (literal("shared", 2, "mean"), "_Search", StopsWhenAllHaveEnded),
    (literal("shared", 2, "mean"), "_Search", ExtendsWhatHasEnded),
    (literal("shared", 2, "weighted"), "_Search", NeverWeighs),
    (literal("shared", 1, "mean"), "TINY", 0.0),
    (test_a_beam_of_one_is_greedy_on_both_sides_at_once, "TINY", 1e-3),
    (test_the_mean_over_the_other_beam_dilutes_and_weights_repair_it, "_Search", NeverWeighs),
    (lambda: test_both_sides_conditionals_make_a_model_of_pairs_of_which_few_agree("shared"), "BidirectionalSeq2Seq", HearsTheFuture),
    (lambda: test_error_rates_worked_by_hand([[3, 4, 5]], [[[3, 5], [3, 4, 5, 6]]], (1 / 4, 1)), "error_rate", first_reference),
]  # fmt: skip
