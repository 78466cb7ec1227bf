"""tools/install.py: an environment with uv or pip, made once, repaired, and explained when it cannot be had."""

import json
from pathlib import Path

import install
import pytest


@pytest.fixture
def installer(tmp_path, monkeypatch):
    """tools/install.py without pip and uv: records the commands; `answers` gives their exit codes."""
    calls, answers = [], {}

    def call(command, **_):
        calls.append(" ".join(command))
        return next((code for part, code in answers.items() if part in calls[-1]), 0)

    def check_output(command, **_):
        return b":env:.find-links='/opt/wheels'\n" if "config" in command else b"3.11\n"

    monkeypatch.setattr(install.subprocess, "call", call)
    monkeypatch.setattr(install.subprocess, "check_output", check_output)
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    monkeypatch.setattr(install.sys, "version_info", (3, 11, 4))
    monkeypatch.delenv("ASKED_PYTHON", raising=False)
    monkeypatch.delenv("PIP_ARGS", raising=False)
    return tmp_path / "a venv", calls, answers


def installing(calls: list[str]) -> list[str]:
    """The programs that were to install the package, in turn."""
    return ["uv" if " uv pip install" in c else "pip" for c in calls if "--editable .[all]" in c]


def test_install_only_when_something_changed(installer, monkeypatch):
    folder, calls, _ = installer
    assert install.main(str(folder)) == 0
    assert installing(calls) == ["uv"]
    calls.clear()
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 1))  # what is installed does not care
    assert install.main(str(folder)) == 0
    assert calls == []
    monkeypatch.setenv("ASKED_PYTHON", "python3.9")
    assert "holds Python 3.11. To change it, remove the folder" in install.main(str(folder))
    monkeypatch.delenv("ASKED_PYTHON")
    monkeypatch.setattr(install.sys, "version_info", (3, 11, 4))
    monkeypatch.setattr(install, "fingerprint", lambda version: version + " other")
    assert install.main(str(folder)) == 0
    assert installing(calls) == ["uv"]


def test_the_environment_of_another_folder_is_left_alone(installer, tmp_path):
    """An editable install names one folder: two that shared it would run each other's code."""
    folder, calls, _ = installer
    note = folder / "lib" / "python3.11" / "site-packages" / "kexue-0.2.0.dist-info" / "direct_url.json"
    note.parent.mkdir(parents=True)
    other = tmp_path / "another one"
    other.mkdir()
    note.write_text(json.dumps({"url": other.as_uri(), "dir_info": {"editable": True}}))
    assert install.main(str(folder)).startswith(f"{folder} is the environment of {other}, which would lose")
    assert calls == []
    other.rmdir()  # moved, or deleted
    assert install.main(str(folder)) == 0
    note.write_text(json.dumps({"url": Path(install.ROOT).as_uri()}))
    (folder / install.STAMP).unlink()
    assert install.main(str(folder)) == 0


def test_uv_has_the_same_lock_and_what_pip_knows_of_indexes(installer, monkeypatch):
    folder, calls, _ = installer
    monkeypatch.setenv("PIP_ARGS", "--upgrade --extra-index-url https://cpu")
    assert install.main(str(folder)) == 0
    (command,) = (call for call in calls if " uv pip install" in call)
    python = install.python_of(str(folder))
    assert command.startswith(f"{python} -m uv pip install --quiet --python {python} ")
    assert "--index-strategy unsafe-best-match --find-links /opt/wheels" in command
    assert command.endswith(
        "--constraint constraints.txt --editable .[all] --upgrade --extra-index-url https://cpu"
    )


def test_uv_is_that_of_the_path_or_is_installed(installer, monkeypatch):
    folder, calls, answers = installer
    answers["uv --version"] = 1  # not in the environment
    assert install.main(str(folder)) == 0
    assert any("pip install --constraint constraints.txt uv" in call for call in calls)
    assert installing(calls) == ["uv"]
    calls.clear()
    (folder / install.STAMP).unlink()
    monkeypatch.setattr(install.shutil, "which", {"uv": "/usr/bin/uv"}.get)
    assert install.main(str(folder)) == 0
    assert not any(call.endswith(" uv") for call in calls)
    assert sum(call.startswith("/usr/bin/uv pip install ") for call in calls) == 1


