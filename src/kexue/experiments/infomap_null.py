"""Does InfoMap find groups where there are none, and how would one know? Rewired, random, planted networks.

    python -m kexue.experiments.infomap_null --network karate     one run, in _build/runs
    python -m kexue.experiments.infomap_null --record '*'         all missing runs of the book

Nothing is trained. How the verdicts are computed stood in ledger/infomap.toml before the final runs. Bits
saved are those of one module less those of the modules found, for a step of the walk without teleportation.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import networkx as nx
import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score

from kexue import data, runs
from kexue.infomap import Engine, infomap, map_equation, random_walk_flow


@dataclass(frozen=True)
class Config:
    """The settings of one run."""

    network: str = "karate"
    """One of `NETWORKS`: the first row is the network's, each other one that of a rewired copy. Or "random":
    each row is a random network. Or "planted": one with groups, whose signal grows from row to row."""
    null: Literal["degrees", "shuffled", "strengths"] = "degrees"
    """What a copy keeps: the number of links at each node, of a network without weights ("degrees"); that and
    the weights, in another order ("shuffled"); or the sum of the weights at each node ("strengths")."""
    nodes: int = 1000
    degree: int = 8
    """Links at a node, in the mean."""
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
}


@cache
def network(name: str, weighted: bool) -> tuple[sparse.csr_array, np.ndarray]:
    """One of `NETWORKS`, and the side of each node, all 0 where it is not bipartite."""
    graph = NETWORKS[name]()
    sides = np.array([side for _, side in graph.nodes(data="bipartite", default=0)])
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


def largest_part(links: sparse.csr_array) -> np.ndarray:
    _, part = sparse.csgraph.connected_components(links)
    return np.flatnonzero(part == np.bincount(part).argmax())


# --- Null model --------------------------------------------------------------------------------


def rewired(
    links: sparse.csr_array, null: str, seed: int, sides: np.ndarray | None = None
) -> sparse.csr_array:
    """A copy with other links, in which each node has as many as before; ten exchanges for each link.

    Two links, a–b and c–d, become a–d and c–b, unless that makes a loop or a second link between two nodes. A
    bipartite network remains one. The weights follow in random order; for "strengths", a link of weight w is
    w links, and several between two nodes are one of their sum.
    """
    rng = np.random.default_rng(seed)
    upper = sparse.triu(links, 1).tocoo()
    ends, weights = np.stack([upper.row, upper.col], 1), upper.data
    many, two_sides = null == "strengths", sides is not None and bool(sides.any())
    if many:
        ends, weights = np.repeat(ends, weights, axis=0), np.ones(weights.sum(), dtype=int)
    if sides is not None:
        swap = sides[ends[:, 0]] > sides[ends[:, 1]]
        ends[swap] = ends[swap, ::-1]
    pairs = [(a, b) for a, b in ends.tolist()]
    exchange(pairs, rng, many, two_sides)
    row, column = np.array(pairs).T
    copy = sparse.coo_array((rng.permutation(weights), (row, column)), shape=links.shape).tocsr()
    return copy + copy.T


def exchange(links: list[tuple[int, int]], rng: np.random.Generator, many: bool, two_sides: bool) -> None:
    """Exchange ends of links in place, ten times for each; one that is not allowed changes nothing."""
    taken = {*links, *((b, a) for a, b in links)}
    chosen = rng.integers(len(links), size=(10 * len(links), 2)).tolist()
    turned = (rng.random(10 * len(links)) < 0.5 * (not two_sides)).tolist()
    for (i, j), turn in zip(chosen, turned, strict=True):
        a, b = links[i]
        d, c = links[j] if turn else links[j][::-1]
        if i == j or a == d or c == b:
            continue
        if not many:
            if (a, d) in taken or (c, b) in taken:
                continue
            taken -= {(a, b), (b, a), (c, d), (d, c)}
            taken |= {(a, d), (d, a), (c, b), (b, c)}
        links[i], links[j] = (a, d), (c, b)


# --- Methods -----------------------------------------------------------------------------------


def saved_bits(links: sparse.csr_array, labels: np.ndarray) -> float:
    flow = random_walk_flow(links, 0.0)
    return map_equation(flow, np.zeros_like(labels)) - map_equation(flow, labels)


def by_infomap(links: sparse.csr_array, trials: int, seed: int, engine: Engine = "numpy") -> np.ndarray:
    return np.array(list(infomap(links, 0.0, seed, trials=trials, engine=engine).modules.values()))


def regularized(links: sparse.csr_array, trials: int, seed: int) -> np.ndarray:
    """The map equation of a network with a prior, weak links between all nodes (Smiljanić et al. 2021)."""
    import infomap as package

    search = package.Infomap(f"--silent --two-level --regularized --num-trials {trials} --seed {seed + 1}")
    for node in range(links.shape[0]):
        search.add_node(node)
    search.add_links((a, b, 1.0) for a, b in edges(links))
    modules = search.run().multilevel_modules()
    return np.array([modules[node][0] for node in range(links.shape[0])])


def edges(links: sparse.csr_array) -> list[tuple[int, int]]:
    upper = sparse.triu(links).tocoo()
    return list(zip(upper.row.tolist(), upper.col.tolist(), strict=True))


def leiden(links: sparse.csr_array, seed: int) -> tuple[np.ndarray, float]:
    """Modules of great modularity, by Leiden until nothing changes, and their modularity."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    graph = igraph.Graph(links.shape[0], edges(links))
    found = graph.community_leiden("modularity", n_iterations=-1)
    return np.array(found.membership), float(found.modularity)


