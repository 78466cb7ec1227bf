"""The map equation: bits per step of the walk, for a division into modules.

The search has L, or what a change adds to it, in other forms, each tested against this one: of all modules,
from rates that shrink with the network (`Network.lengths`); of a node's move, compiled, one number at a time
(`loop`); of many mergers, or all moves of a node, at once (`mergers`). One for all would take longer, or
round otherwise, and so choose otherwise among equals: recorded runs would not come out again.
"""

import itertools
import numbers
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from kexue.infomap.codes import codebook_cost, plogp
from kexue.infomap.walk import Flow
from kexue.nn import arguments as checks

# A module for each node: from nodes, or in the order of a flow's nodes.
Partition = Mapping[Hashable, Hashable] | Sequence[Hashable] | np.ndarray


def map_equation(flow: Flow, partition: Partition) -> float:
    """Bits per step of the best two-level description of the walk with these modules (infomap.eq11).

    L(M) = q·H(Q) + Σᵢ p↻ᵢ·H(Pⁱ): an index codebook, used at the modules' exit rates qᵢ, whose sum is q,
    and for each module a codebook of its nodes' visit rates and its exit rate, whose sum is p↻ᵢ. Exits are
    along links and by teleportation (infomap.eq15). Visit rates sum to 1.

    Args:
        flow: of `random_walk_flow`.
        partition: a module for each node: a mapping from nodes, or a sequence in the order of `flow.nodes`.

    Raises:
        TypeError: flow is no `Flow`, partition neither mapping nor sequence, or a module not hashable.
        ValueError: a partition that misses a node, or has NaN for a module.
    """
    return sum(codelengths_of(flow, labels_of(flow, partition)))


def one_module(flow: Flow) -> float:
    """Bits per step with a single codebook of all nodes, which is the entropy of their visits."""
    return sum(codelengths_of(flow, np.zeros(len(flow.nodes), dtype=int)))


def labels_of(flow: Flow, partition: Partition, name: str = "partition") -> np.ndarray:
    """Modules 0, 1, … in the order in which they first occur."""
    checks.instance("flow", flow, Flow, "a Flow")
    checks.instance(name, partition, Mapping | Sequence | np.ndarray, "a mapping or a sequence")
    if isinstance(partition, Mapping):
        missing = [node for node in flow.nodes if node not in partition]
        if missing:
            raise ValueError(f"{name} must have a module for every node, got none for {missing[0]!r}")
        partition = [partition[node] for node in flow.nodes]
    size = partition.shape if isinstance(partition, np.ndarray) else (len(partition),)
    if size != (len(flow.nodes),):
        raise ValueError(f"{name} must have {len(flow.nodes)} modules, got {', '.join(map(str, size))}")
    if type(partition) is np.ndarray and partition.dtype.kind in "iu":  # the same as below, and fast
        first, inverse = np.unique(partition, return_index=True, return_inverse=True)[1:]
        return first.argsort().argsort()[inverse]
    number: dict[Hashable, int] = {}
    labels = []
    for module in partition.tolist() if isinstance(partition, np.ndarray) else partition:
        checks.hashable(f"a module of {name}", [module])
        if isinstance(module, numbers.Number) and module != module:
            raise ValueError(f"{name} must have modules that equal themselves, got {module!r}")
        labels.append(number.setdefault(module, len(number)))
    return np.array(labels)


def exit_rates(flow: Flow, labels: np.ndarray) -> np.ndarray:
    """infomap.eq15: qᵢ = Σ over its nodes of teleportation to nodes outside, and of links to them."""
    modules, n = labels.max() + 1, len(labels)
    link = flow.link.tocoo()
    crossing = labels[link.row] != labels[link.col]
    outside = 1 - np.bincount(labels, minlength=modules) / n
    by_link = np.bincount(labels[link.row[crossing]], link.data[crossing], modules)
    return np.bincount(labels, flow.teleport, modules) * outside + by_link


def codelengths_of(flow: Flow, labels: np.ndarray) -> tuple[float, float]:
    """Bits per step of the index codebook, and of the modules' codebooks."""
    exits = exit_rates(flow, labels)
    within = np.bincount(labels, flow.visit) + exits
    modules = plogp(within).sum() - plogp(exits).sum() - plogp(flow.visit).sum()
    return codebook_cost(exits), float(modules)


def hierarchical_map_equation(flow: Flow, levels: Sequence[Partition]) -> float:
    """Bits per step of the best description with modules in modules (infomap.claim3).

    A module that holds modules has a codebook of their exit rates and of its own; one that holds nodes
    has that of `map_equation`. With one level of modules this is `map_equation`.

    Args:
        flow: of `random_walk_flow`.
        levels: partitions as for `map_equation`, from the coarsest to the finest. A module that is not
            divided further is the same in the levels that follow.

    Raises:
        TypeError: flow is no `Flow`, or a partition neither mapping nor sequence.
        ValueError: no levels, a partition that misses a node, or one that does not divide the one before it.
    """
    checks.instance("levels", levels, Sequence, "a sequence of partitions")
    if len(levels) == 0:
        raise ValueError("levels must hold at least one partition, got none")
    labels = [labels_of(flow, level, f"levels[{i}]") for i, level in enumerate(levels)]
    total = codebook_cost(exit_rates(flow, labels[0]))
    for number, (coarse, fine) in enumerate(itertools.pairwise(labels), start=1):
        parent = _parents(coarse, fine, number)
        divided = np.bincount(parent) > 1
        exits, inner = exit_rates(flow, coarse), exit_rates(flow, fine)
        used, terms = exits + np.bincount(parent, inner), plogp(exits) + np.bincount(parent, plogp(inner))
        total += float((plogp(used) - terms)[divided].sum())
    return total + codelengths_of(flow, labels[-1])[1]


def _parents(coarse: np.ndarray, fine: np.ndarray, number: int) -> np.ndarray:
    """The coarse module that each fine one lies in."""
    parent = np.full(fine.max() + 1, -1)
    parent[fine] = coarse
    if not np.array_equal(parent[fine], coarse):
        raise ValueError(f"levels must each divide the one before, but levels[{number}] does not")
    return parent
