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
            levels = np.where(np.array(known) == "<unk>", 0, count[known].to_numpy())  # no word of its own
            scores.append(bracket_f1(tree_from_levels(words, levels), tree))
    recorded = runs.table("onlstm_english").f1_frequency.item()
    assert recorded == pytest.approx(100 * np.mean(scores), abs=0.5)


def test_two_recorded_networks_reach_the_paper_s_f1_and_one_is_nearer_to_random_levels_than_to_branching():
    networks = onlstm_english.networks()
    read, right = onlstm_english.short_f1(networks)
    random = runs.table("onlstm_english").f1_random.item()
    assert (read["ON-LSTM"] > 65.1).sum() == 2
    assert (read["ON-LSTM"] - random < right - read["ON-LSTM"]).sum() == 1
    assert (
        networks.get_group("lstm").test_perplexity.values < networks.get_group("onlstm").test_perplexity
    ).all()


def test_networks_draw_their_trees_after_a_quarter_of_the_training_when_they_predict_far_worse():
    early, late, before, after = [], [], [], []
    for name, run in runs.recorded("onlstm_ptb_small").items():
        rows = pd.DataFrame(run.columns("metrics.csv")).dropna(subset="valid_perplexity").set_index("step")
        if name.startswith("onlstm"):
            early.append(rows.f1_short_forget_2[1330])
            late.append(rows.f1_short_forget_2[5320])
            before.append(rows.valid_perplexity[1330])
            after.append(rows.valid_perplexity[5320])
    assert np.corrcoef(early, late)[0, 1] > 0.95
    assert np.mean(early) > np.mean(late)
    assert min(before) > 1.35 * max(after)


def test_the_lead_of_the_newspaper_shrinks_while_networks_train():
    columns = {
        name: pd.DataFrame(run.columns("metrics.csv")).dropna(subset="valid_perplexity").valid_perplexity
        for name, run in runs.recorded("onlstm_news").items()
    }
    lead = np.mean(
        [np.log(columns[f"lstm-seed{s}"] / columns[f"onlstm-seed{s}"]).to_numpy() for s in range(1, 6)], 0
    )
    assert (np.diff(lead) < 0.0005).all()
    assert lead[0] > 1.5 * lead[-1] > 0


def test_the_controls_are_those_that_the_rule_fixed():
    assert list(onlstm_english.CONTROLS) == ["random", "frequency", "first_high"]


def networks(start):
    columns = [f"f1_short_{gate}_{layer}" for gate in ("forget", "input") for layer in (1, 2, 3)]
    values = [range(start + seed, start + seed + 6) for seed in range(3)]
    return pd.DataFrame(values, columns=columns).assign(
        seed=[3, 1, 2], f1_short_right=58.6, f1_short_best_article=84.5, test_perplexity=[100.0, 102, 101]
    )


@pytest.fixture
def both(monkeypatch):
    recorded = pd.concat([networks(60).assign(cell="onlstm"), networks(40).assign(cell="lstm")])
    table = runs.table
    monkeypatch.setattr(runs, "table", lambda name: recorded if name == "onlstm_ptb_small" else table(name))
    return onlstm_english.networks()


def test_what_the_rule_reads_is_the_second_layer_in_the_order_of_seeds(both):
    read, right = onlstm_english.short_f1(both)
    assert list(read["ON-LSTM"]) == [62, 63, 61]
    assert list(read["LSTM"]) == [42, 43, 41]
    assert right == 58.6
    assert onlstm_english.lead(both).tolist() == [20, 20, 20]
    decision, reached = onlstm_english.agree_with_annotated(both)
    assert (decision.holds, reached) == (True, True)
    assert decision.measured["less LSTM"].mean == 20


def test_a_row_for_each_gate_and_layer_and_for_each_level_without_a_network(both):
    shown = onlstm_english.rows(both)
    assert [row["ON-LSTM"] for row in shown[:6]] == ["61.0", "62.0", "63.0", "64.0", "65.0", "66.0"]
    assert shown[4] == {
        "F1 of short sentences": "$d_i$, layer 2",
        "ON-LSTM": "65.0",
        "LSTM": "45.0",
        "no network": "",
    }
    *without, right, best = shown[6:]
    assert [row["F1 of short sentences"] for row in without] == list(onlstm_english.NAMES.values())
    assert (right["no network"], best["no network"]) == ("58.6", "84.5")
