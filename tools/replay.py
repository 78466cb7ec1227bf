"""Recorded runs, looked at again: their files, their configuration, and their first steps.

python tools/replay.py              every run in runs/ and every run that a script declares
python tools/replay.py gumbel_vae*  those whose name matches
"""

import argparse
import contextlib
import fnmatch
import importlib.util
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kexue.training import FIRST, Run, different_settings, sha256

ROOT = Path(__file__).parents[1]

# Another processor, or another number of threads, rounds differently, and training amplifies that: with
# two threads, or without AVX-512, the recorded runs differ by at most 1e-4 in their first ten steps; after
# that the least stable of them, with the noisiest gradient and the largest rate, by 3 %.
RELATIVE = np.repeat([5e-4, 5e-2], [10, FIRST - 10])
# Counts of choices jump: where two codes are nearly as near, rounding decides. Measured: 0.1 % at step 8.
RELATIVE_OF_CHOICES = {"perplexity": np.repeat([1e-2, 5e-2], [10, FIRST - 10])}


@cache
def experiment(path: Path) -> ModuleType:
    """A script of experiments/, imported."""
    if str(path.parent) not in sys.path:  # scripts may import each other
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@cache
def declared(root: Path = ROOT) -> dict[str, tuple[ModuleType, Any]]:
    """Every run that a script of experiments/ declares, by name: the script and the configuration."""
    return {
        name: (module, config)
        for module in map(experiment, sorted((root / "experiments").glob("*.py")))
        for name, config in module.RECORDINGS.items()
    }


def first_steps(metrics: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One value for each of the first steps."""
    alone = (metrics["span"] == 1) & (metrics["step"] <= FIRST)
    _, first = np.unique(metrics["step"][alone], return_index=True)
    return metrics[name][alone][first]


def problems(folder: Path, module: ModuleType, config: Any) -> list[str]:
    """What is wrong with a recorded run; nothing, if it can be believed.

    Its files must be those that were hashed, its configuration the declared one, its summary the
    end of its metrics, and its first steps, run again, must give the recorded numbers.
    """
    run = Run(folder)
    names = ["config.json", "environment.json", "metrics.csv", "summary.json"]
    if missing := [name for name in names if not (folder / name).is_file()]:
        return [f"{run.name}: no {', '.join(missing)}"]
    hashed = {"config.json", "metrics.csv", "summary.json", *(p.name for p in folder.glob("*.safetensors"))}
    found = [
        f"{run.name}: {name} is not the file that was recorded"
        for name in sorted(hashed | set(run.environment["sha256"]))
        if not (folder / name).is_file()
        or sha256((folder / name).read_bytes()) != run.environment["sha256"].get(name)
    ]
    if different_settings(run.config, config):
        return [*found, f"{run.name}: config.json is not what the script declares"]
    if "diverged after step" not in run.summary and not np.isclose(
        run.metrics["loss"][-1], run.summary["loss"], rtol=1e-6
    ):
        found.append(f"{run.name}: summary.json is not the end of metrics.csv")
    with tempfile.TemporaryDirectory() as temporary:
        module.run(config, Path(temporary), stop_after=FIRST)
        again = Run(Path(temporary)).metrics
    for name in again:
        kept, values = (first_steps(m, name) for m in (run.metrics, again))
        if len(kept) != len(values):
            found.append(f"{run.name}: {len(kept)} first steps instead of {len(values)}")
            break
        relative = RELATIVE_OF_CHOICES.get(name, RELATIVE)[: len(values)]
        apart = ~np.isclose(kept, values, rtol=relative, atol=1e-6, equal_nan=True)
        if apart.any():
            i = int(apart.argmax())
            found.append(f"{run.name}: {name} at step {i + 1} is recorded as {kept[i]}, but is {values[i]}")
    return found


MISSING = "not replayed, since its data cannot be had"


def problems_of(name: str) -> list[str]:
    """`problems` of a declared run, or that its data, which must be downloaded, cannot be had."""
    try:
        return problems(ROOT / "runs" / name, *declared()[name])
    except FileNotFoundError as error:
        return [f"{name}: {MISSING}: {error}"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes; one for each processor if not given"
    )
    options = parser.parse_args()
    from tqdm import tqdm

    runs = declared()
    recorded = {f"{p.parent.parent.name}/{p.parent.name}" for p in ROOT.glob("runs/*/*/config.json")}
    found = [f"{name}: no script declares this run" for name in sorted(recorded - set(runs))]
    chosen = [name for name in runs if fnmatch.fnmatch(name, options.pattern)]
    with contextlib.ExitStack() as stack:
        replayed: Iterable[list[str]] = map(problems_of, chosen)
        if options.jobs > 1:
            os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes side by side, not threads
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(options.jobs, context))
            replayed = pool.map(problems_of, chosen)
        for result in tqdm(replayed, total=len(chosen), leave=False, disable=not sys.stderr.isatty()):
            found += result
    wrong = [problem for problem in found if MISSING not in problem]
    done = len(chosen) - (len(found) - len(wrong))
    print("\n".join(found + ([] if wrong else [f"{done} recorded runs replayed: the same."])))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
