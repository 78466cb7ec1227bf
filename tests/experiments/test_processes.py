"""Experiments as a user starts them: killed and resumed, in one process and in two."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import replay

from kexue import runs
from kexue.experiments import gumbel_vae
from kexue.runs import Run

ROOT = Path(__file__).parents[2]


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


def start(*arguments: str | Path) -> subprocess.Popen:
    """The experiment on autoencoders with categorical codes, in a Python of its own."""
    command = [sys.executable, "-m", "kexue.experiments.gumbel_vae", *map(str, arguments)]
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
        str(ROOT / "tests" / "experiments" / "in_turn.py"),
        str(folder / "runs.json"),
    ]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, env=environment(), stdout=log, stderr=log)


@pytest.mark.system
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
        """As in_turn.py reads it."""
        options = [*self.options, "--steps", "60", "--every", str(self.every), "--folder", str(folder), *more]
        return [self.script, options, stop_after]


COMPARED = {
    "gumbel": Compared("gumbel_vae", [*SMALL, "--estimator", "gumbel", "--learning-rate", "1e-2"]),
    "rloo": Compared("gumbel_vae", [*SMALL, "--estimator", "rloo", "--learning-rate", "1e-2"]),
    "vqvae": Compared("vqvae_digits", QUANTISED),
    "masking": Compared("masking_reviews", CLASSIFIED, 30),
    "smoothing": Compared("smoothing_digits", ["--networks", "2", "--loss", "f1"], 30),
    # In bfloat16, whose digits are three: gradients of halves are rounded before they are added. (onlstm_texts
    # carries its state from step to step, and refuses several processes.)
    "logic": Compared("onlstm_logic", INFERRED, 30, 1e-2),
    "both": Compared("decoding_seq2seq", ["--model", "both", *WRITTEN], 30, 1e-2),
    "apart": Compared("decoding_seq2seq", ["--model", "apart", *WRITTEN], 30, 1e-2),
    "pretraining": Compared("reading_pretraining", PRETRAINED, 30, 2e-3),
    "mlm": Compared("reading_comprehension", [*NAMED, "--head", "mlm"], 30, 1e-2),
    "seq2seq": Compared("reading_comprehension", [*NAMED, "--head", "seq2seq"], 30, 1e-2),
    "segmentation": Compared("reading_segmentation", TAGGED, 30, 1e-2),
}


@pytest.mark.system
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
            pair = [Run(tmp_path / name / processes) for processes in ("one", "two")]
            first = [replay.first_steps(run.metrics, "loss") for run in pair]
            assert len(first[0]) == len(first[1]) == runs.FIRST
            np.testing.assert_allclose(*first, rtol=case.tolerance)
            if case.every == 1:
                assert [run.environment["processes"] for run in pair] == [1, 2]
                curves = [run.curve("loss")[1] for run in pair]
                assert len(curves[0]) == len(curves[1]) == 60
                np.testing.assert_allclose(*curves, rtol=case.tolerance)
            loss = pair[0].metrics["loss"]
            assert loss[-max(1, 10 // case.every) :].mean() < 0.9 * loss[:10].mean()
            # The curve is not trivially the same: another seed gives another, of which the first steps show it.
            one, other = (
                replay.first_steps(Run(tmp_path / name / seed).metrics, "loss") for seed in ("one", "other")
            )
            assert len(one) == len(other) == runs.FIRST
            assert not np.allclose(other, one, rtol=5 * max(case.tolerance, 2e-4))


@pytest.mark.system
def test_the_command_line_explains_itself(monkeypatch, capsys):
    process = start("--help")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "--learning-rate" in out
    for arguments, text in (
        (["--estimator", "magic"], "magic"),
        (["--record", "x", "--seed", "3"], "--record goes alone"),
        (["--scale", "huge"], "invalid choice"),
    ):
        monkeypatch.setattr(sys, "argv", ["gumbel_vae.py", *arguments])
        with pytest.raises(SystemExit) as left:
            runs.command_line("gumbel_vae", gumbel_vae.SCALES, gumbel_vae.RECORDINGS, gumbel_vae.run)
        assert left.value.code == 2
        assert text in "".join(capsys.readouterr())
