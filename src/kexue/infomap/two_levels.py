"""Modules of nodes: moves of single nodes, of modules, of parts of them, and what leads out of hollows."""

import random
from collections.abc import Callable, Collection
from typing import Literal, get_args

import numpy as np

from kexue.infomap.mergers import merge_pairs
from kexue.infomap.moves import move_nodes
from kexue.infomap.network import Network, without_gaps

# Called with what a search has just done, and the labels after it.
Watch = Callable[[str, np.ndarray], None]

# Labels, and L for each group.
_Found = tuple[np.ndarray, np.ndarray]

Step = Literal["refine", "empty", "mergers", "shakes"]
STEPS: tuple[Step, ...] = get_args(Step)

# So many shakes in a row may be for nothing; each takes so many modules, and makes so many, at most.
_FAILURES, _SHAKEN, _DEALT = 10, 4, 3


def _nobody(name: str, labels: np.ndarray) -> None:
    """Watches nothing."""


def search_two_levels(
    network: Network, rng: random.Random, watch: Watch = _nobody, steps: Collection[Step] = STEPS
) -> np.ndarray:
    """Modules, by moves at all scales until nothing helps; one for all if that is as short."""
    watch("every node is a module", np.arange(len(network.visit)))
    labels = _refined(network, _climb(network, rng, None, steps, watch), rng, steps, watch)
    if "mergers" in steps and network.teleport.any():
        merged = merge_pairs(network, labels)
        if merged.max() < labels.max():
            watch("modules merged, linked or not", merged)
            labels = _refined(network, merged, rng, steps, watch)
    whole, divided = map(network.lengths_of, (network.group, labels))
    if (whole <= divided + 1e-12).any() and labels.max() >= len(whole):
        as_short = (whole <= divided + 1e-12)[network.group]
        labels = without_gaps(np.where(as_short, network.group, labels + len(whole)))
        watch("one module for all is as short", labels)
    return _shaken(network, labels, rng, steps, watch) if "shakes" in steps else labels


def _shorter(
    network: Network, found: _Found, changed: np.ndarray, name: str, watch: Watch = _nobody
) -> _Found:
    """For each group the labels that make L shorter; the very same object if that is nowhere the changed."""
    labels, lengths = found
    after = network.lengths_of(changed)
    better = after < lengths - 1e-10
    if not better.any():
        return found
    if not better.all():
        changed = without_gaps(np.where(better[network.group], changed + labels.max() + 1, labels))
    watch(name, changed)
    return changed, np.where(better, after, lengths)


def _refined(
    network: Network, labels: np.ndarray, rng: random.Random, steps: Collection[Step], watch: Watch = _nobody
) -> np.ndarray:
    """Single nodes leave their modules, then parts of modules do, until neither shortens L."""
    failures, single, found = 0, True, (labels, network.lengths_of(labels))
    while failures < 2 and "refine" in steps:
        labels = found[0]
        if single:
            changed = _climb(network, rng, labels, steps)
        else:
            parts = _climb(network.alone(labels), rng, None, steps)
            start = np.empty(parts.max() + 1, dtype=int)
            start[parts] = labels
            changed = _climb(network.merged(parts), rng, start, steps)[parts]
        name = "single nodes moved again" if single else "parts of modules moved"
        before, found = found, _shorter(network, found, changed, name, watch)
        failures = failures + 1 if found is before else 0
        single = not single
    return found[0]


def _shaken(
    network: Network, labels: np.ndarray, rng: random.Random, steps: Collection[Step], watch: Watch
) -> np.ndarray:
    """Some modules' nodes are dealt at random into others, and all nodes move again; kept where L is shorter.

    A way out where every single change makes L longer, and several together would not.
    """
    failures, merged, found = 0, network.merged(labels), (labels, network.lengths_of(labels))
    while failures < _FAILURES:
        count = int(labels.max()) + 1
        dealt, ways = np.full(count, -1), np.empty(count, dtype=int)
        for pool in _pools(network, merged, labels, rng):
            dealt[pool], ways[pool] = pool[0], rng.randint(1, _DEALT)
        taken = np.flatnonzero(dealt[labels] >= 0)
        draws = np.fromiter(iter(rng.random, None), float, len(taken))  # as many; None ends nothing
        changed = labels.copy()
        changed[taken] = count + dealt[labels[taken]] * _DEALT + (draws * ways[labels[taken]]).astype(int)
        changed = _climb(network, rng, without_gaps(changed), steps, awake=dealt[labels] >= 0)
        name = "some modules dealt anew at random, then all nodes moved"
        before, found = found, _shorter(network, found, changed, name, watch)
        failures = failures + 1 if found is before else 0
        if found is not before:
            labels = found[0]
            merged = network.merged(labels)
    return labels


def _pools(network: Network, merged: Network, labels: np.ndarray, rng: random.Random) -> list[list[int]]:
    """In each group a module that is drawn by its nodes, and some that are linked, or teleported, to it."""
    order, sizes = np.argsort(network.group, kind="stable"), np.bincount(network.group)
    modules, held = np.argsort(merged.group, kind="stable"), np.bincount(merged.group)
    pools = []
    for first, size, last, count in zip(
        (sizes.cumsum() - sizes).tolist(), sizes.tolist(), held.cumsum().tolist(), held.tolist(), strict=True
    ):
        pool = [int(labels[order[first + rng.randrange(size)]])]
        for _ in range(rng.randint(1, min(_SHAKEN, count)) - 1):
            near = [i for m in pool for i in merged.target[merged.start[m] : merged.start[m + 1]].tolist()]
            near = [i for i in near if i not in pool]
            if not near or (network.teleport.any() and rng.random() < 0.3):
                near = [i for i in modules[last - count : last].tolist() if i not in pool]
            pool.append(rng.choice(near))
        pools.append(pool)
    return pools


def _climb(
    network: Network,
    rng: random.Random,
    start: np.ndarray | None,
    steps: Collection[Step],
    watch: Watch = _nobody,
    awake: np.ndarray | None = None,
) -> np.ndarray:
    """Move nodes, then modules of them as nodes, then modules of those …, until nothing moves."""
    labels = move_nodes(network, rng, start, "empty" in steps, awake)
    watch("nodes moved", labels)
    while True:
        merged = network.merged(labels)
        above = move_nodes(merged, rng, None, "empty" in steps)
        if above.max() + 1 == len(merged.visit):
            return labels
        labels = above[labels]
        watch("modules moved", labels)
