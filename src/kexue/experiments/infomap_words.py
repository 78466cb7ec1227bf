"""Clusters of 10,000 Chinese words from a month of a newspaper: do they hold for paragraphs not yet read?

    python -m kexue.experiments.infomap_words --seed 1       one run, in _build/runs
    python -m kexue.experiments.infomap_words --record '*'   all missing runs of the book

A vector for each word from one half of the newspaper (PPMI and truncated SVD: Levy, Goldberg and Dagan
2015), links between similar ones, clusters by several methods; the score is from the other half. The chapter
`infomap` (infomap.claim5) reads what is recorded; how its verdict is computed stood in ledger/infomap.toml
before the final runs.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.utils.extmath import randomized_svd

from kexue import data, runs
from kexue.experiments.tasks.communities import leiden
from kexue.experiments.tasks.decisions import Decision
from kexue.infomap import infomap, neighbour_graph
from kexue.runs.statistics import Alarms, false_alarms, mean_interval

Paragraphs = Sequence[Sequence[str]]

BLOCK = 100
"""So many consecutive paragraphs go to the same half, so that few articles are in both."""
TUNING_BLOCK = 5
"""Each fifth block is for choosing the settings, and for nothing else."""


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    words: int = 10_000
    """The most frequent ones; marks are no words."""
    window: int = 8
    """Words up to this distance are context."""
    width: int = 25
    threshold: float = 0.7
    """Of the cosine, for a link. Of the settings in `GRID` that save most bits on the blocks for tuning, to
    within 1 %, this width and threshold make most clusters."""
    neighbours: int = 50
    tuning: bool = False
    """Score on the blocks for tuning, instead of the other half of the others."""
    seed: int = 0
    """Of the halves, and of all that is random in the methods."""
    steps: int = 1
    every: int = 1
    keep_weights: bool = False


SUBJECTS = {
    "kin": "妈妈 爸爸 母亲 父亲 儿子 女儿",
    "administration": "省长 市长 县长 局长 处长 主任",
    "finance": "银行 贷款 存款 金融 股票 债券",
    "school": "学校 学生 教师 老师 中学 高校",
    "illness": "病人 患者 治疗 医院 医生 手术",
}
"""For each cluster that the article shows six words, chosen by us; but fantasy is no subject of news."""


EXAMPLES = {
    "银行": "银行 bank, 贷款 loan, 业务 business, 风险 risk, 监管 supervision, 倒闭 bankruptcy",
    "学校": "学校 school, 教育 education, 人才 talent, 学生 student, 教师 teacher, 考试 exam",
    "患者": "患者 patient, 医疗 medical care, 治疗 treat, 医生 doctor, 药 medicine, 疾病 disease",
    "演出": "演出 performance, 京剧 Peking opera, 观众 audience, 舞台 stage, 掌声 applause",
    "法院": "法院 court, 犯罪 crime, 证据 evidence, 逮捕 arrest, 嫌疑人 suspect, 司法 justice",
    "日本": "日本 Japan, 泰国 Thailand, 货币 currency, 股市 stock market, 危机 crisis",
}
"""Clusters that the chapter shows, by a word that each holds: some other words, with what they mean."""


def examples(cluster: Mapping[str, int]) -> list[dict[str, str]]:
    """A row for each of `EXAMPLES`: those of its words that are in one cluster, and how many that holds."""
    rows = []
    for word, listed in EXAMPLES.items():
        inside = {other for other in cluster if cluster[other] == cluster.get(word)}
        shown = [pair for pair in listed.split(", ") if pair.split()[0] in inside]
        rows.append({"members (selection)": ", ".join(shown), "size": f"{len(inside)}"})
    return rows


@cache
def paragraphs() -> tuple[tuple[str, ...], ...]:
    """Of the newspaper, without its marks."""
    text = data.people_daily()
    return tuple(
        tuple(word for word, tag in zip(*pair, strict=True) if tag != "w")
        for pair in zip(text.word, text.tag, strict=True)
    )


@cache
def known_words(count: int) -> tuple[str, ...]:
    """The most frequent ones of the whole newspaper."""
    return data.Vocabulary(paragraphs()).symbols[:count]


def halves(config: Config) -> tuple[Paragraphs, Paragraphs]:
    """Paragraphs for the vectors, and for the score."""
    text = paragraphs()
    blocks = [text[start : start + BLOCK] for start in range(0, len(text), BLOCK)]
    tuning = blocks[TUNING_BLOCK - 1 :: TUNING_BLOCK]
    others = [block for i, block in enumerate(blocks, 1) if i % TUNING_BLOCK]
    random.Random(config.seed).shuffle(others)
    middle = len(others) // 2
    chosen = others[:middle], tuning if config.tuning else others[middle:]
    first, second = (list(itertools.chain.from_iterable(part)) for part in chosen)
    return first, second


def word_vectors(text: Paragraphs, words: Sequence[str], config: Config) -> np.ndarray:
    """Truncated SVD of the positive pointwise mutual information of words and their contexts, (words, width).

    max(0, log P(w, c)/(P(w)·P(c)^0.75)), with the power normalised; U·√Σ. A word without any context is 0.
    """
    place = {word: i for i, word in enumerate(words)}
    # Paragraphs in one row, with gaps between them that no window reaches over.
    gap = [-1] * config.window
    row = np.array([i for one in text for i in (*(place.get(word, -1) for word in one), *gap)])
    pairs = sparse.csr_array((len(words), len(words)))
    for distance in range(1, config.window + 1):
        left, right = row[:-distance], row[distance:]
        known = (left >= 0) & (right >= 0)
        pairs += sparse.csr_array((np.ones(known.sum()), (left[known], right[known])), shape=pairs.shape)
    pairs = (pairs + pairs.T).tocoo()
    of_word = pairs.sum(0)
    of_context = of_word**0.75 / (of_word**0.75).sum()
    information = np.log(pairs.data / of_word[pairs.row] / of_context[pairs.col])
    positive = sparse.coo_array((np.maximum(information, 0), (pairs.row, pairs.col)), shape=pairs.shape)
    left, singular, _ = randomized_svd(sparse.csr_matrix(positive), config.width, random_state=config.seed)
    return left * np.sqrt(singular)


class Clusters(NamedTuple):
    """Of words that have a link: which words, their vectors and links, and their clusters by each method."""

    linked: np.ndarray
    vectors: np.ndarray
    graph: sparse.csr_array
    labels: dict[str, np.ndarray]


def clusters(vectors: np.ndarray, config: Config) -> Clusters:
    """By InfoMap; unless for tuning, by others on the same words, as many if told; and by trivial ones."""
    some = np.flatnonzero(np.abs(vectors).sum(1))
    graph = neighbour_graph(vectors[some], config.neighbours, config.threshold)
    linked = np.flatnonzero(graph.sum(0) + graph.sum(1))
    graph, some = graph[linked][:, linked], some[linked]
    found = infomap(graph, seed=config.seed)
    modules, count, both_ways = found.labels, found.num_modules, graph.maximum(graph.T)
    unit = vectors[some] / np.linalg.norm(vectors[some], axis=1, keepdims=True)
    rng = np.random.default_rng(config.seed)
    if config.tuning:
        return Clusters(some, vectors[some], graph, {"infomap": modules})
    labels = {
        "infomap": modules,
        "leiden": leiden(both_ways, config.seed, True)[0],
        "leiden_as_many": leiden_as_many(both_ways, config.seed, count),
        "kmeans": KMeans(count, n_init=1, random_state=config.seed).fit_predict(unit),
        "components": sparse.csgraph.connected_components(graph, directed=False)[1],
        "random": rng.permutation(modules),
        "frequency": np.arange(len(some)) * count // len(some),  # words are in the order of frequency
    }
    return Clusters(some, vectors[some], graph, labels)


def leiden_as_many(links: sparse.csr_array, seed: int, count: int) -> np.ndarray:
    """By modularity, with about `count` clusters, by the resolution."""
    low, high = 0.0, 7.0  # of log2
    for _ in range(8):
        middle = (low + high) / 2
        found, _ = leiden(links, seed, True, 2**middle)
        low, high = (low, middle) if found.max() + 1 > count else (middle, high)
    return leiden(links, seed, True, 2**low)[0]


class Score(NamedTuple):
    """Of clusters, on text from which they were not made."""

    bits: float
    """Saved on a second word of a paragraph when a first one is known, in the mean over all words."""
    lift: float
    """How many times as often as by frequency alone the second is of the first one's cluster."""
    share: float
    """How often it is."""


