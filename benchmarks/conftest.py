"""A timer where pytest-benchmark is not installed: the median of some rounds, printed."""

import importlib.util
import statistics
import time

import pytest

if importlib.util.find_spec("pytest_benchmark") is None:

    class Timer:
        """The part of pytest-benchmark's fixture that is used here."""

        def __init__(self, name: str) -> None:
            self.name = self.group = name

        def pedantic(self, function, args=(), rounds=1, warmup_rounds=0):
            result, seconds = None, []
            for _ in range(warmup_rounds + rounds):
                began = time.perf_counter()
                result = function(*args)
                seconds.append(time.perf_counter() - began)
            median = statistics.median(seconds[warmup_rounds:])
            print(f"\n{self.group}, {self.name}: median {1000 * median:.3g} ms", end="")
            return result

        def __call__(self, function, *args):
            return self.pedantic(function, args, rounds=5, warmup_rounds=1)

    @pytest.fixture
    def benchmark(request):
        return Timer(request.node.name)
