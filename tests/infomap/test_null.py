"""Rewired copies are drawn evenly and keep what they must; the comparison with them."""

import itertools
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from graphs import DIRECTED, directed, karate, weighted_network
from refusing import refuses
from scipy import sparse, stats

from kexue.infomap import Comparison, compare_with_rewired, infomap, map_equation, random_walk_flow, rewired
from kexue.infomap.null import exchange, saved_bits


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


def test_the_order_of_a_bipartite_network_s_nodes_does_not_matter():
    """Links lead from lower numbers to higher ones in the one order; in the other some lead back."""
    links = np.zeros((20, 20), dtype=int)
    links[:8, 8:] = np.random.default_rng(3).random((8, 12)) < 0.4
    links += links.T
    order = np.random.default_rng(4).permutation(20)
    sides = np.repeat([0, 1], [8, 12])[order]
    mixed = links[np.ix_(order, order)]
    for seed in range(3):
        copy = rewired(mixed, seed, sides=sides).toarray()
        assert not copy[sides[:, None] == sides].any()
        assert (copy == copy.T).all()
        assert (copy.sum(0) == mixed.sum(0)).all()
        assert (copy != mixed).any()


@pytest.mark.parametrize("name", DIRECTED)
@pytest.mark.parametrize("null", ["degrees", "shuffled", "strengths"])
def test_a_copy_of_a_directed_network_keeps_what_goes_in_and_out(name, null):
    links = nx.to_scipy_sparse_array(DIRECTED[name], dtype=float)
    if null == "degrees":
        links = (links > 0).astype(float)
    copy = rewired(DIRECTED[name], 3, null)
    assert (copy.diagonal() == links.diagonal()).all()
    if null != "shuffled":
        assert (copy.sum(0) == links.sum(0)).all()
        assert (copy.sum(1) == links.sum(1)).all()
    if null != "strengths":
        assert ((copy > 0).sum(0) == (links > 0).sum(0)).all()
        assert ((copy > 0).sum(1) == (links > 0).sum(1)).all()
        assert sorted(copy.data[copy.data > 0].tolist()) == sorted(links.data.tolist())
    apart = links - sparse.diags_array(links.diagonal())
    assert apart.multiply(copy > 0).count_nonzero() < 0.6 * apart.count_nonzero()
    if name != "both ways":  # which is undirected, and stays so
        assert (copy != copy.T).nnz > 0


def test_weights_in_one_direction_do_not_make_a_bare_network_directed():
    links = weighted_network(2).toarray() * 1.0
    uneven = np.triu(links) + 2 * np.tril(links)
    assert (rewired(uneven, 4) != rewired(links, 4)).nnz == 0
    weighted = rewired(uneven, 4, "shuffled")
    assert (weighted != weighted.T).nnz > 0
    assert compare_with_rewired(uneven, 2) == compare_with_rewired(links, 2)


def test_a_directed_bipartite_network_remains_one():
    left, right = np.arange(12), np.arange(12, 30)
    links = np.zeros((30, 30))
    links[:12, 12:] = np.random.default_rng(0).random((12, 18)) < 0.3
    links[12:, :12] = np.random.default_rng(1).random((18, 12)) < 0.2
    copy = rewired(links, 0, sides=np.repeat([0, 1], [12, 18])).toarray()
    assert not copy[np.ix_(left, left)].any()
    assert not copy[np.ix_(right, right)].any()
    assert (copy[:12].sum(0) == links[:12].sum(0)).all()
    assert (copy[12:].sum(0) == links[12:].sum(0)).all()
    assert (copy.sum(1) == links.sum(1)).all()
    assert (copy * links).sum() < 0.6 * links.sum()
    free = rewired(links, 0).toarray()
    assert free[np.ix_(left, left)].any()


@pytest.mark.slow
def test_all_directed_networks_of_these_degrees_are_drawn_equally_often():
    """Of four nodes with one link in and one out: six cycles, and three times two pairs."""
    possible = [way for way in itertools.permutations(range(4)) if all(i != j for i, j in enumerate(way))]
    first = np.zeros((4, 4))
    first[range(4), (1, 2, 3, 0)] = 1  # pairs alone would be an undirected network
    drawn = Counter(tuple(rewired(first, seed).toarray().argmax(1).tolist()) for seed in range(300))
    assert len(possible) == 9
    assert set(drawn) == set(possible)
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_exchanges_do_not_turn_a_directed_triangle():
    cycle = nx.DiGraph([(0, 1), (1, 2), (2, 0)])
    for seed in range(10):
        assert (rewired(cycle, seed) != nx.to_scipy_sparse_array(cycle)).nnz == 0


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


