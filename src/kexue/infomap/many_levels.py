"""Modules in modules, as deep as they shorten the description."""

import random
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kexue.infomap.codelength import exit_rates, hierarchical_map_equation
from kexue.infomap.codes import plogp
from kexue.infomap.network import Network
from kexue.infomap.two_levels import STEPS, Step, search_two_levels
from kexue.infomap.walk import Flow


def search_levels(
    flow: Flow,
    network: Network,
    labels: np.ndarray,
    rng: random.Random,
    steps: Collection[Step] = STEPS,
) -> tuple[np.ndarray, ...]:
    """Levels above and below the given modules, as long as they shorten the description."""
    if not labels.any():  # nothing is above or below one module but what was just looked at
        return (labels,)
    below = _divided(network, (labels,), rng, steps)
    candidates, top = [below], labels
    above_them: tuple[np.ndarray, ...] = ()
    while True:
        # The modules as nodes: what enters them is what a codebook above them has to name.
        above = network.merged(top)
        above = replace(above, visit=above.exits())
        groups = search_two_levels(above, rng, steps=steps)
        if groups.max() == 0 or groups.max() + 1 == len(groups):
            break
        top = groups[top]
        above_them = (top, *above_them)
        # The division of the new top modules may be found anew, from their nodes.
        candidates += [(*above_them, *below), _divided(network, (top,), rng, steps)]
    return min(
        (_flattened(flow, found) for found in candidates),
        key=lambda found: hierarchical_map_equation(flow, found),
    )


class _Module(NamedTuple):
    level: int
    label: int


def _flattened(flow: Flow, levels: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Without those modules of modules whose members are named more shortly one level up.

    Where module m, of exit rate e, holds modules whose exit rates sum to c, and the codebook that names m
    is used at the rate S: without m that codebook is used at S − e + c, and m's own, at e + c, is not needed.
    """
    exits = [exit_rates(flow, level) for level in levels]
    sizes = [np.bincount(level) for level in levels]
    root = _Module(-1, 0)
    parent: dict[_Module, _Module] = {}
    finest = []
    for node in np.unique(levels[-1], return_index=True)[1].tolist():
        lowest, size = root, 0
        for number, level in enumerate(levels):
            module = _Module(number, int(level[node]))
            if sizes[number][module.label] != size:  # else it is the one above, not divided
                parent[module] = lowest
                lowest, size = module, int(sizes[number][module.label])
        finest.append(lowest)
    rate = {module: float(exits[module.level][module.label]) for module in parent} | {root: 0.0}
    inner: dict[_Module, float] = defaultdict(float)
    holds: dict[_Module, list[_Module]] = defaultdict(list)
    for module, above in parent.items():
        inner[above] += rate[module]
        holds[above].append(module)
    changed = True
    while changed:
        changed = False
        for module in [m for m in parent if m in holds]:
            above = parent[module]
            used, own = rate[above] + inner[above], rate[module] + inner[module]
            without = used - rate[module] + inner[module]
            # Not L of two levels: only what the two codebooks cost that name m and its members.
            change = plogp([without, rate[module], rate[module]]).sum() - plogp([used, own]).sum()
            if change < -1e-12:
                for member in holds[module]:
                    parent[member] = above
                holds[above] = [m for m in holds[above] if m != module] + holds[module]
                inner[above] += inner[module] - rate[module]
                del holds[module], parent[module]
                changed = True
    paths = []
    for module in finest:
        path = [module]
        while parent[path[0]] != root:
            path.insert(0, parent[path[0]])
        paths.append(path)
    label = {module: i for i, module in enumerate(parent)}
    return tuple(
        np.unique([label[path[min(depth, len(path) - 1)]] for path in paths], return_inverse=True)[1][
            levels[-1]
        ]
        for depth in range(max(map(len, paths)))
    )


def _divided(
    network: Network, levels: tuple[np.ndarray, ...], rng: random.Random, steps: Collection[Step] = STEPS
) -> tuple[np.ndarray, ...]:
    """Further levels below the last one, as long as they shorten the description."""
    while True:
        finer = search_two_levels(network.parts(levels[-1]), rng, steps=steps)
        # One module inside, or every node alone, says nothing that the module does not say.
        if finer.max() == levels[-1].max():
            return levels
        levels = (*levels, finer)
