"""The random walk on a network: its rates, with and without teleportation."""

import numbers
import sys
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse import csgraph

from kexue.nn import arguments as checks


@dataclass(frozen=True)
class Flow:
    """A random walk on a graph in its stationary state, in rates per step."""

    nodes: tuple[Hashable, ...]
    visit: Float[np.ndarray, " n"]
    """How often each node is visited; sums to 1."""
    link: sparse.csr_array
    """How often the walk goes from each node (row) to each other (column) along a link."""
    teleport: Float[np.ndarray, " n"]
    """How often the walk leaves each node by teleportation, to any node, itself included, with equal odds."""


def stationary_distribution(transitions: Any, teleport: float = 0.15) -> Float[np.ndarray, " n"]:
    """The p with p = (1 − τ)·pT + τ/n, where dangling nodes teleport always (infomap.eq12, infomap.eq13).

    Args:
        transitions: (n, n), dense or sparse: T[i, j] is the probability to go from i to j. A row of zeros
            is a dangling node.
        teleport: τ, the probability to go to any node, itself included, with equal odds. For 0 there must
            be one solution only, and no dangling node; else at least 1e-9.

    Raises:
        TypeError: transitions is no matrix of real numbers, or teleport no number.
        ValueError: transitions not square or empty, with an entry that is negative or not finite, or with
            a row that sums neither to 1 nor to 0; teleport outside [0, 1], or below 1e-9; or 0 where the
            solution is not unique.
    """
    matrix = _matrix(transitions, "transitions")
    teleport = _probability(teleport)
    with np.errstate(over="ignore"):
        sums = matrix.sum(1)
    dangling = sums == 0
    if not np.allclose(sums[~dangling], 1.0):
        wrong = np.flatnonzero(~dangling & ~np.isclose(sums, 1.0))[0]
        raise ValueError(f"transitions must have rows that sum to 1 or 0, got {sums[wrong]} in row {wrong}")
    if teleport == 0:
        return _stationary_without_teleport(matrix, dangling)
    n = len(sums)
    backward = matrix.T.tocsr()
    p = np.full(n, 1 / n)
    # A step makes the distance to the solution smaller by 1 − τ at least. For small τ that is little; then
    # the mean of p and the step's result is often much faster, since it ends what swings to and fro.
    lazy = 0.5 if teleport < 0.05 else 0.0
    for _ in range(10_000):
        lost = p[dangling].sum()
        following = (1 - teleport) * (backward @ p) + (teleport + (1 - teleport) * lost) / n
        following = lazy * p + (1 - lazy) * following / following.sum()
        if np.abs(following - p).sum() < 1e-15:
            return following
        p = following
    # p is proportional to the solution of x = (1 − τ)·xT + 1: what is lost comes back to all nodes alike.
    x = sparse.linalg.spsolve((sparse.eye_array(n) - (1 - teleport) * backward).tocsc(), np.ones(n))
    return x / x.sum()


def _stationary_without_teleport(matrix: sparse.csr_array, dangling: np.ndarray) -> np.ndarray:
    if dangling.any():
        raise ValueError(
            f"teleport must be positive where nodes are dangling, as node {dangling.argmax()} is"
        )
    count, component = csgraph.connected_components(matrix, connection="strong")
    source, target = matrix.nonzero()
    leaving = np.unique(component[source[component[source] != component[target]]])
    closed = np.setdiff1d(np.arange(count), leaving)
    if len(closed) > 1:
        raise ValueError(f"teleport must be positive where {len(closed)} parts are never left, got 0")
    inside = np.flatnonzero(component == closed[0])
    p = np.zeros(matrix.shape[0])
    p[inside[0]] = 1.0
    if len(inside) > 1:
        # p(1 − T) = 0 with the first rate set to 1, and without the first equation, which follows.
        system = (sparse.eye_array(len(inside)) - matrix[inside][:, inside].T).tocsc()
        rest = sparse.linalg.spsolve(system[1:, 1:], -system[1:, [0]].toarray().ravel())
        p[inside[1:]] = np.maximum(rest, 0.0)  # rounding may make a rate of nearly 0 negative
    return p / p.sum()


