"""Files that are fetched and checked."""

import dataclasses
import functools
import http.server
import re
import threading

import pytest

from kexue import data


def test_another_file_in_kexue_data_is_named(small_mnist):
    folder, _ = small_mnist
    (folder / "mnist/train-images-idx3-ubyte.gz").write_bytes(b"another")
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte\.gz must have the hash .*, but it differs"
    ):
        data.mnist_full()


def test_a_file_that_cannot_be_had_is_named_with_size_and_address(tmp_path, monkeypatch):
    monkeypatch.setenv("KEXUE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "mnist/t10k-labels-idx1-ubyte.gz"
    nowhere = dataclasses.replace(data.FILES[name], url="http://127.0.0.1:9/nothing.gz")
    monkeypatch.setitem(data.FILES, name, nowhere)
    with pytest.raises(
        FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz \(5 kB\) .* http://127\.0\.0\.1:9/nothing"
    ):
        data.fetch(name)
    with pytest.raises(ValueError, match=r"name must be one of .*, got 'mnist/x'"):
        data.fetch("mnist/x")


def test_a_file_is_downloaded_once_and_checked(small_mnist, tmp_path, monkeypatch):
    folder, _ = small_mnist
    name = "mnist/t10k-labels-idx1-ubyte.gz"
    monkeypatch.delenv("KEXUE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setitem(data.FILES, name, dataclasses.replace(data.FILES[name], url=url))
        path = data.fetch(name)
        server.shutdown()
    assert path.read_bytes() == (folder / name).read_bytes()
    assert data.fetch(name) == path  # the server is gone


def test_every_downloaded_source_has_its_files():
    sets = {name.partition("/")[0] for name in data.FILES}
    assert sets == {"mnist", "brown", "treebank", "ptb", "multi30k", "cmrc2018", "propositional_logic"}
    for name, file in data.FILES.items():
        assert re.fullmatch("[0-9a-f]{64}", file.hash)
        assert not re.search(r"/(master|main|HEAD)/", file.url)  # a branch moves
        assert file.url.endswith("/" + name.partition("/")[2])
