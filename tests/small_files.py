"""Small files in the place of those that would be downloaded."""

import dataclasses
import gzip
import hashlib

import numpy as np
import pytest

from kexue import data


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files: a header of 4 bytes and one number of 4 bytes for each axis."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """KEXUE_DATA with files in MNIST's format, whose hashes are registered."""
    generator = np.random.default_rng(0)
    (tmp_path / "mnist").mkdir()
    arrays = {}
    for part, n in (("train", 6), ("t10k", 3)):
        arrays[part] = generator.integers(256, size=(n, 28, 28)), generator.integers(10, size=n)
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays[part], strict=True):
            name = f"mnist/{part}-{kind}-ubyte.gz"
            (tmp_path / name).write_bytes(idx(array))
            digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
            monkeypatch.setitem(data.FILES, name, dataclasses.replace(data.FILES[name], hash=digest))
    monkeypatch.setenv("KEXUE_DATA", str(tmp_path))
    return tmp_path, arrays


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Puts a small file into KEXUE_DATA, with its hash registered."""
    monkeypatch.setenv("KEXUE_DATA", str(tmp_path))
    for load in (data.treebank, data.brown, data.mikolov_ptb):
        load.cache_clear()

    def register(name: str, content: bytes) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        known = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(data.FILES, name, dataclasses.replace(data.FILES[name], hash=known))

    yield register
    for load in (data.treebank, data.brown, data.mikolov_ptb):
        load.cache_clear()
