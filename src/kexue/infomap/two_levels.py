"""Modules of nodes: moves of single nodes, of modules, and of parts of them."""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kexue.infomap.codes import plogp
from kexue.infomap.mergers import merge_pairs
from kexue.infomap.network import Network, relative_codelength, without_gaps

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
    labels = _move(network, rng, outer, start)
    watch("nodes moved", labels)
    while labels.any():
        merged = network.merged(labels)
        above = _move(merged, rng, outer)
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


def _move(network: Network, rng: random.Random, outer: float, start: np.ndarray | None = None) -> np.ndarray:
    """Sweeps over the nodes in random order: each moves to the neighbouring module that shortens L most,
    or to one of its own.

    Only those are visited again that moved, or had a neighbour that moved.
    """
    log2 = math.log2
    count, nodes = len(network.visit), network.nodes
    merged = network if start is None else network.merged(start, links=False)
    module = list(range(count)) if start is None else start.tolist()
    # Of each node …
    p, t, n, out = (a.tolist() for a in (network.visit, network.teleport, network.size, network.out))
    pointer = np.searchsorted(network.source, np.arange(count + 1)).tolist()
    target, both = network.target.tolist(), network.both.tolist()
    ends = [slice(*bounds) for bounds in itertools.pairwise(pointer)]
    neighbours, links = [target[own] for own in ends], [both[own] for own in ends]
    # … and of each module; q are its exits.
    mp, mt, mn, mout = (a.tolist() for a in (merged.visit, merged.teleport, merged.size, merged.out))
    q = merged.exits().tolist()
    q_log, both_log = plogp(q).tolist(), plogp(np.add(q, mp)).tolist()
    empty = list(range(len(q), count))
    for values in (mp, mt, mn, mout, q, q_log, both_log):
        values += [0.0] * len(empty)
    q_sum = sum(q) + outer
    sum_log = q_sum * log2(q_sum) if q_sum > 0 else 0.0
    order, waiting = list(range(count)), [True] * count
    moved = True
    while moved:
        moved = False
        rng.shuffle(order)
        for node in order:
            if not waiting[node]:
                continue
            waiting[node] = False
            old = module[node]
            flow: dict[int, float] = {}
            for neighbour, link in zip(neighbours[node], links[node], strict=True):
                other = module[neighbour]
                flow[other] = flow.get(other, 0.0) + link
            flow_old = flow.pop(old, 0.0)
            if mn[old] > n[node] and empty:
                flow[empty[-1]] = 0.0
            if not flow:
                continue
            p_node, t_node, n_node, out_node = p[node], t[node], n[node], out[node]
            # What the old module is without the node; exits of nothing are 0, whatever rounding says.
            n_left = mn[old] - n_node
            t_left, out_left, p_left = mt[old] - t_node, mout[old] - out_node + flow_old, mp[old] - p_node
            q_left = t_left * (1 - n_left / nodes) + out_left if n_left > 0 else 0.0
            if q_left <= 0:
                q_left = q_left_log = 0.0
            else:
                q_left_log = q_left * log2(q_left)
            within = q_left + p_left if n_left > 0 else 0.0
            left_log = within * log2(within) if within > 0 else 0.0
            change_old = left_log - both_log[old] - 2 * (q_left_log - q_log[old])
            q_rest = q_sum - q[old] + q_left
            best, chosen = -1e-10, -1
            for new, flow_new in flow.items():
                q_new = (
                    (mt[new] + t_node) * (1 - (mn[new] + n_node) / nodes) + mout[new] + out_node - flow_new
                )
                if q_new > 0:
                    q_new_log = q_new * log2(q_new)
                else:
                    q_new = q_new_log = 0.0
                within = q_new + mp[new] + p_node
                total = q_rest - q[new] + q_new
                change = (
                    change_old
                    + (total * log2(total) if total > 0 else 0.0)
                    - sum_log
                    - 2 * (q_new_log - q_log[new])
                    + (within * log2(within) if within > 0 else 0.0)
                    - both_log[new]
                )
                if change < best:
                    best, chosen = change, new
            if chosen < 0:
                continue
            moved = True
            if empty and chosen == empty[-1]:
                empty.pop()
            if n_left <= 0:
                empty.append(old)
                p_left = t_left = n_left = out_left = 0.0
            mp[old], mt[old], mn[old], mout[old] = p_left, t_left, n_left, out_left
            mp[chosen] += p_node
            mt[chosen] += t_node
            mn[chosen] += n_node
            mout[chosen] += out_node - flow[chosen]
            q_new = max(mt[chosen] * (1 - mn[chosen] / nodes) + mout[chosen], 0.0)
            q_sum += q_left - q[old] + q_new - q[chosen]
            sum_log = q_sum * log2(q_sum) if q_sum > 0 else 0.0
            q[old], q_log[old], both_log[old] = q_left, q_left_log, left_log
            q[chosen] = q_new
            q_log[chosen] = q_new * log2(q_new) if q_new > 0 else 0.0
            within = q_new + mp[chosen]
            both_log[chosen] = within * log2(within) if within > 0 else 0.0
            module[node] = chosen
            waiting[node] = True
            for neighbour in neighbours[node]:
                waiting[neighbour] = True
    return without_gaps(np.array(module))
