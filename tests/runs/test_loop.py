"""The training loop: what it records, how it stops and goes on, what it refuses."""

import dataclasses
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import replay
import torch
from torch import nn

from kexue import runs
from kexue.nn import randomness
from kexue.runs import Run, loop, recorded, recorder, train

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    rate: float = 0.05
    steps: int = 60
    every: int = 25
    keep_weights: bool = False


def fit(folder: Path, settings: Settings = Settings(), **options):
    """Fit a line to noisy points; the smallest experiment there is. Options are settings, or the loop's."""
    own = {name: options.pop(name) for name in ("steps", "every", "keep_weights") if name in options}
    settings = dataclasses.replace(settings, **own)
    torch.manual_seed(settings.seed)
    model = nn.Linear(3, 1)
    x = torch.randn(40, 3, generator=randomness.generator(99))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])

    def loss(model, step):
        index = step.batch(40, 8)
        noise = 0.1 * torch.randn(8, 1, generator=step.generator())
        error = model(step.share(x[index])) - step.share(y[index] + noise)
        return error.square().mean(), {"mae": error.abs().mean()}

    summary = train(
        model,
        loss,
        torch.optim.Adam(model.parameters(), settings.rate),
        config=settings,
        folder=folder,
        **{"evaluate": lambda m: {"valid": float((m(x) - y).square().mean())}, **options},
    )
    return model, summary


def test_a_run_trains_and_records(tmp_path):
    model, summary = fit(tmp_path, finish=lambda m: {"test": 7.0}, keep_weights=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "run.json", "weights.safetensors"]
    run = Run(tmp_path)
    assert run.module == Settings.__module__
    assert run.config == {"seed": 0, "rate": 0.05, "steps": 60, "every": 25, "keep_weights": True}
    assert run.summary == summary
    assert summary["steps"] == 60
    assert summary["test"] == 7
    assert run.metrics["step"].tolist() == [*range(1, 21), 25, 50, 60]
    assert run.metrics["span"].tolist() == [1] * 20 + [25, 25, 10]
    assert run.metrics["loss"][-1] < 0.2 * run.metrics["loss"][0]
    assert np.isnan(run.metrics["valid"][:20]).all()
    assert summary["valid"] == run.metrics["valid"][-1]
    steps, valid = run.curve("valid")
    assert steps.tolist() == [25, 50, 60]
    assert valid[-1] < valid[0]
    assert run.sha256 == {
        "config": runs.digest(run.config),
        "summary": runs.digest(summary),
        **{n: runs.sha256((tmp_path / n).read_bytes()) for n in ("metrics.csv", "weights.safetensors")},
    }
    assert run.environment["processes"] == 1
    copy = nn.Linear(3, 1)
    run.load_weights(copy)
    torch.testing.assert_close(copy.weight, model.weight, atol=1e-3, rtol=1e-3)
    assert copy.weight.dtype == torch.float32


def test_the_means_are_means_of_the_steps(tmp_path):
    fit(tmp_path / "a", steps=20, every=20)
    metrics = Run(tmp_path / "a").metrics
    for name in ("loss", "mae"):
        assert metrics[name][-1] == pytest.approx(metrics[name][:20].mean(), rel=1e-5)


def test_a_finished_run_is_not_run_again(tmp_path):
    _, first = fit(tmp_path)
    before = (tmp_path / "metrics.csv").stat().st_mtime_ns
    _, second = fit(tmp_path)
    assert first == second
    assert (tmp_path / "metrics.csv").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("stop", [10, 25, 49, 59])
def test_a_run_that_stopped_goes_on_to_the_same_end(tmp_path, stop):
    fit(tmp_path / "whole", keep_weights=True)
    _, partial = fit(tmp_path / "parts", stop_after=stop, keep_weights=True)
    assert partial == {"stopped after step": stop}
    assert "summary" not in Run(tmp_path / "parts").record
    fit(tmp_path / "parts", keep_weights=True)
    assert Run(tmp_path / "parts").sha256 == Run(tmp_path / "whole").sha256
    assert not list((tmp_path / "parts").glob("checkpoint-*"))


