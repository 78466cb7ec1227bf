"""The search of kexue.infomap: enumeration of partitions, invariants, the C++ package, bad input."""

import dataclasses
import functools
import importlib.util
import itertools
import math
import random
import sys
from collections import Counter

import networkx as nx
import numpy as np
import pytest
import seeded  # noqa: F401  # Hypothesis's profile
from graphs import DIRECTED, UNDIRECTED, karate, optimum, partitions, random_graph, triangles
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refuses

from kexue.experiments.infomap_optima import random_eight
from kexue.infomap import (
    Comparison,
    HierarchicalCode,
    annealed_infomap,
    entropy,
    hierarchical_map_equation,
    infomap,
    loop,
    map_equation,
    random_walk_flow,
    search_stages,
    two_levels,
)
from kexue.infomap.codes import plogp
from kexue.infomap.mergers import alternatives_for, merge_pairs
from kexue.infomap.moves import move_nodes
from kexue.infomap.network import Network, relative_codelength
from kexue.infomap.two_levels import STEPS


def test_enumeration_counts_bell_numbers_and_agrees_with_the_map_equation():
    assert [len(partitions(n)) for n in range(1, 8)] == [1, 2, 5, 15, 52, 203, 877]
    for seed in range(10):
        flow = random_walk_flow(random_graph(seed, True)[0])
        if len(flow.visit) <= 6:
            every = [map_equation(flow, row) for row in partitions(len(flow.visit))]
            assert optimum(flow) == pytest.approx(min(every), abs=1e-12)


def assert_optimal(graph, teleport):
    flow = random_walk_flow(graph, teleport)
    found = infomap(graph, teleport, trials=10)
    assert found.codelength == pytest.approx(optimum(flow), abs=1e-9)
    assert found.codelength == pytest.approx(map_equation(flow, found.modules), abs=1e-12)


@functools.cache
def connected(*sizes):
    return [g for g in nx.graph_atlas_g() if len(g) in sizes and nx.is_connected(g)]


@pytest.mark.unchecked
@pytest.mark.verifies("infomap.alg1")
@pytest.mark.parametrize("teleport", [0.0, 0.15])
@pytest.mark.slow
def test_ten_trials_find_the_optimum_of_small_graphs(teleport):
    """The experiment infomap_optima has thousands of larger ones."""
    assert len(connected(2, 3, 4, 5)) == 30
    for graph in connected(2, 3, 4, 5):
        assert_optimal(graph, teleport)


# In 39 and 144 the optimum joins nodes without a link between them.
@pytest.mark.parametrize("seed", [0, 1, 39, 144])
def test_ten_trials_find_the_optimum_of_random_graphs_of_eight(seed):
    assert_optimal(random_eight(seed), 0.15)


# What must happen at once there: three modules join (642, 2049), or all are one, and then a node leaves (2873).
@pytest.mark.parametrize("seed", [642, 2049, 2873])
def test_shakes_lead_out_of_hollows_that_every_trial_ends_in(seed):
    graph = random_eight(seed)
    assert_optimal(graph, 0.15)
    without = infomap(graph, 0.15, trials=10, steps=[step for step in STEPS if step != "shakes"])
    assert without.codelength > optimum(random_walk_flow(graph, 0.15)) + 0.01


def test_a_node_may_leave_for_a_module_of_its_own():
    """Node 3, which the walk often returns to at once; moves to neighbours' modules alone end with all in one."""
    graph = nx.Graph()
    graph.add_weighted_edges_from([(0, 4, 5), (1, 1, 5), (1, 2, 5), (1, 4, 5), (3, 3, 3), (3, 4, 2)])
    assert_optimal(graph, 0)
    assert len(set(infomap(graph, 0, trials=10).modules.values())) == 2


@pytest.mark.fails("infomap.alg1")
def test_the_article_s_steps_alone_miss_an_optimum_in_every_trial():
    """One of two among the 853 connected graphs of seven nodes, at τ = 0."""
    graph = nx.Graph([(0, 1), (1, 2), (1, 5), (2, 3), (2, 6), (3, 4), (5, 6)])
    assert_optimal(graph, 0.0)
    article = infomap(graph, 0.0, trials=10, steps=())
    assert article.codelength > optimum(random_walk_flow(graph, 0.0)) + 0.02
    assert set(article.modules.values()) == {0}