def spectral(links: sparse.csr_array, groups: int, seed: int) -> np.ndarray:
    """As many groups by k-means on the lowest eigenvectors of the Bethe Hessian, (r² − 1) − rA + D, r = √c.

    It finds planted groups down to the limit (Saade, Krzakala and Zdeborová 2014), and is told their number.
    """
    degree = links.sum(1)
    r = degree.mean() ** 0.5
    hessian = (sparse.diags_array(r**2 - 1 + degree) - r * links).tocsc()
    start = np.random.default_rng(seed).normal(size=len(degree))
    _, vectors = sparse.linalg.eigsh(hessian, groups, which="SA", v0=start)
    return KMeans(groups, n_init=10, random_state=seed).fit_predict(vectors)


def by_degree(links: sparse.csr_array, groups: int, seed: int) -> np.ndarray:
    """As many groups of equal size, from the nodes with the fewest links to those with most; ties by lot."""
    lot = np.random.default_rng(seed).random(links.shape[0])
    rank = np.lexsort((lot, links.sum(1))).argsort()
    return rank * groups // len(rank)


def all_methods(links: sparse.csr_array, trials: int, seed: int) -> dict[str, np.ndarray]:
    return {
        "infomap": by_infomap(links, trials, seed),
        "package": by_infomap(links, trials, seed, "infomap"),
        "regularized": regularized(links, trials, seed),
        "leiden": leiden(links, seed)[0],
    }


# --- Rows --------------------------------------------------------------------------------------


def of_network(config: Config, step: int) -> dict[str, float]:
    """Of the network itself for step 0, of rewired copies after it."""
    links, sides = network(config.network, config.null != "degrees")
    if step:
        links = rewired(links, config.null, 1000 * config.seed + step, sides)
    labels = by_infomap(links, config.trials, step)
    return {"modules": len(set(labels.tolist())), "saved": saved_bits(links, labels)}


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
    copies = [rewired(links, "degrees", 1000 * seed + i) for i in range(1, config.rewirings + 1)]
    engine: Engine = "infomap" if config.compare else "numpy"  # the package, for many large networks
    labels_of = [(one, by_infomap(one, config.trials, seed, engine)) for one in (links, *copies)]
    real, *null = itertools.starmap(saved_bits, labels_of)
    return measured | {"saved": real, "saved_null": float(np.mean(null)), "p": p_value(real, null)}


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


def p_value(real: float, null: list[float]) -> float:
    """The share of the copies, and the network itself, that save at least as much as it does.

    Differences within 1e-9, which is rounding, count as equal.
    """
    return (1 + sum(value >= real - 1e-9 for value in null)) / (1 + len(null))


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
        "p": p_value(real, null),
    }


def run(config: Config, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    kinds = {"random": of_random, "planted": of_planted}
    row = kinds.get(config.network, of_network)
    return runs.measure(
        lambda step: row(config, step),
        config=config,
        folder=folder,
        finish=summary if row is of_network else None,
        stop_after=stop_after,
    )


WEIGHTED = ("karate", "miserables", "places")

RECORDINGS = (
    {f"infomap_null/{name}": Config(name, trials=3) for name in NETWORKS}
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
        for groups in (2, 4, 10)
    }
)


if __name__ == "__main__":
    runs.command_line("infomap_null", SCALES, RECORDINGS, run)
