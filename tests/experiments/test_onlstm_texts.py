"""Language models of texts: what they read, how they go on, and when their parameters are averaged."""

import numpy as np
import pytest
import torch
from replacing import replace

from kexue import data
from kexue.experiments import onlstm_texts
from kexue.experiments.onlstm_texts import Config
from kexue.runs import Step


def test_a_language_model_s_parts_are_disjoint_blocks(monkeypatch):
    words = tuple((f"p{i}", "the") for i in range(3000))
    text = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: text, monkeypatch)
    texts = onlstm_texts.corpus(Config(at_least=1))
    assert (len(texts.train), len(texts.valid), len(texts.test)) == (2700, 150, 150)
    assert texts.vocabulary.symbols[:2] == ("<eos>", "the")
    end, the = (int(texts.vocabulary.ids([symbol])) for symbol in ("<eos>", "the"))
    held_out = texts.valid + texts.test
    assert all(ids[1:].tolist() == [the, end] for ids in texts.train + held_out)
    assert all(ids[0] == data.UNKNOWN for ids in held_out)  # whose paragraphs training has not
    assert len({int(ids[0]) for ids in texts.train}) == 2700


def test_counts_know_a_text_that_repeats_and_no_order_of_one_that_is_drawn(monkeypatch):
    draw = np.random.default_rng(0)
    repeats = tuple(tuple("abcdefgh") for _ in range(2000))
    drawn = tuple(tuple(draw.choice(list("abcdefgh"), 8)) for _ in range(2000))
    found = []
    for words in (repeats, drawn):
        text = data.TaggedText(words, words, data.SOURCES["people_daily"])
        replace(data, "people_daily", lambda text=text: text, monkeypatch)
        onlstm_texts.corpus.cache_clear()
        found.append(onlstm_texts.perplexity_of_counts(Config()))
    onlstm_texts.corpus.cache_clear()
    assert found[0] < 1.1
    assert 7 < found[1] < 10  # of nine symbols


@pytest.mark.system
def test_a_language_model_predicts_the_next_word_of_what_it_read(monkeypatch, tmp_path):
    """A text that repeats is learned; a target out of place would leave the entropy of its words."""
    words = tuple(tuple("abcdefgh") for _ in range(2000))
    repeats = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: repeats, monkeypatch)
    config = Config(hidden_sizes=(32, 32), learning_rate=1e-2, steps=250, every=250, window=9)
    summary = onlstm_texts.run(config, tmp_path)
    assert summary["valid_perplexity"] < 2  # of nine symbols


def test_averaged_parameters_are_used_and_put_back():
    model = torch.nn.Linear(1, 1, bias=False)
    config = Config(optimizer="sgd", learning_rate=1.0, weight_decay=0.0, steps=6)
    optimizer = onlstm_texts.optimizer_of(config, model.parameters())
    optimizer.param_groups[0]["t0"] = 2.0
    seen = []
    for _ in range(6):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        seen.append(model.weight.item())
    with onlstm_texts.averaged(optimizer):
        assert model.weight.item() == pytest.approx(np.mean(seen[3:]), abs=1e-5)
    assert model.weight.item() == seen[-1]


def carried(monkeypatch, **settings):
    """A training whose text is 500 different words, and <eos> after each."""
    words = tuple((f"w{i}",) for i in range(600))
    text = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: text, monkeypatch)
    onlstm_texts.corpus.cache_clear()
    config = Config(at_least=1, hidden_sizes=(8, 8), batch_size=3, window=7, **settings)
    model = onlstm_texts.build(config)
    optimizer = onlstm_texts.optimizer_of(config, model.parameters())
    return onlstm_texts.Training(config, model, optimizer)


@pytest.mark.parametrize("variable", [False, True])
def test_windows_follow_each_other_in_each_part_of_the_text(monkeypatch, variable):
    training = carried(monkeypatch, variable_window=variable)
    part, ends, seen = len(training.stream) // 3, None, 0
    for index in range(160):
        rows, state = training.next_window(Step(index, 0))
        assert (state is None) == (ends is None or training.place == rows.shape[1] - 1)
        if state is not None:
            assert rows[:, 0].tolist() == ends  # the last word that was to be predicted is read next
        else:
            seen += 1
        ends, training.state = rows[:, -1].tolist(), [(torch.zeros(1), torch.zeros(1))]
        assert training.place <= part
        length = rows.shape[1] - 1
        assert length >= 5 if variable else length == 7
    assert seen > 2


def test_windows_of_random_length_have_the_published_distribution():
    config = Config(variable_window=True, window=70)
    lengths = np.array([onlstm_texts.window_at(config, i) for i in range(4000)])
    whole = lengths[lengths > 52]
    assert len(whole) / 4000 == pytest.approx(0.95, abs=0.01)
    assert whole.mean() == pytest.approx(69.5, abs=0.3)  # rounded down
    assert whole.std() == pytest.approx(5, abs=0.3)
    assert lengths[lengths <= 52].mean() == pytest.approx(34.5, abs=1.5)
    assert onlstm_texts.window_at(Config(window=70), 3) == 70


def test_averaging_begins_when_nothing_was_gained_for_some_evaluations(monkeypatch):
    training = carried(monkeypatch, optimizer="sgd", patience=2, steps=100)
    (group,) = training.optimizer.param_groups
    for parameter in group["params"]:
        parameter.grad = torch.zeros_like(parameter)
    began = []
    for valid in (9.0, 8.0, 7.0, 7.5, 6.9, 7.1, 7.2, 5.0, 9.0):
        training.optimizer.step()
        training.begin_to_average(valid)
        began.append(group["t0"] if group["t0"] <= 100 else None)
    # 7.1 is the first above the best of all but the two before it, 7.0.
    assert began == [None] * 5 + [6.0] * 4


def test_a_step_of_sgd_has_its_own_rate():
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = onlstm_texts.optimizer_of(Config(optimizer="sgd", weight_decay=0.0), model.parameters())
    before, moved = model.weight.item(), []
    for rate in (1.0, 0.5, 2.0):
        optimizer.param_groups[0]["lr"] = rate
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        moved.append(before - model.weight.item())
        before = model.weight.item()
    assert moved == pytest.approx([1.0, 0.5, 2.0], abs=1e-5)


def test_what_carries_its_state_is_refused_in_several_processes(monkeypatch, tmp_path):
    config = carried(monkeypatch, steps=3, every=3).config
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    with pytest.raises(ValueError, match="carried must be None in 2 processes"):
        onlstm_texts.run(config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_that_carries_its_state_goes_on_where_it_was_stopped(monkeypatch, tmp_path):
    config = carried(monkeypatch, optimizer="sgd", patience=1, variable_window=True, steps=30, every=3).config
    whole = onlstm_texts.run(config, tmp_path / "whole")
    assert "stopped after step" in onlstm_texts.run(config, tmp_path / "parts", stop_after=16)
    assert onlstm_texts.run(config, tmp_path / "parts") == whole
