"""The steps of the search of kexue.infomap one by one: moves, parts, mergers among many, shakes, levels above."""

import itertools
import random

import networkx as nx
import numpy as np
import pytest
from graphs import karate, triangles
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue.infomap import (
    annealed_infomap,
    hierarchical_map_equation,
    infomap,
    loop,
    many_levels,
    map_equation,
    mergers,
    random_walk_flow,
    two_levels,
)
from kexue.infomap.moves import move_nodes
from kexue.infomap.network import Network


@settings(max_examples=25)
@given(st.integers(6, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.15]))
def test_what_is_found_never_costs_more_than_one_module(n, seed, teleport):
    """The article's steps alone end with several modules in a third of these, which cost more or the same."""
    weights = np.triu(np.random.default_rng(seed).random((n, n)) < 0.25, 1)
    weights[0, 1] = True
    found = infomap((weights + weights.T) * 1.0, teleport, seed, steps=())
    assert found.saved >= -1e-12
    assert found.num_modules == 1 or found.saved > 1e-12


def test_nodes_that_the_walk_hardly_leaves_all_go_to_modules_of_their_own():
    """Each into one that is empty, as long as there are any; without those, nobody leaves."""
    network = Network.of(random_walk_flow(nx.to_numpy_array(nx.cycle_graph(8)) + 100 * np.eye(8), 0))
    together = np.zeros(8, dtype=int)
    for seed in range(3):
        moved = move_nodes(network, random.Random(seed), together)
        assert sorted(moved.tolist()) == list(range(8))
        assert not move_nodes(network, random.Random(seed), together, empty=False).any()


def test_a_module_that_all_nodes_have_left_has_rates_of_exactly_zero():
    weights = np.array([[0.1, 0.1, 1, 0.1], [0.2, 0.2, 1, 0.2], [0.3, 0.3, 1, 0.3]]).ravel()
    rates = np.zeros(loop.RATES)
    for node in (0, 1, 2):
        loop._shift(rates, weights, 9, 0, node, 1.0, 0.0)
    assert rates[:4] == pytest.approx([0.6, 0.6, 3, 0.6])
    for node in (2, 0, 1):
        loop._shift(rates, weights, 9, 0, node, -1.0, 0.0)
    assert 0.1 + 0.2 + 0.3 - 0.3 - 0.1 - 0.2 != 0  # what rounding would leave
    assert not rates.any()


@pytest.mark.parametrize("seed", [52, 125])
def test_parts_of_modules_leave_where_no_single_node_does(seed):
    flow = random_walk_flow(nx.planted_partition_graph(5, 6, 0.7, 0.12, seed=seed), 0)
    network = Network.of(flow)
    stuck = two_levels._climb(network, random.Random(seed), None, ())
    again = two_levels._climb(network, random.Random(1), stuck, ())
    assert map_equation(flow, again) >= map_equation(flow, stuck) - 1e-12
    refined = two_levels._refined(network, stuck, random.Random(1), ["refine"])
    assert map_equation(flow, refined) < map_equation(flow, stuck) - 0.04


def test_after_a_shake_those_are_asked_whose_modules_were_dealt(monkeypatch):
    """The first of them has the number 0."""
    network = Network.of(random_walk_flow(nx.ring_of_cliques(5, 4), 0))
    labels, asked = np.arange(20) // 4, []

    def climb(network, rng, start, steps, awake):
        asked.append(awake)
        # Those of other modules stay together, and come before.
        assert sorted({start[4 * i] for i in (1, 2, 4)}) == [0, 1, 2]
        return labels

    monkeypatch.setattr(two_levels, "_pools", lambda *arguments: [[0, 3]])
    monkeypatch.setattr(two_levels, "_climb", climb)
    found = two_levels._shaken(network, labels, random.Random(0), (), two_levels._nobody)
    assert found is labels
    assert len(asked) == 10
    for awake in asked:
        assert awake.tolist() == np.isin(labels, (0, 3)).tolist()


def test_of_many_modules_those_are_paired_that_are_linked_or_next_by_exit_rate():
    """No pair twice: a merger would count twice, the second time without the flow between the two."""
    flow = random_walk_flow(nx.gnp_random_graph(310, 0.02, seed=0, directed=True), 0.15)
    network = Network.of(flow)
    a, b, between = mergers._pairs(network)
    assert (a < b).all()
    pairs = dict(zip(zip(a.tolist(), b.tolist(), strict=True), between.tolist(), strict=True))
    assert len(pairs) == len(a)
    link = (flow.link + flow.link.T).toarray()
    linked = {(int(i), int(j)) for i, j in np.argwhere(np.triu(link, 1))}
    order = network.exits().argsort(kind="stable").tolist()
    following = {(min(pair), max(pair)) for pair in itertools.pairwise(order)}
    assert linked & following
    assert set(pairs) == linked | following
    for pair, flows in pairs.items():
        assert flows == pytest.approx(link[pair], abs=1e-15)


