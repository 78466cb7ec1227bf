"""Deliberate faults: each must make a test fail that is evidence for a row.

FAULTS, at the end of an article's file of tests, hold the test (or a call of it, with its arguments), what is
replaced, and by what. A name alone is replaced wherever the article's modules hold it. A name with its place,
in that object only; or, if the place is None, in that file of tests.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from replacing import replace
from torch.autograd.gradcheck import GradcheckError

TESTS = Path(__file__).parent
SLUGS = sorted(path.stem for path in TESTS.parent.glob("chapters/*.py"))


def modules(slug: str) -> list[ModuleType]:
    """An article's tests: one file, or one file an idea in a folder of their own."""
    found = []
    for path in sorted([*TESTS.glob(f"test_{slug}.py"), *TESTS.glob(f"{slug}/test_*.py")]):
        if str(path.parent) not in sys.path:  # pytest puts it there only when it collects the folder
            sys.path.insert(0, str(path.parent))
        found.append(importlib.import_module(path.stem))
    return found


CASES = [
    (slug, module, fault[0], *(fault[1:] if len(fault) == 4 else ("kexue", *fault[1:])))
    for slug in SLUGS
    for module in modules(slug)
    for fault in getattr(module, "FAULTS", ())
]


@pytest.mark.slow
@pytest.mark.usefixtures("first_failure")
@pytest.mark.parametrize(
    ("slug", "module", "verifier", "place", "name", "fault"),
    CASES,
    ids=[f"{case[1].__name__.removeprefix('test_')}-{number}" for number, case in enumerate(CASES)],
)
def test_a_fault_makes_the_verifier_fail(slug, module, verifier, place, name, fault, monkeypatch):
    verifier()
    if place == "kexue":
        place = importlib.import_module(f"kexue.{slug}")
    elif place is None:
        place = vars(module)
    replace(place, name, fault, monkeypatch)
    with pytest.raises((AssertionError, GradcheckError, ExceptionGroup)):  # Hypothesis may find several
        verifier()


@pytest.mark.parametrize("slug", SLUGS)
def test_at_least_three_faults_are_shown_to_be_caught(slug):
    assert sum(case[0] == slug for case in CASES) >= 3
