"""Speed of kexue.infomap beside the C++ package and scikit-learn, as ratios within one run: make bench."""

import time

import networkx as nx
import numpy as np
import pytest
from scipy import sparse, stats
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


@pytest.fixture(autouse=True, scope="module")
def _compiled_and_loaded():
    for engine in ("numpy", "infomap"):
        infomap(nx.path_graph(3), 0, engine=engine)


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


def planted(nodes, mixing, seed):
    """About 14 links a node, that share of them to nodes outside its group of 50."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, nodes, 14 * nodes)
    inside = source // 50 * 50 + rng.integers(0, 50, len(source))
    target = np.where(rng.random(len(source)) < mixing, rng.integers(0, nodes, len(source)), inside)
    links = sparse.csr_array((np.ones(len(source)), (source, target)), shape=(nodes, nodes))
    return ((links + links.T) > 0).astype(float)


def processor_time(function):
    began = time.process_time()
    function()
    return time.process_time() - began


@pytest.mark.parametrize("levels", [2, None], ids=["two levels", "levels"])
@pytest.mark.parametrize("mixing", [0.3, 0.5])
def test_growth(mixing, levels, capsys):
    """The exponent of processor time over links, of five graphs a size, both engines in turn."""
    sizes = [nodes for nodes in (500, 1000, 2000, 5000, 10_000, 20_000) for _ in range(5)]
    links, seconds = [], {"numpy": [], "infomap": []}
    for seed, nodes in enumerate(sizes):
        graph = planted(nodes, mixing, seed)
        links.append(graph.nnz // 2)
        for engine, times in seconds.items():
            times.append(processor_time(lambda g=graph, e=engine: infomap(g, 0, 0, levels, engine=e)))
    for engine, times in seconds.items():
        line = stats.linregress(np.log(links), np.log(times))
        half = stats.t.ppf(0.975, len(sizes) - 2) * line.stderr
        with capsys.disabled():
            print(f"\n{engine}, {mixing}, {levels}: exponent {line.slope:.2f} ± {half:.2f}, ", end="")
            print(f"{np.mean(times[-5:]):.2f} s for {np.mean(links[-5:]):,.0f} links", end="")
    assert np.mean(seconds["numpy"][-5:]) < 1.5 * np.mean(seconds["infomap"][-5:])


@pytest.mark.benchmark(group="infomap, a million links, two levels")
@pytest.mark.parametrize("engine", ["numpy", "infomap"])
def test_a_million_links(benchmark, engine):
    graph = planted(85_000, 0.3, 0)
    assert graph.nnz > 2_000_000
    benchmark.pedantic(lambda: infomap(graph, 0, engine=engine), rounds=1)
