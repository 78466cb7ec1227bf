"""Create or update the virtual environment: `python tools/install.py DIR`. Standard library only.

Does nothing when pyproject.toml and constraints.txt are those that DIR was last installed from, so
that everything else works without a network. Runs on any Python 3, to be able to say that it is too
old.
"""

import hashlib
import os
import re
import subprocess
import sys

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
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--constraint", "constraints.txt", "--editable", ".[all]"]
    command += os.environ.get("PIP_ARGS", "").split()
    if subprocess.call(command, cwd=ROOT):
        ready = [
            python,
            "-c",
            "import kexue.gumbel, kexue.training, accelerate, mlxtend, tyro, nbclient, jupyter_book, nbval",
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
