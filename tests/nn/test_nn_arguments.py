"""Checks of arguments that are no tensors."""

import numpy as np
import pytest
from refusing import refuses

from kexue.nn import arguments, checks


@pytest.mark.unchecked
def test_whole_numbers_may_be_numpy_s_and_become_ints():
    for value in (3, np.int8(3), np.uint64(3), np.int64(3)):
        found = arguments.whole("n", value, 0, 5)
        assert (found, type(found)) == (3, int)


def test_what_can_be_a_key_passes():
    arguments.hashable("items", [1, "a", None, (1, 2)])


def test_each_check_is_written_once():
    for name in ("choice", "count", "number", "rate", "function", "instance", "strings", "heads"):
        assert getattr(checks, name) is getattr(arguments, name)


test_bad_input_is_named = refuses([
    (lambda: arguments.whole("n", True, 0), TypeError, "n must be an int, got bool"),
    (lambda: arguments.whole("n", 3.0, 0), TypeError, "n must be an int, got float"),
    (lambda: arguments.whole("n", np.int8(-1), 0), ValueError, "n must be at least 0, got -1"),
    (lambda: arguments.whole("n", 7, 0, 5, "five"), ValueError, "n must be between 0 and five, got 7"),
    (lambda: arguments.whole("n", 2**63, 0), ValueError, "n must be at least 0, got"),
    (lambda: arguments.choice("n", "b", ("a",)), ValueError, r"n must be one of \('a',\), got 'b'"),
    (lambda: arguments.hashable("items", [0, (1, [2])]), TypeError, r"items must be hashable, got \(1, \[2\]\)"),
])  # fmt: skip
