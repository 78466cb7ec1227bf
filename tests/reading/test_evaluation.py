"""Answers compared, beside naive ones, and votes."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue import reading
from kexue.reading import Answer, answer_f1, exact_match, normalized, vote

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")


def naive_normalized(text):
    out = ""
    for one in unicodedata.normalize("NFKC", text).lower():
        category = unicodedata.category(one)
        if not one.isspace() and category[0] not in ("P", "Z"):
            out += one
    return out


def naive_f1(found, true):
    """By striking out one character after the other."""
    found, rest, common = naive_normalized(found), list(naive_normalized(true)), 0
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
    expected = any(naive_normalized(prediction) == naive_normalized(one) for one in references)
    assert exact_match(prediction, references) == expected
    assert exact_match(prediction, references[0]) == exact_match(prediction, references[:1])
    assert answer_f1(prediction, references[0]) == answer_f1(references[0], prediction)
    shuffled = "".join(sorted(prediction))
    assert answer_f1(shuffled, references) == answer_f1(prediction, references)
    if expected and naive_normalized(prediction):
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
    for text in dict.fromkeys(one.text for one in answers):
        squares = plain = 0.0
        for one in answers:
            if one.text == text:
                squares += one.score**2
                plain += one.score
        total[text] = squares / (1 + plain)
    text, score = reading.vote(iter(answers))
    assert score == pytest.approx(max(total.values()), abs=1e-15)
    assert total[text] == pytest.approx(score, abs=1e-15)


@pytest.mark.verifies("reading.vote")
def test_a_few_certain_votes_count_for_more_than_many_uncertain_ones():
    many, certain = [Answer("a", 0.1)] * 9, [Answer("b", 0.9)]
    assert vote(many + certain) == ("b", pytest.approx(0.81 / 1.9))
    assert vote([Answer("a", 0.5), Answer("b", 0.5)]).text == "a"
    assert vote([Answer("a", 0.9)] * 2) == ("a", pytest.approx(1.62 / 2.8))
    assert vote([Answer("a", 0.0)]) == ("a", 0.0)
    # Two beat one of the same score, and one that is certain enough beats two.
    assert vote([Answer("a", 0.4), Answer("a", 0.4), Answer("b", 0.4)]).text == "a"
    assert vote([Answer("a", 0.4), Answer("a", 0.4), Answer("b", 0.6)]).text == "b"


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact_match("a", []), ValueError, r"references must hold at least one, got \[\]"),
        (lambda: answer_f1("a", ()), ValueError, r"references must hold at least one, got \(\)"),
        (lambda: vote([]), ValueError, "answers must hold at least one, got none"),
        (lambda: vote([Answer("a", 1.5)]), ValueError, r"answers must have scores within \[0, 1\], got 1\.5"),
        (lambda: vote([Answer("a", float("nan"))]), ValueError, r"answers must have scores within \[0, 1\], got nan"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


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
