"""A test that bad input is refused with a message which says what is wrong."""

from collections.abc import Callable, Sequence

import pytest


def refuses(cases: Sequence[tuple[Callable[[], object], type[Exception], str]]) -> Callable[..., None]:
    """The test of all cases: a call, the kind of its error, and a pattern that its message begins with."""

    @pytest.mark.unchecked
    @pytest.mark.parametrize(("call", "error", "message"), cases, ids=range(len(cases)))
    def test_bad_input_is_named(call, error, message):
        with pytest.raises(error, match=f"^(?:{message})"):
            call()

    return test_bad_input_is_named
