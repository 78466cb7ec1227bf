"""Small files in the place of those that would be downloaded."""

import dataclasses
import gzip
import hashlib
import io
import zipfile

import numpy as np
import pytest

from kexue import data


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files: a header of 4 bytes and one number of 4 bytes for each axis."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Puts a small file into KEXUE_DATA, with its hash registered."""
    monkeypatch.setenv("KEXUE_DATA", str(tmp_path))
    cached = (data.treebank, data.brown, data.mikolov_ptb, data.propositional_logic)
    for load in cached:
        load.cache_clear()

    def register(name: str, content: bytes) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        known = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(data.FILES, name, dataclasses.replace(data.FILES[name], hash=known))

    yield register
    for load in cached:
        load.cache_clear()


@pytest.fixture
def small_mnist(tmp_path, registered):
    """KEXUE_DATA with files in MNIST's format, whose hashes are registered."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 6), ("t10k", 3)):
        arrays[part] = generator.integers(256, size=(n, 28, 28)), generator.integers(10, size=n)
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays[part], strict=True):
            registered(f"mnist/{part}-{kind}-ubyte.gz", idx(array))
    return tmp_path, arrays


@pytest.fixture
def archive():
    """The bytes of a zip file with these texts, by name."""

    def zipped(files: dict[str, str]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as found:
            for name, text in files.items():
                found.writestr(name, text)
        return buffer.getvalue()

    return zipped
