"""A network whose nodes can be recoloured in the page, with the bits of the map equation beside it.

It needs no library and no kernel: SVG, and the script in recolour.js. Without scripts it is a still.
"""

import hashlib
import html
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kexue.book.plotting import COLOURS, INK
from kexue.infomap import random_walk_flow
from kexue.infomap.codelength import codelengths_of
from kexue.nn import arguments as checks

__all__ = ["RecolouredNetwork", "recolour"]

if TYPE_CHECKING:
    import networkx as nx

# In units of the drawing, which is 400 wide: the network, and below it the chart.
_NETWORK, _MARGIN, _RADIUS = (400, 270), 12, 9
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 390, 292, 412
# Digits on a colour: white where that is the more legible.
_INKS = {"#0072B2": "#fff", INK: "#fff"}


@dataclass(frozen=True)
class RecolouredNetwork:
    """The figure; Jupyter and the book show its HTML."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def recolour(
    graph: "nx.Graph",
    places: Mapping[Hashable, Any],
    partitions: Mapping[int, Mapping[Hashable, Hashable]],
    start: int,
    caption: str,
    alt: str,
) -> RecolouredNetwork:
    """An interactive network: a click moves a node to another module, and the bits of a step follow.

    A click leads to the next of the neighbours' modules, and then to a module of the node's own. A slider
    begins anew from one of the partitions. Below, the bits of these partitions by their number of modules,
    index upon modules, with a point for what is seen above.

    Args:
        graph: undirected, of networkx, with links; without weights, self-loops and multiple links.
        places: of each node, (x, y).
        partitions: for each number of modules, from 1 to the number of nodes, the module of each node.
        start: the number of modules that is shown first.
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.

    Raises:
        TypeError: start is no int.
        ValueError: another graph; a node without a place or a module; a partition that is missing, or has
            another number of modules than it says; a start out of range.
    """
    links = _links(graph)
    names, counts = list(graph), list(range(1, len(graph) + 1))
    start = checks.whole("start", start, 1, len(counts))
    if sorted(partitions) != counts:
        raise ValueError(f"partitions must be numbered from 1 to {len(counts)}, got {sorted(partitions)}")
    labels, terms, flow = [], [], random_walk_flow(graph, 0)
    for k in counts:
        if missing := [v for v in graph if v not in partitions[k] or v not in places]:
            raise ValueError(f"places and partitions must hold each node, but lack {missing[0]!r}")
        modules = [partitions[k][v] for v in graph]
        # Numbered as they are met, so that small changes recolour little.
        order = list(dict.fromkeys(modules))
        if len(order) != k:
            raise ValueError(f"partitions[{k}] must have {k} modules, got {len(order)}")
        labels.append([order.index(module) for module in modules])
        terms.append(codelengths_of(flow, np.array(labels[-1])))
    xy = np.array([places[v] for v in graph], dtype=float)
    xy *= (1, -1)  # upwards, as in other figures
    xy -= xy.min(0)
    room = np.array(_NETWORK) - 2 * _MARGIN
    xy = _MARGIN + xy / np.maximum(xy.max(0), 1e-9) * room
    chart, drawn = _chart(terms, start)
    wires = "".join("M{:.0f} {:.0f}L{:.0f} {:.0f}".format(*xy[a], *xy[b]) for a, b in links)
    colours = [(colour, _INKS.get(colour, "#000")) for colour in COLOURS]
    nodes = "".join(
        _node(name, not i, x, y, module, colours)
        for i, (name, (x, y), module) in enumerate(zip(names, xy, labels[start - 1], strict=True))
    )
    told = {"names": list(map(str, names)), "links": links, "partitions": labels}
    # "<" would end the script where a name holds it.
    data = json.dumps(told | {"colours": colours, "chart": chart}, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    seen = f"{start}{nodes}{data}{caption}"
    name = "recolour-" + hashlib.sha256(seen.encode()).hexdigest()[:12]
    at_top, inside = (abs(bits) for bits in terms[start - 1])
    count = f"{start} module{'s' if start > 1 else ''}"
    script = (Path(__file__).parent / "recolour.js").read_text("utf-8").strip()
    return RecolouredNetwork(
        f'<figure class="kexue-interactive" id="{name}" role="group" aria-label="{html.escape(alt)}" '
        f'data-still="{count}" style="margin:0;max-width:540px">'
        '<svg viewBox="0 0 400 445" style="width:100%;font:11px sans-serif" fill="currentColor">'
        f'<path d="{wires}" stroke="{INK}" stroke-opacity="0.6" fill="none"/>{nodes}{drawn}</svg>'
        '<label style="display:flex;gap:0.7em">modules to begin with'
        f'<input type="range" min="1" max="{len(counts)}" value="{start}" style="flex:1"></label>'
        f'<output aria-live="polite">{count}: {at_top:.3f} bits in the index + {inside:.3f} in the '
        f"modules = {at_top + inside:.3f} per step</output>"
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script>({script})(document.getElementById("{name}"), {data});</script></figure>'
    )


def _links(graph: "nx.Graph") -> list[tuple[int, int]]:
    """The places of linked nodes in the graph's order. Raises for what the figure does not draw."""
    if graph.is_directed() or graph.is_multigraph():
        raise ValueError(f"graph must be undirected, with one link between two nodes at most, got {graph}")
    if not graph.edges or any(a == b or more.get("weight", 1) != 1 for a, b, more in graph.edges(data=True)):
        raise ValueError(f"graph must have links, without weights and to other nodes, got {graph}")
    place = {v: i for i, v in enumerate(graph)}
    return [(place[a], place[b]) for a, b in graph.edges]