@pytest.mark.slow
@pytest.mark.fails("infomap.alg1")
@pytest.mark.unchecked
def test_the_article_s_steps_miss_two_optima_of_seven_nodes():
    missed = [
        graph
        for graph in connected(7)
        if infomap(graph, 0.0, trials=10, steps=()).codelength > optimum(random_walk_flow(graph, 0.0)) + 1e-9
    ]
    assert len(connected(7)) == 853
    assert len(missed) == 2


@pytest.mark.verifies("infomap.alg1")
@pytest.mark.parametrize("teleport", [0.0, 0.15])
def test_no_stage_of_the_search_makes_the_description_longer(teleport):
    graphs = [karate(), triangles(), nx.planted_partition_graph(4, 15, 0.5, 0.03, seed=0), nx.path_graph(2)]
    for graph, seed in itertools.product(graphs, range(3)):
        stages = search_stages(graph, teleport, seed)
        flow = random_walk_flow(graph, teleport)
        assert stages[0].modules == {v: i for i, v in enumerate(graph)}
        for stage in stages:
            assert map_equation(flow, stage.modules) == pytest.approx(stage.codelength, abs=1e-12)
        assert (np.diff([stage.codelength for stage in stages]) <= 1e-12).all()
        found = infomap(graph, teleport, seed)
        assert found.codelength == pytest.approx(stages[-1].codelength, abs=1e-12)
        assert len(stages) > 1


@pytest.mark.system
@pytest.mark.unchecked
@pytest.mark.verifies("infomap.claim2")
@pytest.mark.parametrize("mixing", [0.3, 0.5])
@pytest.mark.parametrize(("nodes", "trials"), [(1000, 3), (3000, 1)])  # the chapter has 10,000 as well
def test_the_search_is_as_good_as_the_package_s_on_benchmark_graphs(nodes, trials, mixing):
    sizes = {"average_degree": 20, "max_degree": 50, "min_community": 20, "max_community": 100}
    for seed in (2, 3):
        graph = nx.LFR_benchmark_graph(nodes, 3, 1.5, mixing, seed=seed, **sizes)
        ours, theirs = (infomap(graph, 0, 0, 2, trials, engine).codelength for engine in ("numpy", "infomap"))
        assert ours <= 1.005 * theirs


@pytest.mark.verifies("infomap.bound")
def test_the_karate_club_goes_below_its_entropy():
    found = infomap(karate(), 0, trials=10)
    assert found.codelength == pytest.approx(4.3118, abs=1e-4)
    visit = random_walk_flow(karate(), 0).visit
    assert found.codelength < entropy(visit)
    # Nodes that are drawn independently, as often as the walk visits them, cost more with the same modules.
    drawn = np.random.default_rng(0).choice(34, 20_000, p=visit)
    assert HierarchicalCode.fit(drawn.tolist(), found.modules).codelength > entropy(visit) + 0.5
    assert found.index_codelength + found.module_codelength == pytest.approx(found.codelength)
    assert found.levels == (found.modules,)
    assert set(found.modules) == set(range(34))
    assert len(set(found.modules.values())) == 3


