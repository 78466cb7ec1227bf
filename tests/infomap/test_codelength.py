"""Mathematics of kexue.infomap.codelength: term by term, against a code of a walk and the package; bad input."""

import functools
import math
import random

import infomap as cpp
import networkx as nx
import numpy as np
import pytest
import seeded  # noqa: F401  # Hypothesis's profile
from graphs import DIRECTED, UNDIRECTED, karate, random_graph, triangles
from hypothesis import given
from hypothesis import strategies as st
from printed import printed
from refusing import refuses

from kexue.infomap import (
    EXIT,
    HierarchicalCode,
    entropy,
    hierarchical_map_equation,
    map_equation,
    random_walk_flow,
)
from kexue.infomap.codelength import codelengths_of


def literal(flow, labels):
    """infomap.eq9 to eq11, term by term, over all pairs of nodes."""
    n, link, names = len(labels), flow.link.toarray(), sorted(set(labels))

    def bits(rates):
        rates = [r for r in rates if r > 0]
        total = sum(rates)
        return -sum(r * math.log2(r / total) for r in rates)

    exits = {}
    for name in names:
        inside = [i for i in range(n) if labels[i] == name]
        outside = [j for j in range(n) if labels[j] != name]
        exits[name] = sum(flow.teleport[i] / n + link[i, j] for i in inside for j in outside)
    index = bits(exits.values())
    return index + sum(bits([exits[k], *(flow.visit[i] for i in range(n) if labels[i] == k)]) for k in names)


@pytest.mark.verifies("infomap.eq9", "infomap.eq10", "infomap.eq11", "infomap.eq14", "infomap.eq15")
@pytest.mark.parametrize("directed", [False, True])
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.15, 0.6]))
def test_the_map_equation_is_its_terms(directed, seed, teleport):
    weights, labels = random_graph(seed, directed)
    if teleport == 0 and (directed or not weights.any()):
        teleport = 0.15
    flow = random_walk_flow(weights, teleport)
    assert map_equation(flow, labels) == pytest.approx(literal(flow, labels), abs=1e-12)
    assert hierarchical_map_equation(flow, [labels]) == pytest.approx(literal(flow, labels), abs=1e-12)
    assert map_equation(flow, [0] * len(labels)) == pytest.approx(entropy(flow.visit), abs=1e-12)


@functools.cache
def minimal_implementation():
    return printed("infomap", np=np)


@given(st.integers(0, 10**6))
def test_the_printed_implementation_equals_the_package_s(seed):
    weights, labels = random_graph(seed, False)
    weights[0, -1] = weights[-1, 0] = 1.0  # at least one link
    minimal, module = minimal_implementation(), np.unique(labels, return_inverse=True)[1]
    assert set(minimal) == {"codebook", "bits_of_step"}
    flow = random_walk_flow(weights, 0.0)
    parts = codelengths_of(flow, module)
    assert minimal["bits_of_step"](weights, module) == pytest.approx(parts, abs=1e-12)
    assert sum(parts) == pytest.approx(literal(flow, labels), abs=1e-12)


@pytest.mark.verifies("infomap.eq7", "infomap.eq8")
def test_what_is_entered_is_left_and_all_rates_sum_to_one():
    """Counted in what is written for a closed walk: names, objects, exit marks."""
    rng, node, walk = random.Random(1), 0, []
    graph = nx.barbell_graph(4, 0)
    while len(walk) < 2000 or node != 0:
        walk.append(node)
        node = rng.choice(list(graph[node]))
    modules = [int(v >= 4) for v in walk]
    written, before = [], None
    for v, module in zip([*walk, None], [*modules, None], strict=True):
        if module != before:
            written += [("exit", before)] * (before is not None) + [("name", module)] * (module is not None)
        written += [("object", v)] * (v is not None)
        before = module
    count = {name: written.count(name) for name in set(written)}
    assert count["name", 0] == count["exit", 0]
    assert count["name", 1] == count["exit", 1]
    assert sum(count.values()) == len(written) == len(walk) + 2 * (count["name", 0] + count["name", 1])
    code = HierarchicalCode.fit(walk, {v: int(v >= 4) for v in graph})
    assert [code.counts[m][EXIT] for m in (0, 1)] == [count["exit", 0], count["exit", 1]]


@pytest.mark.verifies("infomap.eq11")
def test_the_map_equation_is_what_a_hierarchical_code_of_a_walk_spends():
    graph = nx.barbell_graph(4, 0)
    labels = [0] * 4 + [1] * 4
    rng, node, walk = random.Random(0), 0, []
    for _ in range(100_000):
        walk.append(node)
        node = rng.choice(list(graph[node]))
    code = HierarchicalCode.fit(walk, dict(enumerate(labels)))
    expected = map_equation(random_walk_flow(graph, 0), labels)
    assert code.codelength == pytest.approx(expected, abs=0.01)
    assert len(code.encode(walk)) / len(walk) == pytest.approx(code.mean_length)
    exits = sum(of[EXIT] for of in code.counts.values()) / len(walk)
    assert expected - 0.01 < code.mean_length < expected + 1 + 2 * exits


