"""Does InfoMap find groups where there are none, and how would one know? Rewired, random, planted networks.

    python -m kexue.experiments.infomap_null --network karate     one run, in _build/runs
    python -m kexue.experiments.infomap_null --record '*'         all missing runs of the book

Nothing is trained. How the verdicts are computed stood in ledger/infomap.toml before the final runs. Bits
saved are those of one module less those of the modules found, for a step of the walk without teleportation.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

from kexue import data, runs
from kexue.experiments.tasks.communities import all_methods, by_degree, leiden, spectral
from kexue.infomap import Comparison, Engine, Null, compare_with_rewired, infomap, rewired
from kexue.infomap.null import saved_bits
from kexue.nn import arguments


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    network: str = "karate"
    """One of `NETWORKS`, or "control", a random network: the first row is the network's, each other one that
    of a rewired copy. Or "random": each row is a random network. Or "planted": one with groups, whose signal
    grows from row to row."""
    null: Null = "degrees"
    """What a copy keeps: the number of links at each node, of a network without weights ("degrees"); that and
    the weights, in another order ("shuffled"); or the sum of the weights at each node ("strengths")."""
    nodes: int = 1000
    """Of networks that are drawn, before their largest part is taken."""
    degree: int = 8
    """Of their nodes, on average."""
    groups: int = 2
    trials: int = 2
    """Of each search; the best counts."""
    rewirings: int = 0
    """Copies of each random network, for a p-value."""
    compare: bool = False
    """Whether to try other methods on random networks."""
    seed: int = 0
    steps: int = 100
    """Rows."""
    every: int = 1
    keep_weights: bool = False


SCALES = {"live": Config(steps=20), "run": Config(), "gpu": Config(steps=1000)}

SEEDS = 5
SIGNALS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
"""√c·λ, see `planted`; each is tried with all seeds."""
DEGREES = (3, 4, 5, 6, 8, 10, 12, 20)


# --- Networks, as symmetric matrices of weights -------------------------------------------------


def pairs_of_words(words: int, least: int, near: bool) -> nx.Graph:
    """The newspaper's most frequent place names, linked by the number of paragraphs that name both; or its
    most frequent words, by how often they are next to each other. Links below `least` are left out."""
    text = data.people_daily()
    count, pairs = Counter[str](), Counter[tuple[str, str]]()
    for paragraph in zip(text.word, text.tag, strict=True):
        tagged = list(zip(*paragraph, strict=True))
        if near:
            count.update(word for word, tag in tagged if tag != "w")
            adjacent = [(a, b) for (a, s), (b, t) in itertools.pairwise(tagged) if "w" not in (s, t)]
            pairs.update((min(a, b), max(a, b)) for a, b in adjacent if a != b)
        else:
            places = sorted({word for word, tag in tagged if tag == "ns"})
            count.update(places)
            pairs.update(itertools.combinations(places, 2))
    known = {word for word, _ in count.most_common(words)}
    graph = nx.Graph()
    graph.add_weighted_edges_from(
        (a, b, n) for (a, b), n in sorted(pairs.items()) if n >= least and {a, b} <= known
    )
    return graph


NETWORKS: dict[str, Callable[[], nx.Graph]] = {
    "karate": nx.karate_club_graph,
    "miserables": nx.les_miserables_graph,
    "southern_women": nx.davis_southern_women_graph,
    "florentine": nx.florentine_families_graph,
    "places": lambda: pairs_of_words(150, 10, near=False),
    "adjacent_words": lambda: pairs_of_words(400, 20, near=True),
    "grid": lambda: nx.grid_2d_graph(20, 20),
}


@cache
def network(name: str, weighted: bool) -> tuple[sparse.csr_array, np.ndarray | None]:
    """One of `NETWORKS`, and the side of each node, None where it is not bipartite."""
    graph = NETWORKS[name]()
    known = [side for _, side in graph.nodes(data="bipartite", default=0)]
    sides = np.array(known) if any(known) else None
    return nx.to_scipy_sparse_array(graph, dtype=int, weight="weight" if weighted else None), sides


def random_network(nodes: int, degree: float, seed: int) -> sparse.csr_array:
    """The largest part of an Erdős–Rényi network: every two nodes have a link with the same probability."""
    links = nx.to_scipy_sparse_array(nx.fast_gnp_random_graph(nodes, degree / (nodes - 1), seed=seed))
    part = largest_part(links)
    return links[part][:, part]


def planted(
    nodes: int, groups: int, degree: float, signal: float, seed: int
) -> tuple[sparse.csr_array, np.ndarray]:
    """The largest part of a network of equal groups, and the group of each of its nodes.

    A node has c_in/q links to its own group of q and c_out/q to each other one, c in the mean. A step of the
    walk remembers its group with λ = (c_in − c_out)/(q·c), and groups can be found, with any fast method
    that is known, only where √c·λ, the signal, is above 1, which is |c_in − c_out| > q√c (Decelle et
    al. 2011); for up to four groups, with any method at all.
    """
    memory = signal / degree**0.5
    inside, outside = degree * (1 + (groups - 1) * memory), degree * (1 - memory)
    size = nodes // groups
    graph = nx.planted_partition_graph(groups, size, inside / nodes, outside / nodes, seed=seed)
    links = nx.to_scipy_sparse_array(graph, nodelist=range(groups * size))
    part = largest_part(links)
    return links[part][:, part], part // size


def planted_by_mixing(
    nodes: int, groups: int, degree: float, mixing: float, seed: int
) -> tuple[sparse.csr_array, np.ndarray]:
    """`planted`, by the share of links that leave their group."""
    return planted(nodes, groups, degree, (1 - mixing * groups / (groups - 1)) * degree**0.5, seed)


def largest_part(links: sparse.csr_array) -> np.ndarray:
    _, part = sparse.csgraph.connected_components(links)
    return np.flatnonzero(part == np.bincount(part).argmax())


# --- Rows --------------------------------------------------------------------------------------


def of_network(config: Config, step: int) -> dict[str, float]:
    """Of the network itself for step 0, of rewired copies after it."""
    if config.network == "control":
        links, sides = random_network(config.nodes, config.degree, config.seed), None
    else:
        links, sides = network(config.network, config.null != "degrees")
    if step:
        links = rewired(links, 1000 * config.seed + step, config.null, sides)
    found = infomap(links, 0.0, step, trials=config.trials)
    return {"modules": found.num_modules, "saved": found.saved}


def of_random(config: Config, step: int) -> dict[str, float]:
    """What several methods find in a random network, and its p-value."""
    seed = 1000 * config.seed + step
    links = random_network(config.nodes, config.degree, seed)
    measured: dict[str, float] = {"links": links.nnz // 2}
    if config.compare:
        for method, labels in all_methods(links, config.trials, seed).items():
            measured[f"modules_{method}"] = len(set(labels.tolist()))
            measured[f"saved_{method}"] = saved_bits(links, labels)
        measured["modularity_leiden"] = leiden(links, seed)[1]
    engine: Engine = "infomap" if config.compare else "numpy"  # the package, for many large networks
    found = compare_with_rewired(links, config.rewirings, seed, config.trials, engine=engine)
    return measured | {"saved": found.saved, "saved_null": float(np.mean(found.copies)), "p": found.p}


def of_planted(config: Config, step: int) -> dict[str, float]:
    """How well the clusters of several methods agree with planted groups."""
    signal, seed = SIGNALS[step // SEEDS], 1000 * config.seed + step % SEEDS
    links, truth = planted(config.nodes, config.groups, config.degree, signal, seed)
    row, column = links.nonzero()
    measured = {"signal": signal, "trial": seed, "mixing": float((truth[row] != truth[column]).mean())}
    found = all_methods(links, config.trials, seed) | {
        "spectral": spectral(links, config.groups, seed),
        "degree": by_degree(links, config.groups, seed),
    }
    for method, labels in found.items():
        measured[f"modules_{method}"] = len(set(labels.tolist()))
        measured[f"ami_{method}"] = float(adjusted_mutual_info_score(truth, labels))
    return measured | {
        "saved": saved_bits(links, found["infomap"]),
        "saved_planted": saved_bits(links, truth),
    }


def summary(rows: list[Any]) -> dict[str, float]:
    """Of a network and its copies: what it saves, what they save, and how far apart that is."""
    real, *null = (row["saved"] for row in rows)
    spread = float(np.std(null, ddof=1))
    return {
        "modules": rows[0]["modules"],
        "saved": real,
        "null_mean": float(np.mean(null)),
        "null_deviation": spread,
        "null_most": max(null),
        **({"z": float((real - np.mean(null)) / spread)} if spread > 1e-9 else {}),
        "p": Comparison(real, tuple(null)).p,
    }


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    kinds = {"random": of_random, "planted": of_planted}
    arguments.choice("network", config.network, (*NETWORKS, "control", *kinds))
    row = kinds.get(config.network, of_network)
    return runs.measure(
        lambda step: row(config, step),
        config=config,
        folder=folder,
        finish=summary if row is of_network else None,
        stop_after=stop_after,
    )


FEW = (2, 4, 10)
"""The numbers of groups that infomap.limit and infomap.prior speak of; others decide nothing."""
WEIGHTED = ("karate", "miserables", "places")

RECORDINGS = (
    {f"infomap_null/{name}": Config(name, trials=3) for name in NETWORKS}
    | {"infomap_null/control": Config("control", nodes=100, degree=4, trials=3, seed=2026)}
    | {
        f"infomap_null_weights/{name}-{null}": Config(name, null, trials=3)
        for name in WEIGHTED
        for null in ("shuffled", "strengths")
    }
    | {
        f"infomap_null_random/degree{degree}": Config(
            "random", degree=degree, rewirings=19, compare=True, steps=SEEDS
        )
        for degree in DEGREES
    }
    | {"infomap_null_random/alarms": Config("random", nodes=100, degree=4, trials=1, rewirings=19, steps=200)}
    | {
        f"infomap_null_planted/groups{groups}": Config("planted", groups=groups, steps=SEEDS * len(SIGNALS))
        for groups in (*FEW, 50)
    }
)


if __name__ == "__main__":
    runs.command_line("infomap_null", SCALES, RECORDINGS, run)