def test_pip_where_uv_cannot_be_had(installer):
    folder, calls, answers = installer
    answers.update({"uv --version": 1, "constraints.txt uv": 1})
    assert install.main(str(folder)) == 0
    assert installing(calls) == ["pip"]
    (command,) = (call for call in calls if "--editable" in call)
    assert command.endswith("--constraint constraints.txt --editable .[all]")
    assert (folder / install.STAMP).exists()


def test_pip_where_uv_fails(installer, monkeypatch, capsys):
    folder, calls, answers = installer
    monkeypatch.setenv("PIP_ARGS", "--pre")
    answers["uv pip install"] = 2
    assert install.main(str(folder)) == 0
    assert installing(calls) == ["uv", "pip"]
    assert calls[-1].endswith("--constraint constraints.txt --editable .[all] --pre")
    assert "trying pip" in capsys.readouterr().out
    assert (folder / install.STAMP).exists()


def test_pips_settings_as_options_of_uv():
    assert install.uv_options("") == []
    config = r"""
:env:.index-url='https://strongest'
global.cert='/etc/cert'
global.constraint='/etc/constraints.txt'
global.extra-index-url='\nhttps://one\nhttps://two'
global.find-links='/opt/wheels'
global.index-url='https://weak'
global.no-index='false'
install.index-url='https://strong'
install.trusted-host='one two'
list.format='json'
""".strip()
    assert " ".join(install.uv_options(config)).split(" --") == [
        "--constraint /etc/constraints.txt",
        "index https://one",
        "index https://two",
        "find-links /opt/wheels",
        "default-index https://strongest",
        "allow-insecure-host one",
        "allow-insecure-host two",
    ]
    assert install.uv_options("global.no-index='1'") == ["--no-index"]


def test_install_depends_on_place_and_versions(monkeypatch, tmp_path):
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "constraints.txt").write_text("b")
    seen = {install.fingerprint("3.11"), install.fingerprint("3.12")}
    monkeypatch.setattr(install, "ROOT", str(tmp_path))
    seen.add(install.fingerprint("3.11"))
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("c")
        seen.add(install.fingerprint("3.11"))
    assert len(seen) == 5


def test_install_without_a_network(installer):
    folder, _, answers = installer
    answers.update({"pip install": 1, "import kexue": 0})
    assert install.main(str(folder)) == 0  # goes on with what is there
    answers["import kexue"] = 1
    assert "Without a network, nothing can" in install.main(str(folder))
    assert not (folder / install.STAMP).exists()  # the next call tries again


def test_install_repairs_a_half_made_environment(installer):
    folder, calls, answers = installer
    python = Path(install.python_of(str(folder)))
    python.parent.mkdir(parents=True)
    python.write_text("")
    answers["pip --version"] = 1
    assert install.main(str(folder)) == 0
    assert any("venv --clear" in call for call in calls)
    answers["venv --clear"] = 1
    (folder / install.STAMP).unlink()
    assert "python3-venv" in install.main(str(folder))


def test_install_says_what_is_wrong(installer, monkeypatch):
    folder, calls, _ = installer
    assert install.supported() == ((3, 11), (3, 14))
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 1))
    assert "needs Python 3.11 to 3.13" in install.main(str(folder))
    monkeypatch.setattr(install.sys, "version_info", (3, 14, 0))
    assert "needs Python 3.11 to 3.13" in install.main(str(folder))
    monkeypatch.setattr(install.sys, "version_info", (3, 12, 1))

    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(install.os, "makedirs", refuse)
    assert "OUT=$HOME/kexue" in install.main(str(folder))
    assert calls == []
