"""Counts of a few words, smoothed: probabilities."""

import numpy as np
import pytest
from refusing import refuses

from kexue.onlstm import kneser_ney

N = 30
TEXT = np.random.default_rng(0).geometric(0.15, 3000) % N
TEXT[1::2] = (TEXT[::2] + TEXT[1::2] // 4) % N  # so that a word says something of the next


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_chances_of_all_words_sum_to_1_after_any_words(order):
    for before in np.random.default_rng(1).integers(N, size=(20, order - 1)):
        chances = [kneser_ney(TEXT, np.array([*before, word]), N, order)[0] for word in range(N)]
        assert min(chances) > 0
        assert sum(chances) == pytest.approx(1)


def test_two_words_by_the_formula():
    """Chen and Goodman 1999, written out with dictionaries for n = 2."""
    pairs = list(zip(TEXT[:-1].tolist(), TEXT[1:].tolist(), strict=True))

    def discounts(counts):
        n = [sum(c == k for c in counts.values()) for k in range(1, 5)]
        y = n[0] / max(1, n[0] + 2 * n[1])
        return [0.0, *(max(0.0, k - (k + 1) * y * n[k] / max(1, n[k - 1])) for k in (1, 2, 3))]

    count = {pair: pairs.count(pair) for pair in set(pairs)}
    kinds = {w: sum(b == w for _, b in count) for w in range(N)}
    d, e = discounts(count), discounts(kinds)
    unigram = {w: (k - e[min(k, 3)]) / len(count) for w, k in kinds.items()}
    spare = sum(e[min(k, 3)] for k in kinds.values()) / len(count)
    for a, b in [(1, 1), (3, 3), (5, 0), (2, 4)]:
        after = {w: count.get((a, w), 0) for w in range(N)}
        total = sum(after.values())
        rest = sum(d[min(k, 3)] for k in after.values()) / total
        right = (after[b] - d[min(after[b], 3)]) / total + rest * (unigram[b] + spare / N)
        assert kneser_ney(TEXT, np.array([a, b]), N, 2)[0] == pytest.approx(right)


def test_single_words_by_hand():
    """Of 3 words one was seen once, one twice, one three times: n₁ = n₂ = n₃ = 1, n₄ = 0, so y = 1/3.

    D₁ = 1 − 2y = 1/3, D₂ = 2 − 3y = 1, D₃ = 3; taken are 13/3 of 6 counts, a third of them for each word.
    """
    found = kneser_ney(np.array([2, 1, 2, 0, 1, 2]), np.arange(3), 3, 1)
    assert found == pytest.approx([(2 / 3 + 13 / 9) / 6, (1 + 13 / 9) / 6, (0 + 13 / 9) / 6])


def test_many_symbols_only_share_the_rest():
    few, many = (kneser_ney(TEXT, TEXT[:200], n, 3) for n in (N, 10**9))
    assert (many > 0).all()
    assert many == pytest.approx(few, abs=0.02)
    assert (many <= few).all()


def test_longer_counts_tell_more_where_longer_words_matter():
    perplexity = [np.exp(-np.log(kneser_ney(TEXT[:2000], TEXT[2000:], N, n)).mean()) for n in (1, 2)]
    assert perplexity[1] < 0.8 * perplexity[0]


test_bad_arguments_of_counts_are_named = refuses([
    (lambda: kneser_ney(TEXT, TEXT, N, 0), ValueError, "order must be at least 1, got 0"),
    (lambda: kneser_ney(TEXT, TEXT, 0), ValueError, "symbols must be at least 1, got 0"),
    (lambda: kneser_ney(TEXT * 1.0, TEXT, N), TypeError, "text must be a vector of integers"),
    (lambda: kneser_ney(TEXT, TEXT[:3], N), ValueError, "held_out must have at least 5 ids, got 3"),
    (lambda: kneser_ney(np.arange(6), np.arange(7), 6), ValueError, "held_out must be between 0 and 5, got 0 to 6"),
    (lambda: kneser_ney(np.arange(7) - 1, np.arange(6), 6), ValueError, "text must be between 0 and 5, got -1 to 5"),
    (lambda: kneser_ney(TEXT, TEXT, 5), ValueError, "text must be between 0 and 4, got 0 to"),
])  # fmt: skip
