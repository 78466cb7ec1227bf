"""Mathematics of kexue.infomap.walk: rates by simulation and as eigenvectors, nearest vectors, bad input."""

import itertools
import math

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import seeded  # noqa: F401  # Hypothesis's profile
from graphs import weighted
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from scipy import sparse

from kexue.infomap import (
    infomap,
    map_equation,
    neighbour_graph,
    overlapping_flow,
    random_walk_flow,
    stationary_distribution,
)


def simulated(transitions, teleport, steps, seed=0):
    """Visits of each node, and how often each pair followed, teleportations apart: rates per step."""
    rng = np.random.default_rng(seed)
    n = len(transitions)
    visits, links, jumps = np.zeros(n), np.zeros((n, n)), np.zeros(n)
    cumulated = transitions.cumsum(1)
    uniform, choices = rng.random((steps, 2)), rng.integers(n, size=steps)
    node = 0
    for (chance, place), anywhere in zip(uniform, choices, strict=True):
        visits[node] += 1
        if chance < teleport or cumulated[node, -1] == 0:
            jumps[node] += 1
            node = anywhere
        else:
            following = min(int(np.searchsorted(cumulated[node], place, "right")), n - 1)
            links[node, following] += 1
            node = following
    return visits / steps, links / steps, jumps / steps


DANGLING = np.array([[0, 0.5, 0.5, 0], [0, 0.2, 0.8, 0], [0.3, 0, 0, 0.7], [0, 0, 0, 0]])


@pytest.mark.verifies("infomap.eq13")
def test_a_long_walk_has_the_stationary_rates():
    p = stationary_distribution(DANGLING, 0.15)
    flow = random_walk_flow(DANGLING, 0.15)
    visits, links, jumps = simulated(DANGLING, 0.15, 100_000)
    np.testing.assert_allclose(visits, p, atol=0.005)
    np.testing.assert_allclose(flow.visit, p, atol=1e-15)
    np.testing.assert_allclose(links, flow.link.toarray(), atol=0.005)
    np.testing.assert_allclose(jumps, flow.teleport, atol=0.005)
    assert flow.teleport[3] == flow.visit[3]  # the dangling node
    assert flow.teleport.sum() + flow.link.sum() == pytest.approx(1)


@pytest.mark.verifies("infomap.eq13")
@given(st.integers(1, 8), st.integers(0, 10**6), st.sampled_from([0.01, 0.15, 0.5, 1.0]))
def test_the_stationary_distribution_is_an_eigenvector_and_a_pagerank(n, seed, teleport):
    rng = np.random.default_rng(seed)
    weights = rng.random((n, n)) * (rng.random((n, n)) < 0.4)
    sums = weights.sum(1, keepdims=True)
    transitions = np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)
    p = stationary_distribution(sparse.csr_array(transitions), teleport)
    full = np.where(sums > 0, (1 - teleport) * transitions + teleport / n, 1 / n)
    np.testing.assert_allclose(p @ full, p, atol=1e-12)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    graph = nx.from_numpy_array(weights, create_using=nx.DiGraph)
    rank = nx.pagerank(graph, 1 - teleport, tol=1e-14, max_iter=5000)
    np.testing.assert_allclose(p, [rank[i] for i in range(n)], atol=1e-9)


@pytest.mark.parametrize("teleport", [1e-9, 1e-5, 1e-3, 0.02, 0.3])
def test_small_teleportation_is_solved_too(teleport):
    swap_like = np.array([[0, 1.0, 0], [0.5, 0, 0.5], [0, 1.0, 0]])
    for matrix in (swap_like, DANGLING, nx.to_numpy_array(nx.cycle_graph(40)) / 2):
        n = len(matrix)
        full = np.where(matrix.any(1, keepdims=True), (1 - teleport) * matrix + teleport / n, 1 / n)
        p = stationary_distribution(matrix, teleport)
        np.testing.assert_allclose(p @ full, p, atol=1e-12)
        assert p.sum() == pytest.approx(1, abs=1e-12)


