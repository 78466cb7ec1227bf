"""Codes, the map equation and its search: communities as the shortest description of a walk.

Source: 苏剑林, 《最小熵原理（五）：“层层递进”之社区发现与聚类》, https://kexue.fm/archives/7006.
The ids in brackets (infomap.eq11) are rows of the ledger. All lengths are in bits.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

import heapq
import itertools
import math
import numbers
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse import csgraph

from kexue import checks

# --- Codes -------------------------------------------------------------------------------------

Symbol = Hashable


def kraft_sum(lengths: Iterable[int]) -> float:
    """Σ 2^(−l) over the codewords' lengths l, which is at most 1 for every prefix code (infomap.eq1).

    Raises:
        TypeError: a length is not an int.
        ValueError: a negative length.
    """
    total = 0.0
    for length in lengths:
        checks.count("lengths", length, 0)
        total += 2.0**-length
    return total


def entropy(p: ArrayLike) -> float:
    """−Σ pᵢ·log₂ pᵢ in bits, with 0·log 0 = 0: no prefix code has a shorter mean length (infomap.eq6).

    Raises ValueError for probabilities that are negative or NaN, or do not sum to 1.
    """
    values = np.asarray(p, dtype=float).ravel()
    if not (values >= 0).all() or not math.isclose(values.sum(), 1.0, abs_tol=1e-9):
        raise ValueError(f"p must be non-negative and sum to 1, got the sum {values.sum()}")
    return float(-_plogp(values).sum()) + 0.0


def huffman_code(p: Mapping[Symbol, float] | Sequence[float]) -> dict[Symbol, str]:
    """A prefix code of the least mean length Σ pᵢ·lᵢ, which is in [H(p), H(p) + 1) (Huffman 1952).

    Args:
        p: weights of the symbols; they need not sum to 1. For a sequence, symbols are 0, 1, ….

    Returns:
        For each symbol its codeword, a string of "0" and "1"; a single symbol has the empty one.

    Raises:
        TypeError: a weight is no number.
        ValueError: no symbols, or a weight that is negative, infinite or NaN.
    """
    weights = dict(p) if isinstance(p, Mapping) else dict(enumerate(p))
    if not weights:
        raise ValueError("p must have at least one symbol")
    for symbol, weight in weights.items():
        if not isinstance(weight, numbers.Real):
            raise TypeError(f"p must be numbers, got {weight!r} for {symbol!r}")
        if not 0 <= weight < math.inf:
            raise ValueError(f"p must be non-negative and finite, got {weight} for {symbol!r}")
    code = dict.fromkeys(weights, "")
    # Of equal weights the older is taken first: the same code on every machine.
    heap = [(weight, age, [symbol]) for age, (symbol, weight) in enumerate(weights.items())]
    heapq.heapify(heap)
    for age in itertools.count(len(heap)):
        if len(heap) == 1:
            return code
        (zero_weight, _, zeros), (one_weight, _, ones) = heapq.heappop(heap), heapq.heappop(heap)
        for bit, symbols in (("0", zeros), ("1", ones)):
            for symbol in symbols:
                code[symbol] = bit + code[symbol]
        heapq.heappush(heap, (zero_weight + one_weight, age, zeros + ones))
    raise AssertionError  # not reached: every round takes one from the heap


EXIT = "↩"
"""Stands for a module's exit mark among its codewords; no item may be equal to it."""


