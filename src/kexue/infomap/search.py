"""The search for the division with the shortest description."""

import math
import numbers
import random
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int
from scipy import sparse

from kexue.infomap.codelength import (
    codelengths_of,
    exit_rates,
    hierarchical_map_equation,
    map_equation,
    one_module,
)
from kexue.infomap.codes import codebook_cost
from kexue.infomap.many_levels import search_levels
from kexue.infomap.mergers import alternatives_for, merge_pairs
from kexue.infomap.network import Network, relative_codelength
from kexue.infomap.package import modules_by_package
from kexue.infomap.two_levels import STEPS, Step, search_two_levels
from kexue.infomap.walk import Flow, random_walk_flow, weighted_links
from kexue.nn import arguments as checks


@dataclass(frozen=True)
class Communities:
    """What `infomap` found."""

    modules: dict[Hashable, int]
    """The top module of each node."""
    codelength: float
    """Bits per step; with one level of modules that of `map_equation`."""
    index_codelength: float
    """The part of the codebook at the top."""
    module_codelength: float
    """All other codebooks."""
    levels: tuple[dict[Hashable, int], ...]
    """The module of each node, from the coarsest level to the finest."""
    saved: float
    """Bits per step that a single module for all would cost more."""

    @property
    def num_modules(self) -> int:
        """How many top modules there are."""
        return len(set(self.modules.values()))

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """The top module of each node, in the order of the graph's nodes."""
        return np.array(list(self.modules.values()))


Engine = Literal["numpy", "infomap"]


def infomap(
    graph: Any,
    teleport: float = 0.15,
    seed: int = 0,
    levels: int | None = 2,
    trials: int = 1,
    engine: Engine = "numpy",
    steps: Collection[Step] = STEPS,
) -> Communities:
    """Modules that make the description of a random walk short: a search for the least L(M) (infomap.alg1).

    Every node begins as a module. In random order, nodes move to the neighbouring module that shortens
    the description most; then modules move as nodes do. That is the search of the article, and what is left
    of this one without `steps`. The best of several trials is kept. Nodes that the walk never visits,
    isolated ones for τ = 0, cost nothing wherever they are.

    Args:
        graph: see `random_walk_flow`.
        teleport: τ, see `random_walk_flow`; 0 is the walk without teleportation on an undirected graph.
        seed: of the order of moves, from 0 to 2³¹ − 2.
        levels: 2, modules of nodes; or None, as many levels of modules in modules as shorten the description.
        trials: with different orders.
        engine: this search, or the C++ package of the authors of the map equation (pip install infomap),
            with the flags that make it minimise the same L(M).
        steps: what this search does besides.
            "refine": single nodes and parts of modules move again, until nothing helps (the paper of 2009).
            "empty": a node may leave for a module of its own.
            "mergers": with teleportation, which leads everywhere, modules without links between them are
            merged where that helps.
            "shakes": the nodes of up to four modules are dealt at random into up to three, and all nodes
            move; that is kept if it helps, and ends when ten in a row did not.

    Raises:
        TypeError: graph is none of what `random_walk_flow` takes, or seed or trials are no ints.
        ValueError: see `random_walk_flow`; levels other than 2 and None; fewer than one trial, a seed
            out of range, an unknown engine, an unknown step, or steps for engine "infomap".
        ImportError: engine is "infomap", and the package is not installed.
    """
    seed, trials = check_seed(seed), checks.whole("trials", trials, 1)
    if levels is not None and (not isinstance(levels, numbers.Integral) or levels != 2):
        raise ValueError(f"levels must be 2 or None, got {levels!r}")
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {get_args(Engine)}, got {engine!r}")
    checks.instance("steps", steps, Collection, "a collection of names")
    if unknown := [step for step in steps if step not in STEPS]:
        raise ValueError(f"steps must be among {STEPS}, got {unknown[0]!r}")
    if engine == "infomap" and set(steps) != set(STEPS):
        raise ValueError(f"steps must be left out for engine 'infomap', which has its own, got {steps!r}")
    flow = random_walk_flow(graph, teleport)
    if engine == "infomap":
        found = _by_package(graph, teleport, seed, levels, trials)
    else:
        found = _best_of(flow, random.Random(seed), levels, trials, steps)
    return _communities(flow, found)


def check_seed(seed: int) -> int:
    """The seed as an int. Raises unless it is what the C++ package takes as one, too."""
    return checks.whole("seed", seed, 0, 2**31 - 2, "2³¹ − 2")


@dataclass(frozen=True)
class Stage:
    """Where a search stands: after what, with which modules, and how long the description is."""

    name: str
    modules: dict[Hashable, int]
    codelength: float