def score(labels: np.ndarray, made_of: sparse.csr_array, held_out: sparse.csr_array) -> Score:
    """Draw a word of a paragraph, and another of the same paragraph: does the first one's cluster tell it?

    By frequency alone the second is j with probability f_j. With clusters, it is in the first one's cluster
    c with probability a_c, as often as in the text of which the clusters were made (with one more word, by
    frequency); among the words in c, or outside, frequency decides. The bits saved are log2(a_c/F_c) where it
    is, F_c being the cluster's frequency without the first word, and log2((1 − a_c)/(1 − F_c)) where not.

    Args:
        labels: a cluster for each word, −1 for one in none.
        made_of: (paragraphs, words) of the text of which the clusters were made: 1 where the word occurs.
        held_out: the same, of other text.
    """
    inside = np.flatnonzero(labels >= 0)
    member = sparse.csr_array(
        (np.ones(len(inside)), (inside, labels[inside])), shape=(len(labels), labels.max() + 1)
    )
    first, second, expected = pair_counts(made_of, member)
    ratio = np.divide(expected, first, out=np.zeros_like(first), where=first > 0)
    known = (second + ratio) / (first + 1)
    some = (ratio > 0) & (ratio < 1)
    gain, loss = (np.log2(a[some] / b[some]) for a, b in ((known, ratio), (1 - known, 1 - ratio)))
    first, second, expected = pair_counts(held_out, member)
    total = held_out.sum() - (held_out.sum(1) == 1).sum()
    bits = (second[some] @ gain + (first - second)[some] @ loss) / total
    return Score(float(bits), float(second.sum() / expected.sum()), float(second.sum() / total))


