"""The shared modules: data, plotting, notebook, book; and the tools."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import json
import math
import re
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from replacing import replace

from kexue import data
from kexue.book import ledger, notebook, plotting, sphinx
from kexue.smoothing import smooth_max, soft_f1

ROOT = Path(__file__).parents[1]


# --- The package -------------------------------------------------------------------------------


def test_importing_kexue_alone_imports_no_torch():
    code = "import sys, kexue; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(kexue.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


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
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*.yml"), *ROOT.glob("*.cff"), *ROOT.glob("src/kexue/*.py")]:
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


# --- Data --------------------------------------------------------------------------------------


def test_digits():
    digits = data.digits()
    assert digits.pixels.shape == (1797, 8, 8)
    assert digits.pixels.dtype == torch.float32
    assert (float(digits.pixels.min()), float(digits.pixels.max())) == (0, 1)
    assert digits.label.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.source.licence == "CC BY 4.0"


mnist = functools.cache(data.mnist)  # a second each time


@pytest.mark.slow
def test_mnist():
    digits = mnist()
    assert digits.pixels.shape == (5000, 28, 28)
    assert digits.pixels.dtype == torch.float32
    assert (float(digits.pixels.min()), float(digits.pixels.max())) == (0, 1)
    assert digits.label.bincount().tolist() == [500] * 10
    # A one is a stroke, a zero a ring: the right label with the right picture, the right way up.
    mean = [digits.pixels[digits.label == d].mean(0) for d in (0, 1)]
    assert mean[0][14, 14] < 0.2 < 0.8 < mean[1][14, 14]
    assert mean[0][14, 8] > mean[1][14, 8]


@pytest.mark.slow
def test_the_parts_of_mnist_are_apart(monkeypatch):
    replace(data, "mnist", mnist, monkeypatch)
    parts = data.mnist_parts()
    assert [len(part.pixels) for part in parts] == [4000, 500, 500]
    assert [part.label.bincount().tolist() for part in parts] == [[400] * 10, [50] * 10, [50] * 10]
    pixels = torch.cat([part.pixels for part in parts])
    assert len(pixels.unique(dim=0)) == len(data.mnist().pixels.unique(dim=0))
    assert sum(len(part.pixels.unique(dim=0)) for part in parts) == len(pixels.unique(dim=0))
    # The right label with the right picture, after the split.
    zeros, ones = (parts[0].pixels[parts[0].label == d].mean(0) for d in (0, 1))
    assert zeros[14, 14] < 0.2 < 0.8 < ones[14, 14]
    large = torch.rand(60_000, 2, 2, generator=torch.Generator().manual_seed(0))
    label = torch.arange(60_000) % 10
    fake = [data.Images(large[:n], label[:n], data.SOURCES["mnist_full"]) for n in (60_000, 10)]
    replace(data, "mnist_full", lambda: fake, monkeypatch)
    train, valid, test = data.mnist_parts.__wrapped__(True)
    assert torch.equal(torch.cat([train.pixels, valid.pixels]), large)
    assert torch.equal(torch.cat([train.label, valid.label]), label)
    assert (len(valid.pixels), len(test.pixels)) == (10_000, 10)


def test_photographs_are_in_one_part_each_and_no_scene_is_in_two():
    found = data.photographs()
    assert {
        part: sorted(n for n, p in found.items() if p.part == part) for part in ("train", "valid", "test")
    } == {
        "train": ["astronaut", "china", "hubble", "motorcycle_left", "motorcycle_right", "retina", "rocket"],
        "valid": ["coffee"],
        "test": ["chelsea", "flower", "hopper"],
    }
    scenes = {name.split("_")[0]: set() for name in found}
    for name, photograph in found.items():
        scenes[name.split("_")[0]].add(photograph.part)
        assert photograph.pixels.ndim == 3
        assert photograph.pixels.shape[0] == 3
        assert min(photograph.pixels.shape[1:]) >= 300
        assert photograph.pixels.dtype == torch.float32
        assert 0 <= photograph.pixels.min() < 0.1
        assert 0.7 < photograph.pixels.max() <= 1
        assert photograph.credit
    assert all(len(parts) == 1 for parts in scenes.values())
    # Colours in order: the flower is red, its leaves are green; rows before columns.
    assert found["flower"].pixels.shape == (3, 427, 640)
    red, green, blue = found["flower"].pixels[:, 200:260, 290:350].mean((1, 2))
    assert red > 2 * green
    assert red > 2 * blue


def test_smaller_photographs_keep_their_colours():
    flower = data.photographs()["flower"].pixels
    small = data.smaller(flower, 4)
    assert small.shape == (3, 107, 160)
    assert torch.equal(data.smaller(flower, 1), flower)
    torch.testing.assert_close(small.mean((1, 2)), flower.mean((1, 2)), atol=5e-3, rtol=0)
    # Antialiased: a checkerboard becomes grey.
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float().expand(3, -1, -1)
    assert (data.smaller(board, 8) - 0.5).abs().max() < 0.05
    assert 0 <= small.min() <= small.max() <= 1


def test_tiles_are_the_middle_of_a_photograph():
    pixels = torch.arange(3 * 7 * 11).float().view(3, 7, 11) / 231
    found = data.tiles(pixels, 3)
    assert found.shape == (6, 3, 3, 3)
    assert torch.equal(found[0], pixels[:, 0:3, 1:4])
    assert torch.equal(found[4], pixels[:, 3:6, 4:7])
    views = data.views(pixels, 2)
    assert len(views) == 3 * 5 + 2 * 3 + 1
    assert torch.equal(views[:15], data.tiles(pixels, 2))
    assert torch.equal(views[15:21], data.tiles(data.smaller(pixels, 2), 2))
    assert torch.equal(views[21], data.centre_square(pixels, 2))
    square = data.centre_square(pixels, 7)
    assert torch.equal(square, pixels[:, :, 2:9])
    assert data.centre_square(pixels, 3).shape == (3, 3, 3)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: data.smaller(p, 0.5),
            "factor must be between 1 and the photograph's smaller side, got 0.5",
        ),
        (lambda p: data.smaller(p, math.nan), "factor must be between 1 .* got nan"),
        (lambda p: data.smaller(p, math.inf), "factor must be between 1 .* got inf"),
        (lambda p: data.tiles(p, 9), "size must be between 1 and the photograph's smaller side, got 9"),
        (lambda p: data.tiles(p, 0), "size must be between 1 and the photograph's smaller side, got 0"),
        (
            lambda p: data.centre_square(p, 9),
            "size must be between 1 and the photograph's smaller side, got 9",
        ),
        (
            lambda p: data.views(p, 5),
            "size must be between 1 and half of the photograph's smaller side, got 5",
        ),
    ],
    ids=range(7),
)
def test_bad_sizes_of_photographs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(3, 8, 10))


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


def test_mnist_full_reads_the_files_of_kexue_data(small_mnist):
    _, arrays = small_mnist
    for images, (pixels, label) in zip(data.mnist_full(), arrays.values(), strict=True):
        torch.testing.assert_close(images.pixels, torch.tensor(pixels / 255, dtype=torch.float32))
        assert images.label.tolist() == label.tolist()


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


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """Puts a small file into KEXUE_DATA, with its hash registered."""
    monkeypatch.setenv("KEXUE_DATA", str(tmp_path))
    for load in (data.treebank, data.brown, data.mikolov_ptb):
        load.cache_clear()

    def register(name: str, content: bytes, kind: str = "") -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        digest = hashlib.new(kind or "sha256", content).hexdigest()
        known = f"{kind}:{digest}" if kind else digest
        monkeypatch.setitem(data.FILES, name, dataclasses.replace(data.FILES[name], hash=known))

    yield register
    for load in (data.treebank, data.brown, data.mikolov_ptb):
        load.cache_clear()


def archive(**files: str) -> bytes:
    """A zip file; `__` in a name stands for a slash, `_0` at its end for `.mrg`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as found:
        for name, text in files.items():
            found.writestr(re.sub("_0$", ".mrg", name).replace("__", "/"), text)
    return buffer.getvalue()


