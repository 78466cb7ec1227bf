"""Language models: what they see, share and drop, for each kind of network."""

import pytest
import torch
from refusing import refuses
from seeded import gen, randn

from kexue import onlstm
from kexue.onlstm import LSTM, ONLSTM, LanguageModel

CELLS = ["onlstm", "lstm"]


def model(cell, **options):
    torch.manual_seed(0)
    return LanguageModel(7, (4, 4), cell, chunk_size=2, **options)


def text(batch=3, steps=9):
    return torch.randint(7, (batch, steps), generator=gen())


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_sees_no_future_and_carries_its_state(cell):
    net, ids = model(cell), text()
    whole = net(ids)
    assert whole.logits.shape == (3, 9, 7)
    assert whole.hidden.shape == whole.dropped.shape == (3, 9, 4)
    first = net(ids[:, :4])
    second = net(ids[:, 4:], first.state)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole.logits)
    torch.testing.assert_close(second.state, whole.state)
    later = ids.clone()
    later[1, 5] = (ids[1, 5] + 1) % 7
    changed = net(later).logits
    torch.testing.assert_close(changed[:, :5], whole.logits[:, :5])
    torch.testing.assert_close(changed[[0, 2]], whole.logits[[0, 2]])
    assert ((changed[1, 5:] - whole.logits[1, 5:]).abs().amax(-1) > 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_the_softmax_shares_the_embedding_s_weights(cell):
    net, ids = model(cell), text()
    net.bias.data = randn(7, dtype=torch.float32)
    found = net(ids)
    torch.testing.assert_close(found.logits, found.hidden @ net.embedding.weight.T + net.bias)
    torch.testing.assert_close(
        net.embed(ids), 2 * net.embedding.weight[ids]
    )  # √4, as long as vectors of 4 entries
    longer = model(cell, output_scale=3.0)
    longer.bias.data = net.bias.data
    torch.testing.assert_close(longer(ids).logits - net.bias, 3 * (found.logits - net.bias))
    names = [name for name, p in net.named_parameters() if 7 in p.shape]
    assert names == ["bias", "embedding.weight"]
    output = net.stack(net.embed(ids))
    torch.testing.assert_close(found.hidden, output[0])


@pytest.mark.parametrize(("cell", "kind"), [("onlstm", ONLSTM), ("lstm", LSTM)])
def test_the_stack_of_a_language_model_is_as_asked(cell, kind):
    rates = {"dropout": 0.1, "recurrent_dropout": 0.2}
    net = LanguageModel(9, (8, 12, 6), cell, 2, "complement", **rates)
    assert isinstance(net.stack, kind)
    assert net.embedding.weight.shape == (9, 6)
    assert [(c.input_size, c.hidden_size) for c in net.stack.layers] == [(6, 8), (8, 12), (12, 6)]
    levels = [(c.num_levels, c.complement) for c in net.stack.layers]
    assert levels == ([(4, True), (6, True), (3, True)] if cell == "onlstm" else [(0, False)] * 3)
    assert (net.stack.dropout, net.stack.recurrent_dropout, net.stack.recurrent_scale) == (0.1, 0.2, 1)
    paper = LanguageModel(9, (8,), cell, 2, **rates, paper_dropconnect=True)
    assert paper.stack.recurrent_scale == 1 - 0.2


def test_embeddings_begin_between_minus_and_plus_a_tenth():
    weight = LanguageModel(900, (40,), "lstm").embedding.weight
    assert -0.1 <= weight.min() < -0.0999
    assert 0.0999 < weight.max() <= 0.1


RATES = ["embedding_dropout", "input_dropout", "dropout", "output_dropout", "recurrent_dropout"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rate", RATES)
def test_a_language_model_drops_in_training_only(cell, rate):
    net, ids = model(cell, **{rate: 0.5}), text(steps=30)
    torch.manual_seed(1)
    found = net(ids).logits
    torch.manual_seed(1)
    assert torch.equal(found, net(ids).logits)
    assert not torch.equal(found, net(ids).logits)
    torch.testing.assert_close(net.eval()(ids).logits, model(cell)(ids).logits)


def test_each_dropout_of_a_language_model_drops_what_it_should():
    ids = text(steps=40)
    net = model("lstm", embedding_dropout=0.5)
    words = (net.embed(ids) / (2 * net.embedding.weight[ids])).round(decimals=3)
    assert set(words.unique().tolist()) == {0.0, 2.0}
    for word in range(7):
        assert len(words[ids == word].unique()) == 1  # all of a word, everywhere
    net = model("lstm", input_dropout=0.5)
    entries = (net.embed(ids) / (2 * net.embedding.weight[ids])).round(decimals=3)
    assert set(entries.unique().tolist()) == {0.0, 2.0}
    assert (entries == entries[:, :1]).all()
    net = model("lstm", output_dropout=0.5)
    found = net(ids)
    ratio = (found.dropped / found.hidden).round(decimals=3)
    assert set(ratio.unique().tolist()) == {0.0, 2.0}
    assert (ratio == ratio[:, :1]).all()
    torch.testing.assert_close(found.logits, found.dropped @ net.embedding.weight.T + net.bias)
    still = net.eval()(ids)
    assert torch.equal(still.hidden, found.hidden)
    assert torch.equal(still.dropped, still.hidden)


@pytest.mark.parametrize("cell", ["onlstm", "lstm"])
def test_the_trace_of_a_language_model(cell):
    net, ids = model(cell), text()
    found, traces = net(ids.to(torch.uint8)), net.trace(ids)
    assert torch.equal(traces[-1].h, found.hidden)
    torch.testing.assert_close([(trace.h[:, -1], trace.c[:, -1]) for trace in traces], found.state)
    later = net.trace(ids[:, 4:], net(ids[:, :4]).state)
    torch.testing.assert_close(later[0].c, traces[0].c[:, 4:])


test_bad_arguments_of_language_models_are_named = refuses([
    (lambda: LanguageModel(9.0), TypeError, "vocab_size must be an int, got float"),
    (lambda: LanguageModel(9, (4,), "gru"), ValueError, r"cell must be one of \('onlstm', 'lstm'\), got 'gru'"),
    (lambda: LanguageModel(9, (4,), "lstm", embedding_dropout=1.0), ValueError, r"embedding_dropout must lie in \[0, 1\), got 1\.0"),
    (lambda: LanguageModel(9, (4,), "lstm", input_dropout=-1), ValueError, r"input_dropout must lie in \[0, 1\), got -1"),
    (lambda: LanguageModel(9, (4,), "lstm", output_dropout=2), ValueError, r"output_dropout must lie in \[0, 1\), got 2"),
    (lambda: LanguageModel(9, (4,), "lstm", embedding_scale=0), ValueError, "embedding_scale must be positive and finite, .*, got 0"),
    (lambda: LanguageModel(9, (4,), "lstm", output_scale=-1), ValueError, "output_scale must be positive and finite, .*, got -1"),
    (lambda: model("lstm")(torch.zeros(2, 3)), TypeError, r"ids must be integers, got torch\.float32"),
    (lambda: model("lstm")([[1]]), TypeError, r"ids must be a torch\.Tensor, got list"),
    (lambda: model("lstm")(torch.zeros(2, 0).long()), ValueError, r"ids .*with T ≥ 1, got \(2, 0\)"),
    (lambda: model("onlstm")(torch.tensor([[1, 7]])), ValueError, "ids must be between 0 and 6, got 1 to 7"),
    (lambda: model("onlstm")(torch.tensor([[1]]), []), ValueError, r"state must have one \(h, c\) for each of 2 layers, got 0"),
])  # fmt: skip


def new_at_each_time(x, p, training, dim=1):
    return torch.nn.functional.dropout(x, p, training)


FAULTS = [
    (test_each_dropout_of_a_language_model_drops_what_it_should, onlstm, "locked_dropout", new_at_each_time),
]
