"""Runs that train nothing."""

from dataclasses import dataclass

import pytest

from kexue import runs
from kexue.runs import Run


@dataclass(frozen=True)
class Config:
    seed: int = 3
    steps: int = 4
    every: int = 1
    keep_weights: bool = False


def test_rows_and_their_summary_are_recorded_whole(tmp_path):
    asked = []

    def row(step):
        asked.append(step)
        return {"square": step**2}

    def finish(rows):
        return {"most": max(one["square"] for one in rows)}

    partly = runs.measure(row, config=Config(), folder=tmp_path / "partly", finish=finish, stop_after=2)
    assert partly == {"stopped after step": 2}
    assert Run(tmp_path / "partly").metrics["square"].tolist() == [0, 1]
    assert "summary" not in Run(tmp_path / "partly").record
    for _ in range(2):  # the second time it is read
        summary = runs.measure(row, config=Config(), folder=tmp_path / "partly", finish=finish)
        assert summary == {"steps": 4, "most": 9}
    assert asked == [0, 1, 0, 1, 2, 3]
    run = Run(tmp_path / "partly")
    assert run.metrics["step"].tolist() == [1, 2, 3, 4]
    assert run.metrics["span"].tolist() == [1, 1, 1, 1]
    assert run.summary == summary
    assert runs.sha256((run.folder / "metrics.csv").read_bytes()) == run.sha256["metrics.csv"]
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        runs.measure(row, config=Config(seed=4), folder=run.folder)


def test_bad_arguments_are_named(tmp_path):
    for steps, stop_after, name in ((0, None, "steps"), (4, 0, "stop_after")):
        with pytest.raises(ValueError, match=name):
            runs.measure(lambda step: {}, config=Config(steps=steps), folder=tmp_path, stop_after=stop_after)
    with pytest.raises(ValueError, match="metrics must be finite, got bad = nan"):
        runs.measure(lambda step: {"bad": float("nan")}, config=Config(), folder=tmp_path)
    with pytest.raises(TypeError, match="config"):
        runs.measure(lambda step: {}, config=object(), folder=tmp_path)