def test_a_run_whose_time_is_up_after_every_step_comes_to_the_same_end(tmp_path, monkeypatch):
    """Between rows, too: the checkpoint has the metrics of the steps since the last one."""
    options = {"steps": 27, "every": 12, "keep_weights": True}
    fit(tmp_path / "whole", **options)
    monkeypatch.setattr(loop, "stop_at", 0.0)
    for step in range(1, 27):
        assert fit(tmp_path / "parts", **options)[1] == {"stopped after step": step}
        assert [p.name for p in (tmp_path / "parts").glob("checkpoint-*")] == [f"checkpoint-{step:09d}"]
    fit(tmp_path / "parts", **options)
    assert len(Run(tmp_path / "whole").sha256) == 4
    assert Run(tmp_path / "parts").sha256 == Run(tmp_path / "whole").sha256


def test_a_checkpoint_that_was_cut_off_is_not_used(tmp_path):
    fit(tmp_path / "whole")
    fit(tmp_path / "parts", stop_after=30)
    (tmp_path / "parts" / "checkpoint-partial").mkdir()
    (tmp_path / "parts" / "checkpoint-partial" / "model.safetensors").write_text("half of it")
    fit(tmp_path / "parts")
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (
        tmp_path / "parts" / "metrics.csv"
    ).read_bytes()


def test_a_folder_holds_one_configuration(tmp_path):
    fit(tmp_path)
    with pytest.raises(ValueError, match=r"holds a run with other settings \(rate\)"):
        fit(tmp_path, Settings(rate=0.1))


@dataclasses.dataclass(frozen=True)
class Younger(Settings):
    """With a setting more than there was when the run was recorded."""

    decay: float = 0.0


