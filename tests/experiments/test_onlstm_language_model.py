"""Language models and logic: their data, and what is measured."""

import numpy as np
import pytest
import torch
from replacing import replace

from kexue import data
from kexue.experiments import onlstm_language_model, onlstm_logic
from kexue.experiments.onlstm_language_model import Config
from kexue.runs import Step


def test_a_language_model_s_parts_are_disjoint_blocks(monkeypatch):
    words = tuple((f"p{i}", "the") for i in range(3000))
    text = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: text, monkeypatch)
    texts = onlstm_language_model.corpus(Config(at_least=1))
    assert (len(texts.train), len(texts.valid), len(texts.test)) == (2700, 150, 150)
    assert texts.vocabulary.symbols[:2] == ("<eos>", "the")
    end, the = (int(texts.vocabulary.ids([symbol])) for symbol in ("<eos>", "the"))
    held_out = texts.valid + texts.test
    assert all(ids[1:].tolist() == [the, end] for ids in texts.train + held_out)
    assert all(ids[0] == data.UNKNOWN for ids in held_out)  # whose paragraphs training has not
    assert len({int(ids[0]) for ids in texts.train}) == 2700


@pytest.mark.system
@pytest.mark.parametrize("text", ["stream", "sentences"])
def test_a_language_model_predicts_the_next_word_of_what_it_read(monkeypatch, tmp_path, text):
    """A text that repeats is learned; a target out of place would leave the entropy of its words."""
    words = tuple(tuple("abcdefgh") for _ in range(2000))
    repeats = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: repeats, monkeypatch)
    config = Config(text=text, hidden_sizes=(32, 32), learning_rate=1e-2, steps=250, every=250, window=9)
    summary = onlstm_language_model.run(config, tmp_path)
    assert summary["valid_perplexity"] < 2  # of nine symbols


def test_averaged_parameters_are_used_and_put_back():
    model = torch.nn.Linear(1, 1, bias=False)
    config = Config(optimizer="sgd", learning_rate=1.0, average_from=2, weight_decay=0.0, steps=6)
    optimizer = onlstm_language_model.optimizer_of(config, model.parameters())
    seen = []
    for _ in range(6):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        seen.append(model.weight.item())
    with onlstm_language_model.averaged(optimizer):
        assert model.weight.item() == pytest.approx(np.mean(seen[3:]), abs=1e-5)
    assert model.weight.item() == seen[-1]


def carried(monkeypatch, **settings):
    """A training whose text is 0, 1, 2, … 599, and <eos> after every ten."""
    words = tuple(tuple(f"w{i}" for i in range(10 * k, 10 * k + 10)) for k in range(60))
    text = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: text, monkeypatch)
    onlstm_language_model.corpus.cache_clear()
    config = Config(carry=True, at_least=1, hidden_sizes=(8, 8), batch_size=3, window=7, **settings)
    model = onlstm_language_model.build(config)
    optimizer = onlstm_language_model.optimizer_of(config, model.parameters())
    return onlstm_language_model.Training(config, model, optimizer)


@pytest.mark.parametrize("variable", [False, True])
def test_windows_follow_each_other_in_each_part_of_the_text(monkeypatch, variable):
    training = carried(monkeypatch, variable_window=variable)
    part, ends, seen = len(training.stream) // 3, None, 0
    for index in range(60):
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
    config = Config(carry=True, variable_window=True, window=70)
    lengths = np.array([onlstm_language_model.window_at(config, i) for i in range(4000)])
    whole = lengths[lengths > 52]
    assert len(whole) / 4000 == pytest.approx(0.95, abs=0.01)
    assert whole.mean() == pytest.approx(69.5, abs=0.3)  # rounded down
    assert whole.std() == pytest.approx(5, abs=0.3)
    assert lengths[lengths <= 52].mean() == pytest.approx(34.5, abs=1.5)
    assert onlstm_language_model.window_at(Config(window=70), 3) == 70


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
    optimizer = onlstm_language_model.optimizer_of(
        Config(optimizer="sgd", weight_decay=0.0), model.parameters()
    )
    before, moved = model.weight.item(), []
    for rate in (1.0, 0.5, 2.0):
        optimizer.param_groups[0]["lr"] = rate
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        moved.append(before - model.weight.item())
        before = model.weight.item()
    assert moved == pytest.approx([1.0, 0.5, 2.0], abs=1e-5)


def test_a_run_that_carries_its_state_goes_on_where_it_was_stopped(monkeypatch, tmp_path):
    config = carried(monkeypatch, optimizer="sgd", patience=1, variable_window=True, steps=30, every=3).config
    whole = onlstm_language_model.run(config, tmp_path / "whole")
    assert "stopped after step" in onlstm_language_model.run(config, tmp_path / "parts", stop_after=16)
    assert onlstm_language_model.run(config, tmp_path / "parts") == whole


def truth(tokens, world):
    """The value of a formula in a world, by Python."""
    text = " ".join(str(world[t]) if t in world else t for t in tokens)
    return bool(eval(text))


@pytest.mark.slow
def test_formulas_mean_what_their_tables_say_and_relations_what_logic_says():
    worlds = [{v: bool(j >> i & 1) for i, v in enumerate("abcdef")} for j in range(64)]
    draw = np.random.default_rng(5)
    met = set()
    for k in range(300):
        operators = k % 7
        tokens, table = onlstm_logic.formula(draw, operators, "abcdef")
        assert sum(token in ("not", "and", "or") for token in tokens) == operators
        assert [truth(tokens, world) for world in worlds] == [bool(table >> j & 1) for j in range(64)]
        a, b, name = onlstm_logic.pair(draw, 1 + k % 4)
        assert max(sum(t in ("not", "and", "or") for t in side) for side in (a, b)) == 1 + k % 4
        assert len(({*a} | {*b}) & set("abcdef")) <= 4
        p, q = ([truth(side, world) for world in worlds] for side in (a, b))
        both = set(zip(p, q, strict=True))
        forward, backward = (True, False) not in both, (False, True) not in both
        apart, cover = (True, True) not in both, (False, False) not in both
        held = {
            "=": forward and backward,
            "<": forward and not backward,
            ">": backward and not forward,
            "^": apart and cover,
            "|": apart and not cover,
            "v": cover and not apart,
            "#": not (forward or backward or apart or cover),
        }
        assert [relation for relation, holds in held.items() if holds] == [name]
        met.add(name)
    assert met == set(onlstm_logic.RELATIONS)


@pytest.mark.slow
def test_pairs_of_formulas_are_in_one_part_only():
    train, valid, test = onlstm_logic.pairs(3000, 20)
    parts = [{one[:2] for one in part} for part in (train, valid, *test.values())]
    assert len(valid) == 3000
    assert all(len(test[k]) == 20 for k in range(1, 13))
    for i, part in enumerate(parts[1:], start=1):
        assert not any(part & other for other in parts[:i])