SENTENCE = """
( (S
    (NP-SBJ (NNP Mr.) (NNP Vinken) )
    (VP (VBZ is)
      (NP-PRD
        (NP (NN chairman) )
        (PP (IN of)
          (NP (NNP Elsevier) (NNP N.V.) (, ,) (DT the) ))))
    (. .) ))
"""


@pytest.mark.parametrize(
    ("text", "plain", "marks"),
    [
        ("", [], []),
        ("(NN a)", ["a"], ["a"]),
        ("( (NN a) )", [["a"]], [["a"]]),
        ("(NP (NN a))", [["a"]], [["a"]]),
        ("(S (NN a) (NN b))(S (NN c))", [["a", "b"], ["c"]], [["a", "b"], ["c"]]),
        ("(NP (DT the) (NP (JJ old) (NN man)))", [["the", ["old", "man"]]], [["the", ["old", "man"]]]),
        ("(S (NP-SBJ (-NONE- *T*-1)) (VP (VB go)))", [[["go"]]], [[["go"]]]),
        ("(S (NP (-NONE- *)))", [None], [None]),
        ("(. .)", [None], ["."]),
        ("(S (`` ``) (UH yes) ('' ''))", [["yes"]], [["``", "yes", "''"]]),
        ("(NP ($ $) (CD 3) (-NONE- *U*))", [["3"]], [["$", "3"]]),
        ("(NP (# #) (CD 3) (: --) (-LRB- -LRB-) (NN x) (-RRB- -RRB-))", [["3", "x"]], [["#", "3", "--", "-LRB-", "x", "-RRB-"]]),
        ("(S (PRN (, ,) (. .)) (NN a))", [["a"]], [[[",", "."], "a"]]),
        ("(NP (PRP$ my) (POS 's) (WP$ whose))", [["my", "'s", "whose"]], [["my", "'s", "whose"]]),
        ("()", [None], [None]),
        (SENTENCE, [[[["Mr.", "Vinken"], ["is", [["chairman"], ["of", ["Elsevier", "N.V.", "the"]]]]]]], [[[["Mr.", "Vinken"], ["is", [["chairman"], ["of", ["Elsevier", "N.V.", ",", "the"]]]], "."]]]),
    ],
)  # fmt: skip
def test_brackets_of_the_treebank(text, plain, marks):
    assert data.parse_brackets(text) == plain
    assert data.parse_brackets(text, punctuation=True) == marks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(NN a))", r"got one \) too many"),
        (")", r"got one \) too many"),
        ("(S (NN a)", r"got 1 \( too many"),
        ("((S (NN a)", r"got 2 \( too many"),
    ],
)
def test_brackets_that_do_not_match_are_named(text, message):
    with pytest.raises(ValueError, match="text must have matching brackets, " + message):
        data.parse_brackets(text)


