"""What the rules of the ledger make of made-up numbers, branch by branch: the chapter `onlstm`."""

import itertools

import numpy as np
import pandas
import pytest

from kexue.book import ledger
from kexue.experiments.tasks import onlstm_rules as rules
from kexue.runs.statistics import Interval

ABOVE, AROUND, BELOW = Interval(5.0, 1.0, 9.0), Interval(0.0, -4.0, 4.0), Interval(-5.0, -9.0, -1.0)


def outcome(decision, reached=True):
    return ledger.outcome_of(decision.holds, decision.restricted, reached)


def test_all_networks_must_beat_counts_before_their_trees_are_compared():
    better, like = (
        pandas.DataFrame({"perplexity": values, "perplexity_of_counts": [20.0, 20.1, 20.2]})
        for values in ([18.0, 18.2, 18.4], [19.0, 20.0, 21.0])
    )
    assert rules.beat_counts(better, better)
    assert not rules.beat_counts(better, like)
    assert not rules.beat_counts(
        better, better.rename(columns=dict(zip(better, better.columns[::-1], strict=True)))
    )


@pytest.mark.parametrize(
    ("greedy", "split", "expected"),
    [
        ((ABOVE, ABOVE), (ABOVE, ABOVE), "holds"),
        ((ABOVE, ABOVE), (ABOVE, AROUND), "restricted"),
        ((BELOW, ABOVE), (ABOVE, ABOVE), "restricted"),
        ((ABOVE, AROUND), (AROUND, BELOW), "refuted"),
        ((BELOW, ABOVE), (ABOVE, AROUND), "refuted"),
        ((ABOVE, AROUND), (AROUND, ABOVE), "open"),
    ],
)
def test_trees_are_found_over_every_control_by_both_rules(greedy, split, expected):
    pairs = {"greedy": greedy, "split": split}
    gains = {rule: {"random": random, "by_position": by} for rule, (random, by) in pairs.items()}
    decision = rules.trees_are_found(gains)
    assert outcome(decision) == expected
    assert list(decision.measured.values()) == [greedy[1], split[1]]


@pytest.mark.parametrize(
    ("d_f", "d_i", "expected"),  # each of layers 1 and 2, over random levels and over another control
    [
        ([(ABOVE, ABOVE), (ABOVE, ABOVE)], [(AROUND, BELOW), (BELOW, BELOW)], "holds"),
        ([(ABOVE, ABOVE), (ABOVE, ABOVE)], [(AROUND, BELOW), (ABOVE, BELOW)], "open"),
        ([(ABOVE, ABOVE), (ABOVE, AROUND)], [(AROUND, BELOW), (BELOW, BELOW)], "open"),
        ([(ABOVE, ABOVE), (ABOVE, ABOVE)], [(ABOVE, ABOVE), (BELOW, BELOW)], "refuted"),
        ([(AROUND, ABOVE), (ABOVE, ABOVE)], [(BELOW, BELOW), (ABOVE, ABOVE)], "refuted"),
        ([(AROUND, ABOVE), (ABOVE, BELOW)], [(ABOVE, ABOVE), (ABOVE, ABOVE)], "unreached"),
    ],
)
def test_trees_come_from_one_gate_only(d_f, d_i, expected):
    readings = itertools.product(("forget", "input"), (1, 2))
    gains = {
        key: {"random": random, "right": right}
        for key, (random, right) in zip(readings, [*d_f, *d_i], strict=True)
    }
    decision, reached = rules.only_from_forgetting(gains)
    assert outcome(decision, reached) == expected
    (shown,) = decision.measured.values()
    assert shown.low == min(interval.low for interval in d_i[0])


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([(True, True, True)], "holds"),
        ([(True, True, True), (True, False, True)], "restricted"),
        ([(True, False, True)], "refuted"),
        ([], "refuted"),
    ],
)
def test_one_protocol_alone_explains_the_published_scores(near, expected):
    protocols = {kind: dict(rules.PUBLISHED) for kind in itertools.product((False, True), repeat=3)}
    for kind, scores in protocols.items():
        scores["random_splits"] += 3 if kind in near else -3.1
    decision = rules.protocols_near_published(protocols)
    assert outcome(decision) == expected
    assert decision.measured == {"right-branching, words only": 16.5}


