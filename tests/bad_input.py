"""Calls that must be refused."""

import pytest


def refused(*cases):
    """A test of each call: which error it raises, and what the message says, without checks of shapes."""

    @pytest.mark.unchecked
    @pytest.mark.parametrize(("call", "error", "message"), cases)
    def test(call, error, message):
        with pytest.raises(error, match=message):
            call()

    return test
