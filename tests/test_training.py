"""The training loop and recorded runs: resuming, killing, two processes."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import replay
import torch
from PIL import Image
from replacing import replace
from torch import nn

from kexue import data, masking, reading, runs
from kexue.nn import randomness
from kexue.runs import Run, Step, loop, recorded, recorder, train

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "src/kexue/experiments" / "gumbel_vae.py"


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    rate: float = 0.05


def fit(folder: Path, settings: Settings = Settings(), steps=60, **options):
    """Fit a line to noisy points; the smallest experiment there is."""
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
        steps=steps,
        **{"every": 25, "evaluate": lambda m: {"valid": float((m(x) - y).square().mean())}, **options},
    )
    return model, summary


# --- Steps -------------------------------------------------------------------------------------


def test_batches_are_epochs_in_a_new_order_each():
    steps = [Step(i, seed=3).batch(10, 3) for i in range(6)]
    first, second = torch.cat(steps[:3]), torch.cat(steps[3:])
    assert len(first.unique()) == len(second.unique()) == 9
    assert not torch.equal(first, second)
    assert torch.equal(steps[4], Step(4, seed=3).batch(10, 3))
    assert not torch.equal(steps[0], Step(0, seed=4).batch(10, 3))


@pytest.mark.parametrize("size", [0, 11, -1])
def test_bad_batches_are_named(size):
    with pytest.raises(
        ValueError, match=f"batch_size must be between 1 and the size of the data, 10, got {size}"
    ):
        Step(0, 0).batch(10, size)


def test_shares_make_up_the_batch():
    whole = torch.arange(12).view(2, 6)
    shares = [Step(0, 0, process, 3).share(whole, dim=1) for process in range(3)]
    assert torch.equal(torch.cat(shares, 1), whole)
    with pytest.raises(ValueError, match="the batch must divide by 4 processes, got 6"):
        Step(0, 0, 0, 4).share(whole, dim=1)


def test_generators_depend_on_seed_and_key():
    draws = [
        torch.rand(3, generator=randomness.generator(*key)) for key in ((0,), (1,), (1, 1), (0, 1), (0, 0, 1))
    ]
    assert len({tuple(d.tolist()) for d in draws}) == 5
    assert torch.equal(draws[3], torch.rand(3, generator=randomness.generator(0, 1)))
    assert torch.equal(Step(7, 1).generator().get_state(), Step(7, 1, 1, 2).generator().get_state())


# --- The loop ----------------------------------------------------------------------------------


def test_a_run_trains_and_records(tmp_path):
    model, summary = fit(tmp_path, finish=lambda m: {"test": 7.0}, keep_weights=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "run.json", "weights.safetensors"]
    run = Run(tmp_path)
    assert run.module == Settings.__module__
    assert run.config == {"seed": 0, "rate": 0.05}
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
    _, partial = fit(tmp_path / "parts", stop_after=stop)
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
    assert runs.different_settings({"seed": 0, "rate": 0.05, "decay": 0.0}, Settings()) == ["decay"]
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
        config=Settings(),
        folder=tmp_path,
        steps=4,
        every=2,
        evaluate=measure,
        finish=measure,
    )
    assert seen == [(False, False)] * 3
    assert modes == [True] * 4


def test_the_rate_warms_up_and_goes_down():
    factor = runs.warm_up_then_down(4, 10)
    assert [factor(i) for i in range(10)] == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )
    for warmup in (0, 10):
        with pytest.raises(ValueError, match=f"warmup must be between 1 and steps − 1 = 9, got {warmup}"):
            runs.warm_up_then_down(warmup, 10)


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
    options = {"config": Settings(), "folder": tmp_path / "d", "steps": 4, "every": 4}
    train(slow, unit, torch.optim.SGD(slow.parameters(), 1.0), schedule=lambda step: 0.5, **options)
    assert float((before - slow.weight).detach()) == pytest.approx(2.0)
    # Without Adam's normalisation a clipped step is as short as the norm says.
    model = nn.Linear(1, 1, bias=False)
    start = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    loss = lambda model, step: (1000 * model(torch.ones(1, 1)).sum(), {})  # noqa: E731
    train(model, loss, optimizer, config=Settings(), folder=tmp_path / "c", steps=3, every=3, max_norm=0.01)
    assert float((start - model.weight).detach()) == pytest.approx(0.03, rel=1e-3)


def test_bf16_runs(tmp_path):
    seen = []

    def loss(model, step):
        out = model(torch.ones(2, 3))
        seen.append(out.dtype)
        return out.float().square().mean(), {}

    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"config": Settings(), "folder": tmp_path, "steps": 2, "every": 2}
    train(model, loss, optimizer, bf16=True, **options)
    assert model.weight.dtype == torch.float32
    assert seen == [torch.bfloat16] * 2


def test_a_run_that_diverges_says_so(tmp_path):
    model = nn.Linear(1, 1)
    loss = lambda model, step: (model(torch.ones(1, 1)).sum() / (step.index != 30), {})  # noqa: E731
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    summary = train(model, loss, optimizer, config=Settings(), folder=tmp_path, steps=50, every=10)
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
        train(model, lambda m, s: result, optimizer, config=Settings(), folder=tmp_path, steps=2, every=1)


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
    for config in ({"seed": 0}, object(), Settings):
        with pytest.raises(TypeError, match="config must be a dataclass with an int seed, got"):
            fit(tmp_path, config) if dataclasses.is_dataclass(config) and not isinstance(
                config, type
            ) else train(
                nn.Linear(1, 1),
                None,
                torch.optim.SGD([torch.zeros(1, requires_grad=True)]),
                config=config,
                folder=tmp_path,
                steps=1,
                every=1,
            )
    for name, value in (("stop_after", 0), ("max_norm", -1.0), ("max_norm", math.nan)):
        with pytest.raises(ValueError, match=f"{name} must be positive, got {value}"):
            fit(tmp_path / name, **{name: value})


def test_a_run_keeps_its_length(tmp_path):
    fit(tmp_path / "a", stop_after=30)
    with pytest.raises(ValueError, match=r"holds steps, every = \[60, 25\], got \[50, 25\]"):
        fit(tmp_path / "a", steps=50)
    fit(tmp_path / "b")
    with pytest.raises(ValueError, match=r"holds a run of 60 steps, got steps = 70"):
        fit(tmp_path / "b", steps=70)


def test_only_the_main_process_writes(tmp_path):
    class Other:
        is_main_process = False

        def wait_for_everyone(self):
            pass

    record = recorder.Recorder(tmp_path / "x", Settings(), 5, 5, Other())
    record.add(1, 1, {"loss": 1.0})
    record.write_metrics()
    record.finish({"steps": 5}, nn.Linear(1, 1))
    assert not (tmp_path / "x").exists()
    assert loop._evaluated(lambda model: {"a": 1.0}, nn.Linear(1, 1), Other()) == {}


@pytest.mark.parametrize(("steps", "every"), [(0, 5), (5, 0), (-1, 5)])
def test_bad_lengths_are_named(tmp_path, steps, every):
    with pytest.raises(ValueError, match=f"steps and every must be positive, got {steps} and {every}"):
        fit(tmp_path, steps=steps, every=every)


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


# --- An experiment, as a user starts it --------------------------------------------------------

SMALL = [
    "--scale",
    "live",
    "--num-latents",
    "4",
    "--num-classes",
    "3",
    "--channels",
    "2",
    "3",
    "--hidden",
    "8",
]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def start(*arguments: str | Path, script: Path = SCRIPT) -> subprocess.Popen:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_in_turn(runs: list, folder: Path, *launcher: str) -> subprocess.Popen:
    """All runs after each other in one Python, or in each that a launcher starts; what they say is in `log`."""
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps(runs))
    command = [
        sys.executable,
        *launcher,
        str(ROOT / "tests" / "experiments_in_turn.py"),
        str(folder / "runs.json"),
    ]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, env=environment(), stdout=log, stderr=log)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src/kexue/experiments").glob("[!_]*.py")), ids=lambda path: path.stem
)
def test_every_experiment_has_the_same_command_line(path):
    """So that experiments_in_turn.py, which calls it without starting a Python, does what a user does."""
    call = f'runs.command_line("{path.stem}", SCALES, RECORDINGS, run)'
    assert path.read_text("utf-8").endswith(f'\n\nif __name__ == "__main__":\n    {call}\n')


@pytest.mark.house
def test_a_run_that_was_killed_ends_in_the_same_summary(tmp_path):
    options = [*SMALL, "--steps", "200", "--every", "10"]
    killed = start(*options, "--folder", tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoint-*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert "summary" not in Run(tmp_path / "killed").record
    # The other half first, so that it begins in a new process; then the whole, in the same.
    runs = [
        ["gumbel_vae", [*options, "--folder", str(tmp_path / name)], None] for name in ("killed", "whole")
    ]
    both = start_in_turn(runs, tmp_path / "both")
    said = tmp_path / "both" / "log"
    assert both.wait() == 0, said.read_text()
    whole, killed_once = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    assert whole.sha256 == killed_once.sha256
    assert whole.module == "kexue.experiments.gumbel_vae"
    summary = json.dumps(whole.summary, indent=1) + "\n"
    assert said.read_text().count(summary) == 2


# A codebook with restarts, whose averages and choices are over the vectors of all processes.
QUANTISED = [
    "--hidden",
    "8",
    "--blocks",
    "1",
    "--num-codes",
    "16",
    "--dim",
    "4",
    "--batch-size",
    "32",
    "--restart-after",
    "5",
]


# Short texts; each process has its part of a batch that is padded as one. Dropout is each process' own.
CLASSIFIED = [
    "--width",
    "32",
    "--hidden",
    "16",
    "--dropout",
    "0",
    "--max-length",
    "30",
    "--learning-rate",
    "2e-2",
]


WORDS = [
    "--words",
    "200",
    "--width",
    "16",
    "--batch-size",
    "1024",
    "--noise",
    "128",
    "--learning-rate",
    "5e-2",
]


# Few words, no dropout. Evaluation takes a second, so that it comes every 30 steps; the first 20 are recorded.
PREDICTED = [
    "--hidden-sizes",
    "16",
    "16",
    "--chunk-size",
    "4",
    "--at-least",
    "500",
    "--embedding-dropout",
    "0",
    "--input-dropout",
    "0",
    "--dropout",
    "0",
    "--output-dropout",
    "0",
    "--recurrent-dropout",
    "0",
    "--window",
    "8",
    "--learning-rate",
    "2e-2",
]

WRITTEN = [
    "--width",
    "16",
    "--heads",
    "2",
    "--dropout",
    "0",
    "--batch-size",
    "64",
    "--examples",
    "2000",
    "--searched",
    "20",
    "--warmup",
    "5",
]
WRITTEN += ["--learning-rate", "1e-2"]

INFERRED = ["--pairs", "600", "--width", "8", "--hidden", "16", "--dropout", "0", "--learning-rate", "2e-2"]

TINY = ["--width", "16", "--heads", "2", "--layers", "1", "--warmup", "5", "--learning-rate", "1e-2"]
PRETRAINED = [*TINY, "--batch-size", "16", "--window", "64"]
NAMED = [*TINY, "--task", "names", "--no-pretrained", "--batch-size", "16"]
TAGGED = [*TINY, "--crf", "--no-pretrained", "--batch-size", "16"]


@dataclass(frozen=True)
class Compared:
    """An experiment in small: how often it is recorded, and how near two processes come to one."""

    script: str
    options: list[str]
    every: int = 1
    tolerance: float = 2e-5

    def run(self, folder: Path, *more: str, stop_after: int | None = None):
        """As experiments_in_turn.py reads it."""
        options = [*self.options, "--steps", "60", "--every", str(self.every), "--folder", str(folder), *more]
        return [self.script, options, stop_after]


COMPARED = {
    "gumbel": Compared("gumbel_vae", [*SMALL, "--estimator", "gumbel", "--learning-rate", "1e-2"]),
    "rloo": Compared("gumbel_vae", [*SMALL, "--estimator", "rloo", "--learning-rate", "1e-2"]),
    "vqvae": Compared("vqvae_digits", QUANTISED),
    "masking": Compared("masking_reviews", CLASSIFIED, 30),
    "infomap": Compared("infomap_words", WORDS),
    # In bfloat16, whose digits are three: gradients of halves are rounded before they are added.
    "onlstm": Compared("onlstm_language_model", PREDICTED, 30, 1e-3),
    "logic": Compared("onlstm_logic", INFERRED, 30, 1e-2),
    "both": Compared("decoding_seq2seq", ["--model", "both", *WRITTEN], 30, 1e-2),
    "apart": Compared("decoding_seq2seq", ["--model", "apart", *WRITTEN], 30, 1e-2),
    "pretraining": Compared("reading_pretraining", PRETRAINED, 30, 2e-3),
    "mlm": Compared("reading_comprehension", [*NAMED, "--head", "mlm"], 30, 1e-2),
    "seq2seq": Compared("reading_comprehension", [*NAMED, "--head", "seq2seq"], 30, 1e-2),
    "segmentation": Compared("reading_segmentation", TAGGED, 30, 1e-2),
}


@pytest.mark.house
@pytest.mark.first
def test_two_processes_follow_the_curve_of_one(tmp_path, subtests):
    """One Python has all experiments alone, two have all of them together.

    To the end, with what is evaluated, those that are recorded at each step; the others' evaluations are of
    thousands of examples and in one process only, so that two processes leave after the first steps.
    """
    alone = [case.run(tmp_path / name / "one") for name, case in COMPARED.items()]
    alone += [
        case.run(tmp_path / name / "other", "--seed", "1", stop_after=runs.FIRST)
        for name, case in COMPARED.items()
    ]
    together = [
        case.run(tmp_path / name / "two", stop_after=None if case.every == 1 else runs.FIRST)
        for name, case in COMPARED.items()
    ]
    # Not `accelerate launch --cpu --num_processes 2`: accelerate 1.15 starts one process for it, and says nothing.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    started = [
        start_in_turn(alone, tmp_path / "alone"),
        start_in_turn(together, tmp_path / "together", *launcher),
    ]
    for name, process in zip(("alone", "together"), started, strict=True):
        assert process.wait() == 0, (tmp_path / name / "log").read_text()
    for name, case in COMPARED.items():
        with subtests.test(name):
            runs = [Run(tmp_path / name / processes) for processes in ("one", "two")]
            first = [replay.first_steps(run.metrics, "loss") for run in runs]
            assert len(first[0]) == len(first[1]) == runs.FIRST
            np.testing.assert_allclose(*first, rtol=case.tolerance)
            if case.every == 1:
                assert [run.environment["processes"] for run in runs] == [1, 2]
                curves = [run.curve("loss")[1] for run in runs]
                assert len(curves[0]) == len(curves[1]) == 60
                np.testing.assert_allclose(*curves, rtol=case.tolerance)
            loss = runs[0].metrics["loss"]
            assert loss[-max(1, 10 // case.every) :].mean() < 0.9 * loss[:10].mean()
            # The curve is not trivially the same: another seed gives another, of which the first steps show it.
            one, other = (
                replay.first_steps(Run(tmp_path / name / seed).metrics, "loss") for seed in ("one", "other")
            )
            assert len(one) == len(other) == runs.FIRST
            assert not np.allclose(other, one, rtol=5 * max(case.tolerance, 2e-4))


@pytest.mark.house
def test_the_command_line_explains_itself(monkeypatch, capsys):
    process = start("--help")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "--learning-rate" in out
    script = replay.experiment(SCRIPT)
    for arguments, text in (
        (["--estimator", "magic"], "magic"),
        (["--record", "x", "--seed", "3"], "--record goes alone"),
        (["--scale", "huge"], "invalid choice"),
    ):
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *arguments])
        with pytest.raises(SystemExit) as left:
            runs.command_line("gumbel_vae", script.SCALES, script.RECORDINGS, script.run)
        assert left.value.code == 2
        assert text in "".join(capsys.readouterr())


def test_the_command_line_chooses_runs_and_folders(monkeypatch, tmp_path, capsys):
    ran = []
    declared = {f"a/{i}": Settings(seed=i) for i in range(3)} | {"b/0": Settings()}
    scales = {"live": Settings(), "run": Settings(rate=0.1), "gpu": Settings(rate=0.2)}

    def call(*arguments):
        ran.clear()
        monkeypatch.setattr(sys, "argv", ["x.py", *arguments])
        runs.command_line(
            "x", scales, declared, lambda config, folder: ran.append((config, folder)) or {"steps": 1}
        )
        return ran

    assert call() == [(Settings(rate=0.1), Path("_build/runs/x-run/0"))]
    assert call("--scale", "gpu", "--seed", "4") == [(Settings(4, 0.2), Path("_build/runs/x-gpu/4"))]
    assert call("--rate", "0.7", "--folder", str(tmp_path)) == [(Settings(rate=0.7), tmp_path)]
    assert call("--record", "a/*") == [(Settings(i), ROOT / "runs" / "a" / str(i)) for i in range(3)]
    for bad in (
        ["--record", "c*"],
        ["--record", "a/*", "--scale", "gpu"],
        ["--record", "a/*", "--folder", "y"],
    ):
        with pytest.raises(SystemExit):
            call(*bad)
        assert ran == []
    assert "no run matches 'c*'" in capsys.readouterr().err


# --- Recorded runs -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("head", ["mlm", "seq2seq"])
def test_the_readers_have_the_best_settings_tried_and_a_rate_between_others(head):
    trials = [Run(path.parent) for path in ROOT.glob(f"runs/reading_tuning/{head}-second*/run.json")]
    best = min(trials, key=lambda run: run.summary["valid_known_nats"])
    of_trials = {"seed": 0, "steps": 500, "every": 500, "keep_weights": False}
    for seed in (1, 2, 3):
        assert {**Run(ROOT / f"runs/reading/{head}-seed{seed}").config, **of_trials} == best.config
    alike = [
        run for run in trials if {**run.config, "learning_rate": 0} == {**best.config, "learning_rate": 0}
    ]
    rates = [run.config["learning_rate"] for run in alike]
    assert min(rates) < best.config["learning_rate"] < max(rates)


@pytest.mark.house
@pytest.mark.parametrize("name", ["gumbel", "straight_through", "rloo", "score_baseline", "score"])
def test_the_recorded_weights_have_the_recorded_bounds(name):
    """On the digits that the summary says, with as many samples."""
    run = recorded(f"gumbel_vae_{name}")["0"]
    script = replay.experiment(SCRIPT)
    model = script.CategoricalVAE()
    run.load_weights(model)
    _, valid, test = data.mnist_parts()
    for split, part in (("valid_elbo", valid), ("test_elbo", test)):
        images = part.pixels.gt(0.5).float()
        bound = script.evaluate_elbo(model, images, randomness.generator(0), 10).mean()
        assert float(bound) == pytest.approx(run.summary[split], abs=0.05)


def experiments(name: str):
    return replay.experiment(ROOT / "src/kexue/experiments" / f"{name}.py")


@pytest.mark.slow
def test_the_recorded_weights_have_the_recorded_quality():
    name = "vqvae_photos/0"
    script, (_, config) = experiments("vqvae_photos"), replay.declared()[name]
    model, run = script.build(config), Run(ROOT / "runs" / name)
    run.load_weights(model)
    x = data.views(data.photographs()["chelsea"].pixels, config.size) * 2 - 1
    with torch.no_grad():
        y = torch.cat([model.eval()(part)[0] for part in x.split(16)])
    psnr, ssim = script.image_quality(x, y)
    assert psnr.mean() == pytest.approx(run.summary["psnr_chelsea"], abs=0.05)
    assert ssim.mean() == pytest.approx(run.summary["ssim_chelsea"], abs=0.005)


@pytest.mark.slow
def test_recorded_pictures_are_as_sharp_as_their_summaries_say():
    """In the same order, that is: the summary is of all held-out views, the picture one of them, and a hard one."""
    script = experiments("vqvae_photos")
    with_picture = {name: config for name, config in script.SWEEP.items() if config.keep_picture}
    assert len(with_picture) == 6
    sharp = {}
    for name, config in with_picture.items():
        run = Run(ROOT / "runs" / name)
        face = data.centre_square(data.photographs()["chelsea"].pixels, config.size)[None] * 2 - 1
        shown = np.asarray(script.Image.open(run.folder / "chelsea.png"), dtype=np.float32) / 255
        again = torch.from_numpy(shown).permute(2, 0, 1)[None] * 2 - 1
        assert script.image_quality(face, again)[0][0] == pytest.approx(run.summary["psnr_chelsea"], abs=5)
        sharp[name] = script.gradient_agreement(face, again)[0]
    by_recorded = sorted(sharp, key=lambda name: Run(ROOT / "runs" / name).summary["test_sharpness"])
    assert sorted(sharp, key=sharp.__getitem__) == by_recorded


@pytest.mark.slow
def test_a_run_keeps_a_picture_and_samples_where_its_configuration_says_so(tmp_path):
    photos, prior = experiments("vqvae_photos"), experiments("vqvae_prior")
    small = {"steps": 1, "every": 1, "hidden": 8, "dim": 8, "blocks": 1, "batch_size": 2, "num_codes": 4}
    summary = photos.run(photos.Config(downsample=16, keep_picture=True, **small), tmp_path / "photo")
    assert -1 < summary["test_cosine"] < 1
    assert photos.Image.open(tmp_path / "photo" / "chelsea.png").size == (64, 64)
    assert "chelsea.png" in Run(tmp_path / "photo").environment["sha256"]
    with pytest.raises(ValueError, match="keep_picture must be False for photographs of one's own"):
        photos.run(photos.Config(keep_picture=True, images="folder"), tmp_path / "none")
    config = prior.Config("cnn", width=8, layers=1, steps=1, every=1, batch_size=2, keep_samples=True)
    prior.run(config, tmp_path / "prior")
    drawn = np.stack(list(Run(tmp_path / "prior").columns("samples.csv").values()), 1)
    assert drawn.shape == (200, 49)
    assert drawn.min() >= 0
    assert drawn.max() < 64


@pytest.mark.slow
def test_the_recorded_samples_are_codes_that_attention_finds_likely():
    """PixelCNN drew them; PixelAtt gives them fewer bits than codes drawn by their frequencies alone."""
    script, (_, config) = experiments("vqvae_prior"), replay.declared()["vqvae_prior_attention/raster-seed0"]
    columns = Run(ROOT / "runs/vqvae_prior_cnn/seed0").columns("samples.csv")
    drawn = torch.from_numpy(np.stack(list(columns.values()), 1)).long()
    model = script.build(config, 64, (7, 7)).eval()
    Run(ROOT / "runs/vqvae_prior_attention/raster-seed0").load_weights(model)
    order = torch.rand(drawn.shape, generator=torch.Generator().manual_seed(0)).argsort(0)
    with torch.no_grad():
        own, mixed = (
            float(-model.log_prob(codes.unflatten(1, (7, 7))).mean())
            for codes in (drawn, drawn.gather(0, order))
        )
    assert own < 0.8 * mixed


@pytest.mark.slow
def test_the_recorded_digits_have_the_recorded_error():
    run, model = experiments("vqvae_prior").autoencoder("vqvae_digits/0")
    x = data.mnist_parts()[2].pixels[:, None] * 2 - 1
    with torch.no_grad():
        error = (model(x)[0] - x).square().mean()
    assert error == pytest.approx(run.summary["test_mse"], rel=0.01)


@pytest.mark.slow
def test_the_recorded_prior_has_the_recorded_bits():
    name = "vqvae_prior_attention/raster-seed0"
    script, (_, config) = experiments("vqvae_prior"), replay.declared()[name]
    num_codes, (_, _, test) = script.codes(config.codes, False)
    model, run = script.build(config, num_codes, (7, 7)), Run(ROOT / "runs" / name)
    run.load_weights(model)
    with torch.no_grad():
        bits = -model.eval().log_prob(test).mean() / (49 * math.log(2))
    assert bits == pytest.approx(run.summary["test_bits"], abs=0.01)


@pytest.mark.house
@pytest.mark.parametrize("masks", ["none", "pooling", "everywhere"])
def test_the_recorded_classifiers_have_the_recorded_accuracy(masks):
    run = Run(ROOT / "runs" / "masking_reviews" / f"attention-random-{masks}-seed1")
    train, _, test = data.reviews_parts()
    vocabulary = data.Vocabulary(train.text, run.config["at_least"])
    model = masking.TextClassifier(len(vocabulary), masks=masks).eval()
    run.load_weights(model)
    ids = [vocabulary.ids(text[: run.config["max_length"]]) for text in test.text]
    for added in (0, 32):
        right = masking.predict(model, ids, added).argmax(-1) == test.label
        assert right.double().mean() == pytest.approx(run.summary[f"test_accuracy_added_{added}"], abs=0.002)


@pytest.mark.house
@pytest.mark.unchecked
def test_the_recorded_word_vectors_have_the_recorded_neighbours_and_clusters():
    script, run = experiments("infomap_words"), Run(ROOT / "runs" / "infomap_words" / "seed1")
    words, classes, pairs = script.expected_pairs(script.Config(**run.config))
    assert len(words) == len(classes) == pairs.shape[0] == 10_000
    model = script.SkipGram(len(words), run.config["width"])
    run.load_weights(model)
    vectors = model.word.weight.detach().double().numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1)
    same = (classes[cosine.argmax(1)] == classes).mean()
    assert same == pytest.approx(run.summary["same_class"], abs=0.003)
    found = script.agreement(vectors, classes, 1)
    for name, tolerance in (("linked", 5), ("links", 50), ("ami_infomap", 0.01), ("ami_kmeans", 0.01)):
        assert found[name] == pytest.approx(run.summary[name], abs=tolerance)


def test_a_language_model_s_parts_are_disjoint_blocks(monkeypatch):
    script = experiments("onlstm_language_model")
    words = tuple((f"p{i}", "the") for i in range(3000))
    text = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: text, monkeypatch)
    texts = script.corpus(script.Config(at_least=1))
    assert (len(texts.train), len(texts.valid), len(texts.test)) == (2700, 150, 150)
    assert texts.vocabulary.symbols[:2] == ("<eos>", "the")
    end, the = (int(texts.vocabulary.ids([symbol])) for symbol in ("<eos>", "the"))
    assert all(
        ids[1:].tolist() == [the, end] for part in (texts.train, texts.valid, texts.test) for ids in part
    )
    assert all(
        ids[0] == data.UNKNOWN for ids in texts.valid + texts.test
    )  # whose paragraphs training has not
    assert len({int(ids[0]) for ids in texts.train}) == 2700


@pytest.mark.house
@pytest.mark.parametrize("text", ["stream", "sentences"])
def test_a_language_model_predicts_the_next_word_of_what_it_read(monkeypatch, tmp_path, text):
    """A text that repeats is learned; a target out of place would leave the entropy of its words."""
    script = experiments("onlstm_language_model")
    words = tuple(tuple("abcdefgh") for _ in range(2000))
    repeats = data.TaggedText(words, words, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: repeats, monkeypatch)
    config = script.Config(
        text=text, hidden_sizes=(32, 32), learning_rate=1e-2, steps=250, every=250, window=9
    )
    summary = script.run(config, tmp_path)
    assert summary["valid_perplexity"] < 2  # of nine symbols


def test_averaged_parameters_are_used_and_put_back():
    script = experiments("onlstm_language_model")
    model = torch.nn.Linear(1, 1, bias=False)
    config = script.Config(optimizer="sgd", learning_rate=1.0, average_from=2, weight_decay=0.0, steps=6)
    optimizer = script.optimizer_of(config, model.parameters())
    seen = []
    for _ in range(6):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        seen.append(model.weight.item())
    with script.averaged(optimizer):
        assert model.weight.item() == pytest.approx(np.mean(seen[3:]), abs=1e-5)
    assert model.weight.item() == seen[-1]


def truth(tokens, world):
    """The value of a formula in a world, by Python."""
    text = " ".join(str(world[t]) if t in world else t for t in tokens)
    return bool(eval(text))


@pytest.mark.slow
def test_formulas_mean_what_their_tables_say_and_relations_what_logic_says():
    script = experiments("onlstm_logic")
    worlds = [{v: bool(j >> i & 1) for i, v in enumerate("abcdef")} for j in range(64)]
    draw = script.Draw(5)
    met = {}
    for k in range(300):
        operators = k % 7
        tokens, table = script.formula(draw, operators, "abcdef")
        assert sum(token in ("not", "and", "or") for token in tokens) == operators
        assert [truth(tokens, world) for world in worlds] == [bool(table >> j & 1) for j in range(64)]
        a, b, name = script.pair(draw, 1 + k % 4)
        assert max(sum(t in ("not", "and", "or") for t in side) for side in (a, b)) == 1 + k % 4
        assert len(({*a} | {*b}) & set("abcdef")) <= 4
        p, q = ([truth(side, world) for world in worlds] for side in (a, b))
        forward = all(y for x, y in zip(p, q, strict=True) if x)
        backward = all(x for x, y in zip(p, q, strict=True) if y)
        apart = not any(x and y for x, y in zip(p, q, strict=True))
        cover = all(x or y for x, y in zip(p, q, strict=True))
        held = {
            "=": forward and backward,
            "<": forward and not backward,
            ">": backward and not forward,
            "^": apart and cover,
            "|": apart and not cover,
            "v": cover and not apart,
            "#": not (forward or backward or apart or cover),
        }
        assert [relation for relation, holds in held.items() if holds] == [name]
        met[name] = met.get(name, 0) + 1
    assert set(met) == set(script.RELATIONS)


@pytest.mark.slow
def test_pairs_of_formulas_are_in_one_part_only():
    script = experiments("onlstm_logic")
    train, valid, test = script.pairs(3000, 20)
    parts = [{one[:2] for one in part} for part in (train, valid, *test.values())]
    assert len(valid) == 3000
    assert all(len(test[k]) == 20 for k in range(1, 13))
    for i, part in enumerate(parts[1:], start=1):
        assert not any(part & other for other in parts[:i])


def test_the_expected_pairs_are_counted_within_paragraphs(monkeypatch):
    script = experiments("infomap_words")
    text = data.TaggedText(
        (("a", "b", "，", "c"), ("a", "rare")),
        (("n", "v", "w", "n"), ("n", "v")),
        data.SOURCES["people_daily"],
    )
    replace(data, "people_daily", lambda: text, monkeypatch)
    words, classes, pairs = script.expected_pairs(script.Config(words=3, window=2, subsample=1e9))
    assert words == ("a", "b", "c")
    assert classes.tolist() == ["n", "v", "n"]
    # Marks are no words: c is next to b. Neighbours count 1, the second next 1/2; "rare" is not among the words.
    assert pairs.toarray().tolist() == [[0, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]
    _, _, fewer = script.expected_pairs(script.Config(words=3, window=2, subsample=0.1))
    f = np.array([2, 1, 1]) / 5
    kept = np.minimum(1, np.sqrt(0.1 / f) + 0.1 / f)
    np.testing.assert_allclose(fewer.toarray(), pairs.toarray() * kept * kept[:, None])


def test_pairs_are_drawn_in_proportion_to_their_weights():
    script = experiments("infomap_words")
    cumulated = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64)  # weights 1, 0 and 3
    counts = script.drawn(cumulated, 4000, randomness.generator(0)).bincount(minlength=3)
    assert counts.sum() == 4000
    assert counts[1] == 0
    assert counts[2] == pytest.approx(3000, abs=120)


def test_batches_of_similar_length_take_every_sequence_once_an_epoch():
    lengths = torch.randint(1, 40, (230,), generator=randomness.generator(0))
    epochs = [[Step(14 * epoch + i, 0).batch_of_similar(lengths, 16) for i in range(14)] for epoch in (0, 1)]
    for batches in epochs:
        assert len(torch.cat(batches).unique()) == 14 * 16
        # The longest are what is left over after the last whole batch.
        spread = [int(lengths[batch].max() - lengths[batch].min()) for batch in batches]
        assert max(spread) <= 5
    assert not all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))
    assert torch.equal(Step(3, 0).batch_of_similar(lengths, 16), epochs[0][3])
    assert not torch.equal(Step(3, 1).batch_of_similar(lengths, 16), epochs[0][3])
    for size in (0, 231):
        with pytest.raises(
            ValueError, match=f"batch_size must be between 1 and the size of the data, 230, got {size}"
        ):
            Step(0, 0).batch_of_similar(lengths, size)


def test_reviews_of_similar_length_come_together():
    script = experiments("masking_reviews")
    lengths = torch.randint(1, 40, (230,), generator=randomness.generator(0))
    config = script.Config(batches="similar", batch_size=16)
    assert torch.equal(script.batch_of(config, lengths, Step(5, 0)), Step(5, 0).batch_of_similar(lengths, 16))


@pytest.mark.slow
def test_what_is_measured_of_pronunciations_by_hand():
    script = experiments("decoding_seq2seq")
    ids = {name: i for i, name in enumerate(script.phonemes(), start=script.TOKENS)}
    word = tuple(ids[p] for p in ["D", "IH0", "K", "OW1", "D", "IH0", "NG", "Z"])
    stress = (word[0], ids["IH1"], *word[2:])
    late = (*word[:-1], ids["S"])
    part = script.Part([[3]] * 4, [[word], [word], [word, late], [word[:3]]])
    found = script.described("x", [word, stress, late, word[:2]], part)
    assert found["x_wer"] == 2 / 4
    assert found["x_wer_plain"] == 1 / 4
    assert found["x_per"] == 2 / (8 + 8 + 8 + 3)
    assert found["x_per_plain"] == 1 / (8 + 8 + 8 + 3)
    # Of the three long words, one has a wrong second phoneme; the closest reference counts.
    assert found["x_first4"] == 11 / 12
    assert found["x_last4"] == 1
    # Eight phonemes: two, one, two, one and two in the fifths; three: one in the first, third and last.
    assert [found[f"x_fifth{i}"] for i in range(5)] == [6 / 7, 1, 1, 1, 6 / 7]
    assert found["x_wer_length3"] == 1
    assert found["x_wer_length8"] == 1 / 3
    short = script.described("x", [word[1:]], script.Part([[3]], [[word]]))
    assert short["x_first4"] == 0
    assert short["x_last4"] == 1


def test_reranking_takes_what_both_directions_like_best():
    from kexue.decoding import Seq2Seq, beam_search, pad_ids, token_log_probs

    script = experiments("decoding_seq2seq")
    torch.manual_seed(0)
    models = [Seq2Seq(8, 7, 8, 2, 1, 1, direction=d).eval().requires_grad_(False) for d in ("l2r", "r2l")]
    part = script.Part([[3, 4], [5, 6, 7]], [[(3,)], [(4,)]])
    lists = [beam_search(model, part.src, 6, 5) for model in models]
    scores = script.joint_scores(lists, models, part)
    for i, best in enumerate(script.reranked([a + b for a, b in zip(*lists, strict=True)], scores)):
        candidates = {h.tokens for one in lists for h in one[i] if h.tokens}
        assert len(candidates) > 3
        src = pad_ids([part.source[i]])
        score = {
            c: sum(float(token_log_probs(m, src, pad_ids([c]))[0].sum()) for m in models) for c in candidates
        }
        assert best == max(score, key=score.get)
        assert scores[i] == pytest.approx(score, abs=1e-5)
        shorter = script.reranked([lists[0][i][:2]], [scores[i]])[0]
        assert shorter == max((h.tokens for h in lists[0][i][:2] if h.tokens), key=score.get)


@pytest.mark.slow  # reads the newspaper
def test_words_that_recur_are_masked_whole_and_more_often():
    script = experiments("reading_pretraining")
    text = script.stream(1)
    config = script.Config(mask_rate=0.0, recurring_rate=1.0)
    begins = torch.tensor([0, 500, 3000])
    where = begins[:, None] + torch.arange(60)
    ids, masked = script.masked_windows(text, begins, torch.full((3, 60), 0.5), config)
    assert torch.equal(ids, text.ids[where])
    for row, places in enumerate(where.tolist()):
        words = {}
        for place in places:
            words.setdefault(int(text.place[place]), []).append(place)
        spelt = {word: tuple(text.ids[spot].tolist()) for word, spot in words.items()}
        for word, spot in words.items():
            chosen = masked[row, torch.tensor(spot) - begins[row]].tolist()
            assert len(set(chosen)) == 1  # all of a word or nothing
            same = [other for other in words if other != word and spelt[other] == spelt[word]]
            if word not in (min(words), max(words)):  # words at the edges may be cut
                if len(spot) == 1:
                    assert not chosen[0]
                elif same and not {min(words), max(words)} & set(same):
                    assert chosen[0]
    assert masked.any()
    nothing = script.Config(mask_rate=0.0, recurring_rate=0.0)
    assert not script.masked_windows(text, begins, torch.full((3, 60), 0.5), nothing)[1].any()


@pytest.mark.slow  # reads the newspaper
@pytest.mark.parametrize(("persons", "valid"), [(1, 1), (2, 1), (4, 1), (2, 2), (4, 4), (4, 2)])
def test_names_are_new_and_those_in_the_place_are_right(persons, valid):
    script = experiments("reading_comprehension")
    drawn = [script.name_question(persons, valid, randomness.generator(0, i)) for i in range(20)]
    for question, right in drawn:
        there = [one.split("在") for one in question.passage.removesuffix("。").split("。")]
        assert sorted(name for name, _ in there) == sorted(question.entities)
        assert {place for _, place in there} <= set(script.PLACES)
        assert len({place for _, place in there}) == persons - valid + 1
        place = question.question.removeprefix(f"{script.BLANK}在").removesuffix("。")
        assert {name for name, where in there if where == place} == set(right)
        assert len(right) == valid
        assert question.answer in right
        characters = "".join(question.entities)
        assert len(set(characters)) == len(characters) == 3 * persons
        known = experiments("reading_pretraining").vocabulary()
        assert known.unknown not in known.encode(question.passage + question.question)[0]
    assert script.name_question(persons, valid, randomness.generator(0, 3)) == drawn[3]
    assert len({question.answer for question, _ in drawn}) > 15
    if persons > 1:  # the right one stands anywhere
        assert len({q.passage.index(q.answer) for q, _ in drawn}) == persons


def test_what_is_shown_for_mask_predict():
    script = experiments("reading_comprehension")
    targets = torch.tensor([[9, 8, 7, 3, 0]]).repeat(400, 1)
    shown = script.shown(400, targets, 3, randomness.generator(0))
    none = ~shown.any(1)
    assert 0.4 < none.float().mean() < 0.6
    assert shown[~none, 3].all()  # the end
    assert not shown[:, 4].any()
    counts = shown[~none, :3].sum(1)
    assert set(counts.tolist()) == {0, 1, 2}  # at least one is hidden


def test_what_is_hidden_and_which_part_is_read():
    script = experiments("reading_comprehension")
    question = script.ClozeQuestion("甲" * 500, "乙＿" * 50, "甲", "nr", ())
    hidden = script.hidden(question, 0.2, randomness.generator(0))
    assert hidden.passage.replace(script.MASKED, "甲") == question.passage
    assert hidden.question.replace(script.MASKED, "乙") == question.question
    assert 60 < hidden.passage.count(script.MASKED) < 140
    for place in (0, 100, 990):
        passage = "甲" * place + "乙丙" + "甲" * (998 - place)
        for seed in range(5):
            asked = data.PassageQuestion(passage, "？", ("乙丙",))
            part = script.near_answer(asked, randomness.generator(seed))
            assert part.answer in part.passage
            assert part.passage in passage
            assert len(part.passage) == script.NEAR


def test_what_counts_as_a_name_a_rival_and_a_mixture():
    script = experiments("reading_comprehension")
    names = ("王小明", "李大华", "北京", "一二三四五六七八九")
    question = script.ClozeQuestion("王小明在北大。王小军。", "李大华见＿。", "王小明", "nr", names)
    assert script.candidates(question) == ["王小明", "李大华", "北京"]
    assert script.rivals(question) == ["王小明", "北京"]
    assert script.chosen_name(question, torch.tensor([1.0, 3.0, 2.0]), ["王小明", "北京"]) == "北京"
    for answer, mixed in {
        "王大明": True,
        "北小": True,
        "王小": False,  # stands in the passage
        "北大": False,  # and so does this
        "": False,
        "王小明明": False,  # no name is that long
        "王王明": False,  # 王 is in second place nowhere
    }.items():
        assert script.mixes(answer, question) == mixed, answer


@pytest.fixture(scope="module")
def readers():
    """Both heads on a tiny encoder with random weights."""
    letters = reading.Characters(["王小明李大华北京在见。"])
    torch.manual_seed(0)
    return {
        head: kind(
            reading.MaskedLM(len(letters), 16, 2, 1, vocabulary=letters).requires_grad_(False), 8
        ).eval()
        for head, kind in (("mlm", reading.MLMReader), ("seq2seq", reading.Seq2SeqReader))
    }


CLOZE = [
    ("王小明在北京。李大华在北京。", "＿见李大华。", "王小明", ("北京", "王小明", "李大华")),
    ("李大华在北京。", "＿见王小明。", "李大华", ("北京", "李大华")),
    ("北京。", "在＿。", "北京", ("北京",)),
]


@pytest.mark.parametrize("head", ["mlm", "seq2seq"])
def test_every_column_of_what_is_measured(head, readers):
    script, reader = experiments("reading_comprehension"), readers[head]
    questions = [script.ClozeQuestion(p, q, a, "nr", names) for p, q, a, names in CLOZE]
    columns = script.measured(reader, questions)
    assert {len(values) for values in columns.values()} == {3}
    for i, q in enumerate(questions):
        got = {name: values[i] for name, values in columns.items()}
        log_p = lambda asked, answer, q=q: float(reader.log_prob([q.passage], [asked], [answer]))  # noqa: E731
        free, span = (reader.answer([q.passage], [q.question], flag)[0].text for flag in (False, True))
        spans = {q.passage[i:j] for i in range(len(q.passage)) for j in range(i + 1, len(q.passage) + 1)}
        short = sorted(one for one in spans if len(one) <= 8)
        if head == "mlm":
            best = max(short, key=lambda one: log_p(q.question, one))
        else:
            best = reader.answer([q.passage], [q.question], True, beam_size=4)[0].text
        for name, said in (("free", free), ("span", span), ("best", best)):
            assert got[name] == reading.exact_match(said, q.answer), name
            assert got[f"{name}_f1"] == reading.answer_f1(said, q.answer)
        pools = {"name": (q.question, q.entities), "rival": (q.question, script.rivals(q))}
        pools["blind"] = (script.BLANK, script.rivals(q))
        for name, (asked, pool) in pools.items():
            liked = max(pool, key=lambda one, asked=asked: log_p(asked, one))
            assert got[name] == (liked == q.answer), name
        assert got["named"] == (free in q.entities)
        assert got["mixed"] == script.mixes(free, q)
        assert got["outside"] == (free not in q.passage)
        assert got["nats"] == pytest.approx(-log_p(q.question, q.answer), rel=1e-4)
        each, _ = reader.token_log_probs([q.passage], [q.question], [q.answer])
        assert got["nats0"] == pytest.approx(-float(each[0, 0]), rel=1e-4)
        scores = sorted((log_p(q.question, one) for one in q.entities), reverse=True)
        if len(scores) > 1:
            assert got["margin"] == pytest.approx(scores[0] - scores[1], abs=1e-4)
        else:
            assert math.isnan(got["margin"])
        for place in range(script.COMPARED):
            if place > len(q.answer):
                assert math.isnan(got[f"wrong{place}"])
            else:
                true = [*q.answer, ""][place]
                assert got[f"wrong{place}"] == ([*free, "", *"#" * 9][place] != true)
    # The entropy of the first token, from its probabilities one by one.
    vocabulary = reader.vocabulary
    for q, entropy in zip(questions, columns["entropy"], strict=True):
        passage, asked = (vocabulary.encode(text)[0] for text in (q.passage, q.question))
        if head == "mlm":
            p = reader.predict(reader.inputs([passage], [asked]))[0, 0].exp()
        else:
            p = reader.next_log_probs(reader.prefix([passage], [asked]), torch.zeros(1, 0).long())[0, 0].exp()
        assert entropy == pytest.approx(-sum(float(v) * math.log2(float(v)) for v in p), rel=1e-4)


def test_columns_are_written_and_read(tmp_path):
    script = experiments("reading_comprehension")
    script.write_columns({"a": [1.0, 0.0], "b": [math.nan, 1.23456]}, tmp_path / "questions.csv")
    assert (tmp_path / "questions.csv").read_text() == "a,b\n1,\n0,1.235\n"
    columns = Run(tmp_path).columns("questions.csv")
    assert columns["a"].tolist() == [1, 0]
    assert np.isnan(columns["b"][0])


def test_what_follows_a_first_character_that_is_put_in(readers, monkeypatch):
    script, reader = experiments("reading_comprehension"), readers["seq2seq"]
    questions = [script.ClozeQuestion(p, q, a, "nr", names) for p, q, a, names in (*CLOZE, CLOZE[0])]
    known = reader.vocabulary.encode
    # 王 goes on to a name, 李 to what stands nowhere, 北 to a part of the passage that is no name; whatever else
    # to the rest of the first question's answer. By itself, the reader begins right in the first two questions.
    written_out = {c: f"{c}小明" for c in "小明在京大华"} | {"王": "王小明", "李": "李小京", "北": "北京。"}
    own = ["王小", "李", "明", "北京"]

    def next_log_probs(prefix, written):
        found = torch.full((len(written), written.shape[1] + 1, len(reader.vocabulary)), -30.0)
        for row, ids in enumerate(written.tolist()):
            text = reader.vocabulary.decode(ids)
            word = written_out[text[0]]
            to_come = word[len(text) :]
            found[row, -1, known(to_come[0])[0][0] if to_come else reader.vocabulary.end] = 0.0
        return found

    likes = {"北京": 0.0, "王小明": -1.0, "李大华": -2.0}
    by_name = lambda reader, questions: [  # noqa: E731
        torch.tensor([likes[name] for name in script.candidates(q)]) for q in questions
    ]
    monkeypatch.setattr(reader, "next_log_probs", next_log_probs)
    monkeypatch.setattr(reader, "answer", lambda *_, **__: [reading.Answer(text, 1.0) for text in own])
    monkeypatch.setattr(script, "by_name", by_name)
    found = script.after_first(reader, questions, torch.Generator().manual_seed(0))
    as_own = {"later": pytest.approx(1 / 3), "wrong1": 0.5, "wrong2": 0.5, "wrong3": 0}
    otherwise = {"later": pytest.approx(2 / 3), "wrong1": 1, "wrong2": 1, "wrong3": 0}
    assert found == {
        **{f"first_true_{k}": v for k, v in (as_own | {"named": 0.5, "inside": 0.5}).items()},
        **{f"first_other_{k}": v for k, v in (otherwise | {"named": 0, "inside": 1}).items()},
        **{f"first_stray_{k}": v for k, v in (as_own | {"named": 0, "inside": 0}).items()},
        "own_wrong_stray": 0.5,  # 明 begins no name; 北京 does, though another than the answer
        "corrupted": 2,
    }


def test_first_characters_are_of_another_name_and_of_none(readers):
    script, reader = experiments("reading_comprehension"), readers["seq2seq"]
    draw = lambda passage, names, likes: [  # noqa: E731
        script.first_characters(
            reader,
            script.ClozeQuestion(passage, "＿。", "王小明", "nr", names),
            torch.tensor(likes),
            torch.Generator().manual_seed(seed),
        )
        for seed in range(40)
    ]
    names = ("王小明", "王大华", "京", "李大华")
    # The true name and another with its first character are liked best; 饕 is not in the vocabulary.
    drawn = draw("王小明见王大华。京，李大华在饕。", names, [0.0, -1.0, -3.0, -2.0])
    assert {(one["true"], one["other"]) for one in drawn} == {("王", "李")}
    assert {one["stray"] for one in drawn} == {"小", "明", "见", "大", "华", "在"}
    assert draw("王小明见王大华。", names[:2], [0.0, -1.0]) == [{}] * 40  # no other beginning
    assert draw("王。京，李", names, [0.0, -1.0, -3.0, -2.0]) == [{}] * 40  # no stray one


@pytest.mark.parametrize(
    ("said", "wrong"),
    [("王小明", "0000"), ("王小", "0011"), ("", "1111"), ("李小明们", "1001"), ("小明", "1111")],
)
def test_tokens_are_wrong_at_their_place(said, wrong):
    expected = [float(one) for one in wrong]
    assert experiments("reading_comprehension").wrong_tokens(said, "王小明") == expected


@pytest.mark.parametrize("head", ["mlm", "seq2seq"])
def test_what_is_measured_of_names(head, readers):
    script, reader = experiments("reading_comprehension"), readers[head]
    asked = []
    for p, q, a, names in CLOZE[:2]:
        question = script.ClozeQuestion(p, q, a, "nr", names)
        asked.append((question, [name for name in names if len(name) == 3]))
    found = script.measured_names(reader, asked)
    log_p = [
        reader.log_prob([q.passage] * len(valid), [q.question] * len(valid), valid) for q, valid in asked
    ]
    assert found["nats"] == pytest.approx(-np.mean([float(one.mean()) for one in log_p]), rel=1e-4)
    assert found["mass"] == pytest.approx(np.mean([float(one.exp().sum()) for one in log_p]), rel=1e-4)
    said = [reader.answer([q.passage], [q.question], False)[0].text for q, _ in asked]
    assert found["right"] == np.mean([one in valid for one, (_, valid) in zip(said, asked, strict=True)])
    assert found["mixed"] == np.mean([script.mixes(one, q) for one, (q, _) in zip(said, asked, strict=True)])
    assert found["right"] + found["mixed"] + found["else"] == pytest.approx(1)


@pytest.mark.slow  # reads the newspaper
def test_what_is_measured_of_segmentations_by_hand():
    script = experiments("reading_segmentation")
    assert script.impossible([0, 2, 3, 0, 1, 2]) == 0
    assert script.impossible([0, 3, 1, 2, 2, 0, 0]) == 4
    assert script.places(("中国", "人", "中国")) == {(0, 2): "中国", (2, 3): "人", (3, 5): "中国"}
    # The likeliest tags that are a segmentation, of all of them.
    emissions = torch.randn(5, 4, 4, generator=randomness.generator(0))
    found = script.only_possible().decode(emissions, torch.ones(5, 4, dtype=torch.bool))
    for row, tags in zip(emissions, found.tolist(), strict=True):
        score = lambda several, row=row: float(sum(row[i, tag] for i, tag in enumerate(several)))  # noqa: E731
        some = [one for one in product(range(4), repeat=4) if not script.impossible(list(one))]
        assert tuple(tags) == max(some, key=score)
    for part in range(3):
        assert all(0 < sum(map(len, one)) <= script.LONGEST for one in script.pieces(part)[:200])
    ids, tags = script.encoded([("中国", "人"), ("我",)])
    assert ids.shape == tags.shape == (2, 3)
    assert tags.tolist() == [[0, 2, 3], [3, 0, 0]]
    assert (ids[1, 1:] == 0).all()


@pytest.mark.slow
def test_words_not_seen_in_training_count_in_their_places(monkeypatch):
    script = experiments("reading_segmentation")
    monkeypatch.setattr(script, "pieces", lambda part: [("甲",)] if part == 0 else [("甲", "乙甲", "丙")])

    class Model(torch.nn.Module):
        def __init__(self, tags):
            super().__init__()
            self.out, self.tags = torch.nn.Linear(1, 1), torch.tensor([tags])

        def decode(self, ids, possible):
            return self.tags

    # 甲乙 | 甲 | 丙: 丙 is found, 乙甲 is not; then a found 乙甲.
    for tags, recall in (([0, 2, 3, 3], 0.5), ([3, 0, 2, 3], 1.0)):
        found = script.scores(Model(tags), 1)
        assert found["recall_new"] == recall
        assert found["share_new"] == pytest.approx(2 / 3)


@pytest.mark.house
def test_the_other_model_needs_no_download(monkeypatch):
    import nltk

    def refuse(*args, **options):
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(nltk, "download", refuse)
    before = list(nltk.data.path)
    model = experiments("decoding_seq2seq").g2p_en()
    assert model.predict("cat") == ["K", "AE1", "T"]
    assert nltk.data.path == before


@pytest.mark.house
def test_the_second_stage_begins_where_it_says_and_resumes(tmp_path):
    script = experiments("decoding_seq2seq")
    config = script.Config(
        steps=12,
        every=9,  # a checkpoint within the second stage
        second_stage=8,
        examples=300,
        searched=20,
        width=16,
        heads=2,
        batch_size=32,
        warmup=2,
    )
    plain = dataclasses.replace(config, second_stage=0)
    one = script.run(config, tmp_path / "one")
    two = script.run(plain, tmp_path / "two")
    losses = [Run(tmp_path / name).metrics["loss"] for name in ("one", "two")]
    steps = Run(tmp_path / "one").metrics["step"]
    assert (steps <= 8).sum() == 8
    assert np.array_equal(losses[0][steps <= 8], losses[1][steps <= 8])
    assert not np.array_equal(losses[0][steps > 8], losses[1][steps > 8])
    assert one["loss"] != two["loss"]
    assert not (tmp_path / "one" / "pseudo.npy").exists()
    script.run(config, tmp_path / "stopped", stop_after=10)
    again = script.run(config, tmp_path / "stopped")
    assert again == one


def test_crops_are_squares_of_the_training_photographs():
    draw = experiments("vqvae_photos").crops(None, 64)
    one, two = (draw(40, randomness.generator(seed)) for seed in (0, 1))
    assert one.shape == (40, 3, 64, 64)
    assert torch.equal(one, draw(40, randomness.generator(0)))
    assert not torch.equal(one, two)
    assert -1 <= one.min() < -0.9
    assert 0.9 < one.max() <= 1
    assert len(one.mean((2, 3)).round(decimals=2).unique(dim=0)) > 30
    parts = experiments("vqvae_photos").photographs(None)
    assert {part: len(found) for part, found in parts.items()} == {"train": 7, "valid": 1, "test": 3}


def test_photographs_of_a_folder_are_split_by_their_names(tmp_path):
    script = experiments("vqvae_photos")
    generator = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (80, 90, 3), np.uint8)).save(tmp_path / f"{i}.png")
    parts = script.photographs(str(tmp_path))
    names = [set(part) for part in parts.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == 40
    assert all(names)
    assert script.crops(str(tmp_path), 64)(3, randomness.generator(0)).shape == (3, 3, 64, 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="images must hold photographs for train, valid, test too, got"):
        script.photographs(str(tmp_path / "empty"))