def test_the_treebank_is_the_parsed_files_in_order(registered):
    registered(
        "treebank/treebank.zip",
        archive(
            treebank__combined__wsj_0002_0="( (S (NN b) (. .)) )\n\n( (S (NN c)) )",
            treebank__combined__wsj_0001_0="( (S (NN a)) )\n( (X (. .)) )",
            treebank__raw__wsj_0001="b .",
            treebank__tagged__readme="(NN no",
        ),
    )
    found = data.treebank()
    assert found.tree == ([["a"]], [["b"]], [["c"]])
    assert found.source is data.SOURCES["treebank"]
    assert data.treebank(punctuation=True).tree == ([["a"]], [["."]], [["b", "."]], [["c"]])
    assert data.treebank() is found


def test_brown_is_cut_as_the_treebank_is(registered):
    registered(
        "brown/brown.zip",
        archive(
            brown__ca02="She/pps can't/md* see/vb ,/, ``/`` the/at boys'/nns$ 3/4/cd ''/'' ./.\n",
            brown__ca01="\n\n\tThe/at jury's/nn$ Mary/np-hl and/or/cc I'd/ppss+md ./.\n\n./.\n",
            brown__cr09="Get/vb 'em/ppo NOW/rb --/-- he'll/x they're/x we've/x I'm/x ISN'T/x class's/x o'clock/x\n",
            brown__cs01="No/at category/nn\n",
            brown__ca1="No/at number/nn\n",
            brown__README="no/x words/x\n",
        ),
    )
    assert data.brown() == (
        ("The", "jury", "'s", "Mary", "and/or", "I", "'d"),
        ("She", "ca", "n't", "see", "the", "boys", "3/4"),
        ("Get", "'em", "NOW", "he", "'ll", "they", "'re", "we", "'ve", "I", "'m", "IS", "N'T", "class", "'s", "o'clock"),
    )  # fmt: skip


