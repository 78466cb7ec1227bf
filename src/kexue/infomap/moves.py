"""Moves of single nodes between modules, the innermost loop of the search."""

import itertools
import random
from math import log2
from typing import Any

import numpy as np

from kexue.infomap.codes import plogp
from kexue.infomap.network import Network, without_gaps

# Of a module: visits, teleportation, nodes, flow out of them, exits q, q·log q, (q + visits)·log(q + visits).
_Rates = tuple[float, float, float, float, float, float, float]
_NOTHING: _Rates = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def move_nodes(
    network: Network, rng: random.Random, outer: float, start: np.ndarray | None = None
) -> np.ndarray:
    """Sweeps over the nodes in random order: each moves to the neighbouring module that shortens L most,
    or to one of its own.

    Only those are visited again that moved, or had a neighbour that moved.
    """
    state = _State(network, outer, start)
    order, waiting = list(range(len(state.module))), [True] * len(state.module)
    moved = True
    while moved:
        moved = False
        rng.shuffle(order)
        for node in order:
            if waiting[node]:
                waiting[node] = False
                if state.move(node):
                    moved = waiting[node] = True
                    for neighbour, _ in state.links[node]:
                        waiting[neighbour] = True
    return without_gaps(np.array(state.module))


def _rows(*columns: np.ndarray) -> list[Any]:
    return list(zip(*(values.tolist() for values in columns), strict=True))


class _State:
    """Nodes and modules in lists, which Python reads faster than arrays where it reads one by one."""

    def __init__(self, network: Network, outer: float, start: np.ndarray | None) -> None:
        count, self.nodes = len(network.visit), network.nodes
        merged = network if start is None else network.merged(start, links=False)
        self.module = list(range(count)) if start is None else start.tolist()
        self.weights = _rows(network.visit, network.teleport, network.size, network.out)
        links = _rows(network.target, network.both)
        ends = np.searchsorted(network.source, np.arange(count + 1)).tolist()
        self.links = [links[first:last] for first, last in itertools.pairwise(ends)]
        visit, q = merged.visit, merged.exits()
        logs = plogp(q), plogp(q + visit)
        self.rates: list[_Rates] = _rows(visit, merged.teleport, merged.size, merged.out, q, *logs)
        self.empty = list(range(len(q), count))
        self.rates += [_NOTHING] * len(self.empty)
        self.q_sum = sum(q.tolist()) + outer

    def move(self, node: int) -> bool:
        """Move the node to where it shortens L most; whether there is such a place."""
        module, old = self.module, self.module[node]
        flow: dict[int, float] = {}
        for neighbour, link in self.links[node]:
            other = module[neighbour]
            flow[other] = flow.get(other, 0.0) + link
        flow_old = flow.pop(old, 0.0)
        if self.empty and self.rates[old][2] > self.weights[node][2]:
            flow[self.empty[-1]] = 0.0
        if not flow:
            return False
        old_p, old_t, old_n, old_out, *_ = self.rates[old]
        p, t, n, out = self.weights[node]
        left = self.module_of(old_p - p, old_t - t, old_n - n, old_out - out + flow_old)
        new = self.best(node, left, flow)
        if new < 0:
            return False
        if self.empty and new == self.empty[-1]:
            self.empty.pop()
        if old_n <= n:
            self.empty.append(old)
        new_p, new_t, new_n, new_out, *_ = self.rates[new]
        joined = self.module_of(new_p + p, new_t + t, new_n + n, new_out + (out - flow[new]))
        self.q_sum += left[4] - self.rates[old][4] + joined[4] - self.rates[new][4]
        self.rates[old], self.rates[new], module[node] = left, joined, new
        return True

    def module_of(self, p: float, t: float, n: float, out: float) -> _Rates:
        """What a module is whose nodes weigh that much; exits of nothing are 0, whatever rounding says."""
        if n <= 0:
            return _NOTHING
        q = t * (1 - n / self.nodes) + out
        if q <= 0:
            q = q_log = 0.0
        else:
            q_log = q * log2(q)
        used = q + p
        return p, t, n, out, q, q_log, used * log2(used) if used > 0 else 0.0

    def best(self, node: int, left: _Rates, flow: dict[int, float]) -> int:
        """The module that it shortens L most to move the node to; −1 if it should stay."""
        nodes, rates, q_sum = self.nodes, self.rates, self.q_sum
        p, t, n, out = self.weights[node]
        _, _, _, _, q_left, q_left_log, used_left_log = left
        _, _, _, _, q_old, q_old_log, used_old_log = rates[self.module[node]]
        change_old = used_left_log - used_old_log - 2 * (q_left_log - q_old_log)
        sum_log, q_rest = q_sum * log2(q_sum) if q_sum > 0 else 0.0, q_sum - q_old + q_left
        best, chosen = -1e-10, -1
        for new, flow_new in flow.items():
            new_p, new_t, new_n, new_out, new_q, new_q_log, new_used_log = rates[new]
            q = (new_t + t) * (1 - (new_n + n) / nodes) + new_out + out - flow_new
            if q > 0:
                q_log = q * log2(q)
            else:
                q = q_log = 0.0
            used = q + new_p + p
            total = q_rest - new_q + q
            change = (
                change_old
                + (total * log2(total) if total > 0 else 0.0)
                - sum_log
                - 2 * (q_log - new_q_log)
                + (used * log2(used) if used > 0 else 0.0)
                - new_used_log
            )
            if change < best:
                best, chosen = change, new
        return chosen
