"""Graphs for the tests of infomap, and the optimum of small ones by enumeration."""

import functools
import itertools

import networkx as nx
import numpy as np


def karate():
    graph = nx.karate_club_graph()
    return nx.Graph(graph.edges())


def weighted_network(seed):
    """A random network of 30 nodes whose links have whole weights from 1 to 5, as a matrix."""
    graph = nx.gnp_random_graph(30, 0.2, seed=seed)
    rng = np.random.default_rng(seed)
    for *_, attributes in graph.edges(data=True):
        attributes["weight"] = int(rng.integers(1, 6))
    return nx.to_scipy_sparse_array(graph, dtype=int)


def triangles():
    """The triangle of triangles of triangles (Rosvall and Bergstrom 2011): 27 nodes."""
    graph = nx.Graph()
    for i, j in itertools.product(range(3), repeat=2):
        graph.add_edges_from([((i, j, a), (i, j, b)) for a, b in itertools.combinations(range(3), 2)])
    for i, (a, b) in itertools.product(range(3), itertools.combinations(range(3), 2)):
        graph.add_edge((i, a, b), (i, b, a))
    for a, b in itertools.combinations(range(3), 2):
        graph.add_edge((a, b, b), (b, a, a))
    return graph


def random_graph(seed, directed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    weights = rng.integers(1, 6, (n, n)) * (rng.random((n, n)) < 0.35)
    if not directed:
        weights = np.triu(weights) + np.triu(weights, 1).T
    return weights.astype(float), rng.integers(0, 4, n).tolist()


def weighted(graph, seed):
    rng = np.random.default_rng(seed)
    for _, _, attributes in graph.edges(data=True):
        attributes["weight"] = float(rng.integers(1, 9))
    return graph


def with_loops(graph):
    graph.add_weighted_edges_from([(0, 0, 2.0), (3, 3, 1.0)])
    return graph


def with_dangling(graph):
    graph.remove_edges_from([*graph.out_edges(2), *graph.out_edges(5)])
    return graph


UNDIRECTED = {
    "karate": karate(),
    "triangles": triangles(),
    "random": nx.gnp_random_graph(40, 0.1, seed=0),
    "weighted": weighted(nx.gnp_random_graph(40, 0.1, seed=1), 1),
    "loops": with_loops(weighted(nx.gnp_random_graph(30, 0.15, seed=2), 2)),
    "two parts": nx.disjoint_union(nx.gnp_random_graph(12, 0.4, seed=1), nx.gnp_random_graph(9, 0.5, seed=2)),
    "planted": nx.planted_partition_graph(4, 15, 0.5, 0.03, seed=0),
}


def directed(nodes, seed, probability=0.1):
    return nx.gnp_random_graph(nodes, probability, seed=seed, directed=True)


DIRECTED = {
    "directed": directed(30, 3),
    "directed, weighted": weighted(directed(30, 4), 3),
    "directed, loops": with_loops(weighted(directed(30, 5), 4)),
    "dangling": with_dangling(directed(30, 6)),
    "directed, two parts": nx.disjoint_union(directed(15, 7, 0.2), directed(15, 8, 0.2)),
    "both ways": karate().to_directed(),
}


@functools.cache
def partitions(n):
    """All of them, as restricted growth strings: an array with a row for each."""
    rows = [(0,)]
    for _ in range(n - 1):
        rows = [(*row, k) for row in rows for k in range(max(row) + 2)]
    return np.array(rows)


def optimum(flow):
    """The least L(M) over all partitions, computed for all of them at once from pairs of nodes."""
    labels = partitions(len(flow.visit))
    n = labels.shape[1]
    member = labels[:, None, :] == np.arange(n)[:, None]  # (partition, module, node)
    apart = labels[:, :, None] != labels[:, None, :]
    leaving = ((flow.link.toarray() + flow.teleport[:, None] / n) * apart).sum(2)
    exits = (member * leaving[:, None]).sum(2)
    within = exits + member @ flow.visit

    def plogp(x):
        return np.where(x > 0, x * np.log2(np.where(x > 0, x, 1)), 0)

    index = plogp(exits.sum(1)) - plogp(exits).sum(1)
    return (index + (plogp(within) - plogp(exits)).sum(1) - plogp(flow.visit).sum()).min()