@dataclass(frozen=True)
class HierarchicalCode:
    """Names of categories, and in each category names of its items and an exit mark (infomap.coding).

    A sequence is written as: category, its items up to the next that is in another category, exit mark;
    next category, …. Each codebook is a Huffman code of its own, so short names occur many times.
    """

    category: Mapping[Symbol, Symbol]
    """The category of each item."""
    index: Mapping[Symbol, str]
    """Codewords of the categories."""
    modules: Mapping[Symbol, Mapping[Symbol, str]]
    """For each category codewords of its items and of `EXIT`."""
    counts: Mapping[Symbol, Mapping[Symbol, int]]
    """How often each codeword of `modules` was used in the sequence that the code was made for."""

    @classmethod
    def fit(cls, sequence: Sequence[Symbol], partition: Mapping[Symbol, Symbol]) -> "HierarchicalCode":
        """The code for the frequencies of this sequence.

        Args:
            sequence: items.
            partition: the category of each item.

        Raises ValueError for an empty sequence, an item without category, or one equal to `EXIT`.
        """
        if len(sequence) == 0:
            raise ValueError("sequence must not be empty")
        for item in sequence:
            if item not in partition:
                raise ValueError(f"partition must have a category for every item, got none for {item!r}")
            if item == EXIT:
                raise ValueError(f"sequence must not contain the exit mark {EXIT!r}")
        counts: dict[Symbol, Counter[Symbol]] = defaultdict(Counter)
        for category, visit in itertools.groupby(sequence, partition.__getitem__):
            counts[category].update(visit)
            counts[category][EXIT] += 1
        index = huffman_code({category: of[EXIT] for category, of in counts.items()})
        modules = {category: huffman_code(of) for category, of in counts.items()}
        return cls(dict(partition), index, modules, {c: dict(of) for c, of in counts.items()})

    def encode(self, sequence: Sequence[Symbol]) -> str:
        """The sequence in bits, a string of "0" and "1".

        Raises ValueError for an item that the code has no name for.
        """
        bits = []
        for category, visit in itertools.groupby(sequence, self.category.get):
            items = list(visit)
            names = self.modules.get(category, {})
            for item in items:
                if item not in names or item == EXIT:
                    raise ValueError(f"sequence must contain items that the code has names for, got {item!r}")
            bits += [self.index[category], *(names[item] for item in items), names[EXIT]]
        return "".join(bits)

    def decode(self, bits: str) -> list[Symbol]:
        """The sequence that `encode` wrote.

        Raises:
            TypeError: bits is no string.
            ValueError: other characters than 0 and 1, or bits that `encode` does not write.
        """
        if not isinstance(bits, str):
            raise TypeError(f"bits must be a string, got {type(bits).__name__}")
        if set(bits) - {"0", "1"}:
            raise ValueError(f"bits must consist of 0 and 1, got {sorted(set(bits) - {'0', '1'})}")
        of_index = {word: category for category, word in self.index.items()}
        of_module = {
            category: {word: item for item, word in names.items()} for category, names in self.modules.items()
        }
        sequence: list[Symbol] = []
        place = 0
        while place < len(bits):
            before = [self.category[item] for item in sequence[-1:]]
            start = len(sequence)
            category, place = _read(bits, place, of_index)
            while True:
                item, place = _read(bits, place, of_module[category])
                if item == EXIT:
                    break
                sequence.append(item)
            if len(sequence) == start or category in before:
                raise ValueError(f"bits must be what encode writes, but {category!r} is entered for nothing")
        return sequence

    @property
    def mean_length(self) -> float:
        """Bits for each item of the sequence that the code was made for, entries and exits included."""
        bits = sum(
            count * (len(self.modules[category][symbol]) + len(self.index[category]) * (symbol == EXIT))
            for category, of in self.counts.items()
            for symbol, count in of.items()
        )
        return bits / self._items

    @property
    def codelength(self) -> float:
        """What the map equation says of it, with the rates counted from the sequence (infomap.eq11).

        At most `mean_length`, and less than 1 + 2q below it, where q is the number of exits for an item.
        """
        exits = np.array([of[EXIT] for of in self.counts.values()]) / self._items
        rates = [np.array(list(of.values())) / self._items for of in self.counts.values()]
        return _codebook(exits) + sum(map(_codebook, rates))

    @property
    def _items(self) -> int:
        return sum(sum(of.values()) - of[EXIT] for of in self.counts.values())


def _read(bits: str, place: int, symbols: Mapping[str, Symbol]) -> tuple[Symbol, int]:
    """The next symbol, and where it ends."""
    for end in range(place, len(bits) + 1):
        if bits[place:end] in symbols:
            return symbols[bits[place:end]], end
    raise ValueError(f"bits must be a whole sequence, but no codeword begins at {place}")


def _plogp(x: Any) -> Any:
    values = np.asarray(x, dtype=float)
    return values * np.log2(np.where(values > 0, values, 1.0))


def _codebook(rates: ArrayLike) -> float:
    """How many bits a step a codebook costs whose names are used at these rates: Σr·H(r/Σr)."""
    values = np.asarray(rates, dtype=float)
    return float(_plogp(values.sum()) - _plogp(values).sum())


