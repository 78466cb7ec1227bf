"""Recorded runs, read."""

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

if TYPE_CHECKING:
    import pandas


def runs_folder() -> Path:
    """Where the recorded runs are: inside an installed package, or in the source tree."""
    installed = Path(__file__).parents[1] / "_runs"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "runs"


@dataclass(frozen=True)
class Run:
    """A run as its folder records it."""

    folder: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def record(self) -> dict[str, Any]:
        """All of run.json; without a summary, if the run has not ended."""
        return json.loads((self.folder / "run.json").read_text("utf-8"))

    @property
    def module(self) -> str:
        """The name of the module that declares its configuration, the experiment."""
        return self.record["module"]

    @property
    def config(self) -> dict[str, Any]:
        return self.record["config"]

    @property
    def environment(self) -> dict[str, Any]:
        return self.record["environment"]

    @property
    def summary(self) -> dict[str, Any]:
        return self.record["summary"]

    @property
    def sha256(self) -> dict[str, str]:
        """The hash of each of its files, and of the parts "config" and "summary" of run.json."""
        return self.record["sha256"]

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        return self.columns("metrics.csv")

    def columns(self, file: str) -> dict[str, np.ndarray]:
        """The columns of one of its tables; NaN where a row has no value."""
        with (self.folder / file).open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one metric, at the ends of the intervals of `every` steps."""
        step, span, values = (self.metrics[column] for column in ("step", "span", name))
        keep = (span > 1) | (span.max() == 1)
        keep[-1] = True
        keep &= np.isfinite(values)
        return step[keep], values[keep]

    def load_weights(self, model: nn.Module) -> None:
        """Put the recorded weights, kept in half precision, into a model.

        Parameters that were frozen are not recorded: they must be frozen in the model, too, and stay as they
        are.

        Raises RuntimeError where the weights are not those of this model.
        """
        from safetensors.torch import load_file

        frozen = {name: one for name, one in model.named_parameters() if not one.requires_grad}
        state = load_file(self.folder / "weights.safetensors")
        model.load_state_dict(
            frozen | {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        )


def recorded(name: str, folder: Path | None = None) -> dict[str, Run]:
    """The finished runs of an experiment by trial. Raises ValueError where there are none."""
    root = folder or runs_folder()
    found = [Run(path.parent) for path in sorted((root / name).glob("*/run.json"))]
    finished = {run.folder.name: run for run in found if "summary" in run.record}
    if not finished:
        known = sorted({path.parents[1].name for path in root.glob("*/*/run.json")})
        raise ValueError(f"name must be one of the recorded runs, {known}, got {name!r}")
    return finished


def table(name: str, folder: Path | None = None) -> "pandas.DataFrame":
    """The finished runs of an experiment, a row each: settings and summary as columns, the trial as index.

    Raises ValueError where there are none, or where a setting and a metric have the same name.
    """
    import pandas  # belongs to the extra "book"

    rows = {}
    for trial, run in recorded(name, folder).items():
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in run.config.items()}
        summary = {k: v for k, v in run.summary.items() if k != "steps"}
        if both := sorted(set(settings) & set(summary)):
            raise ValueError(f"name must be of runs whose metrics are no settings, got {name!r} with {both}")
        rows[trial] = settings | summary
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("trial")