def test_mikolov_s_treebank_is_three_texts(registered):
    for name, text in (("train", " a b <unk> \n c N\n"), ("valid", " d\n"), ("test", " e\n f\n")):
        registered(f"ptb/ptb.{name}.txt", text.encode(), "md5")
    assert data.mikolov_ptb() == ((" a b <unk> ", " c N"), (" d",), (" e", " f"))


def test_captions_are_pairs_by_part(registered):
    names = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    for part, name in names.items():
        for language in ("de", "en"):
            text = f"{part} {language} ä\n{part} {language} two\n"
            registered(f"multi30k/{name}.{language}.gz", gzip.compress(text.encode()))
    found = data.multi30k()
    assert list(found) == ["train", "valid", "test"]
    for part in names:
        assert found[part] == ((f"{part} de ä", f"{part} en ä"), (f"{part} de two", f"{part} en two"))


@pytest.mark.slow
def test_pronunciations_are_words_of_letters_and_no_word_is_in_two_parts():
    whole = data.pronunciations()
    assert len(whole.word) == len(set(whole.word)) == 117_493
    assert sum(map(len, whole.phonemes)) == 125_855
    assert all(re.fullmatch("[a-z]+", word) for word in whole.word)
    known = dict(zip(whole.word, whole.phonemes, strict=True))
    assert known["decoding"] == (("D", "IH0", "K", "OW1", "D", "IH0", "NG"),)
    assert len(known["tomato"]) == 2
    parts = data.pronunciations_parts()
    assert [len(part.word) for part in parts] == [105_493, 2_000, 10_000]
    assert len({word for part in parts for word in part.word}) == 117_493
    assert all(
        known[word] == several
        for part in parts
        for word, several in zip(part.word, part.phonemes, strict=True)
    )


def test_a_file_with_another_md5_is_named(registered, tmp_path):
    for name in ("train", "valid", "test"):
        registered(f"ptb/ptb.{name}.txt", b"a\n", "md5")
    (tmp_path / "ptb/ptb.valid.txt").write_bytes(b"b\n")
    with pytest.raises(ValueError, match=r"ptb\.valid\.txt must have the hash md5:.*, but it differs"):
        data.mikolov_ptb()


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        ("The", "the"), ("N.V.", "n.v."), ("n't", "n't"), ("3", "N"), ("1,234.5", "N"), ("10:30", "N"), ("1/2", "N"),
        (".5", "N"), ("5.", "N"), ("-3", "N"), ("+4.0", "N"), ("3.5%", "N"), ("1st", "N"), ("22ND", "N"), ("3rd", "N"),
        ("4th", "N"), ("1990s", "1990s"), ("7-up", "7-up"), ("$5", "$5"), ("twenty-1", "twenty-1"), ("-", "-"),
        ("...", "..."), (",", ","), ("/", "/"), ("th", "th"), ("%", "%"), ("", ""), ("ÄRGER", "ärger"),
    ],
)  # fmt: skip
def test_plain_english(word, plain):
    assert data.plain_english([word]) == (plain,)


def test_plain_english_of_a_sentence():
    assert data.plain_english(iter(["In", "1961", ",", "3", "Men"])) == ("in", "N", ",", "N", "men")
    assert data.plain_english([]) == ()


def test_every_downloaded_source_has_its_files():
    assert {name.partition("/")[0] for name in data.FILES} == {
        "mnist",
        "brown",
        "treebank",
        "ptb",
        "multi30k",
        "cmrc2018",
    }
    for name, file in data.FILES.items():
        assert re.fullmatch("[0-9a-f]{64}|md5:[0-9a-f]{32}", file.hash)
        assert file.url.endswith(name.partition("/")[2])


def test_stratified_split_is_disjoint_and_keeps_the_shares():
    label = torch.arange(100) % 5
    parts = data.stratified_split(label, (0.5, 0.2, 0.3), torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [50, 20, 30]
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    assert [label[part].bincount().tolist() for part in parts] == [[10] * 5, [4] * 5, [6] * 5]
    again = data.stratified_split(label, (0.5, 0.2, 0.3), torch.Generator().manual_seed(0))
    other = data.stratified_split(label, (0.5, 0.2, 0.3), torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0], other[0])


