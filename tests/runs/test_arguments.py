"""The command line of an experiment."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import replay

from kexue import runs

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    rate: float = 0.05


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src/kexue/experiments").glob("[!_]*.py")), ids=lambda path: path.stem
)
def test_every_experiment_has_the_same_command_line(path):
    """So that in_turn.py, which calls it without starting a Python, does what a user does."""
    call = f'runs.command_line("{path.stem}", SCALES, RECORDINGS, run)'
    assert path.read_text("utf-8").endswith(f'\n\nif __name__ == "__main__":\n    {call}\n')


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


def experiments(name: str):
    return replay.experiment(ROOT / "src/kexue/experiments" / f"{name}.py")
