"""tools/replay.py and tools/imports.py: recorded runs replayed, tampered with, and which of them are replayed first."""

import ast
import json
import math
import os
import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imports
import pytest
import replay

from kexue import runs
from kexue.runs import Run

ROOT = Path(__file__).parents[2]
NAME = "gumbel_vae_sweep/gumbel-lr0.003-tau0.2"


def edit(path: Path, change) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


def another_digit(line: str) -> str:
    values = line.split(",")
    values[2] = f"{1.01 * float(values[2]):.7g}"
    return ",".join(values)


# --- One run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory):
    """The first steps of a recorded run, run again once."""
    folder = tmp_path_factory.mktemp("first_steps")
    script, config = replay.declared()[NAME]
    script.run(config, folder, stop_after=replay.FIRST)
    return folder


@pytest.fixture
def again(first_steps, monkeypatch):
    """Whoever runs them gets these, as they are always the same."""
    script, declared = replay.declared()[NAME]

    def run(config, folder, stop_after):
        assert (config, stop_after) == (declared, replay.FIRST)
        shutil.copytree(first_steps, folder, dirs_exist_ok=True)

    monkeypatch.setattr(script, "run", run)


@pytest.fixture
def copied(tmp_path):
    """A copy of a recorded run, and what is wrong with its files."""
    folder = tmp_path / NAME
    shutil.copytree(ROOT / "runs" / NAME, folder)
    return folder, lambda: replay.wrong_files(folder, replay.declared()[NAME][1])


@pytest.mark.system
def test_untouched_runs_replay_in_two_processes():
    names = (
        NAME,
        "gumbel_vae_sweep/rloo-lr0.001-encoder0.1",
        "gumbel_vae_score_baseline/1",
        "gumbel_vae_score/0",
    )
    for name in names:
        assert replay.wrong_files(ROOT / "runs" / name, replay.declared()[name][1]) == []
    scripts = dict.fromkeys(names, ROOT / "src/kexue/experiments" / "gumbel_vae.py")
    assert dict(replay.replayed(scripts, lambda name: 0, math.inf, jobs=2)) == {name: [] for name in names}


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines[:5], another_digit(lines[5]), *lines[6:]],
        lambda lines: [*lines[:-2], another_digit(lines[-2]), lines[-1]],
        lambda lines: [*lines[:-1], another_digit(lines[-1])],
        lambda lines: lines[:-1],
    ],
    ids=["a first step", "a later row", "the last row", "a row less"],
)
def test_an_edited_metrics_csv_is_noticed(copied, change):
    folder, found = copied
    assert found() == []
    edit(folder / "metrics.csv", change)
    assert any("metrics.csv is not what was recorded" in problem for problem in found())


def rewrite(folder: Path, **parts) -> None:
    """Other parts of run.json."""
    (folder / "run.json").write_text(json.dumps({**Run(folder).record, **parts}))


@pytest.mark.slow
def test_an_edit_of_the_first_steps_is_noticed_even_with_a_new_hash(copied, again):
    folder, found = copied
    edit(folder / "metrics.csv", lambda lines: [*lines[:5], another_digit(lines[5]), *lines[6:]])
    rewrite(
        folder,
        sha256={**Run(folder).sha256, "metrics.csv": runs.sha256((folder / "metrics.csv").read_bytes())},
    )
    assert found() == []
    (problem,) = replay.wrong_steps(folder, *replay.declared()[NAME])
    assert "loss at step 5 is recorded as" in problem
    assert replay.wrong_steps(ROOT / "runs" / NAME, *replay.declared()[NAME]) == []


@pytest.mark.parametrize(
    "change", [{"loss": 1.0}, {"test_elbo": -1.0}, {"steps": 4000}, {"diverged after step": 3}]
)
def test_an_edited_summary_is_noticed(copied, change):
    folder, found = copied
    rewrite(folder, summary={**Run(folder).summary, **change})
    assert any("summary is not what was recorded" in problem for problem in found())


def test_a_summary_of_other_metrics_is_noticed_even_with_a_new_hash(copied):
    folder, found = copied
    summary = {**Run(folder).summary, "loss": 1.0}
    rewrite(folder, summary=summary, sha256={**Run(folder).sha256, "summary": runs.digest(summary)})
    assert found() == [f"{NAME}: its summary is not the end of metrics.csv"]


def test_other_edits_are_noticed(copied):
    folder, found = copied
    known = Run(folder).sha256
    rewrite(folder, sha256={})
    assert sum("is not what was recorded" in problem for problem in found()) == 3
    config = {**Run(folder).config, "steps": 3001}
    rewrite(folder, config=config, sha256={**known, "config": runs.digest(config)})
    assert found() == [f"{NAME}: its configuration is not what the experiment declares"]
    rewrite(folder, module="kexue.experiments.vqvae_digits")
    assert any(
        "gumbel_vae declares it, run.json names kexue.experiments.vqvae_digits" in problem
        for problem in found()
    )
    (folder / "metrics.csv").unlink()
    assert any("no metrics.csv" in problem for problem in found())
    (folder / "metrics.csv").write_text("step\n")
    (folder / "run.json").write_text('{"module": "x", "config": {}}')  # as it stands until the run has ended
    assert found() == [f"{NAME}: run.json has no environment, summary, sha256"]


