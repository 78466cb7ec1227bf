"""tools/gpu*.py without a GPU: a stand-in for the device, and chapters, tests and experiments of a few lines."""

import hashlib
import io
import json
import random
import tarfile
import time
from pathlib import Path

import gpu
import gpu_alone
import gpu_pack
import gpu_tasks
import pytest

from kexue.runs import digest

ROOT = Path(__file__).parents[2]

EXPERIMENT = """
import json, sys, time
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    seed: int = 0
    steps: int = 1000
    width: int = 8
    images: str | None = None
    sleep: float = 0.0

SCALES = {"live": Config(steps=3), "run": Config(), "gpu": Config(width=512)}
GPU_RECORDINGS = {
    "toy/slow": {"priority": 1, "minutes": 90, "settings": {"sleep": 600.0}},
    "toy/second": {"priority": 3, "minutes": 0.01, "settings": {"seed": 2}},
    "toy/first": {"priority": 2, "minutes": 0.01, "settings": {"seed": 1}},
    "toy/there": {"priority": 2, "minutes": 0.01, "settings": {}},
}

def run(config, folder):
    if config.images:
        raise FileNotFoundError("pictures could not be downloaded")
    folder.mkdir(parents=True)
    time.sleep(config.sleep)
    record = {"config": vars(config), "summary": {}, "environment": {"device": "stand-in"}, "sha256": {}}
    (folder / "run.json").write_text(json.dumps(record))
    return {"steps": config.steps}
"""

CHAPTER = """# %% [markdown]
# # A chapter

# %%
raise RuntimeError("a cell that no GPU cell needs")

# %% tags=["gpu-needs", "hide-input"]
needed = 7

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
assert needed == 7
# %run -m kexue.experiments.toy --scale gpu --seed 4
# %run -m kexue.experiments.toy --scale gpu --folder ../_build/runs/named

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
# %run -m kexue.experiments.toy --scale gpu --images photographs

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
assert needed == 8, "seven is not eight"

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
import a_package_that_nobody_has
"""

TESTS = """
import pytest

from kexue.runs import digest

@pytest.mark.gpu
@pytest.mark.parametrize("n", [1, 2])
def test_one(n):
    assert n == 1

def test_two():
    assert False

@pytest.mark.gpu
def test_three():
    pytest.skip("not today")
"""


@pytest.fixture
def root(tmp_path):
    """A small project."""
    files = {
        "chapters/toy.py": CHAPTER,
        "src/kexue/experiments/toy.py": EXPERIMENT,
        "tests/test_toy.py": TESTS,
        "benchmarks/test_toy.py": "import pytest\npytestmark = pytest.mark.gpu\n\ndef test_speed(): pass\n",
        "pytest.ini": "[pytest]\nmarkers = gpu\n",
        "runs/toy/there/run.json": '{"summary": {}}',
    }
    for name, content in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return tmp_path / "project"


@pytest.fixture
def device(monkeypatch):
    """A stand-in for a GPU."""
    found = {"device": "stand-in", "versions": {"torch": "0"}, "reason": ""}
    monkeypatch.setattr(gpu, "machine", lambda environment: found)
    monkeypatch.setattr(gpu, "LEAST", 0.2)
    monkeypatch.setattr(gpu, "FOR_THE_REPORT", 0.0)
    return found


# --- What there is to do -----------------------------------------------------------------------


def test_the_plan_names_all_of_it(root):
    plan = gpu_tasks.plan(root)
    assert "tests/test_toy.py: test_one, test_three\n" in plan
    assert "benchmarks/test_toy.py: test_speed" in plan
    assert plan.count("toy, GPU cell") == 4
    lines = [line.split(",")[0].strip() for line in plan.splitlines()[-3:]]
    assert lines == ["1. toy/slow", "2. toy/first", "3. toy/second"]