# --- The walk ----------------------------------------------------------------------------------


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
    nodes, weights = _weights(graph)
    teleport = _probability(teleport)
    n, strength = len(nodes), weights.sum(1)
    if teleport == 0:
        if _is_directed(weights):
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
    checks.count("neighbours", neighbours, 1)
    if not isinstance(threshold, numbers.Real) or isinstance(threshold, bool):
        raise TypeError(f"threshold must be a number, got {threshold!r}")
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
        for row in np.flatnonzero(close.sum(1) > neighbours):
            nearest = np.argpartition(-cosine[row], neighbours - 1)[:neighbours]
            close[row] = False
            close[row, nearest] = True
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
    nodes, weights = _weights(graph)
    if _is_directed(weights):
        raise ValueError("graph must be undirected, but it is directed")
    if not isinstance(memberships, Mapping):
        raise TypeError(f"memberships must be a mapping, got {type(memberships).__name__}")
    if (parts := csgraph.connected_components(weights)[0]) > 1 or weights.nnz == 0:
        raise ValueError(f"graph must be connected and have links, got {parts} parts, {weights.nnz} links")
    for node in nodes:
        own = memberships.get(node, ())
        if not isinstance(own, Collection):
            raise TypeError(f"memberships must be collections of modules, got {own!r} for {node!r}")
        if len(own) == 0:
            raise ValueError(f"memberships must have a module for every node, got none for {node!r}")
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


def _weights(graph: Any) -> tuple[tuple[Hashable, ...], sparse.csr_array]:
    if sparse.issparse(graph) or isinstance(graph, np.ndarray):
        matrix = _matrix(graph, "graph")
        nodes: tuple[Hashable, ...] = tuple(range(matrix.shape[0]))
    else:
        import networkx as nx  # belongs to the extra "book"

        if not isinstance(graph, nx.Graph):
            raise TypeError(f"graph must be a networkx graph or a matrix, got {type(graph).__name__}")
        if len(graph) == 0:
            raise ValueError("graph must have nodes, got none")
        for a, b, weight in graph.edges(data="weight", default=1):
            if not isinstance(weight, numbers.Real):
                raise TypeError(f"graph must have weights that are numbers, got {weight!r} at {a!r}, {b!r}")
            if not 0 <= float(weight) < math.inf:  # here, since parallel edges are added up below
                raise ValueError(f"graph must have non-negative, finite entries, got {weight}")
        nodes, matrix = tuple(graph), _matrix(nx.to_scipy_sparse_array(graph, dtype=float), "graph")
    if matrix.nnz:  # only ratios matter; by a power of 2, so that nothing is rounded
        matrix.data = np.ldexp(matrix.data, -int(np.frexp(matrix.data.max())[1]))
        matrix.eliminate_zeros()
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


def _is_directed(weights: sparse.csr_array) -> bool:
    back = weights.T.tocsr()
    return bool((abs(weights - back) > 1e-12 * weights.maximum(back)).nnz)


def _probability(teleport: float) -> float:
    if not isinstance(teleport, numbers.Real) or isinstance(teleport, bool):
        raise TypeError(f"teleport must be a number, got {teleport!r}")
    value = float(teleport)
    if not 0 <= value <= 1:
        raise ValueError(f"teleport must lie in [0, 1], got {value}")
    if 0 < value < 1e-9:
        raise ValueError(f"teleport must be 0 or at least 1e-9, got {value}")
    return value


# --- The map equation --------------------------------------------------------------------------

# A module for each node: from nodes, or in the order of a flow's nodes.
Partition = Mapping[Hashable, Hashable] | Sequence[Hashable] | np.ndarray


def map_equation(flow: Flow, partition: Partition) -> float:
    """Bits per step of the best two-level description of the walk with these modules (infomap.eq11).

    L(M) = q·H(Q) + Σᵢ p↻ᵢ·H(Pⁱ): an index codebook, used at the modules' exit rates qᵢ, whose sum is q,
    and for each module a codebook of its nodes' visit rates and its exit rate, whose sum is p↻ᵢ. Exits are
    along links and by teleportation (infomap.eq15). Visit rates sum to 1.

    Args:
        flow: of `random_walk_flow`.
        partition: a module for each node: a mapping from nodes, or a sequence in the order of `flow.nodes`.

    Raises:
        TypeError: partition is neither mapping nor sequence, or a module is not hashable.
        ValueError: a partition that misses a node, or has NaN for a module.
    """
    return sum(_codelengths(flow, _labels(flow, partition)))