def test_small_teleportation_is_solved_too_where_the_walk_mixes_slowly():
    """10,000 steps do not suffice on a path of 120 nodes; the rates are nearly those without teleportation."""
    n, teleport = 120, 1e-9
    links = nx.to_numpy_array(nx.path_graph(n))
    degrees = links.sum(1)
    p = stationary_distribution(links / degrees[:, None], teleport)
    full = (1 - teleport) * links / degrees[:, None] + teleport / n
    np.testing.assert_allclose(p @ full, p, atol=1e-15)
    np.testing.assert_allclose(p, degrees / degrees.sum(), atol=1e-8)
    assert p.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.verifies("infomap.eq12")
def test_without_teleportation_there_may_be_several_solutions_or_a_period():
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert stationary_distribution(swap, 0).tolist() == [0.5, 0.5]
    p = np.array([1.0, 0.0])
    assert (p @ swap).tolist() != p.tolist()  # the iteration from here never ends …
    assert (p @ swap @ swap).tolist() == p.tolist()  # … since it has a period
    transient = np.array([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(stationary_distribution(transient, 0), [0, 0.5, 0.5])
    with pytest.raises(ValueError, match="teleport must be positive where 2 parts are never left, got 0"):
        stationary_distribution(np.eye(2), 0)
    with pytest.raises(ValueError, match="teleport must be positive where nodes are dangling, as node 3 is"):
        stationary_distribution(DANGLING, 0)


def test_an_undirected_walk_visits_in_proportion_to_the_weights():
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 1.0), ("b", "c", 3.0), ("d", "e", 2.0), ("e", "e", 2.0)])
    graph.add_node("alone")
    flow = random_walk_flow(graph, 0)
    assert flow.nodes == ("a", "b", "c", "d", "e", "alone")
    np.testing.assert_allclose(flow.visit, np.array([1, 4, 3, 2, 4, 0]) / 14)
    assert flow.link.sum() == pytest.approx(1)
    assert not flow.teleport.any()
    rounded = np.array([[0.0, 1.0], [1.0 + 1e-14, 0.0]])
    assert random_walk_flow(rounded, 0).visit == pytest.approx([0.5, 0.5])


def test_only_ratios_of_weights_matter():
    weights = np.array([[0, 1.0, 0], [1, 0, 2], [0, 2, 0]])
    for teleport in (0.0, 0.15):
        expected = random_walk_flow(weights, teleport)
        for factor in (1e308 / 2, 1e-307, 2.0**900):
            flow = random_walk_flow(weights * factor, teleport)
            np.testing.assert_allclose(flow.visit, expected.visit, rtol=1e-12)
            assert infomap(weights * factor, teleport).codelength == pytest.approx(
                infomap(weights, teleport).codelength
            )


def test_the_caller_s_matrix_is_left_alone():
    matrix = sparse.csr_array((np.array([1.0, 0, 1]), np.array([1, 0, 0]), np.array([0, 2, 3])), shape=(2, 2))
    before = [a.copy() for a in (matrix.data, matrix.indices, matrix.indptr)]
    infomap(matrix)
    stationary_distribution(matrix)
    for old, new in zip(before, (matrix.data, matrix.indices, matrix.indptr), strict=True):
        np.testing.assert_array_equal(old, new)


# --- Overlapping modules -----------------------------------------------------------------------


def two_cliques():
    """Two complete graphs of five that share node 4."""
    graph = nx.Graph()
    for group in (range(5), range(4, 9)):
        graph.add_edges_from(itertools.combinations(group, 2))
    return graph


def overlapping(graph, memberships):
    flow = overlapping_flow(graph, memberships)
    return map_equation(flow, {state: state[1] for state in flow.nodes})


@pytest.mark.verifies("infomap.claim4")
def test_a_second_membership_shortens_the_description_where_groups_meet():
    graph = two_cliques()
    apart = {v: [int(v > 4)] for v in graph}
    both = apart | {4: [0, 1]}
    shortest = infomap(graph, 0, trials=5).codelength
    assert overlapping(graph, both) < shortest - 0.2
    assert overlapping(graph, both | {3: [0, 1]}) > overlapping(graph, both)
    # No walk in module 1 comes to node 0.
    assert overlapping(graph, apart | {0: [0, 1]}) == pytest.approx(overlapping(graph, apart), abs=1e-12)
    assert overlapping(graph, apart) == pytest.approx(
        map_equation(random_walk_flow(graph, 0), {v: m[0] for v, m in apart.items()}), abs=1e-12
    )


