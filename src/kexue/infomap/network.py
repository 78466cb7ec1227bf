"""A network as the search holds it: arrays that shrink as modules become nodes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kexue.infomap.codes import plogp
from kexue.infomap.walk import Flow


@dataclass
class Network:
    """Nodes or modules, as the search sees them: what they weigh, and how much flows between them."""

    visit: np.ndarray
    teleport: np.ndarray
    size: np.ndarray
    """How many nodes each one holds."""
    out: np.ndarray
    """Flow along links from each one to others, also to such that are not part of this network."""
    source: np.ndarray
    """Each pair of different ones with flow between them is there twice, sorted by source."""
    target: np.ndarray
    both: np.ndarray
    """What flows between source and target, both ways together."""
    nodes: int
    """Of the whole graph, which is where teleportation goes."""

    @classmethod
    def of(cls, flow: Flow) -> "Network":
        table, n = flow.link.tocoo(), len(flow.visit)
        off = table.row != table.col
        source, target, link = table.row[off], table.col[off], table.data[off]
        out = np.bincount(source, link, n)
        ends = (np.concatenate([source, target]), np.concatenate([target, source]))
        return cls(
            flow.visit, flow.teleport, np.ones(n), out, *_gathered(*ends, np.concatenate([link, link]), n), n
        )

    def merged(self, labels: np.ndarray, links: bool = True) -> "Network":
        """Modules as nodes; without the links between them where only rates are asked for."""
        modules = int(labels.max()) + 1
        source, target = labels[self.source], labels[self.target]
        within = source == target
        # Each flow within a module is there from both ends, and adds up both ways: twice too much.
        inside = np.bincount(source[within], self.both[within], modules) / 2
        visit, teleport, size, out = (
            np.bincount(labels, of, modules) for of in (self.visit, self.teleport, self.size, self.out)
        )
        apart = ~within & links
        return Network(
            visit,
            teleport,
            size,
            np.maximum(out - inside, 0.0),
            *_gathered(source[apart], target[apart], self.both[apart], modules),
            self.nodes,
        )

    def parts(self, labels: np.ndarray) -> Iterator[tuple[np.ndarray, "Network"]]:
        """Each module's members, and them as a network, whose flow to others remains in `out`."""
        order = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels)
        first = np.cumsum(sizes) - sizes
        place = np.empty_like(order)  # within the module
        place[order] = np.arange(len(order)) - np.repeat(first, sizes)
        within = labels[self.source] == labels[self.target]
        link = np.flatnonzero(within)[np.argsort(labels[self.source[within]], kind="stable")]
        links = np.bincount(labels[self.source[within]], minlength=len(sizes))
        source, target, both = place[self.source[link]], place[self.target[link]], self.both[link]
        members = np.split(order, first[1:])
        for own, end, count in zip(members, np.cumsum(links), links, strict=True):
            own_links = slice(end - count, end)
            yield (
                own,
                Network(
                    self.visit[own],
                    self.teleport[own],
                    self.size[own],
                    self.out[own],
                    source[own_links],
                    target[own_links],
                    both[own_links],
                    self.nodes,
                ),
            )

    def exits(self) -> np.ndarray:
        return self.teleport * (1 - self.size / self.nodes) + self.out


def _gathered(
    source: np.ndarray, target: np.ndarray, both: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links with the same ends added up, sorted by source and target."""
    ends = source.astype(np.int64) * count + target
    if count * count <= max(4 * len(ends), 256):  # a table of all pairs is faster than sorting
        sums, (found,) = np.bincount(ends, both), np.bincount(ends).nonzero()
        return found // count, found % count, sums[found]
    found, which = np.unique(ends, return_inverse=True)
    return found // count, found % count, np.bincount(which, both, len(found))


def without_gaps(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, … in the same order, without gaps."""
    used = np.bincount(labels) > 0
    return (used.cumsum() - 1)[labels]


def relative_codelength(network: Network, labels: np.ndarray, outer: float) -> float:
    """L(M) up to what does not depend on the modules; `outer` is the exit rate of what holds them."""
    merged = network.merged(labels, links=False)
    exits = merged.exits()
    total = exits.sum() + outer
    return float(plogp(total) - 2 * plogp(exits).sum() + plogp(exits + merged.visit).sum())