@pytest.mark.slow
def test_the_books_own_plan():
    assert {cell.name.split(",")[0] for cell in gpu_tasks.gpu_cells(ROOT)} == {
        path.stem for path in (ROOT / "chapters").glob("*.py")
    } - {"infomap", "smoothing"}
    assert {"tests/smoothing/test_smoothing.py", "tests/gumbel/test_sampling.py"} <= set(
        gpu_tasks.marked_tests(ROOT, "tests")
    )
    assert list(gpu_tasks.marked_tests(ROOT, "benchmarks")) == ["benchmarks/test_gpu.py"]
    assert gpu_tasks.declared_recordings(ROOT)[0].name == "onlstm_ptb/seed1"
    known = {path.name for path in (ROOT / "src/kexue/experiments").glob("[!_]*.py")}
    assert all(each.script in known and each.minutes > 0 for each in gpu_tasks.declared_recordings(ROOT))


@pytest.mark.parametrize("wrong", ["{'a/b': {'priority': 1}}", "{name: 1 for name in 'ab'}", "[1]"])
def test_a_recording_that_is_no_literal_is_named(root, wrong):
    (root / "src/kexue/experiments" / "other.py").write_text(f"GPU_RECORDINGS = {wrong}\n")
    with pytest.raises(ValueError, match=r"GPU_RECORDINGS of other\.py must be a literal dict"):
        gpu_tasks.declared_recordings(root)


def test_without_a_gpu_it_says_what_it_would_do(root, monkeypatch, capsys):
    found = {"device": None, "versions": {}, "reason": "PyTorch sees no CUDA device"}
    monkeypatch.setattr(gpu, "machine", lambda environment: found)
    monkeypatch.chdir(root)
    assert gpu.main(["run", "--minutes", "1"], root) == 0
    told = capsys.readouterr().out
    assert "PyTorch sees no CUDA device: nothing was run." in told
    assert "toy/first" in told


def test_a_python_without_pytorch_is_no_error(monkeypatch):
    monkeypatch.setattr(gpu, "ASK", "import a_package_that_nobody_has")
    found = gpu.machine({})
    assert found["device"] is None
    assert "a_package_that_nobody_has" in found["reason"]


# --- A run -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_is_run_and_reported(root, device, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take seconds to import
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_benchmark.plugin")
    (root / "runs" / "toy" / "slow").mkdir()
    (root / "runs" / "toy" / "slow" / "run.json").write_text('{"summary": {}}')
    arguments = ["run", "--minutes", "5", "--out", str(tmp_path / "out"), "--jobs", "2"]
    assert gpu.main(arguments, root) == 1  # something failed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = {item["name"]: (item["status"], item["reason"]) for item in report["items"]}
    assert found["tests/test_toy.py::test_one[1]"] == ("passed", "")
    assert found["tests/test_toy.py::test_one[2]"][0] == "failed"
    assert found["tests/test_toy.py::test_three"] == ("untried", "not today")
    assert "tests/test_toy.py::test_two" not in found
    assert found["benchmarks/test_toy.py::test_speed"][0] == "passed"
    assert found["toy, GPU cell 1"] == ("passed", "")
    assert found["toy, GPU cell 2"] == (
        "untried",
        "needs photographs in a folder photographs; passes with the book's photographs instead",
    )
    assert found["toy, GPU cell 3"] == ("failed", "AssertionError: seven is not eight")
    assert found["toy, GPU cell 4"] == ("untried", "needs the package a_package_that_nobody_has")
    assert found["toy/first"] == found["toy/second"] == ("passed", "")
    recorded = [item["name"] for item in report["items"] if item["kind"] == "recording"]
    assert recorded == ["toy/first", "toy/second"]
    # The first cell in a short form: the size of the scale "gpu", the length of "live".
    cells = root / "_build" / "gpu" / "cells" / "toy-GPU-cell-1"
    short = json.loads((cells / "run1" / "run.json").read_text())["config"]
    assert (short["steps"], short["width"], short["seed"]) == (3, 512, 4)
    assert (cells / "_build" / "runs" / "named" / "run.json").is_file()
    assert not (root / "runs" / "toy" / "first").exists()
    text = (tmp_path / "out" / "report.txt").read_text()
    assert capsys.readouterr().out.startswith(text.splitlines()[0])
    assert "failed" in text
    assert "toy, GPU cell 3: AssertionError: seven is not eight" in text
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as archive:
        assert "runs/toy/first/run.json" in archive.getnames()
        assert "report.json" in archive.getnames()