def test_many_mergers_at_once_make_triangles_that_are_apart_their_own_modules():
    """From 318 modules, more than are tried in all pairs, to 106: none joins two triangles."""
    graph = nx.disjoint_union_all([nx.complete_graph(3)] * 106)
    network = Network.of(random_walk_flow(graph, 0.15))
    found = mergers.merge_pairs(network, np.arange(318))
    assert found.tolist() == np.repeat(found[::3], 3).tolist()
    assert sorted(found[::3].tolist()) == list(range(106))


@pytest.mark.parametrize("teleport", [0.0, 0.15])
def test_a_walk_in_modules_that_are_alone_never_leaves_them(teleport):
    graph = nx.planted_partition_graph(4, 8, 0.8, 0.05, seed=3)
    halves = np.arange(32) // 16
    alone = Network.of(random_walk_flow(graph, teleport)).alone(halves)
    np.testing.assert_allclose(alone.merged(halves).exits(), 0, atol=1e-15)
    assert (alone.exits() > 0).all()


def test_levels_are_found_above_modules_and_below():
    """From nine triangles, and from three triangles of triangles, at least what they give together."""
    graph = triangles()
    flow = random_walk_flow(graph, 0)
    three, nine = np.array([v[0] for v in graph]), np.array([3 * v[0] + v[1] for v in graph])
    together = hierarchical_map_equation(flow, [three, nine])
    for start in (three, nine):
        levels = many_levels.search_levels(flow, Network.of(flow), start, random.Random(0))
        assert len(levels) == 2
        assert hierarchical_map_equation(flow, levels) <= together + 1e-12
        assert together < map_equation(flow, start) - 0.08


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.15]))
def test_taking_modules_out_shortens_and_nothing_is_left_to_take_out(seed, teleport):
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.random((24, 24)) < 0.2, 1)
    weights[0, 1] = True
    flow = random_walk_flow((weights + weights.T) * 1.0, teleport)
    levels = tuple(np.arange(24) // size for size in (12, 6, 3))
    flat = many_levels._flattened(flow, levels)
    assert hierarchical_map_equation(flow, flat) <= hierarchical_map_equation(flow, levels) + 1e-12
    assert np.array_equal(flat[-1], levels[-1])
    again = many_levels._flattened(flow, flat)
    assert len(again) == len(flat)
    assert all(map(np.array_equal, again, flat))


def test_cold_annealing_only_goes_down():
    """At the least temperature that is allowed every node goes where L is shortest."""
    for teleport, gain in ((0.0, 2e-3), (0.15, 4e-4)):
        merged = annealed_infomap(karate(), teleport, sweeps=0).codelength
        for seed in (0, 1):
            cold = annealed_infomap(karate(), teleport, seed, sweeps=3, temperature=1e-12)
            assert cold.codelength < merged - gain


@pytest.mark.parametrize("modules", [3, 15, 60, 200])  # the first two by a table of all pairs, the others not
@pytest.mark.parametrize("teleport", [0.0, 0.15])
@pytest.mark.parametrize("compiled", [True, False])
def test_modules_are_linked_by_what_flows_between_their_nodes(modules, teleport, compiled, monkeypatch):
    if not compiled:  # as where numba is not installed: NumPy adds up the flow within modules
        monkeypatch.setattr(loop, "njit", None)
    links = nx.to_numpy_array(nx.gnp_random_graph(200, 0.01, seed=1)) * 1.0
    flow = random_walk_flow(links, teleport)
    labels = np.random.default_rng(0).permutation(np.arange(200) % modules)
    merged = Network.of(flow).merged(labels)
    member = labels == np.arange(modules)[:, None]
    there = member @ flow.link.toarray() @ member.T
    np.fill_diagonal(there, 0)
    found = np.zeros((modules, modules))
    np.add.at(found, (merged.source, merged.target), merged.both)
    np.testing.assert_allclose(found, there + there.T, atol=1e-15)
    assert len(merged.both) == np.count_nonzero(there + there.T)
    np.testing.assert_allclose(merged.out, there.sum(1), atol=1e-15)


def test_levels_above_and_below_are_searched_with_the_same_steps(monkeypatch):
    seen = []

    def search(network, rng, steps=two_levels.STEPS):
        seen.append((len(network.visit), steps))
        return two_levels.search_two_levels(network, rng, steps=steps)

    monkeypatch.setattr(many_levels, "search_two_levels", search)
    infomap(triangles(), 0, levels=None, steps=["refine"])
    assert {size < 27 for size, _ in seen} == {True, False}  # modules as nodes above, nodes below
    assert all(steps == ["refine"] for _, steps in seen)