def test_a_younger_setting_counts_as_its_default(tmp_path):
    fit(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    fit(tmp_path, Younger())
    assert (tmp_path / "run.json").read_bytes() == before
    for other, names in ((Younger(decay=0.1), "decay"), (Younger(decay=0.1, rate=0.1), "decay, rate")):
        with pytest.raises(ValueError, match=rf"holds a run with other settings \({names}\)"):
            fit(tmp_path, other)
    # The other way round, a setting that is gone is a difference.
    assert runs.different_settings({**dataclasses.asdict(Settings()), "decay": 0.0}, Settings()) == ["decay"]
    assert runs.different_settings({"rate": 0.05, "seed": 0, "decay": None}, Younger()) == ["decay"]


def test_seeds_differ(tmp_path):
    _, first = fit(tmp_path / "a")
    _, second = fit(tmp_path / "b", Settings(seed=1))
    assert first["loss"] != second["loss"]


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    """A kill while the second checkpoint is written leaves the first."""
    from accelerate import Accelerator

    fit(tmp_path / "whole")
    save = Accelerator.save_state

    def killed(self, folder, *arguments):
        save(self, folder, *arguments)
        if list((tmp_path / "parts").glob("checkpoint-*[0-9]")):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts")
    assert [p.name for p in (tmp_path / "parts").glob("checkpoint-*[0-9]")] == ["checkpoint-000000025"]
    fit(tmp_path / "parts")
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (
        tmp_path / "parts" / "metrics.csv"
    ).read_bytes()


def test_the_last_checkpoint_counts_and_older_ones_go(tmp_path):
    fit(tmp_path / "whole")
    fit(tmp_path / "parts", stop_after=30)
    (old,) = (tmp_path / "parts").glob("checkpoint-*")
    shutil.copytree(old, tmp_path / "kept")
    fit(tmp_path / "parts", stop_after=55)
    (new,) = (tmp_path / "parts").glob("checkpoint-*")
    assert (old.name, new.name) == ("checkpoint-000000025", "checkpoint-000000050")
    progress = json.loads((new / "progress.json").read_text())
    (new / "progress.json").write_text(json.dumps({**progress, "seconds": 1000.0}))
    shutil.copytree(tmp_path / "kept", old)  # as a kill between writing and deleting leaves it
    fit(tmp_path / "parts")
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (
        tmp_path / "parts" / "metrics.csv"
    ).read_bytes()
    assert Run(tmp_path / "parts").environment["seconds"] >= 1000


def test_metrics_are_measured_in_evaluation_mode(tmp_path):
    seen, modes = [], []

    def measure(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return {"m": 1.0}

    model = nn.Linear(1, 1)
    loss = lambda model, step: modes.append(model.training) or (model(torch.ones(1, 1)).sum(), {})  # noqa: E731
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(
        model,
        loss,
        optimizer,
        config=Settings(steps=4, every=2),
        folder=tmp_path,
        evaluate=measure,
        finish=measure,
    )
    assert seen == [(False, False)] * 3
    assert modes == [True] * 4


def test_schedule_and_clipping(tmp_path):
    still, _ = fit(tmp_path / "a", schedule=lambda step: 0.0)
    torch.manual_seed(0)
    torch.testing.assert_close(still.weight, nn.Linear(3, 1).weight)
    seen = []
    fit(tmp_path / "b", schedule=lambda step: seen.append(step) or 1.0, stop_after=5)
    assert seen == list(range(5))
    # A constant factor is a constant rate: it does not compound.
    slow = nn.Linear(1, 1, bias=False)
    before = slow.weight.detach().clone()
    unit = lambda model, step: (model(torch.ones(1, 1)).sum(), {})  # noqa: E731
    options = {"config": Settings(steps=4, every=4), "folder": tmp_path / "d"}
    train(slow, unit, torch.optim.SGD(slow.parameters(), 1.0), schedule=lambda step: 0.5, **options)
    assert float((before - slow.weight).detach()) == pytest.approx(2.0)
    # Without Adam's normalisation a clipped step is as short as the norm says.
    model = nn.Linear(1, 1, bias=False)
    start = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    loss = lambda model, step: (1000 * model(torch.ones(1, 1)).sum(), {})  # noqa: E731
    train(model, loss, optimizer, config=Settings(steps=3, every=3), folder=tmp_path / "c", max_norm=0.01)
    assert float((start - model.weight).detach()) == pytest.approx(0.03, rel=1e-3)


def test_bf16_runs(tmp_path):
    seen = []

    def loss(model, step):
        out = model(torch.ones(2, 3))
        seen.append(out.dtype)
        return out.float().square().mean(), {}

    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"config": Settings(steps=2, every=2), "folder": tmp_path}
    train(model, loss, optimizer, bf16=True, **options)
    assert model.weight.dtype == torch.float32
    assert seen == [torch.bfloat16] * 2


def test_a_run_that_diverges_says_so(tmp_path):
    model = nn.Linear(1, 1)
    loss = lambda model, step: (model(torch.ones(1, 1)).sum() / (step.index != 30), {})  # noqa: E731
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    summary = train(model, loss, optimizer, config=Settings(steps=50, every=10), folder=tmp_path)
    assert summary == {"diverged after step": 31}
    assert Run(tmp_path).metrics["step"][-1] == 30


def test_short_runs_are_recorded_and_their_curves_whole(tmp_path):
    for steps, every, expected in (
        (5, 1, range(1, 6)),
        (10, 3, (3, 6, 9, 10)),
        (21, 20, (20, 21)),
        (3, 50, (3,)),
    ):
        fit(tmp_path / f"{steps}-{every}", steps=steps, every=every)
        run = Run(tmp_path / f"{steps}-{every}")
        assert run.curve("valid")[0].tolist() == list(expected)
        assert len(replay.first_steps(run.metrics, "loss")) == min(steps, 20)
    assert not (tmp_path / "5-1" / "weights.safetensors").exists()


def test_weights_are_kept_in_half_precision_and_counters_as_they_are(tmp_path):
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(3, 1)
            self.register_buffer("count", torch.tensor(70_001))

    model = Counting()
    recorder._save_weights(model, tmp_path / "weights.safetensors")
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "weights.safetensors")
    assert {name: v.dtype for name, v in kept.items()} == {
        "weight": torch.float16,
        "bias": torch.float16,
        "count": torch.int64,
    }
    copy = Counting()
    copy.count.zero_()
    Run(tmp_path).load_weights(copy)
    assert copy.count == 70_001
    # What was frozen is that of another run: it is not kept, and must be there when the rest is loaded.
    model.bias.requires_grad_(False)
    recorder._save_weights(model, tmp_path / "weights.safetensors")
    assert sorted(load_file(tmp_path / "weights.safetensors")) == ["count", "weight"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"bias"'):
        Run(tmp_path).load_weights(copy)
    copy.bias.requires_grad_(False).fill_(3.0)
    Run(tmp_path).load_weights(copy)
    assert copy.bias.item() == 3.0
    torch.testing.assert_close(copy.weight, model.weight, atol=1e-3, rtol=1e-3)
    model.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="weights must fit into half precision, but weight does not"):
        recorder._save_weights(model, tmp_path / "weights.safetensors")


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (torch.zeros(()), TypeError, "loss must give a tensor and a mapping of metrics, got Tensor"),
        ((torch.zeros(2), {}), TypeError, r"loss must give a tensor of shape \(\), got \(2,\)"),
        ((torch.zeros(()), [1.0]), TypeError, "loss must give a mapping of metrics, got list"),
        (
            (torch.zeros(()), {"a": torch.zeros(2)}),
            TypeError,
            "loss must give single numbers, got a = tensor",
        ),
        (
            (torch.zeros(()), {"loss": 1.0}),
            ValueError,
            r"loss must give metrics other than .*, got \['loss'\]",
        ),
    ],
)
def test_bad_losses_are_named(tmp_path, result, error, message):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(error, match=message):
        train(model, lambda m, s: result, optimizer, config=Settings(steps=2, every=1), folder=tmp_path)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("measured", "error", "message"),
    [
        (3.0, TypeError, "evaluate must give a mapping of metrics, got float"),
        ({"a": None}, TypeError, "evaluate must give single numbers, got a = None"),
        ({"step": 3}, ValueError, r"evaluate must give metrics other than .*, got \['step'\]"),
        ({"a": math.nan}, ValueError, "metrics must be finite, got a = nan"),
    ],
)
def test_bad_metrics_are_named(tmp_path, measured, error, message):
    with pytest.raises(error, match=message):
        fit(tmp_path, evaluate=lambda model: measured, steps=2, every=1)