def random_walk_flow(graph: Any, teleport: float = 0.15) -> Flow:
    """The walk that follows links in proportion to their weights, and teleports with probability τ.

    Dangling nodes teleport always. For τ = 0 the graph must be undirected, and the walk is the one that
    visits a node in proportion to the weights at it, also where the graph has several parts.

    Args:
        graph: a networkx graph, whose links weigh 1 or what their attribute "weight" says, or a matrix
            (n, n) of weights, dense or sparse: W[i, j] is the link from i to j. An undirected link goes
            both ways, a self-loop once; a matrix is undirected if it is symmetric.
        teleport: τ, see `stationary_distribution`.

    Raises:
        TypeError: graph is none of these.
        ValueError: no nodes; a weight that is negative or not finite; a matrix that is not square;
            teleport outside [0, 1], or 0 for a graph that is directed or has no links.
    """
    nodes, weights = weighted_links(graph)
    teleport = _probability(teleport)
    n, strength = len(nodes), weights.sum(1)
    if teleport == 0:
        if is_directed(weights):
            raise ValueError("teleport must be positive for a directed graph, got 0")
        if weights.nnz == 0:
            raise ValueError("teleport must be positive for a graph without links, got 0")
        return Flow(nodes, strength / strength.sum(), weights / strength.sum(), np.zeros(n))
    linked = strength > 0
    rows = np.divide(1.0, strength, out=np.zeros(n), where=linked)
    transitions = (sparse.diags_array(rows) @ weights).tocsr()
    visit = stationary_distribution(transitions, teleport)
    link = (sparse.diags_array((1 - teleport) * visit) @ transitions).tocsr()
    return Flow(nodes, visit, link, np.where(linked, teleport * visit, visit))


def neighbour_graph(vectors: ArrayLike, neighbours: int = 50, threshold: float = 0.6) -> sparse.csr_array:
    """Directed links from each vector to its nearest ones, weighted by their cosine (infomap.claim5).

    Args:
        vectors: (n, d), one in each row, none of them 0.
        neighbours: at most that many links from each.
        threshold: no link where the cosine is less; positive, since weights are.

    Returns:
        A matrix (n, n), at [i, j] with the cosine of vectors i and j, if j is among i's nearest, and 0 else.

    Raises:
        TypeError: vectors are no real numbers, neighbours is no int, or threshold no number.
        ValueError: vectors not of this shape, not finite, or 0; neighbours below 1; threshold outside (0, 1].
    """
    table = np.asarray(vectors)
    if table.dtype.kind not in "biuf":
        raise TypeError(f"vectors must have real entries, got dtype {table.dtype}")
    table = table.astype(float)
    neighbours = checks.whole("neighbours", neighbours, 1)
    checks.number("threshold", threshold)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}")
    if table.ndim != 2 or table.shape[0] == 0:
        raise ValueError(f"vectors must have the shape (n, d), got {table.shape}")
    largest = np.abs(table).max(1, initial=0.0, keepdims=True)
    if not (np.isfinite(largest) & (largest > 0)).all():
        wrong = np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))[0]
        raise ValueError(f"vectors must be finite and not 0, but row {wrong} is {table[wrong]}")
    unit = table / largest  # first, or squares may overflow
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    n, blocks = len(unit), []
    for start in range(0, n, 1000):  # (1000, n) cosines at a time
        cosine = np.minimum(unit[start : start + 1000] @ unit.T, 1.0)
        rows = np.arange(len(cosine))
        cosine[rows, start + rows] = -1.0
        close = cosine >= threshold - 1e-12  # of equal directions the cosine is 1 but for rounding
        for crowded in np.flatnonzero(close.sum(1) > neighbours):
            nearest = np.argpartition(-cosine[crowded], neighbours - 1)[:neighbours]
            close[crowded] = False
            close[crowded, nearest] = True
        row, column = np.nonzero(close)
        blocks.append((row + start, column, cosine[close]))
    source, target, weight = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return sparse.csr_array((weight, (source, target)), shape=(n, n))


def overlapping_flow(graph: Any, memberships: Mapping[Hashable, Collection[Hashable]]) -> Flow:
    """The walk on an undirected graph whose nodes belong to one module or several (infomap.claim4).

    A walk in module i that goes to a node of i stays in i; to another node, it enters one of that node's
    modules, with equal odds (Viamontes Esquivel and Rosvall 2011). The flow's nodes are pairs (node,
    module), with the node's visits in that module: `map_equation` takes the module of each pair. The
    rates are solved for directly, which is for networks of some thousand nodes.

    Args:
        graph: see `random_walk_flow`; connected and undirected.
        memberships: the modules of each node. One in which no walk ever comes to the node has rate 0.

    Raises:
        TypeError: see `random_walk_flow`; or memberships is no mapping to collections.
        ValueError: see `random_walk_flow`; a graph that is directed or in several parts; a node without
            module; or memberships under which it depends on the start in which modules a walk ends.
    """
    nodes, weights = weighted_links(graph)
    if is_directed(weights):
        raise ValueError("graph must be undirected, but it is directed")
    checks.instance("memberships", memberships, Mapping, "a mapping")
    if (parts := csgraph.connected_components(weights)[0]) > 1 or weights.nnz == 0:
        raise ValueError(f"graph must be connected and have links, got {parts} parts, {weights.nnz} links")
    for node in nodes:
        own = memberships.get(node, ())
        if isinstance(own, str | bytes) or not isinstance(own, Collection):
            raise TypeError(f"memberships must be collections of modules, got {own!r} for {node!r}")
        if len(own) == 0:
            raise ValueError(f"memberships must have a module for every node, got none for {node!r}")
        for name in own:
            checks.instance(f"memberships[{node!r}]", name, Hashable, "of hashable modules")
    modules = [tuple(dict.fromkeys(memberships[node])) for node in nodes]
    states = [(node, module) for node, own in zip(nodes, modules, strict=True) for module in own]
    number = {state: i for i, state in enumerate(states)}
    place = {node: i for i, node in enumerate(nodes)}
    transitions = sparse.dok_array((len(states), len(states)))
    for (node, module), row in number.items():
        start, end = weights.indptr[place[node] : place[node] + 2]
        links = weights.data[start:end] / weights.data[start:end].sum()
        for j, probability in zip(weights.indices[start:end].tolist(), links.tolist(), strict=True):
            entered = (module,) if module in modules[j] else modules[j]
            for new in entered:
                transitions[row, number[nodes[j], new]] = probability / len(entered)
    matrix = transitions.tocsr()
    try:
        visit = stationary_distribution(matrix, 0.0)
    except ValueError as error:
        raise ValueError(
            "memberships must let the walk come from every module to every other in the long run"
        ) from error
    return Flow(tuple(states), visit, (sparse.diags_array(visit) @ matrix).tocsr(), np.zeros(len(states)))


