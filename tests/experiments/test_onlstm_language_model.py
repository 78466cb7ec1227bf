"""Language models and logic: their data, and what is measured."""

import numpy as np
import pytest
import torch
from replacing import replace

from kexue import data
from kexue.experiments import onlstm_language_model, onlstm_logic
from kexue.experiments.onlstm_language_model import Config


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
