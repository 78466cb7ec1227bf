"""Recorded runs, looked at again: their files, their configuration, and their first steps.

python tools/replay.py              within two minutes: the files of all runs, the first steps of some
python tools/replay.py --minutes 9  as many as fit into nine minutes
python tools/replay.py --all        all of them; writes runs/replayed.json
python tools/replay.py gumbel_vae*  those whose name matches

Files are cheap, so that those of every run are compared with their hashes, its configuration with what the
script declares, its summary with the end of its metrics. The first steps are run again for as many runs as
fit: first those whose code or data is not what it was when they were last replayed (runs/replayed.json
says with what), then others, drawn at random. The last line says how many there were, and how many are left
whose code changed: those are no failure, but nothing is known of them.

runs/replayed.json is committed. --all writes it, --write as well; otherwise it stays as it is, so that
looking at some runs leaves no trace in the working tree.
"""

import argparse
import datetime
import fnmatch
import importlib.util
import json
import math
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import imports
import numpy as np

from kexue.runs import FIRST, Run, different_settings, digest, sha256

ROOT = Path(__file__).parents[1]

# Another processor, or another number of threads, rounds differently, and training amplifies that: with
# two threads, or without AVX-512, the recorded runs differ by at most 1e-4 in their first ten steps; after
# that the least stable of them, with the noisiest gradient and the largest rate, by 3 %.
RELATIVE = np.repeat([5e-4, 5e-2], [10, FIRST - 10])
# Those in bfloat16 differed by 1.1e-3 from the second step on, on another generation of the processor, where
# the code that had recorded them gave the same differences; one example of a batch fell on the other side.
IN_BFLOAT16 = {
    "decoding_seq2seq",
    "onlstm_texts",
    "onlstm_logic",
    "reading_comprehension",
    "reading_pretraining",
    "reading_segmentation",
}
RELATIVE_IN_BFLOAT16 = np.repeat([5e-4, 5e-3, 5e-2], [1, 9, FIRST - 10])
# Counts of choices jump: where two codes are nearly as near, rounding decides. Measured: 0.1 % at step 8.
RELATIVE_OF_CHOICES = {"perplexity": np.repeat([1e-2, 5e-2], [10, FIRST - 10])}


@cache
def experiment(path: Path) -> ModuleType:
    """An experiment, imported."""
    name = f"kexue.experiments.{path.stem}"
    known = sys.modules.get(name)
    if known is not None and Path(str(known.__file__)) == path:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def experiments(root: Path) -> list[ModuleType]:
    return [experiment(path) for path in sorted((root / "src/kexue/experiments").glob("[!_]*.py"))]


@cache
def declared(root: Path = ROOT) -> dict[str, tuple[ModuleType, Any]]:
    """Every run that an experiment declares, by name: the script and the configuration."""
    return {
        name: (module, config) for module in experiments(root) for name, config in module.RECORDINGS.items()
    }


@cache
def recorded_on_gpu(root: Path = ROOT) -> dict[str, Any]:
    """The configuration of every run that a script declares for a GPU and that is in runs/, by name.

    Their files can be looked at, their first steps not: another processor would give other numbers.
    """
    return {
        name: replace(module.SCALES["gpu"], **entry["settings"])
        for module in experiments(root)
        for name, entry in getattr(module, "GPU_RECORDINGS", {}).items()
        if (root / "runs" / name / "run.json").is_file()
    }


