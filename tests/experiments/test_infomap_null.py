"""Rewired copies are drawn evenly and keep what they must; random and planted networks are as they should be."""

import itertools
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from graphs import triangles
from scipy import sparse, stats

from kexue.experiments import infomap_null as null
from kexue.infomap import infomap


def weighted_ring(seed):
    graph = nx.gnp_random_graph(30, 0.2, seed=seed)
    rng = np.random.default_rng(seed)
    for *_, attributes in graph.edges(data=True):
        attributes["weight"] = int(rng.integers(1, 6))
    return nx.to_scipy_sparse_array(graph, dtype=int)


def upper(links):
    return sorted(sparse.triu(links).tocoo().data.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_a_rewired_copy_keeps_degrees_and_weights_and_has_other_links(seed):
    links = weighted_ring(seed)
    copy = null.rewired(links, "shuffled", seed)
    assert (copy != copy.T).nnz == 0
    assert not copy.diagonal().any()
    assert ((copy > 0).sum(0) == (links > 0).sum(0)).all()
    assert upper(copy) == upper(links)
    assert links.multiply(copy > 0).nnz < 0.6 * links.nnz  # chance alone leaves a fifth or so


def test_a_copy_that_keeps_strengths_does_so_and_has_no_loops():
    links = weighted_ring(5)
    copy = null.rewired(links, "strengths", 0)
    assert (copy.sum(0) == links.sum(0)).all()
    assert (copy != copy.T).nnz == 0
    assert not copy.diagonal().any()
    assert copy.nnz > links.nnz  # the units of a weight go to several nodes


def test_a_bipartite_network_remains_one():
    links, sides = null.network("southern_women", False)
    copy = null.rewired(links, "degrees", 1, sides)
    row, column = copy.nonzero()
    assert (sides[row] != sides[column]).all()
    assert (copy.sum(0) == links.sum(0)).all()


@pytest.mark.parametrize(
    "degrees",
    [(1, 1, 1, 1, 1, 1), (2, 2, 2, 1, 1), (2, 2, 2, 2, 2, 2)],
    ids=["pairs", "a path and more", "cycles"],
)
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
        row, column = sparse.triu(null.rewired(first, "degrees", seed)).nonzero()
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
    saved = null.saved_bits(sparse.csr_array(links), np.array([0, 0, 0, 1, 1, 1]))
    assert saved == pytest.approx(one - two, abs=1e-12)
    assert saved == pytest.approx(2.557 - 2.321, abs=1e-3)


def test_p_is_the_share_of_all_networks_that_save_as_much():
    assert null.p_value(1.0, [0.5, 1.0 + 1e-12, 2.0]) == 3 / 4
    assert null.p_value(0.0, [0.0] * 19) == 1
    assert null.p_value(1.0, [0.0] * 19) == 1 / 20


@pytest.mark.parametrize("groups", [2, 4, 10])
def test_planted_networks_have_the_mixing_of_their_signal(groups):
    for signal in (0.5, 1.5):
        drawn = [null.planted(1000, groups, 8, signal, seed) for seed in range(4)]
        mixing = [(truth[links.nonzero()[0]] != truth[links.nonzero()[1]]).mean() for links, truth in drawn]
        # λ = 1 − µ·q/(q − 1) is the walk's second eigenvalue, and the limit is at √c·λ = 1.
        expected = (1 - signal / 8**0.5) * (groups - 1) / groups
        assert np.mean(mixing) == pytest.approx(expected, abs=0.015)
        assert np.mean([links.sum() / links.shape[0] for links, _ in drawn]) == pytest.approx(8, abs=0.2)
        assert all(len(set(truth.tolist())) == groups for _, truth in drawn)


def test_the_largest_part_is_connected_and_the_largest():
    links = null.random_network(300, 2, 0)
    graph = nx.from_scipy_sparse_array(links)
    assert nx.is_connected(graph)
    whole = nx.fast_gnp_random_graph(300, 2 / 299, seed=0)
    assert len(graph) == max(map(len, nx.connected_components(whole)))


def agreement(groups, signal):
    config = null.Config("planted", nodes=400, groups=groups, trials=1)
    return null.of_planted(config, null.SEEDS * null.SIGNALS.index(signal))


@pytest.mark.verifies("infomap.limit")
def test_groups_are_found_above_the_limit_only():
    weak, strong = agreement(4, 0.5), agreement(4, 2.5)
    assert max(weak[f"ami_{method}"] for method in ("infomap", "package", "leiden", "spectral")) < 0.15
    assert min(strong[f"ami_{method}"] for method in ("leiden", "spectral")) > 0.85
    between = agreement(4, 1.5)
    assert between["ami_spectral"] > between["ami_infomap"] + 0.1
    assert abs(between["ami_degree"]) < 0.05


@pytest.mark.fails("infomap.limit")
def test_below_the_limit_small_modules_still_tell_which_nodes_are_of_a_group():
    config = null.Config("planted", groups=10, trials=1)
    found = null.of_planted(config, null.SEEDS * null.SIGNALS.index(0.75))
    assert found["modules_infomap"] > 50  # of linked nodes, which are of one group more often than others
    assert found["ami_infomap"] > 0.07 > found["ami_leiden"]


def test_slices_by_degree_are_equal_and_in_order():
    links = weighted_ring(2)
    links.data[:] = 1
    labels, degree = null.by_degree(links, 3, 0), links.sum(0)
    assert np.bincount(labels).tolist() == [10, 10, 10]
    assert degree[labels == 0].max() <= degree[labels == 1].min() <= degree[labels == 1].max()
    assert degree[labels == 1].max() <= degree[labels == 2].min()


@pytest.mark.verifies("infomap.noise")
def test_a_sparse_random_network_has_many_modules():
    links = null.random_network(300, 4, 0)
    labels = null.by_infomap(links, 1, 0)
    assert len(set(labels.tolist())) > 20
    assert null.saved_bits(links, labels) > 1
    dense = null.random_network(300, 20, 0)
    assert len(set(null.by_infomap(dense, 1, 0).tolist())) == 1


@pytest.mark.verifies("infomap.prior")
def test_with_a_prior_it_has_one_and_a_clear_group_remains_one():
    assert len(set(null.regularized(null.random_network(300, 4, 0), 1, 0).tolist())) == 1
    clear, truth = null.planted(400, 4, 16, 3.5, 0)
    found = null.regularized(clear, 1, 0)
    assert null.adjusted_mutual_info_score(truth, found) > 0.95


@pytest.mark.fails("infomap.prior")
def test_with_a_prior_groups_are_missed_that_are_found_without():
    found = agreement(10, 1.5)
    assert found["modules_regularized"] == 1
    assert found["ami_package"] > 0.2


def copies(name, count):
    return [null.of_network(null.Config(name, trials=1), step) for step in range(count + 1)]


@pytest.mark.verifies("infomap.null")
def test_the_karate_club_saves_more_than_its_copies():
    found = null.summary(copies("karate", 19))
    assert found["p"] == 1 / 20
    assert found["z"] > 3


@pytest.mark.fails("infomap.null")
def test_the_florentine_families_do_not():
    assert null.summary(copies("florentine", 19))["p"] > 0.1


def test_leiden_gives_the_modularity_of_its_modules():
    graph = nx.convert_node_labels_to_integers(triangles())
    labels, modularity = null.leiden(nx.to_scipy_sparse_array(graph), 0)
    modules = [set(np.flatnonzero(labels == module).tolist()) for module in set(labels.tolist())]
    assert modularity == pytest.approx(nx.community.modularity(graph, modules), abs=1e-12)
    whole = infomap(graph, 0.0)
    assert np.array_equal(
        null.by_infomap(nx.to_scipy_sparse_array(graph), 1, 0), list(whole.modules.values())
    )


def test_pairs_of_words_are_counted(monkeypatch):
    words, tags = (
        (("甲", "乙", "，", "乙", "丙"), ("甲", "丙", "甲")),
        (("ns", "ns", "w", "ns", "n"), ("ns", "n", "ns")),
    )
    text = null.data.TaggedText(words, tags, null.data.SOURCES["people_daily"])
    monkeypatch.setattr(null.data, "people_daily", lambda: text)
    near = null.pairs_of_words(3, 1, near=True)
    assert {frozenset(edge): n for *edge, n in near.edges(data="weight")} == {
        frozenset("甲乙"): 1,
        frozenset("乙丙"): 1,
        frozenset("甲丙"): 2,
    }
    together = null.pairs_of_words(2, 1, near=False)
    assert list(together.edges(data="weight")) == [("乙", "甲", 1)]
    assert null.pairs_of_words(2, 2, near=False).size() == 0