@pytest.mark.parametrize("fractions", [(), (0.5, 0.6), (1.0,), (-0.1, 0.5), (0.0,)])
def test_bad_fractions_are_named(fractions):
    with pytest.raises(ValueError, match=r"fractions must lie in \(0, 1\) and sum to at most 1, got"):
        data.stratified_split(torch.arange(4), fractions, torch.Generator())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "label", [torch.zeros(0, dtype=torch.long), torch.tensor([0.0, 1.0]), torch.zeros(2, 2).long()]
)
def test_bad_labels_are_named(label):
    with pytest.raises(ValueError, match="label must be a vector of integers, got torch"):
        data.stratified_split(label, (0.5,), torch.Generator())


def test_fractions_take_all_in_spite_of_rounding():
    parts = data.stratified_split(torch.zeros(10, dtype=torch.long), (0.1, 0.2, 0.7), torch.Generator())
    assert [len(part) for part in parts] == [1, 2, 7]


# --- Plotting ----------------------------------------------------------------------------------


def test_mean_interval_is_the_t_interval():
    from scipy import stats

    samples = np.random.default_rng(0).normal(size=(3, 12))
    mean, low, high = plotting.mean_interval(samples, confidence=0.9)
    for row, m, lo, hi in zip(samples, mean, low, high, strict=True):
        expected = stats.ttest_1samp(row, 0).confidence_interval(0.9)
        assert (m, lo, hi) == pytest.approx((row.mean(), expected.low, expected.high))


def test_mean_interval_covers_as_often_as_it_says():
    samples = np.random.default_rng(1).normal(2.0, 3.0, size=(4000, 5))
    _, low, high = plotting.mean_interval(samples)
    assert 0.94 < np.mean((low <= 2) & (high >= 2)) < 0.96


def test_bad_samples_and_confidence_are_named():
    with pytest.raises(ValueError, match="samples must be finite, got nan"):
        plotting.mean_interval([1.0, np.nan])
    for confidence in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match=f"confidence must lie between 0 and 1, got {confidence}"):
            plotting.mean_interval([1.0, 2.0], confidence=confidence)


def test_overlap_widens_the_interval():
    samples = np.arange(10.0)
    mean, low, _ = plotting.mean_interval(samples)
    _, wide, _ = plotting.mean_interval(samples, overlap=0.7)
    assert (mean - wide) / (mean - low) == pytest.approx(np.sqrt((0.1 + 0.7) / 0.1))
    with pytest.raises(ValueError, match=r"overlap must not be negative, got -0\.1"):
        plotting.mean_interval(samples, overlap=-0.1)


def test_simplex_slider_places_groups_in_the_triangle():
    cloud = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]])
    figure = plotting.simplex_slider(
        {"0": cloud, "1": cloud[::-1]},
        group=[0, 1, 2, 2],
        names=["a", "b", "c"],
        start="1",
        prefix="K = ",
        caption="c",
        alt="a",
    )
    assert figure.layout.sliders[0].active == 1
    edge, first, second, third = figure.frames[0].data
    assert len(figure.data[0].x) == 4
    assert edge.x is None  # the triangle stays where it is
    assert [trace.name for trace in figure.data[1:]] == ["a", "b", "c"]
    assert (list(first.x), list(first.y)) == ([0], [0])
    assert (list(second.x), list(second.y)) == ([1], [0])
    assert list(third.x) == [0.5, 0.5]
    assert list(third.y) == pytest.approx([3**0.5 / 2, 3**0.5 / 6], abs=1e-4)


def test_mean_interval_needs_two_samples():
    with pytest.raises(ValueError, match="samples must hold at least 2 values along axis=-1, got 1"):
        plotting.mean_interval([[1.0], [2.0]])


def test_band_draws_mean_and_interval():
    figure, ax = plotting.panels()
    samples = np.random.default_rng(0).normal(size=(4, 10))
    plotting.band(ax, [1, 2, 3, 4], samples, "label", color=plotting.RED)
    (line,) = ax.lines
    assert np.allclose(line.get_ydata(), samples.mean(-1))
    assert line.get_label() == "label"
    _, low, high = plotting.mean_interval(samples)
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(low.min())
    assert corners.max() == pytest.approx(high.max())
    mpl.pyplot.close(figure)