@pytest.mark.verifies("infomap.claim1")
def test_planted_groups_are_found_and_the_seed_decides():
    graph = nx.planted_partition_graph(5, 20, 0.5, 0.01, seed=1)
    found = infomap(graph, 0, seed=3)
    assert found == infomap(graph, 0, seed=3)
    groups = Counter((found.modules[v], v // 20) for v in graph)
    assert sorted(groups.values()) == [20] * 5


def test_what_was_found_says_how_many_modules_and_what_they_save():
    for levels in (2, None):
        found = infomap(triangles(), 0, trials=3, levels=levels)
        assert found.num_modules == len(set(found.modules.values()))
        assert found.labels.tolist() == [found.modules[node] for node in triangles()]
        one = map_equation(random_walk_flow(triangles(), 0), [0] * 27)
        assert found.saved == pytest.approx(one - found.codelength, abs=1e-12)
    assert infomap(nx.complete_graph(5), 0).saved == 0
    assert infomap(nx.complete_graph(5), 0).num_modules == 1


def test_what_was_found_cannot_be_changed():
    graph = nx.path_graph(3)
    records = [
        infomap(graph, 0),
        search_stages(graph, 0)[0],
        random_walk_flow(graph, 0),
        Comparison(1.0, (0.5,)),
    ]
    records += [HierarchicalCode.fit("aab", {"a": 0, "b": 1}), Network.of(records[2])]
    for record in records:
        for field in dataclasses.fields(record):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(record, field.name, None)


@pytest.mark.unchecked
def test_integers_of_numpy_are_integers():
    one, other = infomap(karate(), 0, 3, 2, 2), infomap(karate(), 0, np.int64(3), np.int8(2), np.uint8(2))
    assert one == other
    assert search_stages(karate(), 0, np.int32(1)) == search_stages(karate(), 0, 1)
    assert annealed_infomap(nx.path_graph(3), 0, np.int64(1), np.int64(2)).num_modules == 1


def test_nodes_without_links_share_a_module_if_that_is_shorter():
    graph = nx.disjoint_union(nx.complete_graph(5), nx.empty_graph(400))  # more than are tried in all pairs
    ours, theirs = infomap(graph), infomap(graph, engine="infomap")
    assert ours.codelength <= 1.0001 * theirs.codelength
    assert len(set(ours.modules.values())) == 2


@pytest.mark.parametrize("levels", [2, None])
def test_isolated_nodes_self_loops_and_several_parts(levels):
    graph = nx.disjoint_union(nx.complete_graph(4), nx.complete_graph(4))
    graph.add_edge(0, 0)
    graph.add_nodes_from([8, 9])
    for teleport in (0.0, 0.15):
        found = infomap(graph, teleport, levels=levels)
        groups = [{found.levels[-1][v] for v in part} for part in (range(4), range(4, 8))]
        assert [len(group) for group in groups] == [1, 1]
        assert groups[0] != groups[1]
        assert math.isfinite(found.codelength)
    assert infomap(nx.empty_graph(3)).codelength == pytest.approx(math.log2(3))
    assert infomap(nx.empty_graph(1)).codelength == 0


# --- Moves and mergers -------------------------------------------------------------------------


def random_network(n, seed, teleport):
    rng = np.random.default_rng(seed)
    flow = random_walk_flow(rng.random((n, n)) * (rng.random((n, n)) < 0.4), teleport)
    return flow, Network.of(flow), rng


def _compact(labels):
    return np.unique(labels, return_inverse=True)[1]


@given(st.integers(0, 10**6), st.sampled_from([0.15, 0.5]))
def test_alternatives_for_a_node_are_priced_as_the_map_equation_does(seed, teleport):
    flow, network, rng = random_network(8, seed, teleport)
    labels = _compact(rng.integers(0, 4, 8))
    modules, lengths = alternatives_for(network, labels, 3)
    assert {labels[3], labels.max() + 1} <= set(modules.tolist())
    here = relative_codelength(network, labels)
    for choice, length in zip(modules, lengths, strict=True):
        changed = labels.copy()
        changed[3] = choice
        change = map_equation(flow, changed) - map_equation(flow, labels)
        assert length - here == pytest.approx(change, abs=1e-12)
        assert relative_codelength(network, _compact(changed)) == pytest.approx(length, abs=1e-12)


@pytest.mark.verifies("infomap.alg2")
@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize(("teleport", "seed"), [(0.0, 1), (0.15, 0)])  # other seeds end a little above
def test_merging_and_annealing_come_as_far_on_small_graphs(teleport, seed):
    merged = annealed_infomap(karate(), teleport, sweeps=0)
    annealed = annealed_infomap(karate(), teleport, seed).codelength
    found = infomap(karate(), teleport, trials=10)
    assert annealed == pytest.approx(found.codelength, abs=1e-9)
    assert annealed < merged.codelength - 0.05
    assert annealed_infomap(karate(), teleport, 1, 5) == annealed_infomap(karate(), teleport, 1, 5)
    for graph in connected(2, 3, 4):
        flow = random_walk_flow(graph, teleport)
        assert annealed_infomap(graph, teleport, sweeps=30).codelength == pytest.approx(
            optimum(flow), abs=1e-9
        )
    assert annealed_infomap(nx.empty_graph(3)).codelength == pytest.approx(math.log2(3))


@pytest.mark.parametrize(("n", "seed"), [(8, 8), (10, 15), (12, 68)])
def test_annealing_says_one_module_where_that_is_shorter(n, seed):
    """Merging pairs stops at three modules there, which are longer than one."""
    weights = np.triu(np.random.default_rng(seed).random((n, n)) < 0.25, 1)
    found = annealed_infomap((weights + weights.T) * 1.0, 0.15, 0, sweeps=0)
    assert set(found.modules.values()) == {0}


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.15]), st.sampled_from([0.0, 0.3]), st.booleans())
def test_after_the_moves_no_single_move_helps(seed, teleport, outer, started):
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.random((9, 9)) * (rng.random((9, 9)) < 0.4), 1)
    weights[0, 1] = 1.0
    network = Network.of(random_walk_flow(weights + weights.T, teleport))
    network = dataclasses.replace(network, outer=np.array([outer]))
    start = _compact(rng.integers(0, 4, 9)) if started else None
    before = divided_length(network, np.arange(9) if start is None else start)
    # In one call, nodes that nothing happened to are not asked again; so call until nothing happens.
    labels, length = start, before
    while True:
        moved = move_nodes(network, random.Random(seed), labels)
        if divided_length(network, moved) == length:
            break
        labels, length = moved, divided_length(network, moved)
        assert length <= before + 1e-12
    labels = moved
    for node in range(9):
        linked = labels[network.target[slice(*network.start[node : node + 2])]]
        for choice in {*linked.tolist(), labels.max() + 1}:
            changed = labels.copy()
            changed[node] = choice
            assert divided_length(network, _compact(changed)) >= length - 1e-9