def test_one_module_each_is_the_plain_walk():
    graph = weighted(nx.gnp_random_graph(12, 0.4, seed=1), 1)
    modules = {v: v % 3 for v in graph}
    flow, plain = overlapping_flow(graph, {v: {m} for v, m in modules.items()}), random_walk_flow(graph, 0)
    assert flow.nodes == tuple(modules.items())
    np.testing.assert_allclose(flow.visit, plain.visit, atol=1e-12)
    np.testing.assert_allclose(flow.link.toarray(), plain.link.toarray(), atol=1e-12)
    assert not flow.teleport.any()


@pytest.mark.slow
def test_a_walk_stays_in_its_module_as_long_as_it_can():
    graph, rng = two_cliques(), np.random.default_rng(0)
    graph.add_edge(0, 8, weight=3.0)
    memberships = (
        {v: ["a"] for v in range(9)} | {v: ["b"] for v in range(5, 9)} | {4: ["a", "b"], 8: ["b", "c"]}
    )
    flow = overlapping_flow(graph, memberships)
    place = {state: i for i, state in enumerate(flow.nodes)}
    counts = np.zeros((len(place), len(place)))
    node, module = 0, "a"
    for _ in range(60_000):
        near = list(graph[node])
        weights = np.array([graph[node][v].get("weight", 1.0) for v in near])
        new = near[rng.choice(len(near), p=weights / weights.sum())]
        entered = (
            module if module in memberships[new] else memberships[new][rng.integers(len(memberships[new]))]
        )
        counts[place[node, module], place[new, entered]] += 1
        node, module = new, entered
    np.testing.assert_allclose(counts / counts.sum(), flow.link.toarray(), atol=0.005)
    np.testing.assert_allclose(counts.sum(1) / counts.sum(), flow.visit, atol=0.01)


# --- Neighbours of vectors ---------------------------------------------------------------------


@pytest.mark.verifies("infomap.claim5")
@pytest.mark.parametrize(("n", "neighbours"), [(30, 5), (30, 100), (1, 3), (1100, 7)])  # in blocks of 1,000
def test_neighbours_are_the_nearest_by_cosine(n, neighbours):
    vectors = np.random.default_rng(n).standard_normal((n, 3)) * 5
    graph = neighbour_graph(vectors, neighbours, 0.6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1)
    expected = np.where(cosine >= 0.6, cosine, 0)
    rank = (-cosine).argsort(1).argsort(1)
    np.testing.assert_allclose(graph.toarray(), np.where(rank < neighbours, expected, 0), atol=1e-12)
    assert graph.shape == (n, n)


def test_equal_vectors_have_the_cosine_one():
    assert neighbour_graph(np.array([[3.0, 4.0], [6.0, 8.0]])).toarray().tolist() == [[0, 1], [1, 0]]


# --- Bad input ---------------------------------------------------------------------------------


@pytest.mark.unchecked
def test_an_integer_of_numpy_counts_neighbours():
    vectors = np.random.default_rng(0).normal(size=(8, 2))
    one, other = neighbour_graph(vectors, 2, 0.1), neighbour_graph(vectors, np.int8(2), 0.1)
    assert (one != other).nnz == 0