def session(root, seconds):
    return gpu.Session(root, root / "work", time.monotonic() + seconds, {}, "stand-in")


@pytest.mark.slow
def test_short_recordings_come_before_a_part_of_a_long_one(root, device):
    began = time.monotonic()
    found = gpu.record(session(root, 6), gpu_tasks.missing_recordings(root))
    assert time.monotonic() - began < 60  # the slow one takes ten minutes
    assert [each.name for each in found] == ["toy/first", "toy/second", "toy/slow"]
    assert found[-1].status == "unfinished"
    assert found[-1].reason.endswith("the next call goes on")


@pytest.mark.slow
def test_what_takes_too_long_is_stopped(root, device):
    spec = {"name": "endless", "source": "while True: pass", "folder": str(root / "work" / "cell")}
    found = gpu.run_alone(session(root, 60), "cell", spec, 0.5)
    assert found.status == "failed"
    assert found.reason.startswith("stopped after ")
    assert gpu.run_alone(session(root, 0), "cell", spec, 60).reason == gpu.NO_TIME
    assert gpu.run_tests(session(root, 0), "test", "tests/test_toy.py", ["test_one"])[0].status == "untried"


def test_with_a_pack_no_download_is_tried(root, device):
    source = "import urllib.request\nurllib.request.urlopen('http://example.org')"
    spec = {"name": "download", "source": source, "folder": str(root / "work" / "cell")}
    offline = gpu.Session(root, root / "work", time.monotonic() + 60, {"HF_HUB_OFFLINE": "1"}, "stand-in")
    found = gpu.run_alone(offline, "cell", spec, 30)
    assert found.status == "untried"
    assert found.reason.startswith("needs a download: ")
    assert "this machine is taken to be offline" in found.reason


def test_a_run_on_another_device_fails(root):
    (root / "run.json").write_text('{"environment": {"device": "cpu"}}')
    with pytest.raises(RuntimeError, match="ran on cpu, not on stand-in"):
        gpu_alone.on_the_gpu(root, "stand-in")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("no", name="tyro"), "needs the package tyro"),
        (FileNotFoundError("mnist/a.gz (9.9 MB) is not in the folder, nor downloaded"), "needs mnist/a.gz (9.9 MB)"),
        (FileNotFoundError("weights.safetensors"), None),
        (OSError("We couldn't connect to 'https://huggingface.co'"), "needs a model of Hugging Face's: "),
        (RuntimeError("CUDA error"), None),
    ],
)  # fmt: skip
def test_only_what_is_not_there_is_untried(error, reason):
    found = gpu_alone.not_there(error)
    assert found is None if reason is None else found.startswith(reason)


# --- Results, there and back -------------------------------------------------------------------


def recorded(folder, weights=None):
    """A finished run's files."""
    folder.mkdir(parents=True)
    files = {"metrics.csv": b"step,loss\n1,2\n"}
    if weights is not None:
        files["weights.safetensors"] = random.Random(0).randbytes(weights)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    parts = {"config": {"seed": 0}, "summary": {"steps": 1}}
    hashes |= {part: digest(content) for part, content in parts.items()}
    (folder / "run.json").write_text(json.dumps({**parts, "environment": {}, "sha256": hashes}))