def pair_counts(
    text: sparse.csr_array, member: sparse.csr_array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each cluster: first words, second words of it, and how many there would be by frequency."""
    text = text[text.sum(1) > 1]
    of_cluster = text @ member
    second = (of_cluster.power(2) - of_cluster).T @ (1 / (text.sum(1) - 1))
    frequency = text.sum(0)
    share = frequency / frequency.sum()
    others = member @ (member.T @ share) - share
    return frequency @ member, second, (frequency / (1 - share) * others) @ member


def occurrences(text: Paragraphs, words: Sequence[str]) -> sparse.csr_array:
    """(paragraphs, words): 1 where the word occurs in the paragraph."""
    place = {word: i for i, word in enumerate(words)}
    found = [sorted({place[word] for word in one if word in place}) for one in text]
    column = np.array([i for one in found for i in one])
    row = np.repeat(np.arange(len(found)), [len(one) for one in found])
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(found), len(words)))


def measures(config: Config) -> dict[str, float]:
    words = known_words(config.words)
    first, second = halves(config)
    made = clusters(word_vectors(first, words, config), config)
    measured: dict[str, float] = {"linked": len(made.linked), "links": made.graph.nnz}
    made_of, held_out = (occurrences(text, words) for text in (first, second))
    for method, own in made.labels.items():
        labels = np.full(len(words), -1)
        labels[made.linked] = own
        found = score(labels, made_of, held_out)
        measured |= {
            f"clusters_{method}": int(own.max() + 1),
            f"largest_{method}": int(np.bincount(own).max()),
        }
        measured |= {f"{name}_{method}": value for name, value in found._asdict().items()}
    modules = dict(zip(made.linked.tolist(), made.labels["infomap"].tolist(), strict=True))
    for subject, listed in SUBJECTS.items():
        of = [modules.get(words.index(word), -1) for word in listed.split() if word in words]
        module = max(set(of) - {-1}, key=of.count, default=-1)
        measured[f"together_{subject}"] = of.count(module) if module >= 0 else 0
        measured[f"size_{subject}"] = list(modules.values()).count(module)
    return measured


METHODS = {
    "InfoMap": "infomap",
    "Leiden, modularity": "leiden",
    "Leiden, same number": "leiden_as_many",
    "k-means, same number": "kmeans",
    "connected components": "components",
    "random, same sizes": "random",
    "frequency bands": "frequency",
}


def subject_comes_out(subject: str, halves: pandas.DataFrame) -> int:
    """In how many halves three of its words at least are together in a cluster of at most 200 words."""
    return int(((halves[f"together_{subject}"] >= 3) & (halves[f"size_{subject}"] <= 200)).sum())


def clusters_hold(halves: pandas.DataFrame) -> Decision:
    """infomap.claim5, of a row for each half of the newspaper."""
    trivial = {
        f"bits, InfoMap minus {name}": mean_interval(halves.bits_infomap - halves[f"bits_{name}"])
        for name in ("random", "components", "frequency")
    }
    beats = [gain.beyond() for gain in trivial.values()]
    out = {subject: subject_comes_out(subject, halves) for subject in SUBJECTS}
    enough = sum(count >= 3 for count in out.values()) >= 3
    undecided = None in beats and False not in beats
    return Decision(
        None if undecided else all(beats) and enough,
        all(beats),
        trivial
        | {"minus Leiden, modularity": mean_interval(halves.bits_infomap - halves.bits_leiden)}
        | {f"{subject}: halves of {len(halves)}": count for subject, count in out.items()},
    )


def errors_of_rule(halves: pandas.DataFrame) -> Alarms:
    """How often the interval of five halves decides wrongly, and the power at a tenth of InfoMap's saving."""
    gain = halves.bits_infomap - halves.bits_random
    return false_alarms(
        lambda drawn: mean_interval(drawn).beyond(), gain.std(), len(gain), gain.mean() / 10, 2000
    )


def few_settings(
    tuned: pandas.DataFrame, agreement: Mapping[tuple[float, float], Sequence[float]]
) -> Decision:
    """infomap.claim7, of the recorded tuning, and the agreement with planted groups by mixing and τ."""
    grid = tuned[tuned.threshold.between(0.4, 0.7) & (tuned.width >= 25)]
    ratio = grid.groupby("width").clusters_infomap.agg(lambda clusters: clusters.max() / clusters.min())
    found = {key: mean_interval(values) for key, values in agreement.items()}
    clear, all_of_them = (
        all(value.low > 0.95 for (mixing, _), value in found.items() if mixing <= most) for most in (0.3, 0.6)
    )
    shown = ", ".join(f"{value:.1f} (width {width})" for width, value in ratio.items())
    return Decision(
        all_of_them and bool((ratio > 2).all()),
        clear,
        {"most clusters of any threshold over fewest": shown}
        | {f"agreement, mixing {mixing}, τ = {tau}": value for (mixing, tau), value in found.items()},
    )


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    return runs.measure(
        lambda step: measures(config),
        config=config,
        folder=folder,
        finish=lambda rows: rows[-1],
        stop_after=stop_after,
    )


SCALES = {"live": Config(words=3000), "run": Config(), "gpu": Config(words=20_000)}

GRID = list(itertools.product((25, 50, 100), (0.4, 0.5, 0.6, 0.7)))
# The best was at the edge of this grid: what lies beyond.
GRID += [(12, 0.7), (12, 0.8), (25, 0.8)]

TUNING = {
    f"infomap_words_tuning/width{width}-threshold{threshold:g}": Config(
        width=width, threshold=threshold, tuning=True
    )
    for width, threshold in GRID
}

SEEDS = range(1, 6)

FINALS = {f"infomap_words/seed{seed}": Config(seed=seed) for seed in SEEDS}

# Smaller clusters, at the article's threshold; added after the first two finals, and decides nothing.
FINE = {f"infomap_words_fine/seed{seed}": Config(width=100, threshold=0.6, seed=seed) for seed in SEEDS}

RECORDINGS = TUNING | FINALS | FINE


if __name__ == "__main__":
    runs.command_line("infomap_words", SCALES, RECORDINGS, run)