# --- Many --------------------------------------------------------------------------------------

SCRIPT = '''"""An experiment."""
from dataclasses import dataclass

import torch
from kexue import smoothing
from kexue.runs import recorded, train

@dataclass(frozen=True)
class Config:
    seed: int = 0
    steps: int = 30
    every: int = 15
    keep_weights: bool = False

def run(config, folder, stop_after=None):
    torch.manual_seed(config.seed)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loss(model, step):
        return model(torch.randn(4, 2, generator=step.generator())).square().mean(), {}

    train(model, loss, optimizer, config=config, folder=folder, stop_after=stop_after)

RECORDINGS = {f"GROUP/{i}": Config(i) for i in range(COUNT)}
'''
COUNTS = {"few": 2, "many": 5}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with two experiments and their seven recorded runs."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("src/kexue/experiments",):
        (root / folder).mkdir(parents=True)
    (root / "constraints.txt").write_text("numpy==1\ntorch==2\nunused==3\n")
    (root / "src/kexue/__init__.py").write_text("")
    (root / "src/kexue/smoothing.py").write_text("from kexue.nn import checks\n")
    (root / "src/kexue/nn").mkdir()
    for module in ("nn/checks", "runs/__init__", "vqvae"):
        (root / "src/kexue" / module).parent.mkdir(exist_ok=True)
        (root / "src/kexue" / f"{module}.py").write_text("x = 1\n")
    for group, count in COUNTS.items():
        path = root / "src/kexue/experiments" / f"{group}.py"
        path.write_text(SCRIPT.replace("GROUP", group).replace("COUNT", str(count)))
        script = replay.experiment(path)
        for name, config in script.RECORDINGS.items():
            script.run(config, root / "runs" / name)
    return root