def _labels(flow: Flow, partition: Partition) -> np.ndarray:
    """Modules 0, 1, … in the order in which they first occur."""
    if isinstance(partition, Mapping):
        missing = [node for node in flow.nodes if node not in partition]
        if missing:
            raise ValueError(f"partition must have a module for every node, got none for {missing[0]!r}")
        partition = [partition[node] for node in flow.nodes]
    elif not isinstance(partition, Sequence | np.ndarray):
        raise TypeError(f"partition must be a mapping or a sequence, got {type(partition).__name__}")
    if len(partition) != len(flow.nodes):
        raise ValueError(f"partition must have {len(flow.nodes)} modules, got {len(partition)}")
    number: dict[Hashable, int] = {}
    labels = []
    for module in partition.tolist() if isinstance(partition, np.ndarray) else partition:
        if not isinstance(module, Hashable):
            raise TypeError(f"partition must have hashable modules, got {module!r}")
        if module != module:
            raise ValueError(f"partition must have modules that equal themselves, got {module!r}")
        labels.append(number.setdefault(module, len(number)))
    return np.array(labels)


def _exits(flow: Flow, labels: np.ndarray) -> np.ndarray:
    """infomap.eq15: qᵢ = Σ over its nodes of teleportation to nodes outside, and of links to them."""
    modules, n = labels.max() + 1, len(labels)
    link = flow.link.tocoo()
    crossing = labels[link.row] != labels[link.col]
    outside = 1 - np.bincount(labels, minlength=modules) / n
    by_link = np.bincount(labels[link.row[crossing]], link.data[crossing], modules)
    return np.bincount(labels, flow.teleport, modules) * outside + by_link


def _codelengths(flow: Flow, labels: np.ndarray) -> tuple[float, float]:
    """Bits per step of the index codebook, and of the modules' codebooks."""
    exits = _exits(flow, labels)
    within = np.bincount(labels, flow.visit) + exits
    modules = _plogp(within).sum() - _plogp(exits).sum() - _plogp(flow.visit).sum()
    return _codebook(exits), float(modules)


def hierarchical_map_equation(flow: Flow, levels: Sequence[Partition]) -> float:
    """Bits per step of the best description with modules in modules (infomap.claim3).

    A module that holds modules has a codebook of their exit rates and of its own; one that holds nodes
    has that of `map_equation`. With one level of modules this is `map_equation`.

    Args:
        flow: of `random_walk_flow`.
        levels: partitions as for `map_equation`, from the coarsest to the finest. A module that is not
            divided further is the same in the levels that follow.

    Raises ValueError for no levels, a partition that misses a node, or one that does not divide the one
    before it.
    """
    if len(levels) == 0:
        raise ValueError("levels must hold at least one partition, got none")
    labels = [_labels(flow, level) for level in levels]
    total = _codebook(_exits(flow, labels[0]))
    for number, (coarse, fine) in enumerate(itertools.pairwise(labels), start=1):
        parent = _parents(coarse, fine, number)
        divided = np.bincount(parent) > 1
        exits, inner = _exits(flow, coarse), _exits(flow, fine)
        used, terms = exits + np.bincount(parent, inner), _plogp(exits) + np.bincount(parent, _plogp(inner))
        total += float((_plogp(used) - terms)[divided].sum())
    return total + _codelengths(flow, labels[-1])[1]


def _parents(coarse: np.ndarray, fine: np.ndarray, number: int) -> np.ndarray:
    """The coarse module that each fine one lies in."""
    parent = np.full(fine.max() + 1, -1)
    parent[fine] = coarse
    if not np.array_equal(parent[fine], coarse):
        raise ValueError(f"levels must each divide the one before, but levels[{number}] does not")
    return parent


# --- The search --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Communities:
    """What `infomap` found."""

    modules: dict[Hashable, int]
    """The top module of each node."""
    codelength: float
    """Bits per step; with one level of modules that of `map_equation`."""
    index_codelength: float
    """The part of the codebook at the top."""
    module_codelength: float
    """All other codebooks."""
    levels: tuple[dict[Hashable, int], ...]
    """The module of each node, from the coarsest level to the finest."""


Engine = Literal["numpy", "infomap"]