def directed_groups(inside, outside, seed):
    """Four groups of ten nodes each."""
    return nx.planted_partition_graph(4, 10, inside, outside, seed=seed, directed=True)


@pytest.mark.slow
@pytest.mark.parametrize("null", ["degrees", "strengths"])
def test_directed_groups_save_more_than_their_copies_and_chance_does_not(null):
    assert compare_with_rewired(directed_groups(0.5, 0.03, 0), 19, null=null, teleport=0.15).p == 1 / 20
    for seed in range(3):
        chance = compare_with_rewired(directed(60, seed, 0.03), 19, seed, null=null, teleport=0.15)
        assert chance.saved > 0.1  # modules are found, but no better ones than in copies
        assert chance.p > 0.2


@pytest.mark.parametrize("engine", ["numpy", "infomap"])
def test_the_network_and_its_copies_teleport_alike(engine):
    graph = directed_groups(0.5, 0.03, 1)
    found = compare_with_rewired(graph, 2, 5, engine=engine, teleport=0.3)
    assert found.saved == infomap(graph, 0.3, 5, engine=engine).saved
    assert found.copies == tuple(
        infomap(rewired(graph, i), 0.3, 5, engine=engine).saved for i in (5001, 5002)
    )
    assert compare_with_rewired(karate(), 2) == compare_with_rewired(karate(), 2, teleport=0.0)
    assert compare_with_rewired(karate(), 2).saved != compare_with_rewired(karate(), 2, teleport=0.15).saved


PATH = nx.path_graph(4)
ARROWS = nx.DiGraph([(0, 1), (1, 2)])


test_bad_input_is_named = refuses([
    (lambda: rewired(PATH, -1), ValueError, "seed must be between 0 and 2³¹ − 2, got -1"),
    (lambda: rewired(PATH, 0.5), TypeError, "seed must be an int"),
    (lambda: rewired(PATH, null="weights"), ValueError, r"null must be one of \('degrees', .*\), got 'weights'"),
    (lambda: rewired(nx.DiGraph([(0, 0)])), ValueError, "graph must have links between nodes, got none"),
    (lambda: rewired(np.triu(np.full((3, 3), 0.5)), null="strengths"), ValueError, "graph must have whole weights"),
    (lambda: rewired(ARROWS, sides=[1, 1, 0]), ValueError, r"sides must differ at the ends of each link, got a link \[0, 1\]"),
    (lambda: rewired(nx.empty_graph(3)), ValueError, "graph must have links between nodes, got none"),
    (lambda: rewired(nx.Graph([(0, 0)])), ValueError, "graph must have links between nodes, got none"),
    (lambda: rewired(np.full((2, 2), 0.5), null="strengths"), ValueError, "graph must have whole weights"),
    (lambda: rewired(np.full((2, 2), 1e8), null="strengths"), ValueError, "graph must have whole weights, of ten million at most"),
    (lambda: rewired(PATH, sides=[0, 1, 1, 0]), ValueError, "sides must differ at the ends of each link"),
    (lambda: rewired(PATH, sides=[0, 1]), ValueError, "sides must be 0 or 1 for each of 4 nodes"),
    (lambda: rewired(PATH, sides=[0, 1, 2, 1]), ValueError, "sides must be 0 or 1 for each of 4 nodes"),
    (lambda: rewired("path"), TypeError, "graph must be a networkx graph or a matrix"),
    (lambda: compare_with_rewired(PATH, copies=0), ValueError, "copies must be between 1 and 999, got 0"),
    (lambda: compare_with_rewired(PATH, 1, seed=2**31), ValueError, "seed must be between 0 and 2147482"),
    (lambda: compare_with_rewired(ARROWS, 1), ValueError, "teleport must be positive for a directed graph, got 0"),
    (lambda: compare_with_rewired(ARROWS, 1, teleport=1.5), ValueError, r"teleport must lie in \[0, 1\], got 1.5"),
    (lambda: compare_with_rewired(ARROWS, 1, teleport="1"), TypeError, "teleport must be a"),
    (lambda: compare_with_rewired(PATH, 1, trials=0), ValueError, "trials must be at least 1, got 0"),
])  # fmt: skip


def any_links(links, rng, many, side, directed):
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
    (
        lambda: test_a_copy_of_a_directed_network_keeps_what_goes_in_and_out("directed", "degrees"),
        "exchange",
        lambda links, rng, many, side, directed: exchange(links, rng, many, side, False),
    ),
]
