"""A network as the search holds it: arrays that shrink as modules become nodes."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from kexue.infomap.codes import plogp
from kexue.infomap.walk import Flow


@dataclass(frozen=True)
class Network:
    """Nodes or modules, as the search sees them: what they weigh, and how much flows between them.

    They may be of several groups, whose codebooks of modules are apart: a module holds nodes of one group.
    """

    visit: np.ndarray
    teleport: np.ndarray
    size: np.ndarray
    """How many nodes each one holds."""
    out: np.ndarray
    """Flow along links from each one to others, also to such that are of another group."""
    start: np.ndarray
    """target[start[i]:start[i + 1]] are others of its group that share flow with i."""
    target: np.ndarray
    both: np.ndarray
    """What flows between them, both ways together."""
    nodes: int
    """Of the whole graph, which is where teleportation goes."""
    group: np.ndarray
    outer: np.ndarray
    """For each group, the rate of its own exit mark, which is in the codebook of its modules."""

    @classmethod
    def of(cls, flow: Flow) -> "Network":
        n = len(flow.visit)
        between = (flow.link - sparse.diags_array(flow.link.diagonal())).tocsr()
        between.eliminate_zeros()
        out = between.sum(1)
        links = (between + between.T).tocsr()
        return cls(
            flow.visit,
            flow.teleport,
            np.ones(n),
            out,
            *_arrays(links),
            n,
            np.zeros(n, dtype=int),
            np.zeros(1),
        )

    def merged(self, labels: np.ndarray, links: bool = True) -> "Network":
        """Modules as nodes; without the links between them where only rates are asked for."""
        modules = int(labels.max()) + 1
        group = np.empty(modules, dtype=int)
        group[labels] = self.group
        # Each flow within a module is there from both ends, and adds up both ways: twice too much.
        inside = self._within(labels, modules) / 2
        start, target, both = _without_links(modules)
        if links:
            source, ends = labels[self.source], labels[self.target]
            apart = source != ends
            start, target, both = _gathered(source[apart], ends[apart], self.both[apart], modules)
        visit, teleport, nodes, out = (
            np.bincount(labels, of, modules) for of in (self.visit, self.teleport, self.size, self.out)
        )
        out = np.maximum(out - inside, 0.0)
        return Network(visit, teleport, nodes, out, start, target, both, self.nodes, group, self.outer)

    def _within(self, labels: np.ndarray, modules: int) -> np.ndarray:
        """For each module the flow between nodes in it, both ways, from both ends."""
        from kexue.infomap import loop

        if loop.njit:
            return loop.within(self.start, self.target, self.both, labels, np.zeros(modules))
        ends = labels[self.target]
        same = labels[self.source] == ends
        return np.bincount(ends[same], self.both[same], modules)

    def parts(self, labels: np.ndarray) -> "Network":
        """The same nodes, each module a group: only flow within it is left as links."""
        same = labels[self.source] == labels[self.target]
        start, target, both = _kept(self.start, self.target, self.both, same)
        return replace(
            self,
            start=start,
            target=target,
            both=both,
            group=labels,
            outer=self.merged(labels, False).exits(),
        )

    def alone(self, labels: np.ndarray) -> "Network":
        """The same, each module as if it were a graph by itself, which the walk never leaves."""
        parts = self.parts(labels)
        nothing = np.zeros_like(self.visit)
        out = np.bincount(parts.source, parts.both, len(labels)) / 2
        return replace(parts, teleport=nothing, out=out, outer=np.zeros_like(parts.outer))

    @cached_property
    def source(self) -> np.ndarray:
        """The other end of each link."""
        return np.repeat(np.arange(len(self.visit)), np.diff(self.start))

    def lengths_of(self, labels: np.ndarray) -> np.ndarray:
        """`lengths` with these modules."""
        return self.merged(labels, links=False).lengths()

    def exits(self) -> np.ndarray:
        return self.teleport * (1 - self.size / self.nodes) + self.out

    def exits_of_groups(self) -> np.ndarray:
        """At what rate the codebook of each group's nodes as modules is used."""
        return self.outer + np.bincount(self.group, self.exits(), len(self.outer))

    def lengths(self) -> np.ndarray:
        """For each group L with these nodes as modules, up to what does not depend on modules.

        One module in a group says nothing that the group does not say, and has no codebook.
        """
        exits, count = self.exits(), len(self.outer)
        terms = plogp(exits + self.visit) - 2 * plogp(exits)
        divided = plogp(self.exits_of_groups()) + np.bincount(self.group, terms, count)
        alone = np.bincount(self.group, minlength=count) == 1
        return np.where(alone, plogp(np.bincount(self.group, self.visit, count) + self.outer), divided)


def _arrays(links: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return links.indptr.astype(int), links.indices.astype(int), links.data


def _without_links(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(count + 1, dtype=int), np.empty(0, dtype=int), np.empty(0)


def _gathered(
    source: np.ndarray, target: np.ndarray, both: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links with the same ends added up, in rows."""
    if count * count <= max(4 * len(both), 256):  # a table of all pairs is faster
        ends = source * count + target
        sums, (found,) = np.bincount(ends, both), np.bincount(ends).nonzero()
        start = np.append(0, np.bincount(found // count, minlength=count).cumsum())
        return start, found % count, sums[found]
    one = (
        np.ones(len(both)),
        np.argsort(source, kind="stable"),
        np.append(0, np.bincount(source, minlength=count).cumsum()),
    )
    rows = sparse.csr_array(one, (count, len(both)))
    return _arrays(rows @ sparse.csr_array((both, target, np.arange(len(both) + 1)), (len(both), count)))


def _kept(
    start: np.ndarray, target: np.ndarray, both: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.append(0, keep.cumsum())[start], target[keep], both[keep]


def without_gaps(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, … in the same order, without gaps."""
    used = np.bincount(labels) > 0
    return (used.cumsum() - 1)[labels]


def relative_codelength(network: Network, labels: np.ndarray) -> float:
    """L(M) up to what does not depend on the modules."""
    return float(network.lengths_of(labels).sum())
