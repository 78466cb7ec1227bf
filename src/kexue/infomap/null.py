"""Are the groups more than chance? The network beside copies of it with other links."""

import itertools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike
from scipy import sparse

from kexue.infomap.codelength import Partition, map_equation, one_module
from kexue.infomap.search import Engine, check_seed, infomap
from kexue.infomap.walk import is_directed, links_as_given, random_walk_flow
from kexue.nn import arguments as checks

Null = Literal["degrees", "shuffled", "strengths"]

# Of a network and a seed, copies have the seeds that follow this many times it.
SEEDS_APART = 1000


@dataclass(frozen=True)
class Comparison:
    """A network beside its rewired copies."""

    saved: float
    """Bits per step that its modules save, compared with a single module."""
    copies: tuple[float, ...]
    """The same of each copy."""

    @property
    def p(self) -> float:
        """The share of the copies, and the network itself, that save at least as much as it does.

        Differences within 1e-9, which is rounding, count as equal.
        """
        as_much = sum(value >= self.saved - 1e-9 for value in self.copies)
        return (1 + as_much) / (1 + len(self.copies))


def rewired(
    graph: Any, seed: int = 0, null: Null = "degrees", sides: ArrayLike | None = None
) -> sparse.csr_array:
    """A copy in which other nodes are linked, and each has as many links as before (Maslov and Sneppen 2002).

    Two links, a–b and c–d, become a–d and c–b, unless that makes a loop or a second link between two nodes;
    ten such exchanges for each link. Loops stay. In a directed graph a→b and c→d become a→d and c→b, so that
    each node keeps its links in and out; links both ways are two of them, and need not stay together.
    Which way round a cycle of three goes may be beyond such exchanges (Rao, Jana and Bandyopadhyay 1996).

    Args:
        graph: see `random_walk_flow`. Without weights it may be undirected where it is directed with them.
        seed: of the exchanges.
        null: what is kept besides: nothing, the copy has no weights ("degrees"); the weights, in random order
            ("shuffled"); or, instead of the number of links, the sum of the weights at each node, in and out
            ("strengths"): a link of weight w, a whole number, is w links of which several may join the same
            two nodes.
        sides: (n,), for a bipartite network 0 or 1 for each node: the copy is bipartite, too.

    Returns:
        A matrix (n, n) of weights, in the order of the graph's nodes.

    Raises:
        TypeError: see `random_walk_flow`; seed is no int.
        ValueError: see `random_walk_flow`; a graph without links between nodes; an unknown null; weights for
            "strengths" that are not whole; sides of another length, or other than 0 and 1.
    """
    seed = check_seed(seed)
    if null not in get_args(Null):
        raise ValueError(f"null must be one of {get_args(Null)}, got {null!r}")
    links = _without_weights(graph) if null == "degrees" else links_as_given(graph)[1]
    directed, loops = is_directed(links), sparse.diags_array(links.diagonal())
    once = (links - loops if directed else sparse.triu(links, 1)).tocoo()
    once.eliminate_zeros()
    if once.nnz == 0:
        raise ValueError("graph must have links between nodes, got none")
    ends, weights = np.stack([once.row, once.col], 1).astype(int), once.data
    if null == "strengths":
        if (weights % 1).any() or weights.sum() > 10**7:
            raise ValueError(
                "graph must have whole weights, of ten million at most together, for 'strengths'"
            )
        ends, weights = np.repeat(ends, weights.astype(int), axis=0), np.ones(int(weights.sum()))
    side = _sides(np.zeros(links.shape[0]) if sides is None else sides, links.shape[0])
    if sides is not None:
        ends = _from_side_to_side(ends, side, directed)
    pairs: list[tuple[int, int]] = [(a, b) for a, b in ends.tolist()]
    rng = np.random.default_rng(seed)
    exchange(pairs, rng, null == "strengths", side.tolist(), directed)
    row, column = np.array(pairs).T
    copy = sparse.coo_array((rng.permutation(weights), (row, column)), shape=links.shape).tocsr()
    return (copy + loops if directed else copy + copy.T + loops).tocsr()


