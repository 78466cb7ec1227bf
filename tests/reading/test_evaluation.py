"""Answers compared, beside naive ones, and votes."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue import reading
from kexue.reading import Answer, answer_f1, exact_match, normalized, vote


def naive_f1(found, true):
    """By striking out one character after the other."""
    found, rest, common = normalized(found), list(normalized(true)), 0
    size = len(rest)
    for one in found:
        if one in rest:
            rest.remove(one)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(found), common / size
    return 2 * precision * recall / (precision + recall)


TEXTS = st.text("aabbcA北京。，！ \t　Ａ１1-—《》", max_size=8)


@pytest.mark.verifies("reading.metric")
@settings(max_examples=200)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_exact_match_and_f1_are_the_naive_ones(prediction, references):
    assert answer_f1(prediction, references) == pytest.approx(
        max(naive_f1(prediction, one) for one in references)
    )
    expected = any(normalized(prediction) == normalized(one) for one in references)
    assert exact_match(prediction, references) == expected
    assert exact_match(prediction, references[0]) == exact_match(prediction, references[:1])
    assert answer_f1(prediction, references[0]) == answer_f1(references[0], prediction)
    shuffled = "".join(sorted(prediction))
    assert answer_f1(shuffled, references) == answer_f1(prediction, references)
    if expected and normalized(prediction):
        assert answer_f1(prediction, references) == 1


@pytest.mark.verifies("reading.metric")
@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "f1"),
    [
        ("北京", "北京", True, 1),
        ("北京 。", "《北京》", True, 1),
        ("Ｂｅｒｔ１", "bert 1", True, 1),
        ("北京市", "北京", False, 4 / 5),
        ("京北", "北京", False, 1),
        ("aab", "abb", False, 2 / 3),
        ("aaaa", "a", False, 2 / 5),
        ("上海", "北京", False, 0),
        ("", "北京", False, 0),
        ("。", "", True, 0),
    ],
)
def test_metrics_worked_by_hand(prediction, reference, exact, f1):
    assert exact_match(prediction, reference) is exact
    assert answer_f1(prediction, reference) == pytest.approx(f1)


def test_what_normalisation_takes_away():
    assert normalized(" Ａ—b，C\n(１)《北·京》　") == "abc1北京"
    assert normalized("3+4=7€") == "3+4=7€"


@pytest.mark.verifies("reading.vote")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1000)), min_size=1, max_size=9))
def test_votes_are_a_loop(pairs):
    answers = [Answer(text, score / 1000) for text, score in pairs]
    total = {}
    for text in {one.text for one in answers}:
        scores = [one.score for one in answers if one.text == text]
        total[text] = sum(score**2 for score in scores) / (1 + sum(scores))
    text, score = reading.vote(iter(answers))
    assert score == pytest.approx(max(total.values()), abs=1e-15)
    assert total[text] == pytest.approx(score, abs=1e-15)


@pytest.mark.verifies("reading.vote")
def test_a_few_certain_votes_count_for_more_than_many_uncertain_ones():
    assert vote([*[Answer("a", 0.1)] * 9, Answer("b", 0.9)]) == ("b", pytest.approx(0.81 / 1.9))
    assert vote([Answer("a", 0.5), Answer("b", 0.5)]).text == "a"
    assert vote([Answer("a", 0.0)]) == ("a", 0.0)
    # Two beat one of the same score, and one that is certain enough beats two.
    assert vote([Answer("a", 0.4), Answer("a", 0.4), Answer("b", 0.4)]).text == "a"
    assert vote([Answer("a", 0.4), Answer("a", 0.4), Answer("b", 0.6)]).text == "b"


def set_f1(found, true):
    common = len(set(found) & set(true))
    return 2 * common / (len(found) + len(true)) if common else 0.0


def only_lower_case(text):
    return "".join(
        one for one in text.lower() if not one.isspace() and unicodedata.category(one)[0] not in "PZ"
    )


def sum_of_scores(answers):
    total = Counter()
    for text, score in answers:
        total[text] += score
    return Answer(*total.most_common(1)[0])


FAULTS = [
    (test_exact_match_and_f1_are_the_naive_ones, "_f1", set_f1),
    (lambda: test_metrics_worked_by_hand("aab", "abb", False, 2 / 3), "_f1", set_f1),
    (test_votes_are_a_loop, "vote", sum_of_scores),
    (lambda: test_metrics_worked_by_hand("Ｂｅｒｔ１", "bert 1", True, 1), "normalized", only_lower_case),
]
