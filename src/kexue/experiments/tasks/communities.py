"""Methods that find groups in a network, given as a symmetric matrix of links; labels are in its order."""

import random

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans

from kexue.infomap import Engine, infomap, map_equation, random_walk_flow
from kexue.infomap.package import modules_by_package


def by_infomap(links: sparse.csr_array, trials: int, seed: int, engine: Engine = "numpy") -> np.ndarray:
    return infomap(links, 0.0, seed, trials=trials, engine=engine).labels


def regularized(links: sparse.csr_array, trials: int, seed: int) -> np.ndarray:
    """The map equation of a network with a prior, weak links between all nodes (Smiljanić et al. 2021)."""
    flags = f"--two-level --regularized --num-trials {trials} --seed {seed + 1}"
    weighted = ((a, b, 1.0) for a, b in edges(links))
    return modules_by_package(links.shape[0], weighted, flags)[0]


def edges(links: sparse.csr_array) -> list[tuple[int, int]]:
    upper = sparse.triu(links).tocoo()
    return list(zip(upper.row.tolist(), upper.col.tolist(), strict=True))


def leiden(
    links: sparse.csr_array, seed: int, weighted: bool = False, resolution: float = 1.0
) -> tuple[np.ndarray, float]:
    """Modules of great modularity, by Leiden until nothing changes, and their modularity."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    graph = igraph.Graph(links.shape[0], edges(links))
    weights = sparse.triu(links).tocoo().data.tolist() if weighted else None
    found = graph.community_leiden("modularity", weights=weights, resolution=resolution, n_iterations=-1)
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


def merged_step_by_step(links: np.ndarray) -> dict[int, np.ndarray]:
    """A partition into each number of modules, from one node each to a single one.

    Of two linked modules those are merged that give the shortest description; then single nodes move to a
    neighbour's module, as long as that helps and no module becomes empty.
    """
    flow, near = random_walk_flow(links, 0.0), links > 0

    def length(labels: np.ndarray) -> float:
        return map_equation(flow, labels)

    labels = np.arange(len(links))
    found = {len(links): labels}
    for count in range(len(links) - 1, 0, -1):
        pairs = {tuple(sorted(pair)) for pair in labels[np.argwhere(near)].tolist()}
        mergers = [np.where(labels == b, a, labels) for a, b in sorted(pairs) if a != b]
        labels = min(mergers, key=length)
        for node in 3 * list(range(len(links))):
            if (labels == labels[node]).sum() > 1:
                for target in sorted(set(labels[near[node]].tolist())):
                    trial = labels.copy()
                    trial[node] = target
                    if length(trial) < length(labels) - 1e-12:
                        labels = trial
        found[count] = labels
    return found