def test_published_codelengths():
    flow = random_walk_flow(karate(), 0)
    assert map_equation(flow, [0] * 34) == pytest.approx(4.7044, abs=1e-4)
    graph = triangles()
    flow = random_walk_flow(graph, 0)
    assert map_equation(flow, [0] * 27) == pytest.approx(4.7454, abs=1e-4)
    assert map_equation(flow, {v: v[:2] for v in graph}) == pytest.approx(3.5723, abs=1e-4)
    levels = [{v: v[0] for v in graph}, {v: v[:2] for v in graph}]
    assert hierarchical_map_equation(flow, levels) == pytest.approx(3.4842, abs=1e-4)


@pytest.mark.verifies("infomap.normalising")
def test_normalising_by_all_rates_is_another_objective():
    # infomap.eq8 divides by 1 + 2q: a triangle then prefers three modules to one.
    flow = random_walk_flow(nx.cycle_graph(3), 0)
    one, three = (map_equation(flow, labels) for labels in ([0, 0, 0], [0, 1, 2]))
    assert one == pytest.approx(math.log2(3))
    assert three / (1 + 2) == pytest.approx(1.195, abs=1e-3)
    assert three / 3 < one < three


def test_repeating_a_level_changes_nothing():
    graph = triangles()
    flow = random_walk_flow(graph, 0)
    three, nine = {v: v[0] for v in graph}, {v: v[:2] for v in graph}
    once = hierarchical_map_equation(flow, [three, nine])
    assert hierarchical_map_equation(flow, [three, three, nine, nine]) == pytest.approx(once, abs=1e-12)


# --- The package of the map equation's authors -------------------------------------------------


def package(graph, flags):
    """Codelength, top modules and paths of the C++ search, with its flags written out."""
    search = cpp.Infomap(f"--silent --seed 7 {flags}")
    number = {node: i for i, node in enumerate(graph)}
    for i in number.values():
        search.add_node(i)
    for a, b, attributes in graph.edges(data=True):
        search.add_link(number[a], number[b], attributes.get("weight", 1.0))
    result = search.run()
    paths = result.multilevel_modules()
    return result.codelength, [paths[i] for i in range(len(number))]


RECORDED = "--directed --recorded-teleportation --to-nodes --teleportation-probability 0.15"


CASES = [(g, 0.0, "") for g in UNDIRECTED.values()] + [(g, 0.15, RECORDED) for g in DIRECTED.values()]


parity = pytest.mark.parametrize(("graph", "teleport", "flags"), CASES, ids=[*UNDIRECTED, *DIRECTED])


@pytest.mark.verifies("infomap.eq11")
@parity
def test_the_map_equation_is_the_package_s_codelength(graph, teleport, flags):
    codelength, paths = package(graph, f"{flags} --two-level")
    flow = random_walk_flow(graph, teleport)
    assert map_equation(flow, [path[0] for path in paths]) == pytest.approx(codelength, abs=1e-9)


@pytest.mark.verifies("infomap.claim3")
@parity
def test_the_hierarchical_map_equation_is_the_package_s_codelength(graph, teleport, flags):
    codelength, paths = package(graph, flags)
    depth = max(map(len, paths))
    levels = [[path[: level + 1] for path in paths] for level in range(depth)]
    flow = random_walk_flow(graph, teleport)
    assert hierarchical_map_equation(flow, levels) == pytest.approx(codelength, abs=1e-9)


FLOW = random_walk_flow(nx.path_graph(3), 0)


test_bad_input_is_named = refuses([
    (lambda: map_equation(FLOW, [0, 1]), ValueError, "partition must have 3 modules, got 2"),
    (lambda: map_equation(FLOW, {0: 0, 1: 0}), ValueError, "partition must have a module for every node, got none for 2"),
    (lambda: hierarchical_map_equation(FLOW, []), ValueError, "levels must hold at least one partition"),
    (lambda: hierarchical_map_equation(FLOW, [[0, 0, 1], [0, 1, 1]]), ValueError, r"levels must each divide the one before, but levels\[1\] does not"),
    (lambda: map_equation(FLOW, {0, 1, 2}), TypeError, "partition must be a mapping or a sequence, got set"),
    (lambda: map_equation(FLOW, [[0], [1], [2]]), TypeError, r"a module of partition must be hashable, got \[0\]"),
    (lambda: map_equation(FLOW, [([],), 1, 2]), TypeError, r"a module of partition must be hashable"),
    (lambda: map_equation(FLOW, [0, math.nan, 1]), ValueError, "partition must have modules that equal themselves, got nan"),
])  # fmt: skip


def no_teleportation(flow, labels):
    link = flow.link.tocoo()
    crossing = labels[link.row] != labels[link.col]
    return np.bincount(labels[link.row[crossing]], link.data[crossing], labels.max() + 1)


FAULTS = [
    (lambda: test_the_map_equation_is_the_package_s_codelength(DIRECTED["directed, two parts"], 0.15, RECORDED), "exit_rates", no_teleportation),
]  # fmt: skip