test_bad_input_is_named = refuses([
    (lambda: stationary_distribution(np.ones((2, 3))), ValueError, r"transitions must be a square matrix .*, got shape \(2, 3\)"),
    (lambda: stationary_distribution(np.array([[1.5, -0.5], [0, 1]])), ValueError, "transitions must have non-negative, finite entries, got -0.5"),
    (lambda: stationary_distribution(np.array([[0.5, 0.4], [0, 1]])), ValueError, "transitions must have rows that sum to 1 or 0, got 0.9 in row 0"),
    (lambda: stationary_distribution(np.array([[0, 1], [0.5, 0.4]])), ValueError, "transitions must have rows that sum to 1 or 0, got 0.9 in row 1"),
    (lambda: neighbour_graph([[1.0, 0.0]], 1, "0.5"), TypeError, "threshold must be a"),
    (lambda: stationary_distribution(np.eye(2), 1.5), ValueError, r"teleport must lie in \[0, 1\], got 1.5"),
    (lambda: random_walk_flow([[1.0]]), TypeError, "graph must be a networkx graph or a matrix, got list"),
    (lambda: random_walk_flow(nx.Graph()), ValueError, "graph must have nodes, got none"),
    (lambda: random_walk_flow(np.array([[0, math.nan], [1, 0]])), ValueError, "graph must have non-negative, finite entries, got nan"),
    (lambda: random_walk_flow(nx.DiGraph([(0, 1)]), 0), ValueError, "teleport must be positive for a directed graph, got 0"),
    (lambda: random_walk_flow(nx.empty_graph(3), 0), ValueError, "teleport must be positive for a graph without links, got 0"),
    (lambda: stationary_distribution(np.ma.masked_array(np.eye(2))), TypeError, "transitions must be a matrix, dense or sparse, got MaskedArray"),
    (lambda: stationary_distribution(np.eye(2), 1e-12), ValueError, "teleport must be 0 or at least 1e-9, got 1e-12"),
    (lambda: stationary_distribution(np.array([[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1.0]]), 0), ValueError, "teleport must be positive where 2 parts are never left"),
    (lambda: random_walk_flow(nx.MultiGraph([(0, 1, {"weight": 3.0}), (0, 1, {"weight": -1.0})])), ValueError, "graph must have non-negative entries that a float can hold, got -1.0"),
    (lambda: random_walk_flow(nx.Graph([(0, 1, {"weight": "2"})])), TypeError, "graph must have weights that are numbers, got '2' at 0, 1"),
    (lambda: random_walk_flow(sparse.coo_array(([1.5, -0.5], ([0, 0], [1, 1])), shape=(2, 2))), ValueError, "graph must have non-negative, finite entries, got -0.5"),
    (lambda: random_walk_flow(np.array([[0, 1e13, 0], [1e13, 0, 1], [0, 0, 0]]), 0), ValueError, "teleport must be positive for a directed graph"),
    (lambda: overlapping_flow(nx.path_graph(2), [0, 0]), TypeError, "memberships must be a mapping, got list"),
    (lambda: overlapping_flow(nx.path_graph(2), {0: 1, 1: 1}), TypeError, "memberships must be collections of modules, got 1 for 0"),
    (lambda: overlapping_flow(nx.path_graph(2), {0: "left", 1: ["left"]}), TypeError, "memberships must be collections of modules, got 'left' for 0"),
    (lambda: random_walk_flow(pd.DataFrame(np.eye(2))), TypeError, r"graph must be a networkx graph or a matrix, got DataFrame: graph.to_numpy\(\) is a matrix"),
    (lambda: neighbour_graph([[1.0, 0.0]], True), TypeError, "neighbours must be an int, got bool"),
    (lambda: neighbour_graph([[1.0, 0.0]], 0), ValueError, "neighbours must be at least 1, got 0"),
    (lambda: neighbour_graph([[1.0, 0.0]], 1, 0.0), ValueError, r"threshold must lie in \(0, 1\], got 0.0"),
    (lambda: neighbour_graph([1.0, 0.0]), ValueError, r"vectors must have the shape \(n, d\), got \(2,\)"),
    (lambda: neighbour_graph([[1.0, 0.0], [0.0, 0.0]]), ValueError, "vectors must be finite and not 0, but row 1 is"),
    (lambda: overlapping_flow(nx.DiGraph([(0, 1)]), {0: [0], 1: [0]}), ValueError, "graph must be undirected"),
    (lambda: overlapping_flow(nx.empty_graph(2), {0: [0], 1: [0]}), ValueError, "graph must be connected and have links, got 2 parts"),
    (lambda: overlapping_flow(nx.path_graph(3), {0: [0], 1: [0], 2: []}), ValueError, "memberships must have a module for every node, got none for 2"),
    (lambda: overlapping_flow(nx.path_graph(3), {v: [0, 1] for v in range(3)}), ValueError, "memberships must let the walk come from every module"),
    (lambda: random_walk_flow(nx.Graph([(0, 1, {"weight": 10**400})])), ValueError, "graph must have non-negative entries that a float can hold"),
    (lambda: random_walk_flow(np.array([[0.0, 1.0], [1.0 + 1e-9, 0.0]]), 0), ValueError, "teleport must be positive for a directed graph"),
])  # fmt: skip


def uniform(transitions, teleport=0.15):
    return np.full(transitions.shape[0], 1 / transitions.shape[0])


FAULTS = [(test_a_long_walk_has_the_stationary_rates, "stationary_distribution", uniform)]
