"""What is declared is recorded, whole, and nothing else is."""

import json
import math
from pathlib import Path

import pytest
import replay

from kexue import runs
from kexue.experiments import RecordedRun, recorded
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


@pytest.mark.slow
def test_every_run_gives_its_settings_and_its_model_or_says_that_there_is_none():
    for name, (module, config) in replay.declared().items():
        run = RecordedRun(ROOT / "runs" / name)
        assert run.experiment is module
        assert run.settings == config
    for name in sorted(path.parent.name for path in ROOT.glob("runs/*/*/")):
        for trial in recorded(name).values():
            if (trial.folder / "weights.safetensors").is_file():
                model = trial.model()
                assert not model.training
            else:
                with pytest.raises(FileNotFoundError, match=f"run {trial.name} kept no weights"):
                    trial.model()


def test_settings_that_the_experiment_does_not_know_are_named(tmp_path):
    run = RecordedRun(ROOT / "runs" / "vqvae_digits" / "0")
    record = {**run.record, "config": {**run.config, "magic": 1}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(
        ValueError, match=r"settings that kexue\.experiments\.vqvae_digits does not know: \['magic'\]"
    ):
        RecordedRun(tmp_path).settings  # noqa: B018


def test_a_table_has_settings_summaries_and_trials():
    frame = runs.table("vqvae_photos_health")
    assert len(frame) == len(runs.recorded("vqvae_photos_health"))
    assert frame.index.name == "trial"
    one = frame.loc["ema-data-restart-seed0"]
    assert (one.quantiser, one.start, one.restart_after, one.seed) == ("ema", "data", 100, 0)
    assert (
        one.test_psnr == runs.recorded("vqvae_photos_health")["ema-data-restart-seed0"].summary["test_psnr"]
    )
    groups = frame.groupby(["quantiser", "start", "restart_after", "beta", "gamma"], dropna=False)
    assert (groups.size() == 3).all()  # seeds; nothing is parsed out of a trial's name
    assert frame.levels.map(type).eq(tuple).all()