def first_steps(metrics: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One value for each of the first steps."""
    alone = (metrics["span"] == 1) & (metrics["step"] <= FIRST)
    _, first = np.unique(metrics["step"][alone], return_index=True)
    return metrics[name][alone][first]


def file_hash(path: Path) -> str:
    return sha256(path.read_bytes()) if path.is_file() else "none"


def wrong_files(folder: Path, config: Any) -> list[str]:
    """What is wrong with the files of a recorded run, without running anything.

    They must be those that were hashed, the configuration the declared one, the summary the end of the
    metrics.
    """
    run = Run(folder)
    if missing := [name for name in ("run.json", "metrics.csv") if not (folder / name).is_file()]:
        return [f"{run.name}: no {', '.join(missing)}"]
    if missing := [part for part in ("module", "environment", "summary", "sha256") if part not in run.record]:
        return [f"{run.name}: run.json has no {', '.join(missing)}"]
    parts = {"config": digest(run.config), "summary": digest(run.summary)}
    hashed = {*parts, "metrics.csv", *(path.name for path in folder.glob("*.safetensors"))}
    found = [
        f"{run.name}: {name} is not what was recorded"
        for name in sorted(hashed | set(run.sha256))
        if (parts[name] if name in parts else file_hash(folder / name)) != run.sha256.get(name)
    ]
    if run.module != type(config).__module__:
        found.append(f"{run.name}: {type(config).__module__} declares it, run.json names {run.module}")
    if different_settings(run.config, config):
        return [*found, f"{run.name}: its configuration is not what the experiment declares"]
    # A run that trains nothing has no loss.
    if (
        "loss" in run.metrics
        and "diverged after step" not in run.summary
        and not np.isclose(run.metrics["loss"][-1], run.summary["loss"], rtol=1e-6)
    ):
        found.append(f"{run.name}: its summary is not the end of metrics.csv")
    return found


def wrong_steps(folder: Path, module: ModuleType, config: Any) -> list[str]:
    """In what the first steps of a run, run again, differ from the recorded ones; nothing, if they do not."""
    run, found = Run(folder), []
    half = Path(getattr(module, "__file__", None) or "").stem in IN_BFLOAT16
    with tempfile.TemporaryDirectory() as temporary:
        module.run(config, Path(temporary), stop_after=FIRST)
        again = Run(Path(temporary)).metrics
    for name in again:
        kept, values = (first_steps(m, name) for m in (run.metrics, again))
        if len(kept) != len(values):
            found.append(f"{run.name}: {len(kept)} first steps instead of {len(values)}")
            break
        relative = RELATIVE_OF_CHOICES.get(name, RELATIVE_IN_BFLOAT16 if half else RELATIVE)[: len(values)]
        absolute = 2 / config.batch_size if half and name == "accuracy" else 1e-6
        apart = ~np.isclose(kept, values, rtol=relative, atol=absolute, equal_nan=True)
        if apart.any():
            i = int(apart.argmax())
            found.append(f"{run.name}: {name} at step {i + 1} is recorded as {kept[i]}, but is {values[i]}")
    return found


# --- Which ones --------------------------------------------------------------------------------


def fingerprints(runs: Mapping[str, Path]) -> dict[str, str]:
    """For each run, given with its script, the hash of what its first steps depend on.

    That is the code of the script and of all that it imports from src/kexue, which holds
    the hashes of downloaded data as well; the locked versions of the packages that these import or name,
    with the data that ship with them; the recorded configuration and metrics; and the weights of recorded
    runs that the script names, since it may start from them.
    """

    def joined(parts: Iterable[str]) -> str:
        return sha256("\n".join(parts).encode())

    def configured(name: str) -> str:
        run = Run(ROOT / "runs" / name)
        return digest(run.config) if (run.folder / "run.json").is_file() else "none"

    weights = sorted(ROOT.glob("runs/*/*/weights.safetensors"))
    roots = [ROOT / "src"]
    of_script = {}
    for script in set(runs.values()):
        own = imports.tree(script.read_text("utf-8"))
        paths = sorted({script} | imports.imported([own], roots))
        code = [imports.tree(path.read_text("utf-8")) for path in paths]
        named = imports.strings(code)
        read = [p for p in weights if named & {p.parts[-3], "/".join(p.parts[-3:-1])}]
        # What made a run that the script starts from builds its model.
        makers = imports.imported(imports.experiments(p.parent for p in read), roots)
        paths = sorted({*paths, *makers})
        code = [imports.tree(path.read_text("utf-8")) for path in paths]
        of_script[script] = joined(
            [
                *(f"{p.relative_to(ROOT).as_posix()}\n{imports.code(p.read_text('utf-8'))}" for p in paths),
                *imports.locked(code, ROOT / "constraints.txt"),
                *(f"{p.relative_to(ROOT).as_posix()} {file_hash(p)}" for p in read),
            ]
        )
    return {
        name: joined([of_script[script], configured(name), file_hash(ROOT / "runs" / name / "metrics.csv")])
        for name, script in runs.items()
    }


def in_order(runs: Mapping[str, Path], changed: Set[str], seed: int) -> list[str]:
    """Those whose code or data changed, then the others; in turn one of each script, as the seed shuffles."""
    shuffled = sorted(runs)
    random.Random(seed).shuffle(shuffled)
    earlier = Counter[tuple[bool, Path]]()
    place = {}
    for name in shuffled:
        group = (name not in changed, runs[name])
        place[name] = (group[0], earlier[group])
        earlier[group] += 1
    return sorted(shuffled, key=lambda name: place[name])


def expected_seconds(name: str) -> float:
    """About how long a run's first steps will take, from the time that all its steps took."""
    run = Run(ROOT / "runs" / name)
    steps = run.summary.get("steps") or run.summary["diverged after step"]
    return LOADING + run.environment["seconds"] / steps * min(FIRST, steps)


LOADING = 3.0  # data are read and models built first, which the recorded times do not hold


# --- Replaying ---------------------------------------------------------------------------------

MISSING = "not replayed, since its data cannot be had"


def steps_of(name: str, script: Path) -> list[str]:
    """`wrong_steps` of a run that a script declares, that it stopped, or that its data cannot be had."""
    try:
        module = experiment(script)
        return wrong_steps(ROOT / "runs" / name, module, module.RECORDINGS[name])
    except Exception as error:
        # `data.fetch` names the folder; a recorded file that is missing is a failure
        if isinstance(error, FileNotFoundError) and "KEXUE_DATA" in str(error):
            return [f"{name}: {MISSING}: {error}"]
        return [f"{name}: stopped with {type(error).__name__}: {error}"]


def replayed(
    runs: Mapping[str, Path], seconds: Callable[[str], float], until: float, jobs: int
) -> Iterator[tuple[str, list[str]]]:
    """Each run, given with its script, and what is wrong in its first steps; in the order in which they end.

    They begin in the given order. One that would not end before `until`, a time of time.monotonic, is left
    out; a shorter one after it may still fit. What several processes have not ended by then is broken off;
    one process is this one, and ends what it began.
    """
    waiting = list(runs)

    def following() -> str | None:
        for name in waiting:
            if time.monotonic() + seconds(name) <= until:
                waiting.remove(name)
                return name
        return None

    if jobs == 1:
        while name := following():
            yield name, steps_of(name, runs[name])
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes side by side, not threads
    # A process that is broken off leaves its files where this one removes them.
    with tempfile.TemporaryDirectory() as folder, temporary_files(folder):
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), own_lock_for_progress)
        running: dict[Future[list[str]], str] = {}
        try:
            while True:
                while len(running) < jobs and (name := following()):
                    running[pool.submit(steps_of, name, runs[name])] = name
                left = None if math.isinf(until) else max(0.0, until - time.monotonic())
                done = wait(running, left, FIRST_COMPLETED).done
                if not done:  # nothing was left to do, or no time to do it
                    break
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            if running:
                for process in multiprocessing.active_children():
                    process.terminate()
            pool.shutdown(cancel_futures=True)


