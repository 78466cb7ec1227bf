"""Error rates: by hand, and beside the recursion for the distance of edits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses

from kexue import decoding
from kexue.decoding import error_rate


@pytest.mark.parametrize(
    ("hypotheses", "references", "expected"),
    [
        ([[3, 4], [5]], [[[3, 4]], [[3, 6, 5]]], (2 / 5, 1 / 2)),
        # The closest per token: 1 of 4, not 1 of 2.
        ([[3, 4, 5]], [[[3, 5], [3, 4, 5, 6]]], (1 / 4, 1)),
        # Fewer edits, but more per token: 1 of 1, and 2 of 4.
        ([[3, 4]], [[[3], [3, 4, 5, 6]]], (2 / 4, 1)),
        # Equally many per token: the shorter one, wherever it stands.
        (["x", "q"], [["ab", "abcd"], ["q"]], (2 / 3, 1 / 2)),
        (["x", "q"], [["abcd", "ab"], ["q"]], (2 / 3, 1 / 2)),
        # Tokens may be strings.
        ([["AH", "B"], ["K"]], [[["AH", "P"], ["EH"]], [["K"]]], (1 / 3, 1 / 2)),
        (["abc", ""], [["abd", "xyz"], ["q"]], (2 / 4, 1)),
    ],
)
def test_error_rates_worked_by_hand(hypotheses, references, expected):
    assert decoding.error_rate(hypotheses, references) == pytest.approx(expected)


@given(st.lists(st.integers(3, 5), max_size=6), st.lists(st.integers(3, 5), min_size=1, max_size=6))
def test_edits_are_the_recursion_s(hypothesis, reference):
    row = list(range(len(reference) + 1))
    for i, a in enumerate(hypothesis, start=1):
        above, row = row, [i]
        for j, b in enumerate(reference, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    expected = row[-1] / len(reference), float(hypothesis != reference)
    assert decoding.error_rate([hypothesis], [[reference]]) == pytest.approx(expected)


test_bad_input_is_named = refuses([
    (lambda: error_rate(["ab"], ["ab"]), TypeError, "hypotheses and references must be sequences of tokens, .* got 'ab' and 'ab' at 0"),
    (lambda: error_rate([[1]], [[1]]), TypeError, r"hypotheses and references must be sequences of tokens, .* got \[1\] and \[1\] at 0"),
    (lambda: error_rate([], []), ValueError, "hypotheses must be as many as references, at least one, got 0 and 0"),
    (lambda: error_rate([[3], [4]], [[[3]], []]), ValueError, r"references must have a token for every word, got \[\] at 1"),
    (lambda: error_rate([[3]], [[[3], []]]), ValueError, r"references must have a token .*, got \[\[3\], \[\]\] at 0"),
])  # fmt: skip


def first_reference(hypotheses, references):
    return error_rate(hypotheses, [several[:1] for several in references])


FAULTS = [
    (lambda: test_error_rates_worked_by_hand([[3, 4, 5]], [[[3, 5], [3, 4, 5, 6]]], (1 / 4, 1)), "error_rate", first_reference),
]  # fmt: skip
