"""Deliberate faults: each must make a test fail that is evidence for a row.

A chapter's FAULTS, at the end of its tests, hold the test (or a call of it, with its arguments), what is
replaced, and by what. A name alone is replaced wherever the chapter's modules hold it. A name with its place,
in that object only; or, if the place is None, in the tests.
"""

import importlib
import sys
from pathlib import Path

import pytest
from replacing import replace
from torch.autograd.gradcheck import GradcheckError

SLUGS = sorted(path.stem for path in Path(__file__).parents[1].glob("chapters/*.py"))
CASES = [
    (slug, number, fault[0], *(fault[1:] if len(fault) == 4 else ("kexue", *fault[1:])))
    for slug in SLUGS
    for number, fault in enumerate(importlib.import_module(f"test_{slug}").FAULTS)
]


@pytest.mark.slow
@pytest.mark.usefixtures("first_failure")
@pytest.mark.parametrize(
    ("slug", "verifier", "place", "name", "fault"),
    [(case[0], *case[2:]) for case in CASES],
    ids=[f"{slug}-{number}" for slug, number, *_ in CASES],
)
def test_a_fault_makes_the_verifier_fail(slug, verifier, place, name, fault, monkeypatch):
    verifier()
    if place == "kexue":
        place = importlib.import_module(f"kexue.{slug}")
    elif place is None:
        place = vars(sys.modules[f"test_{slug}"])
    replace(place, name, fault, monkeypatch)
    with pytest.raises((AssertionError, GradcheckError, ExceptionGroup)):  # Hypothesis may find several
        verifier()


@pytest.mark.parametrize("slug", SLUGS)
def test_at_least_three_faults_are_shown_to_be_caught(slug):
    assert sum(case[0] == slug for case in CASES) >= 3
