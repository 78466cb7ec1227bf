"""Create or update the virtual environment: `python tools/install.py DIR`. Standard library only.

Does nothing when pyproject.toml and constraints.txt are those that DIR was last installed from, so
that everything else works without a network. Runs on any Python 3, to be able to say that it is too
old.

uv installs the packages, since it is several times as fast: one that is on the PATH, or else one that pip
puts into DIR. Both read the same constraints.txt and PIP_ARGS. uv does not read pip's configuration, so
it is given what concerns indexes, and chooses among them as pip does, the highest version of all: a mirror
stays a mirror, and a CPU build of PyTorch from another index or a local folder is preferred to the much
larger one of PyPI. Wherever uv fails, pip does it.
"""

import ast
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit
from urllib.request import url2pathname

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STAMP = "kexue-installed.txt"


def supported() -> "tuple[tuple[int, int], tuple[int, int]]":
    """(lowest, first unsupported) Python version, from requires-python in pyproject.toml."""
    with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as file:
        text = file.read()
    ((low, high),) = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text)
    return (3, int(low)), (3, int(high))


def fingerprint(version: str) -> str:
    """What an environment of this Python was made from: changes with the versions and the place."""
    digest = hashlib.sha256(ROOT.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return version + " " + digest.hexdigest()


def python_of(directory: str) -> str:
    return os.path.join(directory, "Scripts" if os.name == "nt" else "bin", "python")


def succeeds(command: "list[str]") -> bool:
    return subprocess.call(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def uv_of(python: str) -> "list[str] | None":
    """The command uv, from the PATH or installed into the environment; None if it cannot be had."""
    on_path = shutil.which("uv")
    if on_path:
        return [on_path]
    command = [python, "-m", "uv"]
    pip = [python, "-m", "pip", "install", "--constraint", "constraints.txt", "uv"]
    if succeeds([python, "-m", "uv", "--version"]) or succeeds(pip):
        return command
    return None


UV_OPTIONS = {  # of pip's settings
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraint",
}


def uv_options(pip_config: str) -> "list[str]":
    """Options for uv that say what pip's settings say of indexes; from the lines of `pip config list`.

    A line is section.name='value'. Later sections are stronger: global, install, the environment.
    """
    settings = {}
    for section in ("global.", "install.", ":env:."):
        for line in pip_config.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section) and value:
                settings[name[len(section) :]] = ast.literal_eval(value)
    options = []
    for name, value in sorted(settings.items()):
        if name in UV_OPTIONS:
            for each in value.split():
                options += [UV_OPTIONS[name], each]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    return options


def owner(directory: str) -> "str | None":
    """The folder whose package the environment holds, editable, if there is such a folder."""
    place = os.path.join(directory, "[Ll]ib", "**", "kexue-*.dist-info", "direct_url.json")
    for path in glob.glob(place, recursive=True):
        with open(path, encoding="utf-8") as file:
            folder = url2pathname(urlsplit(json.load(file)["url"]).path)
        if os.path.isdir(folder):
            return os.path.realpath(folder)
    return None


def install(python: str) -> bool:
    """Install the package, editable, with all extras and the locked versions: with uv, or else with pip."""
    wanted = ["--constraint", "constraints.txt", "--editable", ".[all]"]
    wanted += os.environ.get("PIP_ARGS", "").split()
    uv = uv_of(python)
    if uv:
        config = subprocess.check_output([python, "-m", "pip", "config", "list"], cwd=ROOT).decode()
        uv += ["pip", "install", "--quiet", "--python", python, "--compile-bytecode"]
        uv += ["--index-strategy", "unsafe-best-match"]
        if subprocess.call(uv + uv_options(config) + wanted, cwd=ROOT) == 0:
            return True
        print("uv could not install the packages (its message is above); trying pip ...", flush=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.call(command + wanted, cwd=ROOT) == 0


def main(directory: str) -> "str | int":
    directory = os.path.abspath(directory)
    stamp = os.path.join(directory, STAMP)
    if os.path.exists(stamp):
        with open(stamp) as file:
            installed = file.read()
        # Another Python is an error only where it was asked for (make venv PYTHON=...).
        asked = os.environ.get("ASKED_PYTHON")
        if installed == fingerprint(installed.split()[0]):
            if asked and installed.split()[0] != "%d.%d" % sys.version_info[:2]:
                return "%s holds Python %s. To change it, remove the folder first." % (
                    directory,
                    installed.split()[0],
                )
            return 0
    other = owner(directory)
    if other not in (None, os.path.realpath(ROOT)):
        return (
            "%s is the environment of %s, which would lose its package.\n"
            "Name another one: make venv VENV=$HOME/kexue/venv" % (directory, other)
        )
    low, high = supported()
    if not low <= sys.version_info[:2] < high:
        return (
            "This book needs Python 3.%d to 3.%d; `%s` is %s.\n"
            "Install one of these and name it, for example: make venv PYTHON=python3.%d"
            % (low[1], high[1] - 1, sys.executable, sys.version.split()[0], high[1] - 2)
        )
    try:
        os.makedirs(directory, exist_ok=True)
        if os.path.exists(stamp):
            os.remove(stamp)
    except OSError as error:
        return (
            "Cannot create the virtual environment: %s.\n"
            "Name a folder that can be written, and one for the book, for example:\n"
            "  make book VENV=$HOME/kexue/venv OUT=$HOME/kexue" % error
        )
    python = python_of(directory)
    if not os.path.exists(python) or not succeeds([python, "-m", "pip", "--version"]):
        print("Creating the virtual environment in %s ..." % directory, flush=True)
        if subprocess.call([sys.executable, "-m", "venv", "--clear", directory]):
            return "Could not create it. On Debian and Ubuntu: apt-get install python3-venv"
    print("Installing the packages (about 2 GB; a minute or more) ...", flush=True)
    if not install(python):
        ready = [
            python,
            "-c",
            "import kexue.gumbel, kexue.runs, accelerate, mlxtend, tyro, nbclient, jupyter_book, nbval",
        ]
        if succeeds(ready):
            print("pip failed (no network?): going on with the packages that are installed.")
            return 0
        return (
            "pip could not install the packages (its message is above). Without a network, nothing can\n"
            "be installed: connect and type the same command again; what was downloaded is kept."
        )
    version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    with open(stamp, "w") as file:
        file.write(fingerprint(version.decode().strip()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
