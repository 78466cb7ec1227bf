"""The innermost loop of the search, compiled by numba where that is installed.

The same functions run without it: then on lists, which Python reads faster than arrays where it reads one by
one. Both do the same operations in the same order, and find the same modules. Compiling takes some seconds
once; numba keeps the result beside this file.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from math import log2
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

njit: Any = None
"""numba's decorator, or None where numba is not installed."""
with suppress(ImportError):
    from numba import njit

# Of node i, weights[4i …]: visits, teleportation, nodes that it holds, flow out of it. Of module i,
# rates[7i …]: the same four, its exits q, q·log q, and (q + visits)·log(q + visits).
WEIGHTS, RATES = 4, 7


def _compiled(function: Function) -> Function:
    bare: Function = inspect.unwrap(function)  # of what checks shapes in tests
    compiled: Function = njit(cache=True)(bare) if njit else bare
    return compiled


@_compiled
def within(start: Any, target: Any, both: Any, labels: Any, flow: Any) -> Any:
    """Adds up what flows between nodes of the same label; with NumPy it takes ten times as long."""
    for node in range(len(labels)):
        for link in range(start[node], start[node + 1]):
            if labels[target[link]] == labels[node]:
                flow[labels[node]] += both[link]
    return flow


@_compiled
def _plogp(x: float) -> float:
    return x * log2(x) if x > 0 else 0.0


@_compiled
def _shift(rates: Any, weights: Any, nodes: int, module: int, node: int, sign: float, flow: float) -> float:
    """Let a node in (sign 1) or out (−1) of a module, with which it exchanges that flow: change of its exits.

    Of nothing they are 0, whatever rounding says.
    """
    at, of = RATES * module, WEIGHTS * node
    size = rates[at + 2] + sign * weights[of + 2]
    left = 1.0 if size > 0 else 0.0
    visit = left * (rates[at] + sign * weights[of])
    teleport = left * (rates[at + 1] + sign * weights[of + 1])
    out = left * (rates[at + 3] + sign * (weights[of + 3] - flow))
    exits = max(teleport * (1 - size / nodes) + out, 0.0)
    change = exits - rates[at + 4]
    rates[at], rates[at + 1], rates[at + 2], rates[at + 3] = visit, teleport, left * size, out
    rates[at + 4], rates[at + 5], rates[at + 6] = exits, _plogp(exits), _plogp(exits + visit)
    return change


@_compiled
def _best(
    rates: Any, weights: Any, nodes: int, q_sum: float, node: int, near: Any, count: int, flow: Any
) -> int:
    """Of the modules near[:count] the one that makes L shortest; the first, if others gain nothing.

    What does not depend on the choice is left out of L.
    """
    of = WEIGHTS * node
    visit, teleport, size, out = weights[of], weights[of + 1], weights[of + 2], weights[of + 3]
    chosen, least = near[0], 0.0
    for i in range(count):  # p·log p is written out, since calls are slow in Python
        module = near[i]
        at = RATES * module
        exits = (
            (rates[at + 1] + teleport) * (1 - (rates[at + 2] + size) / nodes)
            + rates[at + 3]
            + out
            - flow[module]
        )
        used, total = exits + rates[at] + visit, q_sum - rates[at + 4] + exits
        length = 2 * rates[at + 5] - rates[at + 6]
        if exits > 0:
            length -= 2 * exits * log2(exits)
        if used > 0:
            length += used * log2(used)
        if total > 0:
            length += total * log2(total)
        if i == 0:
            least = length - 1e-10
        elif length < least:
            chosen, least = module, length
    return chosen


@_compiled
def move(
    start: Any, target: Any, both: Any, weights: Any, group: Any, nodes: int,
    module: Any, rates: Any, q_sum: Any, empty: Any, free: int, seed: int,
    order: Any, waiting: Any, near: Any, flow: Any,
) -> int:  # fmt: skip
    """Each node in turn goes to that of its neighbours' modules, or an empty one, that makes L shortest.

    They are asked in random order, and again if they or a neighbour moved, until none moves.

    Args:
        start, target, both: of node i, target[start[i]:start[i + 1]] are neighbours, both what flows between.
        weights, rates: see above.
        group: of each node; modules hold nodes of one group only.
        nodes: of the whole graph.
        module: of each node; changed, as rates are.
        q_sum: for each group, the sum of its modules' exits and its own; changed.
        empty: modules without nodes, in empty[:free]; none is to be used where free is −1.
        seed: of the order, between 1 and 2³¹ − 2.
        order, waiting, near, flow: room for numbers of all nodes, whom to ask first, room again, zeros.

    Returns:
        How many times a node moved.
    """
    count, moves, busy = len(module), 0, True
    for i in range(count):
        order[i] = i
    while busy:
        busy = False
        for last in range(count - 1, 0, -1):
            seed = seed * 48271 % 2147483647  # the "minimal standard" generator of Park and Miller (1988)
            other = seed % (last + 1)
            order[last], order[other] = order[other], order[last]
        for node in order:
            if not waiting[node]:
                continue
            waiting[node] = False
            old, candidates = module[node], 1
            near[0] = old
            for link in range(start[node], start[node + 1]):
                other = module[target[link]]
                if flow[other] == 0.0 and other != old:
                    near[candidates] = other
                    candidates += 1
                flow[other] += both[link]
            q_of = group[node]
            q_sum[q_of] += _shift(rates, weights, nodes, old, node, -1.0, flow[old])
            if rates[RATES * old + 2] > 0 and free > 0:
                near[candidates] = empty[free - 1]
                candidates += 1
            new = _best(rates, weights, nodes, q_sum[q_of], node, near, candidates, flow)
            q_sum[q_of] += _shift(rates, weights, nodes, new, node, 1.0, flow[new])
            for i in range(candidates):
                flow[near[i]] = 0.0
            if new == old:
                continue
            moves, busy, module[node], waiting[node] = moves + 1, True, new, True
            if free > 0 and new == empty[free - 1]:
                free -= 1
            if free >= 0 and rates[RATES * old + 2] == 0:
                empty[free] = old
                free += 1
            for link in range(start[node], start[node + 1]):
                waiting[target[link]] = True
    return moves
