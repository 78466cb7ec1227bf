"""Moves of single nodes between modules."""

import random
from typing import Any

import numpy as np

from kexue.infomap.codes import plogp
from kexue.infomap.network import Network, without_gaps


def move_nodes(
    network: Network,
    rng: random.Random,
    labels: np.ndarray | None = None,
    empty: bool = True,
    awake: np.ndarray | None = None,
) -> np.ndarray:
    """Nodes, in random order, move to the neighbouring module that shortens L most, until nobody moves.

    Or to a module of their own, if `empty`. All are asked, or those awake, and then those that moved, or had
    a neighbour that moved.
    """
    from kexue.infomap import loop  # here, since numba takes half a second to load

    count = len(network.visit)
    module = np.arange(count) if labels is None else labels.copy()
    merged = network if labels is None else network.merged(labels, links=False)
    exits = merged.exits()
    rates = np.zeros((count, loop.RATES))
    used = exits + merged.visit
    of = (merged.visit, merged.teleport, merged.size, merged.out, exits, plogp(exits), plogp(used))
    rates[: len(exits)] = np.transpose(of)
    state: list[Any] = [
        network.start,
        network.target,
        network.both,
        np.transpose([network.visit, network.teleport, network.size, network.out]).ravel(),
        network.group,
        network.nodes,
        module,
        rates.ravel(),
        merged.exits_of_groups(),
        np.append(np.arange(len(exits), count), np.zeros(len(exits), dtype=int)),
        count - len(exits) if empty else -1,
        rng.randrange(1, 2**31 - 1),
        np.empty(count, dtype=int),
        np.ones(count, dtype=bool) if awake is None else awake.copy(),
        np.empty(count + 2, dtype=int),
        np.zeros(count),
    ]
    if not loop.njit:
        state = [part.tolist() if isinstance(part, np.ndarray) else part for part in state]
    loop.move(*state)
    return without_gaps(np.asarray(state[6]))
