"""Figures of networks, codes and shares, in the look of `plotting`."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import cycle, groupby
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from kexue.book import plotting
from kexue.runs.statistics import Interval

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

_LOOKS = ("o-", "s--", "^:", "D-.")
_SHAPES = "osD^vph8"


def means(
    ax: "Axes", groups: Mapping[str, tuple[ArrayLike, ArrayLike]], baseline: float | None = None
) -> None:
    """Draw every run of each group as a point, and the means at each x as a line.

    Args:
        ax: where to draw.
        groups: x and y of the runs, (runs,) each, by the group's name, which the legend has.
        baseline: what is to be expected of nothing, a dashed line.
    """
    for (name, (at, values)), look, colour in zip(
        groups.items(), cycle(_LOOKS), cycle(plotting.COLOURS), strict=False
    ):
        x, y = np.asarray(at, dtype=float), np.asarray(values, dtype=float)
        ax.plot(x, y, look[0], color=colour, markersize=3, alpha=0.5)
        distinct, which = np.unique(x, return_inverse=True)
        mean = np.bincount(which, y) / np.bincount(which)
        ax.plot(distinct, mean, look, color=colour, markersize=5, label=name)
    if baseline is not None:
        ax.axhline(baseline, color=plotting.INK, linestyle="--", linewidth=1)


def bars(ax: "Axes", values: Mapping[str, float], baseline: float) -> None:
    """Draw a horizontal bar for each value, in the order given, its number in it; the baseline is dashed."""
    drawn = ax.barh(list(values), list(values.values()), color=plotting.BLUE)
    ax.bar_label(drawn, fmt="%.2f", label_type="center", color="white")
    ax.axvline(baseline, color=plotting.INK, linestyle="--")
    ax.invert_yaxis()


def shares(ax: "Axes", series: Mapping[str, Mapping[str, Interval]], smallest: float = 0.001) -> None:
    """Draw shares with their intervals, a row each, on an axis that shows zero and small ones apart.

    Args:
        ax: where to draw; shares run along the horizontal axis, logarithmic above the smallest.
        series: by its name, which the legend has, the share of each row; all have the same rows.
        smallest: up to there the axis is linear.
    """
    rows = list(next(iter(series.values())))
    for number, ((name, values), look, colour) in enumerate(
        zip(series.items(), _LOOKS, plotting.COLOURS, strict=False)
    ):
        mean, low, high = (np.array([part[i] for part in values.values()]) for i in range(3))
        place = np.arange(len(rows)) + 0.24 * number - 0.12 * (len(series) - 1)
        ends = np.maximum([mean - low, high - mean], 0)
        ax.errorbar(mean, place, xerr=ends, fmt=look[0], color=colour, markersize=6, label=name)
    ax.set_xscale("symlog", linthresh=smallest)
    ax.set_xlim(left=-0.1 * smallest)
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    ax.axvline(0, color=plotting.INK, linestyle="--", linewidth=1)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series))
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


def network(
    ax: "Axes",
    graph: "nx.Graph",
    modules: Mapping[Hashable, Hashable],
    places: Mapping[Hashable, Any],
    inner: Mapping[Hashable, Hashable] | None = None,
    size: float = 80,
) -> None:
    """Draw a network, its nodes coloured by their module.

    Args:
        ax: where to draw.
        graph: any of networkx.
        modules: of each node.
        places: of each node, (x, y).
        inner: of each node the smaller module inside, which its shape shows; if None, a module has one shape.
        size: of a node.
    """
    import networkx as nx

    nx.draw_networkx_edges(graph, places, ax=ax, edge_color=plotting.INK, alpha=0.6)
    for number, module in enumerate(dict.fromkeys(modules[v] for v in graph)):
        inside = [v for v in graph if modules[v] == module]
        parts = list(dict.fromkeys(inner[v] for v in inside)) if inner else [module]
        for part, name in enumerate(parts):
            nodes = [v for v in inside if inner is None or inner[v] == name]
            shape = _SHAPES[(part if inner else number) % len(_SHAPES)]
            look: dict[str, Any] = {"node_color": plotting.COLOURS[number % 7], "node_shape": shape}
            nx.draw_networkx_nodes(graph, places, nodes, node_size=size, linewidths=0, ax=ax, **look)
    ax.axis("off")


def code_tree(ax: "Axes", code: Mapping[Hashable, str]) -> None:
    """Draw a prefix code as a binary tree, 0 to the left and 1 to the right; at each leaf its 2^(−length)."""
    place = {word: float(i) for i, word in enumerate(sorted(code.values()))}
    inner = {word[:depth] for word in place for depth in range(len(word))}
    for prefix in sorted(inner, key=len, reverse=True):
        place[prefix] = (place[prefix + "0"] + place[prefix + "1"]) / 2
        for bit in "01":
            ends, depth = (place[prefix], place[prefix + bit]), -len(prefix)
            ax.plot(ends, (depth, depth - 1), color=plotting.INK, linewidth=1)
            side = "right" if bit == "0" else "left"
            ax.text(sum(ends) / 2, depth - 0.5, f" {bit} ", ha=side, va="bottom")
    for symbol, word in code.items():
        share = f"{symbol}\n1/{2 ** len(word)}"
        ax.text(place[word], -len(word) - 0.1, share, ha="center", va="top")
    ax.set_ylim(-1.1 - max(map(len, code.values())), 0.2)
    ax.axis("off")


def memory(ax: "Axes", wrote: ArrayLike, words: Sequence[str], stays: Sequence[int]) -> None:
    """Draw an ordered memory after each word: a bar for as long as a level keeps what a word wrote.

    Args:
        ax: where to draw; a column a word, a row a level, the lowest at the bottom.
        wrote: the number of the word that wrote each level last, from 1, or 0 for none: (levels, words).
        words: which stand in the bars.
        stays: of each word, the level from which the past stays, from 1: a thick line below it.
    """
    rows = np.asarray(wrote)
    for level, row in enumerate(rows, start=1):
        for who, cells in groupby(enumerate(row), key=lambda cell: int(cell[1])):
            first, *rest = (place for place, _ in cells)
            shade = plotting.COLOURS[who % 6] if who else "none"
            box = (first - 0.47, level - 0.44), len(rest) + 0.94, 0.88
            ax.add_patch(Rectangle(*box, facecolor=shade, alpha=0.15))
            ax.add_patch(Rectangle(*box, facecolor="none", edgecolor=shade))
            name = words[who - 1] if who else "•"
            ax.text(first, level, name, ha="center", va="center", fontsize=7.5)
    for place, level in enumerate(stays):
        ax.plot([place - 0.47, place + 0.47], [level - 0.5] * 2, color=plotting.INK, linewidth=2.5)
    ax.set(xlim=(-0.5, len(words) - 0.5), ylim=(0.5, len(rows) + 0.5), ylabel="level")
    ax.set(xticks=range(len(words)), yticks=range(1, len(rows) + 1))
    ax.grid(False)


def gate_and_trees(gate: ArrayLike, levels: ArrayLike, trees: Mapping[str, Any]) -> None:
    """Draw a master gate, the level of each word below it, and trees over the words; show the figure.

    Args:
        gate: of each word and level, in [0, 1]: (words, levels).
        levels: of the words.
        trees: by title.
    """
    drawn, level = np.asarray(gate), np.asarray(levels)
    _, axes = plotting.panels(2 + len(trees), height=1.55)
    span = (-0.5, len(drawn) - 0.5, 0.5, drawn.shape[1] + 0.5)
    axes[0].imshow(drawn.T, origin="lower", aspect="auto", extent=span, vmin=0)
    axes[0].set(ylabel="level", xticks=[], yticks=[1, drawn.shape[1] // 2, drawn.shape[1]])
    axes[1].bar(range(len(level)), level, color=plotting.BLUE)
    axes[1].set(xlim=span[:2], ylim=(0, 1), xticks=[], ylabel="$1-$mean")
    for ax in axes[:2]:
        ax.grid(False)
    for ax, (title, tree) in zip(axes[2:], trees.items(), strict=True):
        draw_tree(ax, tree, fontsize=7.5)
        ax.set_title(title)
    plt.show()


def draw_tree(ax: "Axes", tree: Any, fontsize: float = 9.0, color: str = plotting.BLUE) -> None:
    """Draw a tree of nested lists above its words, which stand at 0, 1, 2, …

    Brackets are right-angled: a line over what they hold, from which their parts hang.
    """

    def draw(node: Any, start: int) -> tuple[float, float, int]:
        """Where the node's line comes down, how high the node is, and where its words end."""
        if isinstance(node, str):
            ax.text(start, -0.2, node, ha="right", va="top", fontsize=fontsize, rotation=45)
            return start, 0.0, start + 1
        parts, stop = [], start
        for child in node:
            x, y, stop = draw(child, stop)
            parts.append((x, y))
        top = 1 + max(y for _, y in parts)
        ax.plot([parts[0][0], parts[-1][0]], [top, top], color=color, linewidth=1.5)
        for x, y in parts:
            ax.plot([x, x], [y, top], color=color, linewidth=1.5)
        return (parts[0][0] + parts[-1][0]) / 2, top, stop

    _, top, stop = draw(tree, 0)
    ax.set(xlim=(-0.5, stop - 0.5), ylim=(-0.1, top + 0.3), xticks=[], yticks=[])
    ax.grid(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_visible(False)
