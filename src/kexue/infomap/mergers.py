"""Modules without links between them, which teleportation may want to be one."""

import numpy as np

from kexue.infomap.codes import plogp
from kexue.infomap.network import Network, relative_codelength

# So many modules at most are tried in all pairs.
_ALL_PAIRS = 300


def _pairs(network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that a merger may be good for, and what flows between them.

    Teleportation links all: also modules without a link between them may be better off as one. Among many,
    those of nearly the same exit rate are looked at.
    """
    count = len(network.visit)
    once = network.source < network.target
    a, b, between = network.source[once], network.target[once], network.both[once]
    if not network.teleport.any():
        return a, b, between
    if count <= _ALL_PAIRS:
        flow = np.zeros((count, count))
        flow[a, b] = between
        a, b = np.triu_indices(count, 1)
        same = network.group[a] == network.group[b]
        a, b = a[same], b[same]
        return a, b, flow[a, b]
    order = np.lexsort((network.exits(), network.group))
    one, other = np.sort([order[:-1], order[1:]], axis=0)
    apart = ~np.isin(one * count + other, a * count + b) & (network.group[one] == network.group[other])
    zeros = np.zeros(int(apart.sum()))
    return (
        np.concatenate([a, one[apart]]),
        np.concatenate([b, other[apart]]),
        np.concatenate([between, zeros]),
    )


def merge_pairs(network: Network, labels: np.ndarray) -> np.ndarray:
    """Merge the two modules that it shortens L most to merge, until it shortens L no more.

    Where pairs are many because the walk teleports, as many at once as help together.
    """
    codelength = relative_codelength(network, labels)
    while True:
        merged = network.merged(labels)
        a, b, between = _pairs(merged)
        exits = merged.exits()
        total = merged.exits_of_groups()[merged.group[a]]
        size = merged.size[a] + merged.size[b]
        leaving = (merged.teleport[a] + merged.teleport[b]) * (1 - size / merged.nodes)
        joint = np.maximum(leaving + merged.out[a] + merged.out[b] - between, 0.0)
        within = plogp(exits + merged.visit)
        # In the form of `Network.lengths` the last bits differ, and on a grid which of equal pairs is first.
        change = (
            plogp(total - exits[a] - exits[b] + joint)
            - plogp(total)
            - 2 * (plogp(joint) - plogp(exits[a]) - plogp(exits[b]))
            + plogp(joint + merged.visit[a] + merged.visit[b])
            - within[a]
            - within[b]
        )
        if len(change) == 0 or change.min() > -1e-10:
            return labels
        best = [int(change.argmin())]
        if merged.teleport.any() and len(exits) > _ALL_PAIRS:
            taken: set[int] = set()
            several = []
            for pair in np.argsort(change, kind="stable").tolist():
                ends = {int(a[pair]), int(b[pair])}
                if change[pair] > -1e-10:
                    break
                if not ends & taken:
                    taken |= ends
                    several.append(pair)
            together = _joined(labels, a[several], b[several])
            if relative_codelength(network, together) < codelength - 1e-10:
                labels, codelength = together, relative_codelength(network, together)
                continue
        labels = _joined(labels, a[best], b[best])
        codelength = relative_codelength(network, labels)


def _joined(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Modules b get the labels of modules a."""
    new = np.arange(labels.max() + 1)
    new[b] = a
    return np.unique(new[labels], return_inverse=True)[1]


def alternatives_for(network: Network, labels: np.ndarray, node: int) -> tuple[np.ndarray, np.ndarray]:
    """Modules that a node could be in, its neighbours', its own and an empty one, and L for each of them.

    As mergers of the node alone with each they would cost the same, and more than twice the time.
    """
    count = int(labels.max()) + 2
    own = int(labels[node])
    rest = labels.copy()
    rest[node] = count  # in a place of its own, which is left out
    visit, teleport, size, leaving = (
        np.bincount(rest, of)[:count] for of in (network.visit, network.teleport, network.size, network.out)
    )
    source, target = network.source, network.target
    inside = rest[source] == rest[target]
    out = leaving - np.bincount(rest[source[inside]], network.both[inside], count) / 2
    here = slice(*network.start[node : node + 2])
    near = labels[target[here]]
    towards = np.bincount(near, network.both[here], count)
    without = np.maximum(teleport * (1 - size / network.nodes) + out, 0.0)
    leaving = (teleport + network.teleport[node]) * (1 - (size + network.size[node]) / network.nodes)
    within = np.maximum(leaving + out + network.out[node] - towards, 0.0)
    choice = np.zeros(count, dtype=bool)
    choice[near] = choice[[own, count - 1]] = True
    modules = np.flatnonzero(choice)
    joint = within + visit + network.visit[node]
    total, index, used, index_with, used_with = plogp(
        [without.sum() - without + within, without, without + visit, within, joint]
    )
    lengths = total - 2 * (index.sum() - index + index_with) + (used.sum() - used + used_with)
    return modules, lengths[modules]
