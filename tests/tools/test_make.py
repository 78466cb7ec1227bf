"""The Makefile: the stages of `make test`, and what it hands over to tools/replay.py."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    shutil.which("make") is None, reason="without make, CONTRIBUTING.md has the commands"
)


def make(*arguments):
    # What an outer make was told would be handed on to this one.
    told = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MINUTES", "ALL", "SEED")
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in told},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_proof_ends_with_a_table_of_its_stages(tmp_path):
    done = make("test", "STAGES=help writable", f"OUT={tmp_path}/a b")
    assert done.returncode == 0
    lines = done.stdout.splitlines()[-4:]
    assert [re.sub(r" +\d+ s", "", line) for line in lines] == [
        "help",
        "writable",
        "total",
        "All tests passed.",
    ]


def test_the_proof_ends_at_a_stage_that_fails_and_says_which(tmp_path):
    done = make("test", "STAGES=help none writable", f"OUT={tmp_path}")
    assert done.returncode != 0
    lines = done.stdout.splitlines()[-4:]
    assert [re.sub(r" +\d+ s", "", line) for line in lines] == [
        "help",
        "none failed",
        "total",
        "Failed: none",
    ]
    assert "All tests passed" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], []),
        (["MINUTES=5"], ["--minutes", "5"]),
        (["ALL=1"], ["--all"]),
        (["SEED=3", "MINUTES=0.5"], ["--minutes", "0.5", "--seed", "3"]),
    ],
)
def test_replay_is_told_what_was_asked_for(arguments, options):
    done = make("--dry-run", "replay", *arguments)
    (line,) = (line for line in done.stdout.splitlines() if "tools/replay.py" in line)
    assert line.partition("tools/replay.py")[2].split() == options
