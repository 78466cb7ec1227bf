"""Speed of kexue.infomap beside the C++ package and scikit-learn, as ratios within one run: make bench."""

import networkx as nx
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from kexue.infomap import infomap, neighbour_graph, random_walk_flow, stationary_distribution


def benchmark_graph(nodes, mixing):
    graph = nx.LFR_benchmark_graph(
        nodes,
        3,
        1.5,
        mixing,
        average_degree=20,
        max_degree=50,
        min_community=20,
        max_community=100,
        seed=1,
    )
    return nx.to_scipy_sparse_array(graph, dtype=float)


@pytest.mark.parametrize("engine", ["numpy", "infomap"])
@pytest.mark.parametrize("levels", [2, None], ids=["two levels", "levels"])
@pytest.mark.parametrize("mixing", [0.3, 0.5])
@pytest.mark.parametrize("nodes", [1000, 10_000])
def test_search(benchmark, nodes, mixing, levels, engine):
    benchmark.group = f"infomap, LFR, {nodes} nodes, mixing {mixing}, {'two' if levels else 'many'} levels"
    graph = benchmark_graph(nodes, mixing)
    benchmark.pedantic(lambda: infomap(graph, 0, 0, levels, engine=engine), rounds=2, warmup_rounds=0)


@pytest.mark.benchmark(group="stationary distribution, 10,000 nodes, teleport 0.15")
@pytest.mark.parametrize("which", ["kexue", "networkx"])
def test_stationary_distribution(benchmark, which):
    graph = benchmark_graph(10_000, 0.3)
    transitions = graph.multiply(1 / graph.sum(1)[:, None]).tocsr()
    if which == "kexue":
        benchmark(lambda: stationary_distribution(transitions))
    else:
        directed = nx.from_scipy_sparse_array(transitions, create_using=nx.DiGraph)
        benchmark(lambda: nx.pagerank(directed, 0.85, tol=1e-15, max_iter=1000))


@pytest.mark.benchmark(group="neighbours of 10,000 vectors of 64 numbers")
@pytest.mark.parametrize("which", ["kexue", "scikit-learn"])
def test_neighbours(benchmark, which):
    vectors = np.random.default_rng(0).standard_normal((10_000, 64))
    if which == "kexue":
        benchmark.pedantic(lambda: neighbour_graph(vectors, 50, 0.2), rounds=3)
    else:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        search = NearestNeighbors(n_neighbors=51, algorithm="brute", metric="cosine")
        benchmark.pedantic(lambda: search.fit(unit).kneighbors(unit), rounds=3)


def test_flow(benchmark):
    graph = benchmark_graph(10_000, 0.3)
    benchmark(lambda: random_walk_flow(graph, 0))
