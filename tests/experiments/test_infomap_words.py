"""Word vectors: how pairs are counted and drawn, and what was recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from replacing import replace

from kexue import data
from kexue.experiments.infomap_words import Config, SkipGram, agreement, drawn, expected_pairs
from kexue.nn import randomness
from kexue.runs import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.system
@pytest.mark.unchecked
def test_the_recorded_word_vectors_have_the_recorded_neighbours_and_clusters():
    run = Run(ROOT / "runs" / "infomap_words" / "seed1")
    words, classes, pairs = expected_pairs(Config(**run.config))
    assert len(words) == len(classes) == pairs.shape[0] == 10_000
    model = SkipGram(len(words), run.config["width"])
    run.load_weights(model)
    vectors = model.word.weight.detach().double().numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(len(words))
    assert (classes[cosine.argmax(1)] == classes).mean() == pytest.approx(
        run.summary["same_class"], abs=0.003
    )
    found = agreement(vectors, classes, 1)
    for name, tolerance in (("linked", 5), ("links", 50), ("ami_infomap", 0.01), ("ami_kmeans", 0.01)):
        assert found[name] == pytest.approx(run.summary[name], abs=tolerance)


def test_the_expected_pairs_are_counted_within_paragraphs(monkeypatch):
    words, tags = (("a", "b", "，", "c"), ("a", "rare")), (("n", "v", "w", "n"), ("n", "v"))
    text = data.TaggedText(words, tags, data.SOURCES["people_daily"])
    replace(data, "people_daily", lambda: text, monkeypatch)
    words, classes, pairs = expected_pairs(Config(words=3, window=2, subsample=1e9))
    assert words == ("a", "b", "c")
    assert classes.tolist() == ["n", "v", "n"]
    # Marks are no words: c is next to b. Neighbours count 1, the second next 1/2; "rare" is not among the words.
    assert pairs.toarray().tolist() == [[0, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]
    _, _, fewer = expected_pairs(Config(words=3, window=2, subsample=0.1))
    f = np.array([2, 1, 1]) / 5
    kept = np.minimum(1, np.sqrt(0.1 / f) + 0.1 / f)
    np.testing.assert_allclose(fewer.toarray(), pairs.toarray() * kept * kept[:, None])


def test_pairs_are_drawn_in_proportion_to_their_weights():
    cumulated = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64)  # weights 1, 0 and 3
    counts = drawn(cumulated, 4000, randomness.generator(0)).bincount(minlength=3)
    assert counts.sum() == 4000
    assert counts[1] == 0
    assert counts[2] == pytest.approx(3000, abs=120)