@pytest.fixture
def project(tree, tmp_path, monkeypatch):
    """A copy of the tree, which a test may edit; `replay` takes it for the project."""
    shutil.copytree(tree, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(replay, "ROOT", tmp_path)
    declared = {
        name: (module, config)
        for module in (
            replay.experiment(tmp_path / "src/kexue/experiments" / f"{group}.py") for group in COUNTS
        )
        for name, config in module.RECORDINGS.items()
    }
    monkeypatch.setattr(replay, "declared", lambda: declared)
    return tmp_path


def call(monkeypatch, capsys, *arguments):
    """The exit code of tools/replay.py, and what it prints."""
    monkeypatch.setattr(sys, "argv", ["replay.py", "--jobs", "1", "--seed", "0", *arguments])
    code = replay.main()
    return code, capsys.readouterr().out


@pytest.mark.slow
def test_the_last_line_says_how_many_were_replayed_and_what_is_left(project, monkeypatch, capsys):
    path = project / "runs" / "replayed.json"
    code, out = call(monkeypatch, capsys)
    assert code == 0
    assert out.splitlines() == [
        "7 of 7 runs whole: files as recorded, configuration as declared.",
        "7 of 7 replayed, 0 changed and not yet replayed (seed 0): no difference.",
    ]
    assert not path.exists()  # only if asked to
    code, out = call(monkeypatch, capsys, "--minutes", "0")
    assert (code, out.splitlines()[1][:51]) == (0, "0 of 7 replayed, 7 changed and not yet replayed (se")
    code, out = call(monkeypatch, capsys, "few/*", "--write")
    assert (code, out.splitlines()[1][:51]) == (0, "2 of 2 replayed, 0 changed and not yet replayed (se")
    assert list(json.loads(path.read_text())) == ["few/0", "few/1"]
    code, out = call(monkeypatch, capsys, "--minutes", "0")
    assert (code, out.splitlines()[1][:51]) == (0, "0 of 7 replayed, 5 changed and not yet replayed (se")
    code, out = call(monkeypatch, capsys, "--all", "--minutes", "0")
    assert (code, out.splitlines()[1][:51]) == (0, "7 of 7 replayed, 0 changed and not yet replayed (se")
    lines = path.read_text().splitlines()
    assert len(lines) == 9  # one for each run
    assert lines == sorted(lines, key=lambda line: (line == "}", line != "{", line))


def test_what_is_wrong_is_said_and_fails(project, monkeypatch, capsys):
    call(monkeypatch, capsys, "--all")
    shutil.copytree(project / "runs/few/0", project / "runs/another/0")
    code, out = call(monkeypatch, capsys, "--minutes", "0")
    assert code == 1
    assert "another/0: no script declares this run" in out
    shutil.rmtree(project / "runs/another")

    edit(project / "runs/many/3/metrics.csv", lambda lines: lines[:-1])
    code, out = call(monkeypatch, capsys, "--minutes", "0")  # files are always looked at
    assert code == 1
    assert "6 of 7 runs whole" in out
    assert "many/3: metrics.csv is not what was recorded" in out
    shutil.rmtree(project / "runs/many/3")
    code, out = call(monkeypatch, capsys, "--minutes", "0")
    assert code == 1
    assert "many/3: no run.json, metrics.csv" in out

    module, config = replay.declared()["many/3"]
    module.run(config, project / "runs/many/3")
    run = module.run

    def other(config, folder, stop_after=None):
        run(replace(config, seed=config.seed + 9), folder, stop_after)

    monkeypatch.setattr(module, "run", other)
    code, out = call(monkeypatch, capsys, "--all")
    assert code == 1
    assert "many/3: loss at step 1 is recorded as" in out
    assert "7 of 7 replayed, 0 changed and not yet replayed (seed 0): 5 differences." in out
    assert list(json.loads((project / "runs/replayed.json").read_text())) == ["few/0", "few/1"]


def test_a_run_that_stops_fails_and_the_others_are_replayed(project, monkeypatch, capsys):
    def stops(*_, **__):
        raise FileNotFoundError("weights.safetensors")

    monkeypatch.setattr(replay.declared()["few/0"][0], "run", stops)
    code, out = call(monkeypatch, capsys)
    assert code == 1
    assert "few/1: stopped with FileNotFoundError: weights.safetensors" in out
    assert "7 of 7 replayed, 0 changed and not yet replayed (seed 0): 2 differences." in out


def test_a_run_whose_data_cannot_be_had_is_named_and_is_no_failure(project, monkeypatch, capsys):
    def absent(*_, **__):
        raise FileNotFoundError("brown.zip (3 MB) is not in the folder that KEXUE_DATA names")

    monkeypatch.setattr(replay.declared()["few/0"][0], "run", absent)
    code, out = call(monkeypatch, capsys, "--all")
    assert code == 0
    assert "few/0: not replayed, since its data cannot be had: brown.zip" in out
    assert "5 of 7 replayed, 2 changed and not yet replayed (seed 0): no difference." in out
    assert "few/0" not in json.loads((project / "runs/replayed.json").read_text())


# --- Which ones --------------------------------------------------------------------------------


def change(path: Path, old: str, new: str):
    return lambda project: (project / path).write_text((project / path).read_text().replace(old, new))


FEW, MANY = {"few/0", "few/1"}, {f"many/{i}" for i in range(5)}


@pytest.mark.parametrize(
    ("edited", "runs"),
    [
        (change("src/kexue/experiments/few.py", "0.1", "0.2"), FEW),
        (change("src/kexue/smoothing.py", "\n", "\ny = 1\n"), FEW | MANY),
        (change("src/kexue/nn/checks.py", "x = 1", "x = 2"), FEW | MANY),  # through smoothing
        (change("src/kexue/__init__.py", "", "import os\n"), FEW | MANY),
        (change("src/kexue/vqvae.py", "x = 1", "x = 2"), set()),  # nobody imports it
        (
            change("src/kexue/experiments/few.py", '"""An experiment."""', '"""Another."""  # a comment\n\n'),
            set(),
        ),
        (change("constraints.txt", "torch==2", "torch==3"), FEW | MANY),
        (change("constraints.txt", "unused==3", "unused==4"), set()),
        (change("runs/many/2/metrics.csv", "0.1", "0.2"), {"many/2"}),
        (change("runs/many/2/run.json", '"seed": 2', '"seed": 3'), {"many/2"}),
    ],
)
def test_what_changes_a_run(project, edited, runs):
    scripts = {name: Path(module.__file__) for name, (module, _) in replay.declared().items()}
    before = replay.fingerprints(scripts)
    assert replay.fingerprints(scripts) == before
    edited(project)
    after = replay.fingerprints(scripts)
    assert {name for name in before if before[name] != after[name]} == runs


@pytest.mark.parametrize(
    ("named", "runs"), [("many", FEW), ("many/1", FEW), ("many/0", set()), ("man", set())]
)
def test_the_weights_that_a_script_reads_change_its_runs(project, named, runs):
    script = project / "src/kexue/experiments/few.py"
    script.write_text(script.read_text() + f"weights = {named!r}\n")
    (project / "runs/many/1/weights.safetensors").write_text("1")
    scripts = {name: Path(module.__file__) for name, (module, _) in replay.declared().items()}
    before = replay.fingerprints(scripts)
    (project / "runs/many/1/weights.safetensors").write_text("2")
    after = replay.fingerprints(scripts)
    assert {name for name in before if before[name] != after[name]} == runs


def test_changed_runs_come_first_and_each_scripts_in_turn():
    scripts = {f"{group}/{i}": Path(group) for group, count in COUNTS.items() for i in range(count)}
    order = replay.in_order(scripts, {"few/1", "many/2", "many/4", "many/0"}, seed=0)
    assert set(order[:2]) == {"few/1", order[1]} or set(order[:2]) == {order[0], "few/1"}
    assert set(order[:4]) == {"few/1", "many/2", "many/4", "many/0"}
    assert "few/0" in order[4:6]
    assert sorted(order) == sorted(scripts)
    assert replay.in_order(dict(reversed(scripts.items())), {"few/1"}, 3) == replay.in_order(
        scripts, {"few/1"}, 3
    )
    assert len({tuple(replay.in_order(scripts, set(), seed)) for seed in range(20)}) > 10


def test_no_run_begins_that_would_end_too_late(monkeypatch):
    now = 100.0
    seconds = {"a": 30.0, "b": 25.0, "c": 40.0, "d": 5.0, "e": 5.0}

    def steps_of(name, script):
        nonlocal now
        now += seconds[name]
        return []

    monkeypatch.setattr(replay, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(replay, "steps_of", steps_of)
    runs = dict.fromkeys(seconds, Path("x"))
    assert [name for name, _ in replay.replayed(runs, seconds.__getitem__, 165.0, jobs=1)] == [
        "a",
        "b",
        "d",
        "e",
    ]
    assert now == 165
    assert list(replay.replayed(runs, seconds.__getitem__, 165.0, jobs=2)) == []  # of two processes as well


@pytest.mark.slow
def test_what_does_not_end_in_time_is_broken_off_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    name = "vqvae_digits/0"
    script = Path(replay.declared()[name][0].__file__)
    began = time.monotonic()
    assert list(replay.replayed({name: script}, lambda name: 0, began + 0.5, jobs=2)) == []
    assert 0.5 <= time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []
    assert os.environ["TMPDIR"] == str(tmp_path)


def test_the_expected_time_is_above_the_recorded_one():
    for name in random.Random(0).sample(sorted(replay.declared()), 20):
        run = Run(ROOT / "runs" / name)
        steps = run.summary.get("steps") or run.summary["diverged after step"]
        assert replay.expected_seconds(name) > run.environment["seconds"] / steps * min(20, steps)


# --- tools/imports.py --------------------------------------------------------------------------


def test_code_is_what_is_left_without_prose():
    text = '''#!/usr/bin/env python
"""A docstring
of two lines."""

import os  # a comment


class A:
    """A docstring."""

    x: int = 1
    """Of an attribute."""

    def f(self):
        r"""Raw."""
        return """a text

# that counts""" + "# no comment"
'''
    assert imports.code(text) == (
        "import os\nclass A:\n    x: int = 1\n    def f(self):\n"
        '        return """a text\n\n# that counts""" + "# no comment"'
    )


def test_imports_are_followed_wherever_they_stand(tmp_path):
    files = {
        "beside.py": "import os, torch\n",
        "pack/__init__.py": "",
        "pack/late.py": "from . import near\nfrom .sub import deep\n",
        "pack/near.py": "",
        "pack/sub/__init__.py": "from ..above import x\n",
        "pack/sub/deep.py": "from .deeper.deepest import y\n",
        "pack/sub/deeper/__init__.py": "",
        "pack/sub/deeper/deepest.py": "from kexue import never\n",
        "pack/above.py": "x = 1\n",
        "pack/never.py": "",
        "never.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    script = "import beside\nfrom pack.sub import thing\ndef f():\n    import pack.late as late\n"
    found = imports.imported([ast.parse(script)], [tmp_path])
    assert {path.relative_to(tmp_path).as_posix() for path in found} == set(files) - {
        "pack/never.py",
        "never.py",
    }


def test_a_module_that_only_a_string_names_counts_and_all_where_a_name_is_computed(tmp_path):
    (tmp_path / "kexue").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / "kexue" / f"{name}.py").write_text("")

    def found(code):
        return sorted(path.stem for path in imports.imported([ast.parse(code)], [tmp_path]))

    assert found("from importlib import import_module; import_module('kexue.one')") == ["__init__", "one"]
    assert found("import importlib; importlib.import_module(name)") == ["__init__", "one", "two"]
    assert found("print('kexue and one')") == []


def test_the_scripts_in_bfloat16_are_those_that_say_so():
    scripts = (ROOT / "src/kexue/experiments").glob("[!_]*.py")
    text = {path.stem: path.read_text("utf-8") for path in scripts}
    said = {name for name, code in text.items() if "bf16=True" in code or "train_transformer(" in code}
    assert said == replay.IN_BFLOAT16