def infomap(
    graph: Any,
    teleport: float = 0.15,
    seed: int = 0,
    levels: int | None = 2,
    trials: int = 1,
    engine: Engine = "numpy",
) -> Communities:
    """Modules that make the description of a random walk short: a search for the least L(M) (infomap.alg1).

    Every node begins as a module. In random order, nodes move to the neighbouring module that shortens
    the description most; then modules move as nodes do; then single nodes and parts of modules move
    again, until nothing helps. With teleportation, which leads everywhere, modules without links between
    them are merged as well where that helps. The best of several trials is kept. Nodes that the walk never
    visits, isolated ones for τ = 0, cost nothing wherever they are.

    Args:
        graph: see `random_walk_flow`.
        teleport: τ, see `random_walk_flow`; 0 is the walk without teleportation on an undirected graph.
        seed: of the order of moves.
        levels: 2, modules of nodes; or None, as many levels of modules in modules as shorten the description.
        trials: with different orders.
        engine: this search, or the C++ package of the authors of the map equation (pip install infomap),
            with the flags that make it minimise the same L(M); the one for large graphs.

    Raises:
        TypeError: graph is none of what `random_walk_flow` takes, or seed or trials are no ints.
        ValueError: see `random_walk_flow`; levels other than 2 and None; fewer than one trial, a negative
            seed, or an unknown engine.
        ImportError: engine is "infomap", and the package is not installed.
    """
    checks.count("seed", seed, 0)
    checks.count("trials", trials, 1)
    if levels not in (2, None):
        raise ValueError(f"levels must be 2 or None, got {levels!r}")
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {get_args(Engine)}, got {engine!r}")
    flow = random_walk_flow(graph, teleport)
    if engine == "infomap":
        found = _by_package(graph, teleport, seed, levels, trials)
    else:
        found = _best_of(flow, random.Random(seed), levels, trials)
    return _communities(flow, found)


@dataclass(frozen=True)
class Stage:
    """Where a search stands: after what, with which modules, and how long the description is."""

    name: str
    modules: dict[Hashable, int]
    codelength: float


def search_stages(graph: Any, teleport: float = 0.15, seed: int = 0) -> tuple[Stage, ...]:
    """What one trial of `infomap` with two levels goes through; L(M) never becomes longer (infomap.alg1).

    Args:
        graph: see `random_walk_flow`.
        teleport: τ, see `random_walk_flow`.
        seed: of the order of moves; the last stage is what `infomap` gives for it.

    Raises what `infomap` raises.
    """
    checks.count("seed", seed, 0)
    flow = random_walk_flow(graph, teleport)
    stages: list[Stage] = []

    def watch(name: str, labels: np.ndarray) -> None:
        named = dict(zip(flow.nodes, labels.tolist(), strict=True))
        stages.append(Stage(name, named, map_equation(flow, labels)))

    _two_levels(_Network.of(flow), random.Random(seed), watch=watch)
    return tuple(stages)


def annealed_infomap(graph: Any, teleport: float = 0.15, seed: int = 0, sweeps: int = 100) -> Communities:
    """Modules by the search of 2007: merge, then anneal (infomap.alg2). For small graphs.

    First the two modules whose merger shortens the description most are merged, again and again. Then, in
    each sweep, every node is given to one of its neighbours' modules, its own or an empty one, with
    probability proportional to 2^(−L/T) (heat bath), while the temperature T falls from 0.05 to 0.0005
    bits. The shortest description met on the way is the result.

    Args:
        graph: see `random_walk_flow`.
        teleport: τ, see `random_walk_flow`.
        seed: of the annealing.
        sweeps: of the annealing; 0 leaves what the mergers gave.

    Raises:
        TypeError: graph is none of what `random_walk_flow` takes, or seed or sweeps are no ints.
        ValueError: see `random_walk_flow`; a negative seed or number of sweeps.
    """
    checks.count("seed", seed, 0)
    checks.count("sweeps", sweeps, 0)
    flow = random_walk_flow(graph, teleport)
    network, rng = _Network.of(flow), np.random.default_rng(seed)
    labels = _mergers(network, np.arange(len(network.visit)))
    best, shortest = labels.copy(), _objective(network, labels, 0.0)
    undivided = np.zeros_like(labels)
    if _objective(network, undivided, 0.0) <= shortest:
        best, shortest = undivided, _objective(network, undivided, 0.0)
    for temperature in np.geomspace(0.05, 0.0005, sweeps):
        for node in rng.permutation(len(labels)).tolist():
            modules, lengths = _alternatives(network, labels, node)
            odds = np.exp2((lengths.min() - lengths) / temperature)
            labels[node] = rng.choice(modules, p=odds / odds.sum())
        labels = np.unique(labels, return_inverse=True)[1]
        length = _objective(network, labels, 0.0)
        if length < shortest - 1e-12:
            best, shortest = labels.copy(), length
    return _communities(flow, (best,))