def weighted_links(graph: Any) -> tuple[tuple[Hashable, ...], sparse.csr_array]:
    """Nodes and weights, all by the same factor, so that none is too large or small to compute with."""
    nodes, matrix = links_as_given(graph)
    if matrix.nnz:  # only ratios matter; by a power of 2, so that nothing is rounded
        matrix.data = np.ldexp(matrix.data, -int(np.frexp(matrix.data.max())[1]))
        matrix.eliminate_zeros()
    return nodes, matrix


def links_as_given(graph: Any) -> tuple[tuple[Hashable, ...], sparse.csr_array]:
    """Nodes and weights of what `random_walk_flow` takes; raises what it raises of them."""
    if sparse.issparse(graph) or isinstance(graph, np.ndarray):
        matrix = _matrix(graph, "graph")
        nodes: tuple[Hashable, ...] = tuple(range(matrix.shape[0]))
    else:
        import networkx as nx  # belongs to the extra "book"

        if hasattr(graph, "to_numpy"):
            raise TypeError(
                f"graph must be a networkx graph or a matrix, got {type(graph).__name__}: graph.to_numpy() "
                "is a matrix, and networkx.from_pandas_adjacency(graph) keeps the names"
            )
        checks.instance("graph", graph, nx.Graph, "a networkx graph or a matrix")
        if len(graph) == 0:
            raise ValueError("graph must have nodes, got none")
        for a, b, weight in graph.edges(data="weight", default=1):
            if not isinstance(weight, numbers.Real):
                raise TypeError(f"graph must have weights that are numbers, got {weight!r} at {a!r}, {b!r}")
            if not 0 <= weight <= sys.float_info.max:  # type: ignore[operator]  # here, since parallel edges are added up below
                raise ValueError(f"graph must have non-negative entries that a float can hold, got {weight}")
        nodes, matrix = tuple(graph), _matrix(nx.to_scipy_sparse_array(graph, dtype=float), "graph")
    return nodes, matrix


def _matrix(value: Any, name: str) -> sparse.csr_array:
    """A copy in rows, without zeros."""
    if not (sparse.issparse(value) or isinstance(value, np.ndarray)) or np.ma.isMaskedArray(value):
        raise TypeError(f"{name} must be a matrix, dense or sparse, got {type(value).__name__}")
    if value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must have real entries, got dtype {value.dtype}")
    if value.ndim != 2 or value.shape[0] != value.shape[1] or value.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix of at least one row, got shape {value.shape}")
    entries = value.tocoo().data if sparse.issparse(value) else value
    bad = ~((entries >= 0) & np.isfinite(entries))
    if bad.any():
        raise ValueError(f"{name} must have non-negative, finite entries, got {entries[bad][0]}")
    matrix = sparse.csr_array(value, dtype=float, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def is_directed(weights: sparse.csr_array) -> bool:
    back = weights.T.tocsr()
    parts = ((matrix.indptr, matrix.indices, matrix.data) for matrix in (weights, back))
    if all(map(np.array_equal, *parts)):  # the usual case, which needs no sums of matrices
        return False
    return bool((abs(weights - back) > 1e-12 * weights.maximum(back)).nnz)


def _probability(teleport: float) -> float:
    checks.number("teleport", teleport)
    if not 0 <= teleport <= 1:
        raise ValueError(f"teleport must lie in [0, 1], got {teleport}")
    value = float(teleport)
    if 0 < value < 1e-9:
        raise ValueError(f"teleport must be 0 or at least 1e-9, got {value}")
    return value