def own_lock_for_progress() -> None:
    """tqdm's lock becomes one of threads; of processes broken off, a semaphore would be left over."""
    import threading

    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


@contextmanager
def temporary_files(folder: str) -> Iterator[None]:
    """Processes begun meanwhile write their temporary files into this folder."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--minutes", type=float, default=2.0, help="what has not ended by then is broken off")
    parser.add_argument("--all", action="store_true", help="all runs, however long it takes; implies --write")
    parser.add_argument("--write", action="store_true", help="write runs/replayed.json")
    parser.add_argument(
        "--seed",
        type=int,
        default=datetime.date.today().toordinal(),
        help="of the order; the day if not given",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes; one for each processor if not given"
    )
    options = parser.parse_args()
    from tqdm import tqdm

    runs = declared()
    recorded = {f"{p.parent.parent.name}/{p.parent.name}" for p in ROOT.glob("runs/*/*/run.json")}
    of_gpu = recorded_on_gpu()
    strangers = recorded - set(runs) - set(of_gpu)
    found = [f"{name}: no script declares this run" for name in sorted(strangers)]
    chosen = [name for name in runs if fnmatch.fnmatch(name, options.pattern)]
    for name, config in of_gpu.items():
        if fnmatch.fnmatch(name, options.pattern):
            found += wrong_files(ROOT / "runs" / name, config)
    whole = []
    for name in chosen:
        wrong = wrong_files(ROOT / "runs" / name, runs[name][1])
        found += wrong
        if not wrong:
            whole.append(name)
    print(
        f"{len(whole)} of {len(chosen)} runs whole: files as recorded, configuration as declared.", flush=True
    )

    path = ROOT / "runs" / "replayed.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    scripts = {name: Path(str(module.__file__)) for name, (module, _) in runs.items()}
    now = fingerprints(scripts)
    changed = {name for name in chosen if known.get(name) != now[name]}
    order = in_order({name: scripts[name] for name in whole}, changed, options.seed)
    until = math.inf if options.all else began + 60 * options.minutes
    results = replayed({name: scripts[name] for name in order}, expected_seconds, until, options.jobs)
    tried, untried = set[str](), list[str]()
    for name, wrong in tqdm(results, total=len(order), leave=False, disable=not sys.stderr.isatty()):
        if any(MISSING in problem for problem in wrong):
            untried += wrong
            continue
        tried.add(name)
        found += wrong
        if wrong:
            known.pop(name, None)
        else:
            known[name] = now[name]
    if options.all or options.write:
        lines = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(set(known) & set(runs))]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print("\n".join([*found, *untried]), end="\n" if found or untried else "")
    print(
        f"{len(tried)} of {len(chosen)} replayed, {len(changed - tried)} changed and not yet replayed "
        f"(seed {options.seed}): {f'{len(found)} differences' if found else 'no difference'}."
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