def _communities(flow: Flow, found: tuple[np.ndarray, ...]) -> Communities:
    if len(found) == 1:
        index, modules = _codelengths(flow, _labels(flow, found[0]))
        codelength = index + modules
    else:
        index, codelength = _codebook(_exits(flow, found[0])), hierarchical_map_equation(flow, found)
    named = tuple(dict(zip(flow.nodes, level.tolist(), strict=True)) for level in found)
    return Communities(named[0], codelength, index, codelength - index, named)


def _by_package(
    graph: Any, teleport: float, seed: int, levels: int | None, trials: int
) -> tuple[np.ndarray, ...]:
    import infomap as package

    _, weights = _weights(graph)
    flags = f"--silent --num-trials {trials} --seed {seed + 1}" + " --two-level" * (levels == 2)
    if teleport > 0:  # recorded, to all nodes: what the formula says, and not the package's default
        flags += " --directed --recorded-teleportation --to-nodes"
        flags += f" --teleportation-probability {float(teleport)!r}"
    else:
        weights = sparse.triu(weights)
    search = package.Infomap(flags)
    links = weights.tocoo()
    for node in range(weights.shape[0]):
        search.add_node(node)
    search.add_links(zip(links.row.tolist(), links.col.tolist(), links.data.tolist(), strict=True))
    if weights.shape[0] == 1:  # the package gives no modules then
        return (np.zeros(1, dtype=int),)
    paths = search.run().multilevel_modules()
    depth = max(map(len, paths.values()))
    return tuple(
        np.unique(
            [paths[node][min(level, len(paths[node]) - 1)] for node in range(len(paths))], return_inverse=True
        )[1]
        for level in range(depth)
    )