def test_results_come_back_without_weights_that_are_too_large(tmp_path):
    runs = tmp_path / "work" / "runs"
    recorded(runs / "toy" / "small", 1000)
    recorded(runs / "toy" / "large", 5000)
    progress = runs / "toy" / "unfinished" / "checkpoint-000000002" / "progress.json"
    progress.parent.mkdir(parents=True)
    progress.write_text("{}")
    (progress.parent / "model.safetensors").write_bytes(b"state")
    assert gpu_pack.write_results(runs, tmp_path, 5500) == ["toy/large/weights.safetensors"]
    assert (tmp_path / "results.tar.gz").stat().st_size < 5500
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        assert "runs/toy/unfinished/checkpoint-000000002/progress.json" in archive.getnames()
        assert not [name for name in archive.getnames() if "model.safetensors" in name]
    project = tmp_path / "project"
    assert gpu_pack.unpack(tmp_path / "results.tar.gz", project) == [
        "toy/large: written to runs/",
        "toy/small: written to runs/",
    ]
    assert (project / "runs/toy/small/weights.safetensors").stat().st_size == 1000
    large = json.loads((project / "runs/toy/large/run.json").read_text())
    assert sorted(large["sha256"]) == ["config", "metrics.csv", "summary"]
    assert large["environment"]["weights"] == "not kept"
    assert gpu_pack.unpack(tmp_path / "results.tar.gz", project)[0] == "toy/large: is there already"


@pytest.mark.parametrize("name", ["../../evil/a.txt", "/evil.txt", "runs/../../a.txt", "runs/a/../b.txt"])
def test_results_stay_in_the_folder_of_runs(tmp_path, name):
    with tarfile.open(tmp_path / "results.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        archive.addfile(entry, io.BytesIO())
    assert gpu_pack.unpack(tmp_path / "results.tar.gz", tmp_path / "project") == []
    assert not (tmp_path / "project").exists()


def test_a_run_that_was_changed_is_not_unpacked(tmp_path):
    recorded(tmp_path / "runs" / "toy" / "a")
    (tmp_path / "runs" / "toy" / "a" / "metrics.csv").write_text("step,loss\n1,1\n")
    gpu_pack.write_results(tmp_path / "runs", tmp_path)
    with pytest.raises(ValueError, match=r"toy/a: metrics\.csv is not what was recorded"):
        gpu_pack.unpack(tmp_path / "results.tar.gz", tmp_path / "project")
    assert not (tmp_path / "project").exists()


def test_a_pack_keeps_its_limit_and_is_found_again(tmp_path, monkeypatch):
    noise = random.Random(0).randbytes

    def not_to_be_had():
        raise FileNotFoundError("no network")

    texts = {
        "small": lambda: [("data/small/a.txt", b"text")],
        "large": lambda: [("data/large/b.txt", noise(90_000))],
        "absent": not_to_be_had,
    }
    site = [("site/there.py", b"answer = 42\n")]
    monkeypatch.setattr(gpu_pack, "wheels", lambda python: (site, {"gone": "no wheel"}))
    monkeypatch.setattr(gpu_pack, "TEXTS", texts)
    monkeypatch.setattr(
        gpu_pack,
        "smaller_photographs",
        lambda room: [(f"photographs/{i}.jpg", noise(1000)) for i in range(room // 2500)],
    )
    contents = gpu_pack.pack(ROOT, tmp_path / "pack", "3.12", limit=60_000)
    assert sum(path.stat().st_size for path in (tmp_path / "pack").iterdir()) <= 60_000
    assert set(contents["bytes"]) == {"packages", "small", "photographs"}
    assert set(contents["left out"]) == {"gone", "large", "absent"}
    assert contents["left out"]["absent"] == "no network"
    monkeypatch.delenv("KEXUE_DATA", raising=False)
    environment = gpu.environment_of(tmp_path, tmp_path / "work", tmp_path / "pack", 2)
    assert (Path(environment["KEXUE_DATA"]) / "small" / "a.txt").read_bytes() == b"text"
    assert str(tmp_path / "work" / "pack" / "site") in environment["PYTHONPATH"]
    assert (tmp_path / "work" / "pack" / "photographs" / "0.jpg").is_file()
    assert gpu_pack.revision(tmp_path, tmp_path / "pack") == contents["revision"]
    with pytest.raises(ValueError, match="FOLDER must be empty"):
        gpu_pack.pack(ROOT, tmp_path / "pack", "3.12")