def _sides(sides: ArrayLike, nodes: int) -> Int[np.ndarray, " n"]:
    table = np.asarray(sides)
    if table.shape != (nodes,) or not np.isin(table, (0, 1)).all():
        raise ValueError(f"sides must be 0 or 1 for each of {nodes} nodes, got {sides!r:.80}")
    return table.astype(int)


def _from_side_to_side(
    ends: Int[np.ndarray, "links 2"], side: Int[np.ndarray, " n"], directed: bool
) -> Int[np.ndarray, "links 2"]:
    """Undirected links go from the side 0 to the side 1, so that an exchange of ends keeps them apart."""
    left, right = side[ends].T
    if (within := left == right).any():
        raise ValueError(f"sides must differ at the ends of each link, got a link {ends[within][0].tolist()}")
    swap = (left > right) & (not directed)
    ends[swap] = ends[swap, ::-1]
    return ends


def exchange(
    links: list[tuple[int, int]], rng: np.random.Generator, many: bool, side: list[int], directed: bool
) -> None:
    """Exchange ends of links in place, ten times for each; one that is not allowed changes nothing."""
    taken = set(links) if directed else {*links, *((b, a) for a, b in links)}
    turns = not (directed or any(side))
    chosen = rng.integers(len(links), size=(10 * len(links), 2)).tolist()
    turned = (rng.random(10 * len(links)) < 0.5 * turns).tolist()
    for (i, j), turn in zip(chosen, turned, strict=True):
        a, b = links[i]
        d, c = links[j] if turn else links[j][::-1]
        if i == j or a == d or c == b or side[a] != side[c]:
            continue
        if not many:
            if (a, d) in taken or (c, b) in taken:
                continue
            taken -= {(a, b), (c, d)}
            taken |= {(a, d), (c, b)}
            if not directed:
                taken -= {(b, a), (d, c)}
                taken |= {(d, a), (b, c)}
        links[i], links[j] = (a, d), (c, b)


def compare_with_rewired(
    graph: Any,
    copies: int = 99,
    seed: int = 0,
    trials: int = 1,
    null: Null = "degrees",
    sides: ArrayLike | None = None,
    engine: Engine = "numpy",
    teleport: float = 0.0,
) -> Comparison:
    """Bits that modules save in a network and in rewired copies of it, all found by the same search.

    A saving that many copies reach, too, is no evidence of groups: `p` is their share, with the network
    itself, and so 1/(copies + 1) at least.

    Args:
        graph: see `random_walk_flow`.
        copies: how many.
        seed: of the search; copies have the seeds 1000·seed + 1, 1000·seed + 2, ….
        trials, engine: of the search, see `infomap`.
        null, sides: see `rewired`.
        teleport: τ of the walk, in the network and in its copies, see `random_walk_flow`; positive for a
            directed graph, of which copies keep links in and out, but not how often a node is visited.

    Raises what `infomap` and `rewired` raise; ValueError for copies outside 1 to 999, and for a seed so large
    that copies have none.
    """
    copies = checks.whole("copies", copies, 1, SEEDS_APART - 1)
    seed = checks.whole("seed", seed, 0, 2**31 // SEEDS_APART - 1)
    if null == "degrees":
        graph = _without_weights(graph)
    others = (rewired(graph, SEEDS_APART * seed + i, null, sides) for i in range(1, copies + 1))
    # The network first, so that bad arguments are refused before a copy is made.
    own, *saved = (
        infomap(one, teleport, seed, trials=trials, engine=engine).saved
        for one in itertools.chain([graph], others)
    )
    return Comparison(own, tuple(saved))


def _without_weights(graph: Any) -> sparse.csr_array:
    _, links = links_as_given(graph)
    return (links > 0).astype(float)


def saved_bits(graph: Any, partition: Partition) -> float:
    """Bits per step that modules save, compared with a single one, in the walk without teleportation."""
    flow = random_walk_flow(graph, 0.0)
    return one_module(flow) - map_equation(flow, partition)
