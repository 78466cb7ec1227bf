"""What pytest needs to know of this project, for tests/ and for the notebooks that nbval runs."""

import functools
import gc
import json
import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

# Tests and chapters run side by side, one for each core; more threads would only get in their way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# While PyTorch and 2,800 tests are loaded nothing becomes garbage; to look for it took 4 of 15 seconds.
gc.disable()

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")

# Must come before the first import of the package: its shapes are checked in every test.
install_import_hook("kexue", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# Fixtures of several files. A second conftest.py would take this one's name among the modules.
pytest_plugins = ["small_files"]

# Written by us and by Plotly; the first holds measured values, the second coordinates.
MIME_TYPES_NOT_COMPARED = ("application/vnd.kexue.verdict+json", "application/vnd.plotly.v1+json")


@functools.cache
def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def needs_gpu(item: pytest.Item) -> bool:
    """Whether a test or a notebook's cell carries the mark, or the tag, `gpu`."""
    cell = getattr(item, "cell", None)  # nbval's items have one
    tagged = cell is not None and "gpu" in cell.metadata.get("tags", [])
    return tagged or item.get_closest_marker("gpu") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    for item in items:
        if needs_gpu(item) and not has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if hasattr(item.parent, "skip_compare"):  # nbval's notebooks
            item.parent.skip_compare = (*item.parent.skip_compare, *MIME_TYPES_NOT_COMPARED)
        # Being watched costs a test half again. What the quick ones execute is asked for to be nearly all.
        if "fault" in getattr(item, "fixturenames", ()) or item.get_closest_marker("slow"):
            item.add_marker("no_cover")
        for name in ("verifies", "fails"):
            for mark in item.iter_markers(name):
                item.user_properties.append((name, mark.args))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _shapes_are_checked(request: pytest.FixtureRequest):
    unchecked = request.node.get_closest_marker("unchecked") is not None
    jaxtyping_config.update("jaxtyping_disable", unchecked)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def first_failure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a fault, a `verifier` of Hypothesis's ends at its first failure: nobody reads a smaller one."""
    from hypothesis import Phase, settings

    name, verifier = "_hypothesis_internal_use_settings", request.node.callspec.params["verifier"]
    if (own := getattr(verifier, name, None)) is not None:
        monkeypatch.setattr(verifier, name, settings(own, phases=[Phase.explicit, Phase.generate]))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--evidence", type=Path, help="write which ledger rows the tests that passed are evidence for"
    )
    parser.addoption(
        "--html-dir",
        type=Path,
        default=Path("_build/html"),
        help="the built book, for test_pages.py",
    )


class EvidenceRecorder:
    """Collects, for each ledger row, the tests that verify it or show where it fails, and passed.

    Of a parametrised test, all cases must pass.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed = {name: defaultdict[str, set[str]](set) for name in ("verifies", "fails")}
        self.not_passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        if not report.passed:
            self.not_passed.add(test)
        elif report.when == "call":
            for name, ids in report.user_properties:
                for row in ids if name in self.passed else ():
                    self.passed[name][row].add(test)

    def pytest_sessionfinish(self) -> None:
        evidence = {
            name: {
                row: left for row, tests in sorted(rows.items()) if (left := sorted(tests - self.not_passed))
            }
            for name, rows in self.passed.items()
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(evidence, indent=1))


def pytest_configure(config: pytest.Config) -> None:
    if (path := config.getoption("--evidence")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(EvidenceRecorder(path))