def search_stages(graph: Any, teleport: float = 0.15, seed: int = 0) -> tuple[Stage, ...]:
    """What one trial of `infomap` with two levels goes through; L(M) never becomes longer (infomap.alg1).

    Args:
        graph: see `random_walk_flow`.
        teleport: τ, see `random_walk_flow`.
        seed: of the order of moves; the last stage is what `infomap` gives for it.

    Raises what `infomap` raises.
    """
    seed = check_seed(seed)
    flow = random_walk_flow(graph, teleport)
    stages: list[Stage] = []

    def watch(name: str, labels: np.ndarray) -> None:
        named = dict(zip(flow.nodes, labels.tolist(), strict=True))
        stages.append(Stage(name, named, map_equation(flow, labels)))

    search_two_levels(Network.of(flow), random.Random(seed), watch=watch)
    return tuple(stages)


def annealed_infomap(
    graph: Any, teleport: float = 0.15, seed: int = 0, sweeps: int = 100, temperature: float = 0.05
) -> Communities:
    """Modules by the search of 2007: merge, then anneal (infomap.alg2). For small graphs.

    First the two modules whose merger shortens the description most are merged, again and again. Then, in
    each sweep, every node is given to one of its neighbours' modules, its own or an empty one, with
    probability proportional to 2^(−L/T) (heat bath), while the temperature T falls from the given
    one to a hundredth of it. The shortest description met on the way is the result.

    Args:
        graph: see `random_walk_flow`.
        teleport: τ, see `random_walk_flow`.
        seed: of the annealing.
        sweeps: of the annealing; 0 leaves what the mergers gave.
        temperature: at the beginning, in bits; at least 1e-12.

    Raises:
        TypeError: graph is none of what `random_walk_flow` takes, or seed or sweeps are no ints,
            or temperature is no number.
        ValueError: see `random_walk_flow`; a seed as for `infomap`; a negative number of sweeps; a
            temperature below 1e-12 or not finite.
    """
    seed, sweeps = check_seed(seed), checks.whole("sweeps", sweeps, 0)
    checks.number("temperature", temperature)
    if not 1e-12 <= temperature < math.inf:
        raise ValueError(f"temperature must be positive, 1e-12 at least, and finite, got {temperature}")
    flow = random_walk_flow(graph, teleport)
    network, rng = Network.of(flow), np.random.default_rng(seed)
    labels = merge_pairs(network, np.arange(len(network.visit)))
    best, shortest = labels.copy(), relative_codelength(network, labels)
    undivided = np.zeros_like(labels)
    if relative_codelength(network, undivided) <= shortest:
        best, shortest = undivided, relative_codelength(network, undivided)
    for warmth in np.geomspace(temperature, temperature / 100, sweeps):
        for node in rng.permutation(len(labels)).tolist():
            modules, lengths = alternatives_for(network, labels, node)
            odds = np.exp2((lengths.min() - lengths) / warmth)
            labels[node] = rng.choice(modules, p=odds / odds.sum())
        labels = np.unique(labels, return_inverse=True)[1]
        length = relative_codelength(network, labels)
        if length < shortest - 1e-12:
            best, shortest = labels.copy(), length
    return _communities(flow, (best,))


def _communities(flow: Flow, found: tuple[np.ndarray, ...]) -> Communities:
    if len(found) == 1:
        index, modules = codelengths_of(flow, found[0])
        codelength = index + modules
    else:
        index, codelength = codebook_cost(exit_rates(flow, found[0])), hierarchical_map_equation(flow, found)
    named = tuple(dict(zip(flow.nodes, level.tolist(), strict=True)) for level in found)
    return Communities(
        modules=named[0],
        codelength=codelength,
        index_codelength=index,
        module_codelength=codelength - index,
        levels=named,
        saved=one_module(flow) - codelength,
    )


def _by_package(
    graph: Any, teleport: float, seed: int, levels: int | None, trials: int
) -> tuple[np.ndarray, ...]:
    _, weights = weighted_links(graph)
    flags = f"--num-trials {trials} --seed {seed + 1}" + " --two-level" * (levels == 2)
    if teleport > 0:  # recorded, to all nodes: what the formula says, and not the package's default
        flags += " --directed --recorded-teleportation --to-nodes"
        flags += f" --teleportation-probability {float(teleport)!r}"
    else:
        weights = sparse.triu(weights)
    links = weights.tocoo()
    triples = zip(links.row.tolist(), links.col.tolist(), links.data.tolist(), strict=True)
    return modules_by_package(weights.shape[0], triples, flags)


def _best_of(
    flow: Flow, rng: random.Random, levels: int | None, trials: int, steps: Collection[Step]
) -> tuple[np.ndarray, ...]:
    network = Network.of(flow)
    best: tuple[float, tuple[np.ndarray, ...]] = (math.inf, ())
    for _ in range(trials):
        labels = search_two_levels(network, rng, steps=steps)
        found = (labels,) if levels == 2 else search_levels(flow, network, labels, rng, steps)
        codelength = hierarchical_map_equation(flow, found) if trials > 1 else 0.0
        if codelength < best[0] - 1e-12:
            best = codelength, found
    return best[1]
