"""What is declared is recorded, whole, and nothing else is."""

import math
from pathlib import Path

import replay

from kexue import runs
from kexue.runs import Run

ROOT = Path(__file__).parents[2]


def test_every_declared_run_is_recorded_and_nothing_else():
    names = {run.name for run in map(Run, (path.parent for path in ROOT.glob("runs/*/*/run.json")))}
    assert names == set(replay.declared()) | set(replay.recorded_on_gpu())


def test_every_recorded_run_is_whole():
    for name, (module, config) in replay.declared().items():
        run = Run(ROOT / "runs" / name)
        assert run.module == module.__name__
        assert not runs.different_settings(run.config, config), name
        assert runs.digest(run.config) == run.sha256["config"]
        assert runs.digest(run.summary) == run.sha256["summary"]
        for file in set(run.sha256) - {"config", "summary"}:
            assert runs.sha256((run.folder / file).read_bytes()) == run.sha256[file], f"{name}/{file}"
        assert run.summary.get("steps", math.nan) == config.steps or "diverged after step" in run.summary
        weights = run.folder / "weights.safetensors"
        assert config.keep_weights == weights.exists()
        assert not weights.exists() or weights.stat().st_size < 6e6
    assert sum(path.stat().st_size for path in ROOT.glob("runs/**/*") if path.is_file()) < 33e6
    assert sum(path.stat().st_size for path in ROOT.glob("chapters/*.ipynb")) < 9e6


def experiments(name: str):
    return replay.experiment(ROOT / "src/kexue/experiments" / f"{name}.py")
