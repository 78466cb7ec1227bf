"""Trees of English sentences from levels without a network."""

import numpy as np
import pandas as pd
import pytest

from kexue import data, runs
from kexue.experiments import onlstm_english
from kexue.onlstm import bracket_f1, leaves, tree_from_levels


def test_the_recorded_controls_are_all_there_and_random_levels_near_those_of_other_draws():
    (found,) = runs.table("onlstm_english").to_dict("records")
    assert {f"f1_{name}" for name in onlstm_english.NAMES} <= set(found)
    assert found["f1_random"] == pytest.approx(36.87, abs=1.5)  # `baseline_scores`
    assert found["perplexity_of_counts"] == pytest.approx(
        141.2, abs=0.5
    )  # as published by Mikolov et al. 2011


@pytest.mark.slow
def test_trees_by_frequency_are_those_of_counts_made_otherwise():
    train, _, _ = data.mikolov_ptb()
    count = pd.Series([word for line in train for word in line.split()]).value_counts()
    scores = []
    for tree in data.treebank().tree:
        words = leaves(tree)
        if len(words) <= 10:
            known = [word if word in count else "<unk>" for word in data.plain_english(words)]
            scores.append(bracket_f1(tree_from_levels(words, count[known].to_numpy()), tree))
    recorded = runs.table("onlstm_english").f1_frequency.item()
    assert recorded == pytest.approx(100 * np.mean(scores), abs=0.5)


def test_a_row_for_each_gate_and_layer():
    columns = [f"f1_short_{gate}_{layer}" for gate in ("forget", "input") for layer in (1, 2, 3)]
    tables = [pd.DataFrame([range(start, start + 6)], columns=columns) for start in (10, 20)]
    shown = onlstm_english.gates(*tables)
    assert [row["ON-LSTM"] for row in shown] == ["10.0", "11.0", "12.0", "13.0", "14.0", "15.0"]
    assert shown[4] == {"F1 of short sentences": "$d_i$, layer 2", "ON-LSTM": "14.0", "LSTM": "24.0"}
