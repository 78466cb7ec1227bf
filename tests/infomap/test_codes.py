"""Mathematics of kexue.infomap.codes: codes that decode, and are as long as they say; bad input."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import seeded  # noqa: F401  # Hypothesis's profile
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refuses

from kexue.infomap import EXIT, HierarchicalCode, entropy, huffman_code, kraft_sum


def is_prefix_free(words) -> bool:
    words = list(words)
    return not any(b.startswith(a) for a, b in itertools.permutations(words, 2))


def prefix_code(choices: list[bool]) -> list[str]:
    """A random prefix code: leaves of a tree that grows where `choices` says so."""
    words = [""]
    for split in choices:
        word = words.pop(0)
        words += [word + "0", word + "1"] if split else [word + "1"]
    return words


@pytest.mark.verifies("infomap.eq1")
@given(st.lists(st.booleans(), max_size=12))
def test_kraft_s_sum_is_at_most_one_for_prefix_codes(choices):
    words = prefix_code(choices)
    assert is_prefix_free(words)
    total = kraft_sum(map(len, words))
    assert total <= 1
    assert (total == 1) == all(choices)


@pytest.mark.verifies("infomap.eq3", "infomap.eq4", "infomap.eq5", "infomap.eq6")
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(0, 10**6))
def test_the_mean_length_is_a_cross_entropy_with_the_slack(choices, seed):
    lengths = np.array([len(word) for word in prefix_code(choices)])
    hat = 2.0**-lengths
    slack = 1 - hat.sum()
    assert slack >= 0
    p = np.random.default_rng(seed).dirichlet(np.ones(len(hat)))
    mean = (p * lengths).sum()
    assert mean == pytest.approx(-(p * np.log2(hat)).sum())
    # p_0 = 0 of the slack adds nothing, and both are distributions over the same symbols
    assert hat.sum() + slack == 1
    assert mean >= entropy([0.0, *p]) - 1e-12


@pytest.mark.verifies("infomap.eq1", "infomap.eq6")
@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=9))
def test_huffman_is_a_full_prefix_code_within_a_bit_of_the_entropy(weights):
    code = huffman_code(weights)
    assert list(code) == list(range(len(weights)))
    assert is_prefix_free(code.values())
    assert kraft_sum(map(len, code.values())) == 1
    p = np.array(weights) / sum(weights)
    mean = sum(q * len(code[i]) for i, q in enumerate(p))
    assert entropy(p) - 1e-12 <= mean < entropy(p) + 1


@settings(max_examples=20)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter_than_huffman_s(weights):
    code = huffman_code(weights)
    ours = sum(w * len(code[i]) for i, w in enumerate(weights))
    n = len(weights)
    for lengths in itertools.product(range(1, n), repeat=n):
        if kraft_sum(lengths) <= 1:
            assert ours <= sum(w * length for w, length in zip(weights, lengths, strict=True)) + 1e-12


@pytest.mark.verifies("infomap.eq2", "infomap.eq3", "infomap.eq6")
def test_entropy_is_reached_for_powers_of_two():
    p = [0.5, 0.25, 0.125, 0.0625, 0.0625]
    code = huffman_code(dict(zip("abcde", p, strict=True)))
    assert [len(code[s]) for s in "abcde"] == [1, 2, 3, 4, 4]
    assert sum(q * len(code[s]) for s, q in zip("abcde", p, strict=True)) == entropy(p) == 1.875
    assert entropy([1.0, 0.0]) == 0
    assert entropy([0.5, 0.5 + 1e-10]) == pytest.approx(1.0)
    assert entropy([Fraction(1, 4)] * 4) == 2
    assert huffman_code({"only": 3.0}) == {"only": ""}
    assert set(map(len, huffman_code([1, 1, 1, 1]).values())) == {2}
    assert len(huffman_code([1.0, 0.0, 0.0])) == 3


ITEMS = "abcdefgh"


@pytest.mark.verifies("infomap.coding", "infomap.eq11")
@given(
    st.text(ITEMS, min_size=1, max_size=40),
    st.lists(st.integers(0, 3), min_size=len(ITEMS), max_size=len(ITEMS)),
)
def test_hierarchical_codes_decode_and_are_as_long_as_they_say(sequence, categories):
    code = HierarchicalCode.fit(sequence, dict(zip(ITEMS, categories, strict=True)))
    bits = code.encode(sequence)
    assert "".join(code.decode(bits)) == sequence
    assert len(bits) == pytest.approx(code.mean_length * len(sequence))
    assert is_prefix_free(code.index.values())
    for names in code.modules.values():
        assert EXIT in names
        assert kraft_sum(map(len, names.values())) == 1
    exits = sum(of[EXIT] for of in code.counts.values()) / len(sequence)
    assert code.codelength - 1e-9 <= code.mean_length < code.codelength + 1 + 2 * exits


@pytest.mark.verifies("infomap.claim6")
def test_the_article_s_twelve_items_flat_clumped_and_interleaved():
    partition = {f"{kind}{i}": kind for kind, n in (("x", 5), ("y", 4), ("z", 3)) for i in range(n)}
    clumped = sorted(partition)
    by_kind = [[item for item in clumped if item[0] == kind] for kind in "xyz"]
    interleaved = [item for row in itertools.zip_longest(*by_kind) for item in row if item]
    flat = 12 * math.log2(12)
    lengths = [12 * HierarchicalCode.fit(s, partition).codelength for s in (clumped, interleaved)]
    assert flat == pytest.approx(43.02, abs=0.01)
    assert lengths[0] == pytest.approx(39.87, abs=0.01)
    assert lengths[1] == pytest.approx(67.0, abs=0.1)


def test_a_code_for_one_category_and_for_one_item():
    code = HierarchicalCode.fit("aaa", {"a": 0})
    assert code.index == {0: ""}
    assert code.decode(code.encode("a")) == ["a"]
    assert code.encode("") == ""
    assert code.decode("") == []


def test_costs_are_what_each_item_adds():
    code = HierarchicalCode.fit("aabbbcab", {"a": 0, "b": 1, "c": 0})
    for text in ("aabbbcab", "a", "ba", "abcabc"):
        costs = code.costs(text)
        assert len(costs) == len(text)
        assert sum(costs) == len(code.encode(text))
    inside, alone = code.costs("aaa"), code.costs("a")
    assert inside[1] == len(code.modules[0]["a"])
    assert inside[0] + inside[2] - inside[1] == alone[0]
    assert inside[0] - inside[1] == len(code.index[0])
    assert inside[2] - inside[1] == len(code.modules[0][EXIT])
    assert code.costs("") == []


AB = HierarchicalCode.fit("ab", {"a": 0, "b": 0}).encode("ab")


test_bad_input_is_named = refuses([
    (lambda: kraft_sum([1, -1]), ValueError, "lengths must be at least 0, got -1"),
    (lambda: entropy([0.5, 0.4]), ValueError, "p must be non-negative and sum to 1, got the sum 0.9"),
    (lambda: entropy([math.nan]), ValueError, "p must be non-negative"),
    (lambda: huffman_code([]), ValueError, "p must have at least one symbol"),
    (lambda: huffman_code([1.0, -1.0]), ValueError, "p must be non-negative and finite, got -1.0 for 1"),
    (lambda: huffman_code({"a": math.nan}), ValueError, "p must be non-negative and finite, got nan for 'a'"),
    (lambda: huffman_code(["a", "b"]), TypeError, "p must be numbers, got 'a' for 0"),
    (lambda: HierarchicalCode.fit("", {}), ValueError, "sequence must not be empty"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0}), ValueError, "partition must have a category for every item, got none for 'b'"),
    (lambda: HierarchicalCode.fit("ab", ["a", "b"]), TypeError, "partition must be a mapping, got list"),
    (lambda: HierarchicalCode.fit(3, {3: 0}), TypeError, "sequence must be a sequence, got int"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0, "b": 0}).encode(3), TypeError, "sequence must be a sequence, got int"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0, "b": 0}).decode(b"01"), TypeError, "bits must be a string, got bytes"),
    (lambda: HierarchicalCode.fit([EXIT], {EXIT: 0}), ValueError, "sequence must not contain the exit mark"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0, "b": 0}).encode("c"), ValueError, "sequence must contain items .*, got 'c'"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0, "b": 0}).decode("2"), ValueError, r"bits must consist of 0 and 1, got \['2'\]"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0, "b": 0}).decode(AB[:-1]), ValueError, "bits must be a whole sequence"),
    (lambda: HierarchicalCode.fit("aabb", {"a": 0, "b": 1}).decode("00"), ValueError, "bits must be what encode writes, but 0 is entered for nothing"),
    (lambda: HierarchicalCode.fit("aabb", {"a": 0, "b": 1}).decode("010" + "010"), ValueError, "bits must be what encode writes, but 0 is entered for nothing"),
    (lambda: entropy(["0.5", "0.5"]), TypeError, r"p must be numbers, got \['0.5', '0.5'\]"),
    (lambda: entropy(np.array(["0.5", 0.5], dtype=object)), TypeError, "p must be numbers"),
    (lambda: entropy([0.5 + 0j, 0.5]), TypeError, "p must be numbers"),
    (lambda: HierarchicalCode.fit([[1]], {1: 0}), TypeError, r"items of sequence must be hashable, got \[1\]"),
    (lambda: HierarchicalCode.fit([(1, [2])], {1: 0}), TypeError, "items of sequence must be hashable"),
    (lambda: HierarchicalCode.fit("ab", {"a": 0, "b": 0}).encode([[1]]), TypeError, "items of sequence must be hashable"),
    (lambda: entropy([0.5, 0.5 + 1e-7]), ValueError, "p must be non-negative and sum to 1"),
])  # fmt: skip


def shannon(p):
    """Codewords of length ⌈−log₂ p⌉ instead of Huffman's."""
    total, place, code = sum(p), 0.0, {}
    for i in sorted(range(len(p)), key=lambda i: -p[i]):
        length = max(math.ceil(-math.log2(p[i] / total)), 1)
        code[i] = format(int(place * 2**length), f"0{length}b")
        place += 2.0**-length
    return code


FAULTS = [(test_no_prefix_code_is_shorter_than_huffman_s, None, "huffman_code", shannon)]