@pytest.mark.parametrize(
    ("lstm", "onlstm", "expected"),
    [
        ((40, 60), (40, 41), "holds"),
        ((60, 60), (39, 60), "restricted"),
        ((21, 60), (60, 60), "restricted"),
        ((20, 60), (60, 60), "open"),
        ((60, 60), (19, 21), "open"),
        ((60, 60), (20, 20), "refuted"),
    ],
)
def test_a_network_counts_beyond_what_it_was_trained_on(lstm, onlstm, expected):
    decision = rules.counted({"LSTM": lstm, "ON-LSTM": onlstm})
    assert outcome(decision) == expected
    assert decision.measured["LSTM, right up to"] == f"{lstm[0]}, {lstm[1]}"


@pytest.mark.parametrize(
    ("ours", "plain", "counts", "there", "expected"),  # there: of an LSTM on another text, where ours has 100
    [
        ((70, 71, 72), (73, 74, 75.1), 115, (103, 104, 105), "holds"),
        ((70, 71, 72), (73, 74, 75.1), 115, (99, 100, 101.1), "holds"),
        ((70, 71, 72), (73, 74, 75.1), 115, (97, 98, 98.1), "restricted"),
        ((73, 74, 75.1), (70, 71, 72), 115, (103, 104, 105), "refuted"),
        ((70, 71, 72), (71, 71, 71), 115, (97, 98, 98.1), "open"),
        ((70, 71, 72), (73, 74, 75), 74, (103, 104, 105), "unreached"),
        ((73, 74, 75), (70, 71, 72), 74, (103, 104, 105), "unreached"),
    ],
)
def test_one_language_model_is_better_where_both_beat_counts(ours, plain, counts, there, expected):
    decision, reached = rules.better_language_model(
        {"onlstm": np.array(ours), "lstm": np.array(plain)},
        counts,
        {"onlstm": np.full(3, 100.0), "lstm": np.array(there)},
    )
    assert outcome(decision, reached) == expected
    change, elsewhere, *perplexities, of_counts = decision.measured.values()
    assert (change.mean < 0) == (ours < plain)
    assert (elsewhere.mean > 0) == (sum(there) < 300)
    assert [each.mean for each in perplexities] == pytest.approx([sum(ours) / 3, sum(plain) / 3])
    assert of_counts == counts


SEEDS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("own", "plain", "perplexity", "expected"),
    [
        (66, 60, 100, "holds"),
        (66, 66.2, 100, "restricted"),  # like the LSTM
        (66, 70, 100, "restricted"),
        (59.2, 50, 100, "unreached"),  # like right-branching trees
        (55, 50, 100, "unreached"),
        (66, 60, 114.8, "unreached"),  # like counts of five words
    ],
)
def test_english_trees_must_be_better_than_every_control(own, plain, perplexity, expected):
    decision, reached = rules.agree_with_annotated(
        own + SEEDS, plain + SEEDS[::-1], {"random": 37.0, "frequency": 44.0}, 58.6, perplexity + SEEDS, 115.0
    )
    assert outcome(decision, reached) == expected
    first = next(iter(decision.measured.values()))
    assert first.mean == pytest.approx(own - 58.6)


@pytest.mark.parametrize(("random", "expected"), [(70.0, "refuted"), (66.1, "open"), (60.0, "restricted")])
def test_random_levels_decide_whether_english_trees_are_refuted(random, expected):
    controls = {"random": random, "frequency": 72.0}
    decision, reached = rules.agree_with_annotated(66 + SEEDS, 60 + SEEDS, controls, 58.6, 100 + SEEDS, 115.0)
    assert outcome(decision, reached) == expected
