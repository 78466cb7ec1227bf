"""Modules of nodes: moves of single nodes, of modules, and of parts of them."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kexue.infomap.codes import plogp
from kexue.infomap.mergers import merge_pairs
from kexue.infomap.moves import move_nodes
from kexue.infomap.network import Network, relative_codelength

# Called with what a search has just done, and the labels after it.
Watch = Callable[[str, np.ndarray], None]


def _nobody(name: str, labels: np.ndarray) -> None:
    """Watches nothing."""


def search_two_levels(
    network: Network, rng: random.Random, outer: float = 0.0, watch: Watch = _nobody
) -> np.ndarray:
    """Modules, by moves at all scales until nothing helps; one for all if that is as short."""
    watch("every node is a module", np.arange(len(network.visit)))
    labels, codelength = _refined(network, _climb(network, rng, outer, watch=watch), rng, outer, watch)
    # Groups of modules, as a level above would join them, are another start: its parts may go apart again.
    above = network.merged(labels)
    above.visit = above.exits()
    groups = _climb(above, rng)
    if 0 < groups.max() < labels.max():
        joined, shorter = _refined(network, groups[labels], rng, outer)
        if shorter < codelength - 1e-10:
            labels, codelength = joined, shorter
            watch("groups of modules were joined, then divided anew", labels)
    if network.teleport.any():
        merged = merge_pairs(network, labels, outer)
        if merged.max() < labels.max():
            watch("modules merged, linked or not", merged)
            labels, codelength = _refined(network, merged, rng, outer, watch)
    undivided = float(plogp(network.visit.sum() + outer))
    if labels.any() and undivided <= codelength + 1e-12:
        labels = np.zeros_like(labels)
        watch("one module for all is as short", labels)
    return labels


def _refined(
    network: Network, labels: np.ndarray, rng: random.Random, outer: float, watch: Watch = _nobody
) -> tuple[np.ndarray, float]:
    """Single nodes leave their modules, then parts of modules do, until neither shortens L."""
    codelength = relative_codelength(network, labels, outer)
    failures, single = 0, True
    while failures < 2:
        if single:
            changed = _climb(network, rng, outer, labels)
        else:
            parts = _parts(network, labels, rng)
            start = np.empty(parts.max() + 1, dtype=int)
            start[parts] = labels
            changed = _climb(network.merged(parts), rng, outer, start)[parts]
        shorter = relative_codelength(network, changed, outer)
        if shorter < codelength - 1e-10:
            labels, codelength, failures = changed, shorter, 0
            watch("single nodes moved again" if single else "parts of modules moved", labels)
        else:
            failures += 1
        single = not single
    return labels, codelength


def _climb(
    network: Network,
    rng: random.Random,
    outer: float = 0.0,
    start: np.ndarray | None = None,
    watch: Watch = _nobody,
) -> np.ndarray:
    """Move nodes, then modules of them as nodes, then modules of those …, until nothing moves."""
    labels = move_nodes(network, rng, outer, start)
    watch("nodes moved", labels)
    while labels.any():
        merged = network.merged(labels)
        above = move_nodes(merged, rng, outer)
        if above.max() + 1 == len(merged.visit):
            return labels
        labels = above[labels]
        watch("modules moved", labels)
    return labels


def _parts(network: Network, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """The modules that each module would have if it were a graph by itself."""
    parts, count = np.empty(len(labels), dtype=int), 0
    for members, alone in network.parts(labels):
        within = np.arange(len(members))
        if len(members) > 2 and len(alone.both):
            total, inner = alone.visit.sum(), np.bincount(alone.source, alone.both, len(members)) / 2
            own = replace(
                alone,
                visit=alone.visit / total,
                teleport=np.zeros(len(members)),
                out=inner / total,
                both=alone.both / total,
            )
            within = _climb(own, rng)
        parts[members] = count + within
        count += within.max() + 1
    return parts