@dataclass
class _Network:
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
    def of(cls, flow: Flow) -> "_Network":
        table, n = flow.link.tocoo(), len(flow.visit)
        off = table.row != table.col
        source, target, link = table.row[off], table.col[off], table.data[off]
        out = np.bincount(source, link, n)
        ends = (np.concatenate([source, target]), np.concatenate([target, source]))
        return cls(
            flow.visit, flow.teleport, np.ones(n), out, *_gathered(*ends, np.concatenate([link, link]), n), n
        )

    def merged(self, labels: np.ndarray, links: bool = True) -> "_Network":
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
        return _Network(
            visit,
            teleport,
            size,
            np.maximum(out - inside, 0.0),
            *_gathered(source[apart], target[apart], self.both[apart], modules),
            self.nodes,
        )

    def parts(self, labels: np.ndarray) -> Iterator[tuple[np.ndarray, "_Network"]]:
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
                _Network(
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


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, … in the same order, without gaps."""
    used = np.bincount(labels) > 0
    return (used.cumsum() - 1)[labels]


def _best_of(flow: Flow, rng: random.Random, levels: int | None, trials: int) -> tuple[np.ndarray, ...]:
    network = _Network.of(flow)
    best: tuple[float, tuple[np.ndarray, ...]] = (math.inf, ())
    for _ in range(trials):
        labels = _two_levels(network, rng)
        found = (labels,) if levels == 2 else _many_levels(flow, network, labels, rng)
        if trials == 1:
            return found
        codelength = hierarchical_map_equation(flow, found)
        if codelength < best[0] - 1e-12:
            best = codelength, found
    return best[1]


# Called with what a search has just done, and the labels after it.
Watch = Callable[[str, np.ndarray], None]


def _nobody(name: str, labels: np.ndarray) -> None:
    """Watches nothing."""


def _two_levels(
    network: _Network, rng: random.Random, outer: float = 0.0, watch: Watch = _nobody
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
        merged = _mergers(network, labels, outer)
        if merged.max() < labels.max():
            watch("modules merged, linked or not", merged)
            labels, codelength = _refined(network, merged, rng, outer, watch)
    undivided = float(_plogp(network.visit.sum() + outer))
    if labels.any() and undivided <= codelength + 1e-12:
        labels = np.zeros_like(labels)
        watch("one module for all is as short", labels)
    return labels


def _refined(
    network: _Network, labels: np.ndarray, rng: random.Random, outer: float, watch: Watch = _nobody
) -> tuple[np.ndarray, float]:
    """Single nodes leave their modules, then parts of modules do, until neither shortens L."""
    codelength = _objective(network, labels, outer)
    failures, single = 0, True
    while failures < 2:
        if single:
            changed = _climb(network, rng, outer, labels)
        else:
            parts = _parts(network, labels, rng)
            start = np.empty(parts.max() + 1, dtype=int)
            start[parts] = labels
            changed = _climb(network.merged(parts), rng, outer, start)[parts]
        shorter = _objective(network, changed, outer)
        if shorter < codelength - 1e-10:
            labels, codelength, failures = changed, shorter, 0
            watch("single nodes moved again" if single else "parts of modules moved", labels)
        else:
            failures += 1
        single = not single
    return labels, codelength


def _objective(network: _Network, labels: np.ndarray, outer: float) -> float:
    """L(M) up to what does not depend on the modules; `outer` is the exit rate of what holds them."""
    merged = network.merged(labels, links=False)
    exits = merged.exits()
    total = exits.sum() + outer
    return float(_plogp(total) - 2 * _plogp(exits).sum() + _plogp(exits + merged.visit).sum())


def _climb(
    network: _Network,
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


def _parts(network: _Network, labels: np.ndarray, rng: random.Random) -> np.ndarray:
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


def _move(network: _Network, rng: random.Random, outer: float, start: np.ndarray | None = None) -> np.ndarray:
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
    q_log, both_log = _plogp(q).tolist(), _plogp(np.add(q, mp)).tolist()
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
    return _numbered(np.array(module))


def _many_levels(
    flow: Flow, network: _Network, labels: np.ndarray, rng: random.Random
) -> tuple[np.ndarray, ...]:
    """Levels above and below the given modules, as long as they shorten the description."""
    below = _divided(network, (labels,), rng)
    candidates, top = [below], labels
    above_them: tuple[np.ndarray, ...] = ()
    while True:
        # The modules as nodes: what enters them is what a codebook above them has to name.
        above = network.merged(top)
        above.visit = above.exits()
        groups = _two_levels(above, rng)
        if groups.max() == 0 or groups.max() + 1 == len(groups):
            break
        top = groups[top]
        above_them = (top, *above_them)
        # The division of the new top modules may be found anew, from their nodes.
        candidates += [(*above_them, *below), _divided(network, (top,), rng)]
    return min(
        (_flattened(flow, found) for found in candidates),
        key=lambda found: hierarchical_map_equation(flow, found),
    )


class _Module(NamedTuple):
    level: int
    label: int


def _flattened(flow: Flow, levels: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Without those modules of modules whose members are named more shortly one level up.

    Where module m, of exit rate e, holds modules whose exit rates sum to c, and the codebook that names m
    is used at the rate S: without m that codebook is used at S − e + c, and m's own, at e + c, is not needed.
    """
    exits = [_exits(flow, level) for level in levels]
    sizes = [np.bincount(level) for level in levels]
    root = _Module(-1, 0)
    parent: dict[_Module, _Module] = {}
    finest = []
    for node in np.unique(levels[-1], return_index=True)[1].tolist():
        lowest, size = root, 0
        for number, level in enumerate(levels):
            module = _Module(number, int(level[node]))
            if sizes[number][module.label] != size:  # else it is the one above, not divided
                parent[module] = lowest
                lowest, size = module, int(sizes[number][module.label])
        finest.append(lowest)
    rate = {module: float(exits[module.level][module.label]) for module in parent} | {root: 0.0}
    inner: dict[_Module, float] = defaultdict(float)
    holds: dict[_Module, list[_Module]] = defaultdict(list)
    for module, above in parent.items():
        inner[above] += rate[module]
        holds[above].append(module)
    changed = True
    while changed:
        changed = False
        for module in [m for m in parent if m in holds]:
            above = parent[module]
            used, own = rate[above] + inner[above], rate[module] + inner[module]
            without = used - rate[module] + inner[module]
            change = _plogp([without, rate[module], rate[module]]).sum() - _plogp([used, own]).sum()
            if change < -1e-12:
                for member in holds[module]:
                    parent[member] = above
                holds[above] = [m for m in holds[above] if m != module] + holds[module]
                inner[above] += inner[module] - rate[module]
                del holds[module], parent[module]
                changed = True
    paths = []
    for module in finest:
        path = [module]
        while parent[path[0]] != root:
            path.insert(0, parent[path[0]])
        paths.append(path)
    label = {module: i for i, module in enumerate(parent)}
    return tuple(
        np.unique([label[path[min(depth, len(path) - 1)]] for path in paths], return_inverse=True)[1][
            levels[-1]
        ]
        for depth in range(max(map(len, paths)))
    )


def _divided(network: _Network, levels: tuple[np.ndarray, ...], rng: random.Random) -> tuple[np.ndarray, ...]:
    """Further levels below the last one, as long as they shorten the description."""
    while True:
        last = levels[-1]
        exits = network.merged(last).exits()
        finer, count = np.empty_like(last), 0
        for module, (members, part) in enumerate(network.parts(last)):
            within = _two_levels(part, rng, exits[module]) if len(members) > 1 else np.zeros(1, dtype=int)
            # One module inside, or every node alone, says nothing that the module does not say.
            finer[members] = count + within
            count += within.max() + 1
        if count == last.max() + 1:
            return levels
        levels = (*levels, finer)


# So many modules at most are tried in all pairs.
_ALL_PAIRS = 300


def _pairs(network: _Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        return a, b, flow[a, b]
    order = np.argsort(network.exits(), kind="stable")
    one, other = np.sort([order[:-1], order[1:]], axis=0)
    apart = ~np.isin(one * count + other, a * count + b)
    zeros = np.zeros(int(apart.sum()))
    return (
        np.concatenate([a, one[apart]]),
        np.concatenate([b, other[apart]]),
        np.concatenate([between, zeros]),
    )


def _mergers(network: _Network, labels: np.ndarray, outer: float = 0.0) -> np.ndarray:
    """Merge the two modules that it shortens L most to merge, until it shortens L no more.

    Where pairs are many because the walk teleports, as many at once as help together.
    """
    codelength = _objective(network, labels, outer)
    while True:
        merged = network.merged(labels)
        a, b, between = _pairs(merged)
        exits = merged.exits()
        total = exits.sum() + outer
        size = merged.size[a] + merged.size[b]
        leaving = (merged.teleport[a] + merged.teleport[b]) * (1 - size / merged.nodes)
        joint = np.maximum(leaving + merged.out[a] + merged.out[b] - between, 0.0)
        within = _plogp(exits + merged.visit)
        change = (
            _plogp(total - exits[a] - exits[b] + joint)
            - _plogp(total)
            - 2 * (_plogp(joint) - _plogp(exits[a]) - _plogp(exits[b]))
            + _plogp(joint + merged.visit[a] + merged.visit[b])
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
            if _objective(network, together, outer) < codelength - 1e-10:
                labels, codelength = together, _objective(network, together, outer)
                continue
        labels = _joined(labels, a[best], b[best])
        codelength = _objective(network, labels, outer)


def _joined(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Modules b get the labels of modules a."""
    new = np.arange(labels.max() + 1)
    new[b] = a
    return np.unique(new[labels], return_inverse=True)[1]


def _alternatives(network: _Network, labels: np.ndarray, node: int) -> tuple[np.ndarray, np.ndarray]:
    """Modules that a node could be in, its neighbours', its own and an empty one, and L for each of them."""
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
    here = slice(*np.searchsorted(source, (node, node + 1)))
    near = labels[target[here]]
    towards = np.bincount(near, network.both[here], count)
    without = np.maximum(teleport * (1 - size / network.nodes) + out, 0.0)
    leaving = (teleport + network.teleport[node]) * (1 - (size + network.size[node]) / network.nodes)
    within = np.maximum(leaving + out + network.out[node] - towards, 0.0)
    choice = np.zeros(count, dtype=bool)
    choice[near] = choice[[own, count - 1]] = True
    modules = np.flatnonzero(choice)
    joint = within + visit + network.visit[node]
    total, index, used, index_with, used_with = _plogp(
        [without.sum() - without + within, without, without + visit, within, joint]
    )
    lengths = total - 2 * (index.sum() - index + index_with) + (used.sum() - used + used_with)
    return modules, lengths[modules]