@pytest.mark.unchecked
def test_other_bad_arguments_are_named(tmp_path):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    for config in ({"seed": 0}, object(), Settings, Settings(seed="0"), Settings(keep_weights=None)):
        with pytest.raises(TypeError, match="config must be a dataclass with seed: int, steps: int, every"):
            train(nn.Linear(1, 1), None, optimizer, config=config, folder=tmp_path)
    for name, value in (("stop_after", 0), ("max_norm", -1.0), ("max_norm", math.nan)):
        with pytest.raises(ValueError, match=f"{name} must be positive, got {value}"):
            fit(tmp_path / name, **{name: value})


def test_a_run_keeps_its_length(tmp_path):
    fit(tmp_path / "a", stop_after=30)
    with pytest.raises(ValueError, match=r"holds a run with other settings \(steps\)"):
        fit(tmp_path / "a", steps=50)
    fit(tmp_path / "b")
    with pytest.raises(ValueError, match=r"holds a run with other settings \(steps\)"):
        fit(tmp_path / "b", steps=70)


def test_only_the_main_process_writes(tmp_path):
    class Other:
        is_main_process = False

        def wait_for_everyone(self):
            pass

    record = recorder.Recorder(tmp_path / "x", Settings(), Other())
    record.add(1, 1, {"loss": 1.0})
    record.write_metrics()
    record.finish({"steps": 5}, nn.Linear(1, 1))
    assert not (tmp_path / "x").exists()
    assert loop._evaluated(lambda model: {"a": 1.0}, nn.Linear(1, 1), Other()) == {}


def test_recorded_runs_are_found(tmp_path):
    for trial in ("0", "1"):
        fit(tmp_path / "line" / trial, Settings(seed=int(trial)))
    fit(tmp_path / "line" / "2", Settings(seed=2), stop_after=30)  # not finished
    runs = recorded("line", tmp_path)
    assert list(runs) == ["0", "1"]
    assert runs["1"].name == "line/1"
    assert runs["1"].config["seed"] == 1
    with pytest.raises(ValueError, match=r"name must be one of the recorded runs, \['line'\], got 'curve'"):
        recorded("curve", tmp_path)


@pytest.mark.parametrize(("steps", "every"), [(0, 5), (5, 0), (-1, 5)])
def test_bad_lengths_are_named(tmp_path, steps, every):
    with pytest.raises(ValueError, match=f"steps and every must be positive, got {steps} and {every}"):
        fit(tmp_path, steps=steps, every=every)
