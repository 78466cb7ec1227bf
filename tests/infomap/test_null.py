"""Rewired copies are drawn evenly and keep what they must; the comparison with them."""

import itertools
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from graphs import karate, weighted_network
from refusing import refuses
from scipy import sparse, stats

from kexue.infomap import Comparison, compare_with_rewired, infomap, map_equation, random_walk_flow, rewired
from kexue.infomap.null import saved_bits


def upper(links):
    return sorted(sparse.triu(links).tocoo().data.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_a_rewired_copy_keeps_degrees_and_weights_and_has_other_links(seed):
    links = weighted_network(seed)
    copy = rewired(links, seed, "shuffled")
    assert (copy != copy.T).nnz == 0
    assert not copy.diagonal().any()
    assert ((copy > 0).sum(0) == (links > 0).sum(0)).all()
    assert upper(copy) == upper(links)
    assert links.multiply(copy > 0).nnz < 0.6 * links.nnz  # chance alone leaves a fifth or so
    bare = rewired(links, seed)
    assert (bare > 0).nnz == (bare == 1).nnz == links.nnz
    assert ((bare > 0) != (copy > 0)).nnz == 0


def test_a_copy_that_keeps_strengths_does_so_and_has_no_loops():
    links = weighted_network(5)
    copy = rewired(links, 0, "strengths")
    assert (copy.sum(0) == links.sum(0)).all()
    assert (copy != copy.T).nnz == 0
    assert not copy.diagonal().any()
    assert copy.nnz > links.nnz  # the units of a weight go to several nodes


def test_loops_stay_and_the_graph_is_left_as_it_is():
    graph = karate()
    graph.add_edge(3, 3, weight=2.5)
    before = list(graph.edges(data=True))
    for null, loop in (("degrees", 1.0), ("shuffled", 2.5)):
        copy = rewired(graph, 7, null)
        place = list(graph).index(3)
        assert copy[place, place] == loop
        assert copy.diagonal().sum() == loop
        assert (copy.astype(bool).sum(0) == nx.to_scipy_sparse_array(graph).astype(bool).sum(0)).all()
    assert list(graph.edges(data=True)) == before


def test_a_bipartite_network_remains_one():
    graph = nx.davis_southern_women_graph()
    links = nx.to_scipy_sparse_array(graph)
    sides = np.array([side for _, side in graph.nodes(data="bipartite")])
    for seed in range(3):
        copy = rewired(graph, seed, sides=sides)
        row, column = copy.nonzero()
        assert (sides[row] != sides[column]).all()
        assert (copy.sum(0) == links.sum(0)).all()
        assert (copy != links).nnz > 0


@pytest.mark.parametrize(
    "degrees",
    [(1, 1, 1, 1, 1, 1), (2, 2, 2, 1, 1), (2, 2, 2, 2, 2, 2)],
    ids=["pairs", "a path and more", "cycles"],
)
@pytest.mark.slow
def test_all_networks_of_these_degrees_are_drawn_equally_often(degrees):
    every_pair = list(itertools.combinations(range(len(degrees)), 2))
    possible = [
        frozenset(chosen)
        for chosen in itertools.combinations(every_pair, sum(degrees) // 2)
        if np.array_equal(np.bincount(np.ravel(chosen), minlength=len(degrees)), degrees)
    ]
    first = nx.to_scipy_sparse_array(nx.Graph(sorted(possible[0])), nodelist=range(len(degrees)), dtype=int)
    drawn = Counter()
    for seed in range(15 * len(possible)):
        row, column = sparse.triu(rewired(first, seed)).nonzero()
        drawn[frozenset(zip(row.tolist(), column.tolist(), strict=True))] += 1
    assert set(drawn) == set(possible)
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_bits_saved_are_those_of_the_map_equation_by_hand():
    links = np.zeros((6, 6))
    for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)]:
        links[a, b] = links[b, a] = 1
    visits = np.array([2, 2, 3, 3, 2, 2]) / 14
    one = -(visits * np.log2(visits)).sum()
    in_module = np.array([2, 2, 3, 1]) / 8  # three nodes and the exit
    two = 1 / 7 - 8 / 7 * (in_module * np.log2(in_module)).sum()
    saved = saved_bits(sparse.csr_array(links), np.array([0, 0, 0, 1, 1, 1]))
    assert saved == pytest.approx(one - two, abs=1e-12)
    assert saved == pytest.approx(2.557 - 2.321, abs=1e-3)
    assert infomap(links, 0).saved == pytest.approx(saved, abs=1e-12)


