"""Runs that train nothing: measures of networks or texts, one row after the other."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kexue.nn import checks
from kexue.runs.recorder import Config, Recorder, check_config
from kexue.runs.step import Metrics


def measure(
    row: Callable[[int], Metrics],
    *,
    config: Config,
    folder: Path,
    finish: Callable[[list[Mapping[str, float]]], Metrics] | None = None,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Record a row of measures for each step, and return the summary, as `train` does for a model.

    Args:
        row: the measures of a step, numbered from 0; it depends on nothing but the configuration.
        config: see `train`; `every` and `keep_weights` say nothing here.
        folder: of the run. A finished one is read; an interrupted one begins again.
        finish: the summary of all rows, besides their number, `steps`.
        stop_after: leave after this row, unfinished: for `replay` and tests.

    Raises:
        TypeError: config is not as `train` describes it.
        ValueError: the folder holds another configuration; no steps; stop_after not positive; a measure that
            is not finite.
    """
    from accelerate import Accelerator  # here, since chapters import this module

    check_config(config)
    checks.count("steps", config.steps, 1)
    if stop_after is not None:
        checks.count("stop_after", stop_after, 1)
    record = Recorder(Path(folder), config, Accelerator())
    if record.summary is not None:
        return record.summary
    began = time.perf_counter()
    rows: list[Mapping[str, float]] = []
    for step in range(min(config.steps, stop_after or config.steps)):
        rows.append(row(step))
        record.add(step + 1, 1, rows[-1])
    record.seconds = time.perf_counter() - began
    if len(rows) < config.steps:
        record.write_metrics()
        return {"stopped after step": len(rows)}
    return record.finish({"steps": config.steps, **(finish(rows) if finish else {})})