def test_style_is_opaque_and_panels_are_narrow():
    with mpl.rc_context():
        plotting.use_style()
        assert mpl.rcParams["savefig.facecolor"] == "white"
        assert mpl.rcParams["image.cmap"] == "cividis"
        figure, axes = plotting.panels(3, height=2)
        assert len(axes) == 3
        assert tuple(figure.get_size_inches()) == pytest.approx((5.2, 6))
        mpl.pyplot.close(figure)


def slider():
    frames = [(f"{k}", [{"type": "scatter", "x": [0, 1], "y": [0, k]}]) for k in (1, 2, 3)]
    return plotting.slider_figure(
        frames, start=1, prefix="K = ", caption="a < b", alt='a "line"', xaxis={"visible": False}
    )


def test_slider_figure_has_a_sensible_first_frame():
    figure = slider()
    assert list(figure.data[0].y) == [0, 2]
    assert [frame.name for frame in figure.frames] == ["1", "2", "3"]
    (control,) = figure.layout.sliders
    assert control.active == 1
    assert [step.args[0] for step in control.steps] == [("1",), ("2",), ("3",)] or [
        list(step.args[0]) for step in control.steps
    ] == [["1"], ["2"], ["3"]]
    assert figure.layout.xaxis.visible is False


def test_the_frames_of_a_slider_hold_what_changes_in_half_the_space():
    fixed = {"type": "heatmap", "colorscale": "Greys", "text": ["a", "b"]}
    frames = [(str(k), [fixed | {"z": np.full((2, 2), k / 3)}]) for k in range(3)]
    figure = plotting.slider_figure(frames, start=0, prefix="", caption="c", alt="a", redraw=True)
    assert figure.data[0].colorscale is not None
    for k, frame in enumerate(figure.frames):
        (trace,) = frame.data
        assert trace.type == "heatmap"
        assert (trace.colorscale, trace.text) == (None, None)
        assert trace.z.dtype == np.float32
        assert np.allclose(trace.z, k / 3)


@pytest.mark.slow
def test_figures_are_small_pictures_and_photographs_keep_their_colours():
    from PIL import Image

    def drawn(content):
        figure, ax = plotting.panels()
        content(ax)
        picture = Image.open(io.BytesIO(plotting.png(figure)))
        whole = io.BytesIO()
        figure.savefig(whole, format="png", dpi=figure.dpi)
        mpl.pyplot.close(figure)
        reference = Image.open(whole).convert("RGB")
        error = np.abs(np.asarray(picture.convert("RGB"), dtype=float) - np.asarray(reference))
        return picture.mode, error.mean()

    with mpl.rc_context():
        plotting.use_style()
        mode, error = drawn(lambda ax: [ax.plot([1, 3, 2], label="a"), ax.legend()])
        assert mode == "P"
        assert error < 0.1
        noise = np.random.default_rng(0).random((64, 64, 3))
        mode, error = drawn(lambda ax: ax.imshow(noise))
        assert mode == "RGB"
        assert error < 0.01  # the second drawing may shift by a rounding


def test_views_of_the_same_data_change_what_is_seen():
    traces = [{"type": "scatter", "x": [0], "y": [i]} for i in range(2)]
    views = {"both": ([True, True], {"xaxis.range": [0, 1]}), "one": ([False, True], {"xaxis.range": [2, 3]})}
    figure = plotting.views_figure(traces, views, prefix="see: ", caption="c", alt="a", showlegend=False)
    assert [trace.visible for trace in figure.data] == [True, True]
    (control,) = figure.layout.sliders
    assert [step.label for step in control.steps] == ["both", "one"]
    assert list(control.steps[1].args) == [{"visible": [False, True]}, {"xaxis.range": [2, 3]}]
    assert {step.method for step in control.steps} == {"update"}
    assert figure.layout.meta == {"alt": "a", "caption": "c"}
    assert control.currentvalue.prefix == "see: "
    assert figure.layout.showlegend is False
    reverse = plotting.views_figure(traces, dict(reversed(views.items())), prefix="", caption="c", alt="a")
    assert [trace.visible for trace in reverse.data] == [False, True]
    assert list(reverse.layout.xaxis.range) == [2, 3]
    with pytest.raises(ValueError, match="views must hold at least one, got none"):
        plotting.views_figure(traces, {}, prefix="", caption="c", alt="a")
    with pytest.raises(ValueError, match=r"views must say of 2 traces if they are seen, got \[True\]"):
        plotting.views_figure(traces, {"one": ([True], {})}, prefix="", caption="c", alt="a")


