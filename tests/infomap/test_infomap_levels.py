"""Modules in modules, and the C++ package: what both engines find, and what the package is told."""

import dataclasses
import functools
import importlib
import random
import sys
import time

import infomap as cpp
import networkx as nx
import numpy as np
import pytest
from graphs import DIRECTED, UNDIRECTED, triangles

from kexue.infomap import (
    hierarchical_map_equation,
    infomap,
    many_levels,
    map_equation,
    random_walk_flow,
    two_levels,
)
from kexue.infomap.codelength import exit_rates
from kexue.infomap.codes import codebook_cost
from kexue.infomap.network import Network
from kexue.infomap.package import authors_package
from kexue.infomap.two_levels import STEPS

# --- Many levels -------------------------------------------------------------------------------


def test_parts_are_divided_as_graphs_by_themselves():
    graph = nx.planted_partition_graph(4, 8, 0.8, 0.05, seed=3)
    halves, quarters = np.arange(32) // 16, np.arange(32) // 8
    apart = Network.of(random_walk_flow(graph, 0)).alone(halves)
    within = dataclasses.replace(apart, visit=apart.out)  # without visits by links to the other half
    changes = (within.merged(quarters).lengths() - within.merged(halves).lengths()).tolist()
    for half, change in enumerate(changes):
        alone = random_walk_flow(graph.subgraph(range(16 * half, 16 * half + 16)), 0)
        expected = map_equation(alone, quarters[:16]) - map_equation(alone, halves[:16])
        assert change / within.visit[halves == half].sum() == pytest.approx(expected, abs=1e-9)
    parts = two_levels._climb(apart, random.Random(0), None, STEPS)
    assert [len(set(parts[half].tolist())) for half in (slice(16), slice(16, 32))] == [2, 2]
    assert not set(parts[:16].tolist()) & set(parts[16:].tolist())


@functools.cache
def divided_triangles():
    return infomap(triangles(), 0, trials=3, levels=None)


@pytest.mark.verifies("infomap.claim3")
def test_more_levels_shorten_the_triangles():
    graph = triangles()
    two, many = infomap(graph, 0, trials=3), divided_triangles()
    assert many.codelength < two.codelength
    assert len(many.levels) == 2
    flow = random_walk_flow(graph, 0)
    assert hierarchical_map_equation(flow, many.levels) == pytest.approx(many.codelength)
    fine = many.levels[1]
    assert {fine[v] for v in graph if v[:2] == (1, 2)} == {fine[1, 2, 0]}


def test_the_index_is_the_codebook_at_the_top():
    graph = triangles()
    found, flow = divided_triangles(), random_walk_flow(graph, 0)
    exits = exit_rates(flow, np.array([found.modules[v] for v in graph]))
    assert found.index_codelength == pytest.approx(codebook_cost(exits), abs=1e-12)
    lower = exit_rates(flow, np.array([found.levels[-1][v] for v in graph]))
    assert found.index_codelength < codebook_cost(lower) - 0.1