def _node(
    name: Hashable, first: bool, x: float, y: float, module: int, colours: Sequence[tuple[str, str]]
) -> str:
    fill, ink = colours[module % len(colours)]
    return (
        f'<g class="node" role="button" tabindex="{0 if first else -1}" style="cursor:pointer" '
        f'aria-label="node {html.escape(str(name))}, module {module + 1}">'
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{_RADIUS}" fill="{fill}"/>'
        f"{_text(x, y, str(module + 1), 'middle', ink)}</g>"
    )


def _text(x: float, y: float, text: str, anchor: str, fill: str = "currentColor") -> str:
    """A line of text whose middle is at the height y."""
    return f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'


def _chart(terms: Sequence[tuple[float, float]], start: int) -> tuple[dict[str, float], str]:
    """Where numbers of modules and bits lie; and the drawing: bits of the modules, upon them the index."""
    most = max(sum(pair) for pair in terms)
    across, up = (_RIGHT - _LEFT) / max(len(terms) - 1, 1), (_BOTTOM - _TOP) / most

    def at(bits: float) -> float:
        return _BOTTOM - up * bits

    def line(values: Sequence[float]) -> list[str]:
        return [f"{_LEFT + across * i:.1f} {at(bits):.1f}" for i, bits in enumerate(values)]

    modules, total = line([bits for _, bits in terms]), line([sum(pair) for pair in terms])
    areas = (
        (COLOURS[0], [*modules, f"{_RIGHT} {_BOTTOM}", f"{_LEFT} {_BOTTOM}"]),
        (COLOURS[1], [*total, *modules[::-1]]),
    )
    index, inside = terms[-1]
    parts = [
        *(f'<path d="M{"L".join(path)}Z" fill="{colour}" fill-opacity="0.45"/>' for colour, path in areas),
        f'<path d="M{"L".join(total)}" fill="none" stroke="{INK}" stroke-width="1.5"/>',
        f'<path d="M{_LEFT} {at(sum(terms[0])):.1f}H{_RIGHT}" stroke="{INK}" stroke-dasharray="4 3"/>',
        *(_text(_LEFT - 6, at(bits), str(bits), "end") for bits in range(0, int(most) + 1, 2)),
        *(
            _text(_LEFT + across * (count - 1), _BOTTOM + 10, str(count), "middle")
            for count in sorted({1, *range(10, len(terms) + 1, 10)})
        ),
        _text((_LEFT + _RIGHT) / 2, _BOTTOM + 24, "number of modules", "middle"),
        f'<g transform="translate(12 {(_TOP + _BOTTOM) / 2:.0f}) rotate(-90)">'
        f"{_text(0, 0, 'bits per step', 'middle')}</g>",
        _text(_RIGHT - 6, at(0.5 * inside), "modules", "end"),
        _text(_RIGHT - 6, at(inside + 0.5 * index), "index", "end"),
        f'<circle class="here" r="5" cx="{_LEFT + across * (start - 1):.1f}" '
        f'cy="{at(sum(terms[start - 1])):.1f}"/>',
    ]
    return {"left": _LEFT, "across": round(across, 4), "bottom": _BOTTOM, "up": round(up, 4)}, "".join(parts)