def test_stories_have_a_menu_and_a_slider_each():
    def step(y, traces):
        return [{"type": "scatter", "x": [0], "y": [y]}] * traces

    stories = {"one": [step(0, 1), step(1, 2)], "two": [step(2, 2)]}
    figure = plotting.stories_figure(stories, prefix="step ", caption="c", alt="a", showlegend=False)
    assert [trace.y[0] for trace in figure.data] == [0, 1, 1, 2, 2]
    assert [trace.visible for trace in figure.data] == [True, False, False, False, False]
    assert figure.layout.meta == {"alt": "a", "caption": "c"}
    assert figure.layout.showlegend is False
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["one", "two"]
    seen = [step.args[0]["visible"] for step in figure.layout.sliders[0].steps]
    assert seen == [[True, False, False, False, False], [False, True, True, False, False]]
    shown, change = menu.buttons[1].args
    assert shown == {"visible": [False, False, False, True, True]}
    assert len(change["sliders"]) == 1
    assert [step["args"][0] for step in change["sliders"][0]["steps"]] == [shown]
    for bad in ({}, {"one": []}):
        with pytest.raises(ValueError, match="stories must hold at least one, each with a step, got"):
            plotting.stories_figure(bad, prefix="", caption="c", alt="a")


# --- Notebook ----------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """What a cell would display, as Markdown source."""
    texts = []
    monkeypatch.setattr(notebook, "display", lambda item: texts.append(item.data))
    return texts


@pytest.fixture
def restored():
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with mpl.rc_context():
        yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("restored")
def test_setup_seeds_and_shows_the_head(shown, monkeypatch):
    monkeypatch.chdir(ROOT / "chapters")
    first = notebook.setup("smoothing", seed=3)
    a, b = torch.rand(4), torch.rand(4, generator=first)
    assert torch.are_deterministic_algorithms_enabled()
    again = notebook.setup("smoothing", seed=3)
    assert torch.equal(a, torch.rand(4))
    assert torch.equal(b, torch.rand(4, generator=again))
    head = shown[0]
    assert "《函数光滑化杂谈：不可导函数的可导逼近》" in head
    (found,) = re.findall(r"\*\*Checked here\*\*: (.*)", head)
    article = ledger.load("smoothing")
    counts = {sort: article.count(sort) for sort in ledger.SORTS}
    assert [int(number) for number in re.findall(r"(?:^|; )(\d+) ", found)] == [
        total for count in counts.values() if (total := sum(count.values()))
    ]
    assert sum(map(int, re.findall(r"(\d+) hold", found))) == sum(c["holds"] for c in counts.values())
    assert "**Edition**: the first" in head
    assert re.search(r"about \d+ minutes", head)
    assert "0.1 MB" in head