def test_p_is_the_share_of_all_networks_that_save_as_much():
    assert Comparison(1.0, (0.5, 1.0 + 1e-12, 2.0)).p == 3 / 4
    assert Comparison(0.0, (0.0,) * 19).p == 1
    assert Comparison(1.0, (0.0,) * 19).p == 1 / 20


@pytest.mark.verifies("infomap.null")
def test_the_karate_club_saves_more_than_its_copies():
    found = compare_with_rewired(nx.karate_club_graph(), copies=19, seed=3)  # whose weights count for nothing
    assert found.p == 1 / 20
    flow = random_walk_flow(karate(), 0)
    whole = infomap(karate(), 0, 3)
    assert found.saved == pytest.approx(map_equation(flow, [0] * 34) - whole.codelength, abs=1e-9)
    second = infomap(rewired(nx.karate_club_graph(), 3002), 0, 3)
    assert found.copies[1] == pytest.approx(second.saved, abs=1e-9)
    assert len(set(found.copies)) > 10


def test_weights_count_where_copies_have_them():
    graph = nx.karate_club_graph()
    found = compare_with_rewired(graph, copies=3, null="strengths")
    assert found.saved == pytest.approx(infomap(graph, 0).saved, abs=1e-9)
    assert found.copies == tuple(infomap(rewired(graph, i, "strengths"), 0).saved for i in (1, 2, 3))


PATH = nx.path_graph(4)


test_bad_input_is_named = refuses([
    (lambda: rewired(PATH, -1), ValueError, "seed must be between 0 and 2³¹ − 2, got -1"),
    (lambda: rewired(PATH, 0.5), TypeError, "seed must be an int"),
    (lambda: rewired(PATH, null="weights"), ValueError, r"null must be one of \('degrees', .*\), got 'weights'"),
    (lambda: rewired(nx.DiGraph([(0, 1)])), ValueError, "graph must be undirected"),
    (lambda: rewired(nx.empty_graph(3)), ValueError, "graph must have links between nodes, got none"),
    (lambda: rewired(nx.Graph([(0, 0)])), ValueError, "graph must have links between nodes, got none"),
    (lambda: rewired(np.full((2, 2), 0.5), null="strengths"), ValueError, "graph must have whole weights"),
    (lambda: rewired(np.full((2, 2), 1e8), null="strengths"), ValueError, "of ten million at most"),
    (lambda: rewired(PATH, sides=[0, 1, 1, 0]), ValueError, "sides must differ at the ends of each link"),
    (lambda: rewired(PATH, sides=[0, 1]), ValueError, "sides must be 0 or 1 for each of 4 nodes"),
    (lambda: rewired(PATH, sides=[0, 1, 2, 1]), ValueError, "sides must be 0 or 1 for each of 4 nodes"),
    (lambda: rewired("path"), TypeError, "graph must be a networkx graph or a matrix"),
    (lambda: compare_with_rewired(PATH, copies=0), ValueError, "copies must be between 1 and 999, got 0"),
    (lambda: compare_with_rewired(PATH, 1, seed=2**31), ValueError, "seed must be between 0 and 2147482"),
    (lambda: compare_with_rewired(PATH, 1, trials=0), ValueError, "trials must be at least 1, got 0"),
])  # fmt: skip


def any_links(links, rng, many, two_sides):
    """Copies in which nothing keeps its number of links."""
    nodes = 1 + max(map(max, links))
    links[:] = [(int(a), int(a + 1) % nodes) for a in rng.integers(nodes, size=len(links))]


FAULTS = [
    (lambda: test_a_rewired_copy_keeps_degrees_and_weights_and_has_other_links(0), "exchange", any_links),
    (
        lambda: test_a_rewired_copy_keeps_degrees_and_weights_and_has_other_links(0),
        "exchange",
        lambda *arguments: None,
    ),
]
