"""Word vectors, the score of clusters on other text, and what the other methods are given."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from kexue.experiments import infomap_words as experiment
from kexue.experiments.infomap_words import Config, clusters, halves, occurrences, score, word_vectors


def text_with_topics(seed, paragraphs=400, topics=4, words=10, length=12):
    """Of each word's topic a paragraph has 80 %; which words there are, and their topics."""
    rng = np.random.default_rng(seed)
    text = []
    for topic in rng.integers(topics, size=paragraphs):
        own = np.where(rng.random(length) < 0.8, topic, rng.integers(topics, size=length))
        text.append([f"w{t}{w}" for t, w in zip(own, rng.integers(words, size=length), strict=True)])
    known = [f"w{topic}{word}" for word in range(words) for topic in range(topics)]
    return text, known, np.tile(np.arange(topics), words)


def test_the_halves_share_no_paragraph_and_leave_the_tuning_blocks_out(monkeypatch):
    monkeypatch.setattr(experiment, "paragraphs", lambda: tuple((str(i),) for i in range(2000)))
    block = {name: range(start, start + 100) for name, start in (("tuning", 400), ("other", 500))}
    for seed in (0, 1):
        first, second = ({int(p[0]) for p in part} for part in halves(Config(seed=seed)))
        _, tuning = ({int(p[0]) for p in part} for part in halves(Config(seed=seed, tuning=True)))
        assert not first & second
        assert not (first | second) & tuning
        assert [len(part) for part in (first, second, tuning)] == [800, 800, 400]
        assert tuning >= set(block["tuning"])
        assert set(block["other"]) <= first or set(block["other"]) <= second  # a block stays whole
    assert halves(Config(seed=0)) != halves(Config(seed=1))


def test_vectors_have_the_inner_products_of_the_information_of_pairs():
    text = [["a", "b", "x", "c"], ["a", "b"], ["c", "d", "c"], ["d"]]
    words, config = ["a", "b", "c", "d"], Config(window=2, width=4)
    counts = np.zeros((4, 4))
    for one in text:
        for i, first in enumerate(one):
            for second in one[i + 1 : i + 3]:
                if {first, second} <= set(words):
                    counts[words.index(first), words.index(second)] += 1
                    counts[words.index(second), words.index(first)] += 1
    of_word, of_context = counts.sum(1) / counts.sum(), counts.sum(0) ** 0.75
    with np.errstate(divide="ignore"):
        information = np.log(counts / counts.sum() / np.outer(of_word, of_context / of_context.sum()))
    left, singular, _ = np.linalg.svd(np.maximum(information, 0))
    expected = left * np.sqrt(singular)
    found = word_vectors(text, words, config)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-10)


def bits_by_hand(labels, made_of, held_out):
    """The mean of log2 of the ratio of both probabilities, over first and second words one by one."""

    def frequency(text):
        count = np.array([sum(w in one for one in text if len(one) > 1) for w in range(len(labels))])
        return count, count / count.sum()

    def pairs(text):
        for one in text:
            for i in one:
                for j in one:
                    if i != j:
                        yield i, j, 1 / (len(one) - 1)

    count, share = frequency(made_of)
    known, by_frequency = {}, {}
    for c in set(labels) - {-1}:
        of = [w for w in range(len(labels)) if labels[w] == c]
        first = sum(count[w] for w in of)
        expected = sum(count[w] * sum(share[v] for v in of if v != w) / (1 - share[w]) for w in of)
        together = sum(weight for i, j, weight in pairs(made_of) if labels[i] == labels[j] == c)
        by_frequency[c] = expected / first
        known[c] = (together + by_frequency[c]) / (first + 1)
    bits = 0.0
    for i, j, weight in pairs(held_out):
        c = labels[i]
        if c >= 0 and 0 < by_frequency[c] < 1:
            a, b = known[c], by_frequency[c]
            bits += weight * np.log2(a / b if labels[j] == c else (1 - a) / (1 - b))
    return bits / frequency(held_out)[0].sum()


def test_the_score_is_that_of_all_pairs_one_by_one():
    rng = np.random.default_rng(0)
    texts = [
        [sorted(set(rng.integers(0, 12, size=rng.integers(1, 7)).tolist())) for _ in range(40)]
        for _ in range(2)
    ]
    labels = rng.integers(-1, 3, size=12)
    matrices = [
        occurrences([[str(w) for w in one] for one in text], [str(w) for w in range(12)]) for text in texts
    ]
    found = score(labels, *matrices)
    assert found.bits == pytest.approx(bits_by_hand(labels.tolist(), *texts), abs=1e-12)
    whole = score(np.zeros(12, dtype=int), *matrices)
    assert whole.bits == pytest.approx(0, abs=1e-12)  # one cluster says nothing
    assert whole.lift == pytest.approx(1, abs=1e-9)


def test_occurrences_count_a_word_once_for_a_paragraph():
    found = occurrences([["a", "b", "a"], ["x"], ["b"]], ["a", "b"])
    assert found.toarray().tolist() == [[1, 1], [0, 0], [0, 1]]


def test_clusters_of_topics_hold_in_other_text_and_trivial_ones_do_not():
    (made_of, words, topics), (held_out, _, _) = text_with_topics(0), text_with_topics(1)
    config = Config(width=4, threshold=0.5, neighbours=12)
    made = clusters(word_vectors(made_of, words, config), config)
    matrices = [occurrences(text, words) for text in (made_of, held_out)]
    assert len(made.linked) == len(words)
    scores = {method: score(labels, *matrices) for method, labels in made.labels.items()}
    true = score(topics, *matrices)
    assert scores["infomap"].bits == pytest.approx(true.bits, rel=0.1)
    assert scores["leiden"].bits == pytest.approx(true.bits, rel=0.1)
    assert max(scores[method].bits for method in ("random", "frequency")) < 0.3 * true.bits
    assert true.lift > 2 > 1.5 > scores["random"].lift
    sizes = [sorted(np.bincount(made.labels[method])) for method in ("infomap", "random")]
    assert sizes[0] == sizes[1]
    only = clusters(word_vectors(made_of, words, config), replace(config, tuning=True)).labels
    assert list(only) == ["infomap"]
    assert np.array_equal(only["infomap"], made.labels["infomap"])


def test_leiden_is_given_a_number_of_clusters_and_keeps_to_it():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(12), 10)
    links = rng.random((120, 120)) < np.where(truth[:, None] == truth, 0.6, 0.01)
    half = np.triu(links, 1).astype(float)
    graph = sparse.csr_array(half + half.T)
    for count in (12, 20):
        assert abs(experiment.leiden_as_many(graph, 0, count).max() + 1 - count) <= 1
    assert experiment.leiden(graph, 0, True)[0].max() + 1 <= 12
