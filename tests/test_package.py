"""The package as a whole: what importing costs, versions, addresses, licences."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kexue.book import sphinx

ROOT = Path(__file__).parents[1]


def test_importing_kexue_alone_imports_no_torch():
    code = "import sys, kexue; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(kexue.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.system
def test_infomap_waits_neither_for_torch_nor_for_the_authors_package(tmp_path):
    (tmp_path / "infomap.py").write_text("raise SystemExit('a script of this name')")
    code = """
import sys
import kexue.infomap
loaded = set(sys.modules)
assert 'torch' not in loaded, sorted(loaded)
assert 'infomap._infomap' not in loaded
import networkx as nx
assert kexue.infomap.infomap(nx.path_graph(4), 0).saved >= 0
assert 'torch' not in sys.modules
assert kexue.infomap.infomap(nx.path_graph(4), 0, engine='infomap').saved >= 0
assert 'infomap._infomap' in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_imports_go_downward_only():
    """As the contracts in pyproject.toml say. In a process of its own: what it prints with would close ours."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports('pyproject.toml', no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def private_names_of_siblings(source: str, package: str) -> list[str]:
    """Names with an underscore that a file imports from another of its package."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package)
        for alias in node.names
        if alias.name.startswith("_")
    ]


def test_no_file_imports_a_private_name():
    assert private_names_of_siblings("from kexue.a.b import _x, y", "kexue") == ["kexue.a.b._x"]
    for path in [*ROOT.glob("src/kexue/**/*.py"), *ROOT.glob("chapters/*.py")]:
        source = re.sub(r"^[%!].*$", "", path.read_text("utf-8"), flags=re.M)
        assert private_names_of_siblings(source, "kexue") == [], path


def test_the_citation_names_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert f"## {version}" in (ROOT / "pages" / "changelog.md").read_text()


def test_the_address_stands_in_one_place():
    address = sphinx.repository(ROOT)
    for path in (ROOT / "chapters").glob("*.py"):
        (line,) = re.findall(r"^# On Colab, first: %pip install .*$", path.read_text("utf-8"), re.M)
        assert f'"kexue[book] @ git+{address}"' in line
    owner = address.removeprefix("https://github.com/")
    patterns = ("*.md", "pages/*.md", "*.yml", "*.cff", "src/**/*.py")
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        assert owner not in path.read_text("utf-8"), path.name


def test_no_version_is_named_twice():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {
        re.split(r"[<>=\[ ]", requirement)[0]
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for requirement in group
    }
    environment = (ROOT / "environment.yml").read_text()
    for name in names - {"kexue"}:
        assert not re.search(rf"^ *- {name}\b", environment, re.M)
    locked = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().split()
        if "==" in line
    }
    assert {name.lower() for name in names - {"kexue"}} <= locked


def test_the_origin_of_all_recorded_weights_is_named():
    text = (ROOT / "runs" / "README.md").read_text("utf-8")
    named = {
        name.strip()
        for line in text.splitlines()
        if line.startswith("| ") and " | " in line
        for name in line.strip("| ").split(" | ")[0].split(",")
    }
    with_weights = {path.parents[1].name for path in (ROOT / "runs").glob("*/*/*.safetensors")}
    assert with_weights == named - {"runs with weights"}


def test_the_licences_name_what_is_not_ours():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "MIT AND OFL-1.1"
    assert all((ROOT / file).is_file() for file in project["license-files"])
    licence = (ROOT / "LICENSE").read_text("utf-8")
    for part in ("runs/README.md", "OFL.txt", "kexue.data.SOURCES", "CC BY 2.0", "People's Daily"):
        assert part in licence