@pytest.mark.usefixtures("restored")
def test_setup_honours_the_number_of_threads(shown, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook.setup("smoothing", threads=2)
    assert torch.get_num_threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    notebook.setup("smoothing", threads=2)
    assert torch.get_num_threads() == 2
    notebook.setup("smoothing")
    assert torch.get_num_threads() == 1


def test_head_and_card_do_without_the_chapters_file(shown, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    notebook.card("smoothing", {"Sizes": "none"}, seed=5)
    assert "| Reading time | unknown |" in shown[0]
    assert "| Sizes | none |" in shown[0]
    assert "| Seed | 5," in shown[0]
    assert f"torch {torch.__version__.partition('+')[0]}" in shown[0]
    assert "CC BY 4.0" in shown[0]
    with pytest.raises(FileNotFoundError, match=r"no chapter smoothing\.py in"):
        notebook.reading_minutes("smoothing")


def test_card_names_the_gpu(shown, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A fine GPU")
    notebook.card("smoothing", {})
    assert "A fine GPU" in shown[0]


def test_reading_minutes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("word " * 3600)
    assert notebook.reading_minutes("a") == 20
    (tmp_path / "a.py").write_text("word")
    assert notebook.reading_minutes("a") == 5


def test_source_shows_the_code_and_one_line_of_docstring(shown):
    notebook.source(smooth_max, soft_f1)
    (text,) = shown
    assert text.count("```python\n# src/kexue/smoothing.py\n") == 2
    assert "result = torch.logsumexp(_sharpen(scores, top, k), dim) / k + top.squeeze(dim)" in text
    assert '"""Smooth maximum, (1/k)·log Σᵢ exp(k·xᵢ), along `dim`."""' in text
    assert "Raises" not in text


# --- Book --------------------------------------------------------------------------------------


class Output:
    def __init__(self, content, mime_type=sphinx.PLOTLY_MIME):
        self.content, self.mime_type = content, mime_type


class Renderer:
    class renderer:
        class sphinx_env:
            docname = "chapters/a"


def test_plotly_renderer_loads_nothing_from_elsewhere():
    (node,) = sphinx.PlotlyRenderer.handle_mime(
        Renderer, Output(json.loads(slider().to_json())), inline=False
    )
    text = node.astext()
    assert 'src="../_static/plotly.min.js"' in text
    assert 'aria-label="a &quot;line&quot;"' in text
    assert "<figcaption>a &lt; b</figcaption>" in text
    assert "cdn" not in text.lower()
    assert sphinx.PlotlyRenderer.handle_mime(Renderer, Output("x", "text/plain"), inline=False) is None
    assert sphinx.PlotlyRenderer.handle_mime(Renderer, Output("{}"), inline=True) is None


def test_substitutions_sum_over_the_articles():
    count = {
        "a": {"claim": {"holds": 3, "refuted": 1}, "equation": {"holds": 7}, "addition": {"holds": 0}},
        "b": {
            "claim": {"restricted": 1},
            "equation": {"holds": 2, "restricted": 5},
            "addition": {"holds": 1},
        },
    }
    values = sphinx.substitutions({"articles": {name: {"count": count[name]} for name in "ab"}})
    assert values == {
        "a_counts": "4 claims: **3** hold, **1** refuted",
        "b_counts": "1 claim: **1** restricted",
        "ledger_articles": "2",
        "ledger_claims": "5 claims",
        "ledger_claims_found": "**3** hold, **1** restricted, **1** refuted",
        "ledger_equations": "14 equations, definitions and algorithms",
        "ledger_equations_found": "**9** hold, **5** restricted",
        "ledger_additions": "1 addition of ours",
        "ledger_additions_found": "**1** hold",
    }


@pytest.mark.house
def test_the_extension_in_a_small_sphinx_project(tmp_path):
    from sphinx.application import Sphinx

    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text(
        "extensions = ['myst_nb', 'kexue.book.sphinx']\nhtml_theme = 'sphinx_book_theme'\nmyst_substitutions = {}\n"
        "myst_enable_extensions = ['substitution', 'dollarmath']\nnb_execution_mode = 'off'\nhtml_theme_options = {}\n"
    )
    (source / "pyproject.toml").write_text("[project.urls]\nRepository = 'https://github.com/a/book'\n")
    (source / "ledger").mkdir()
    (source / "ledger" / "ledger.json").write_text(
        '{"articles": {"a": {"count": {"claim": {"holds": 7}, "addition": {}, "equation": {}}}}}'
    )
    (source / "index.md").write_text("# Title\n\n{{ ledger_claims_found }}\n\n```{toctree}\nplot\n```\n")
    cell = new_code_cell("figure", execution_count=1)
    cell.outputs = [
        nbformat.v4.new_output("display_data", data={sphinx.PLOTLY_MIME: json.loads(slider().to_json())})
    ]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Plot"), cell]), source / "plot.ipynb")
    (source / "plot.py").write_text("figure\n")
    app = Sphinx(
        str(source), str(source), str(tmp_path / "html"), str(tmp_path / "trees"), "html", status=None
    )
    app.build()
    assert app.config.html_theme_options["repository_url"] == "https://github.com/a/book"
    assert "<strong>7</strong> hold" in (tmp_path / "html" / "index.html").read_text()
    page = (tmp_path / "html" / "plot.html").read_text()
    assert "kexue-interactive" in page
    assert "THEBE_JS_URL" not in page
    assert "_sources/plot.py" in page
    assert (tmp_path / "html" / "_sources" / "plot.py").read_text() == "figure\n"
    assert (tmp_path / "html" / "_static" / "plotly.min.js").stat().st_size > 1e6


# --- Tools -------------------------------------------------------------------------------------


# --- Licences ----------------------------------------------------------------------------------


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