def test_modules_that_only_cost_are_taken_out():
    """Three levels of a graph that has two."""
    graph = nx.planted_partition_graph(6, 10, 0.7, 0.02, seed=0)
    flow = random_walk_flow(graph, 0)
    fine = [v // 10 for v in graph]
    pairs = [v // 20 for v in graph]
    flat = many_levels._flattened(flow, (np.array(pairs), np.array(fine)))
    assert [len(set(level.tolist())) for level in flat] == [6]
    assert hierarchical_map_equation(flow, flat) == pytest.approx(map_equation(flow, fine), abs=1e-12)
    nested = triangles()
    flow = random_walk_flow(nested, 0)
    levels = (np.array([v[0] for v in nested]), np.array([3 * v[0] + v[1] for v in nested]))
    kept = many_levels._flattened(flow, levels)
    assert len(kept) == 2
    assert hierarchical_map_equation(flow, kept) <= hierarchical_map_equation(flow, levels) + 1e-12


@pytest.mark.slow
def test_parts_of_a_module_are_divided_with_its_exits_in_mind():
    """Four groups of three of four: with an exit rate of 0 for what holds the parts, 4.1960 bits are found."""
    group = np.arange(48)
    inner, outer = group // 4, group // 12
    alike = np.where(inner[:, None] == inner, 0.9, np.where(outer[:, None] == outer, 0.25, 0.02))
    weights = np.triu(np.random.default_rng(25).random((48, 48)) < alike, 1)
    found = [infomap((weights + weights.T) * 1.0, 0, seed, levels=None).codelength for seed in (0, 1)]
    assert min(found) < 4.1915


@pytest.mark.system
@pytest.mark.unchecked
def test_deep_hierarchies_take_time_in_proportion():
    times = []
    for n in (100, 400):
        begin = time.process_time()
        found = infomap(nx.ring_of_cliques(n, 4), 0, levels=None)
        times.append(time.process_time() - begin)
        assert len(found.levels) >= 2
    assert times[1] < 12 * times[0]


# --- The package of the map equation's authors -------------------------------------------------


@pytest.mark.parametrize("teleport", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("levels", [2, None])
def test_the_package_is_given_the_links_once_and_the_flags(monkeypatch, teleport, levels):
    calls, links = [], []

    class Spy(cpp.Infomap):
        def __init__(self, flags):
            calls.append(flags)
            super().__init__(flags)

        def add_links(self, added):
            links.extend(added)
            super().add_links(links)

    monkeypatch.setattr(cpp, "Infomap", Spy)
    graph = nx.disjoint_union(triangles(), nx.complete_graph(6))  # parts of different depth
    graph.add_edge(0, 0, weight=2.0)
    found = infomap(graph, teleport, 3, levels, trials=4, engine="infomap")
    flags = {"--num-trials 4": True, "--seed 4": True, "--two-level": levels == 2}
    flags[f"--teleportation-probability {teleport}"] = teleport > 0
    assert {flag: flag in calls[0] for flag in flags} == flags
    assert len(links) == graph.number_of_edges() * (1 if teleport == 0 else 2) - (teleport > 0)
    flow = random_walk_flow(graph, teleport)
    assert found.codelength == pytest.approx(hierarchical_map_equation(flow, found.levels), abs=1e-12)


@pytest.mark.parametrize("levels", [2, None])
def test_the_package_s_engine_takes_one_node_and_any_names(levels):
    for graph in (
        nx.empty_graph(1),
        nx.Graph([("a", "a")]),
        nx.Graph([("a", (1, 2)), ((1, 2), frozenset())]),
    ):
        found = infomap(graph, np.float64(0.15), levels=levels, engine="infomap")
        assert set(found.modules) == set(graph)


@pytest.mark.parametrize("entry", ["", "the folder itself"])
def test_a_script_in_the_working_folder_is_not_taken_for_the_package(entry, tmp_path, monkeypatch):
    (tmp_path / "infomap.py").write_text("raise AssertionError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "infomap")
    monkeypatch.setattr(sys, "path", [entry and str(tmp_path), *sys.path])
    before = sys.path[:]
    found = authors_package()
    origin = object.__getattribute__(found, "__spec__").origin  # asked otherwise, it would load now
    assert origin == cpp.__file__
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "infomap")
    monkeypatch.setattr(sys, "path", ["", str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match=r"engine 'infomap' needs the package infomap: pip install infomap"):
        authors_package()


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, None])
@pytest.mark.parametrize("name", [*UNDIRECTED, *DIRECTED])
def test_both_engines_minimise_the_same(name, levels):
    graph, teleport = (UNDIRECTED | DIRECTED)[name], 0.15 if name in DIRECTED else 0.0
    ours, theirs = (infomap(graph, teleport, 0, levels, 5, engine) for engine in ("numpy", "infomap"))
    assert set(theirs.modules) == set(graph)
    flow = random_walk_flow(graph, teleport)
    assert theirs.codelength == pytest.approx(hierarchical_map_equation(flow, theirs.levels), abs=1e-12)
    assert theirs.codelength <= map_equation(flow, dict.fromkeys(graph, 0)) + 1e-12
    assert ours.codelength <= 1.005 * theirs.codelength