def divided_length(network, labels):
    """L as if one module alone had a codebook, too: what moves of nodes go by."""
    merged = network.merged(labels)
    exits = merged.exits()
    used = plogp(merged.exits_of_groups()).sum()
    return used - 2 * plogp(exits).sum() + plogp(exits + merged.visit).sum()


@pytest.fixture
def in_python(monkeypatch):
    """The search as it is where numba is not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)
    specification = importlib.util.spec_from_file_location("loop_in_python", loop.__file__)
    plain = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(plain)
    assert plain.njit is None
    monkeypatch.setattr("kexue.infomap.loop", plain)
    return plain


@pytest.mark.parametrize("levels", [2, None])
@pytest.mark.slow
def test_compiled_and_plain_loops_find_the_same_modules(levels, request):
    pytest.importorskip("numba")
    graphs = [(graph, 0.0) for graph in UNDIRECTED.values()] + [(graph, 0.15) for graph in DIRECTED.values()]
    graphs += [(graph, 0.15) for graph in UNDIRECTED.values()] + [(random_eight(s), 0.15) for s in range(5)]
    compiled = [infomap(graph, teleport, 5, levels) for graph, teleport in graphs]
    request.getfixturevalue("in_python")
    for (graph, teleport), one in zip(graphs, compiled, strict=True):
        plain = infomap(graph, teleport, 5, levels)
        assert plain.levels == one.levels
        assert plain.codelength == one.codelength


@pytest.mark.slow
@settings(max_examples=2)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.15]))
@pytest.mark.unchecked
def test_modules_are_divided_at_once_as_well_as_their_codebooks_allow(seed, teleport):
    """Levels below: each module is a group, whose own exit mark is in the codebook of its parts."""
    rng = np.random.default_rng(seed)
    # Two triangles, loosely joined, make the module 0; four other nodes the module 1.
    weights = np.triu(rng.random((10, 10)) * (rng.random((10, 10)) < 0.3) * 0.5, 1)
    for a, b in ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9)):
        weights[a, b] += 2 * rng.random()
    flow = random_walk_flow(weights + weights.T, teleport)
    network, coarse = Network.of(flow), np.array([0] * 6 + [1] * 4)
    parts, whole = network.parts(coarse), hierarchical_map_equation(flow, [coarse])
    undivided = parts.merged(coarse, links=False).lengths()
    inside = [whole]
    for one, other in itertools.product(partitions(6), partitions(4)[::7]):
        fine = np.concatenate([one, other + 9])
        change = hierarchical_map_equation(flow, [coarse, fine]) - whole
        lengths = parts.merged(_compact(fine), links=False).lengths()
        assert (lengths - undivided).sum() == pytest.approx(change, abs=1e-12)
        inside.append(whole + change)
    found = [two_levels.search_two_levels(parts, random.Random(i)) for i in range(5)]
    lengths = [hierarchical_map_equation(flow, [coarse, labels]) for labels in found]
    assert min(lengths) <= min(inside) + 1e-9
    merged = merge_pairs(parts, np.arange(10))
    length = relative_codelength(parts, merged)
    for a, b in itertools.combinations(range(merged.max() + 1), 2):
        joined = _compact(np.where(merged == b, a, merged))
        within = (coarse[merged == a][0] == coarse[merged == b][0]) and (coarse[merged == a] == 0).all()
        if within and teleport and len(set(joined[:6])) > 1:
            assert relative_codelength(parts, joined) >= length - 1e-9


test_bad_input_is_named = refuses([
    (lambda: search_stages(nx.path_graph(3), seed=-1), ValueError, "seed must be between 0 and 2³¹ − 2, got -1"),
    (lambda: search_stages(nx.path_graph(3), seed=2**31), ValueError, "seed must be between 0 and 2³¹ − 2"),
    (lambda: annealed_infomap(nx.path_graph(3), seed=2**31 - 1), ValueError, "seed must be between 0 and 2³¹ − 2"),
    (lambda: annealed_infomap(nx.path_graph(3), temperature=1e-320), ValueError, "temperature must be positive, 1e-12 at least"),
    (lambda: infomap(nx.path_graph(3), steps=(), engine="infomap"), ValueError, "steps must be left out for engine 'infomap'"),
    (lambda: infomap(nx.path_graph(3), seed=True), TypeError, "seed must be an int, got bool"),
    (lambda: infomap(nx.path_graph(3), levels=np.int64(3)), ValueError, "levels must be 2 or None, got"),
    (lambda: infomap(nx.path_graph(3), levels=3), ValueError, "levels must be 2 or None, got 3"),
    (lambda: annealed_infomap(nx.path_graph(3), sweeps=-1), ValueError, "sweeps must be at least 0, got -1"),
    (lambda: infomap(nx.path_graph(3), trials=0), ValueError, "trials must be at least 1, got 0"),
    (lambda: infomap(nx.path_graph(3), steps=["x"]), ValueError, r"steps must be among \('refine', .*\), got 'x'"),
    (lambda: infomap(nx.path_graph(3), seed=-1), ValueError, "seed must be between 0 and 2³¹ − 2, got -1"),
    (lambda: infomap(nx.path_graph(3), engine="c"), ValueError, r"engine must be one of \('numpy', 'infomap'\), got 'c'"),
])  # fmt: skip


def stays_where_it_is(network, rng, labels=None, empty=True, awake=None):
    return np.arange(len(network.visit)) if labels is None else _compact(labels)


def pairs_with_links_only(network):
    source = np.repeat(np.arange(len(network.visit)), np.diff(network.start))
    once = source < network.target
    return source[once], network.target[once], network.both[once]


FAULTS = [
    (test_nodes_without_links_share_a_module_if_that_is_shorter, "_pairs", pairs_with_links_only),
    (test_the_karate_club_goes_below_its_entropy, "move_nodes", stays_where_it_is),
    (
        lambda: test_shakes_lead_out_of_hollows_that_every_trial_ends_in(2873),
        "_shaken",
        lambda network, labels, *rest: labels,
    ),
]
