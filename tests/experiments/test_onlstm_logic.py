"""Propositional formulas: what they mean, and that no pair is in two parts."""

import numpy as np
import pytest

from kexue.experiments import onlstm_logic


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
