"""Random and planted networks are as they should be, and methods find in them what they should."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from graphs import triangles, weighted_network

from kexue.experiments import infomap_null as null
from kexue.experiments.tasks import communities
from kexue.infomap import infomap, rewired


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
    links = weighted_network(2)
    links.data[:] = 1
    labels, degree = communities.by_degree(links, 3, 0), links.sum(0)
    assert np.bincount(labels).tolist() == [10, 10, 10]
    assert degree[labels == 0].max() <= degree[labels == 1].min() <= degree[labels == 1].max()
    assert degree[labels == 1].max() <= degree[labels == 2].min()


@pytest.mark.verifies("infomap.noise")
def test_a_sparse_random_network_has_many_modules():
    links = null.random_network(300, 4, 0)
    labels = communities.by_infomap(links, 1, 0)
    assert len(set(labels.tolist())) > 20
    assert null.saved_bits(links, labels) > 1
    dense = null.random_network(300, 20, 0)
    assert len(set(communities.by_infomap(dense, 1, 0).tolist())) == 1


@pytest.mark.verifies("infomap.prior")
def test_with_a_prior_it_has_one_and_a_clear_group_remains_one():
    assert len(set(communities.regularized(null.random_network(300, 4, 0), 1, 0).tolist())) == 1
    clear, truth = null.planted(400, 4, 16, 3.5, 0)
    found = communities.regularized(clear, 1, 0)
    assert null.adjusted_mutual_info_score(truth, found) > 0.95


@pytest.mark.fails("infomap.prior")
def test_with_a_prior_groups_are_missed_that_are_found_without():
    found = agreement(10, 1.5)
    assert found["modules_regularized"] == 1
    assert found["ami_package"] > 0.2


def copies(name, count):
    return [null.of_network(null.Config(name, trials=1), step) for step in range(count + 1)]


@pytest.mark.fails("infomap.null")
@pytest.mark.slow
def test_the_florentine_families_save_no_more_than_their_copies():
    found = null.summary(copies("florentine", 19))
    assert found["p"] > 0.1
    assert found["null_most"] == max(row["saved"] for row in copies("florentine", 19)[1:])


def test_southern_women_and_events_stay_apart_in_copies():
    _, sides = null.network("southern_women", False)
    assert sides.sum() == 14
    assert null.network("karate", False)[1] is None


def test_the_control_is_the_random_network_that_its_settings_describe(tmp_path):
    config = null.RECORDINGS["infomap_null/control"]
    links = null.random_network(config.nodes, config.degree, config.seed)
    assert links.sum() / links.shape[0] == pytest.approx(config.degree, abs=0.6)
    assert 95 <= links.shape[0] <= config.nodes
    own = null.of_network(replace(config, trials=1), 0)
    assert own["saved"] == pytest.approx(infomap(links, 0).saved, abs=1e-12)
    copy = rewired(links, 1000 * config.seed + 1)
    of_copy = null.of_network(replace(config, trials=1), 1)
    assert of_copy["saved"] == pytest.approx(infomap(copy, 0, 1).saved, abs=1e-12)
    with pytest.raises(ValueError, match=r"network must be one of \('karate', .*, got 'karat'"):
        null.run(null.Config("karat"), tmp_path)


def test_leiden_gives_the_modularity_of_its_modules():
    graph = nx.convert_node_labels_to_integers(triangles())
    labels, modularity = communities.leiden(nx.to_scipy_sparse_array(graph), 0)
    modules = [set(np.flatnonzero(labels == module).tolist()) for module in set(labels.tolist())]
    assert modularity == pytest.approx(nx.community.modularity(graph, modules), abs=1e-12)
    whole = infomap(graph, 0.0)
    assert np.array_equal(
        communities.by_infomap(nx.to_scipy_sparse_array(graph), 1, 0), list(whole.modules.values())
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


def test_the_mixing_of_planted_groups_is_the_share_of_links_between_them():
    links, group = null.planted_by_mixing(2000, 5, 20, 0.3, seed=0)
    between = (group[:, None] != group) * links.toarray()
    assert between.sum() / links.sum() == pytest.approx(0.3, abs=0.01)


def test_merging_step_by_step_ends_with_two_triangles_and_one_module():
    links = nx.to_numpy_array(nx.Graph([(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (4, 5)]), range(6))
    found = communities.merged_step_by_step(links)
    assert [len(set(labels.tolist())) for labels in found.values()] == [6, 5, 4, 3, 2, 1]
    assert (found[2][:3] == found[2][0]).all()
    assert (found[2][3:] == found[2][3]).all()
