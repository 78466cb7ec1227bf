"""One look for all figures: readable in both themes and at phone width, safe for colour-blind readers."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib import font_manager
from numpy.typing import ArrayLike

from kexue.runs.statistics import mean_interval as mean_interval

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "INK",
    "ORANGE",
    "PURPLE",
    "RED",
    "SKY",
    "band",
    "draw_tree",
    "mean_interval",
    "panels",
    "png",
    "seeds",
    "simplex_slider",
    "slider_figure",
    "stories_figure",
    "use_style",
    "views_figure",
]

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, without its yellow, which is too pale for lines on white, and with a grey that can
# be read on white and on the dark theme's ground (4.5 to 1 and 4.1 to 1) in the place of black.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK = COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#767676",
)

_Mean = np.ndarray | np.floating[Any]

_AXIS = {"gridcolor": "#80808040", "zerolinecolor": "#80808040", "linecolor": INK, "automargin": True}

_VISIBLE = 0.2  # mean error of a pixel, of 255; drawings have below 0.1, photographs over 1

_STYLE: Any = {
    "figure.dpi": 160,  # what notebooks save with: sharp on a fine screen
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    # One picture for both themes: no ground, and a grey for what is text or line.
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "font.size": 10.5,
    "font.family": ["DejaVu Sans", "Noto Sans CJK SC"],  # the second for Chinese: a subset, in fonts/
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#80808040",
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "image.cmap": "cividis",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
}


def use_style() -> None:
    """Make the book's style the default of matplotlib and Plotly."""
    font_manager.fontManager.addfont(Path(__file__).parent / "fonts" / "NotoSansCJKsc-subset.otf")
    mpl.rcParams.update(_STYLE)
    import plotly.io as pio

    pio.renderers.default = "plotly_mimetype"  # the chapters' outputs hold data, not scripts
    _show_figures_as(png)


def png(figure: "Figure") -> bytes:
    """A figure as PNG in at most 256 colours, a third of the bytes, where the eye sees no difference.

    Pictures of photographs keep all of their colours.
    """
    from PIL import Image

    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=figure.dpi)
        drawn = Image.open(buffer).convert("RGBA")
    few = drawn.quantize(256, method=Image.Quantize.FASTOCTREE, kmeans=1, dither=Image.Dither.NONE)
    error = np.abs(np.asarray(few.convert("RGBA"), dtype=float) - np.asarray(drawn))
    with io.BytesIO() as buffer:
        (few if error.mean() < _VISIBLE else drawn).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def _show_figures_as(formatter: "Callable[[Figure], bytes]") -> None:
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        plt.switch_backend(mpl.get_backend())  # now: the first figure would, and register another formatter
        shell.display_formatter.formatters["image/png"].for_type(mpl.figure.Figure, formatter)


def panels(count: int = 1, height: float = 3.2, width: float = 5.2) -> "tuple[Figure, Any]":
    """A figure with `count` panels below each other, `height` inches each: a phone is narrow.

    Returns the figure and its axes: one `Axes`, or an array of them.
    """
    return plt.subplots(count, 1, figsize=(width, height * count))


def band(
    ax: "Axes",
    x: ArrayLike,
    samples: ArrayLike,
    label: str,
    color: str | None = None,
    overlap: float = 0.0,
    **line: Any,
) -> None:
    """Draw the mean over the last axis of `samples` against x, with its 95 % confidence band."""
    mean, low, high = mean_interval(samples, overlap=overlap)
    (drawn,) = ax.plot(x, mean, label=label, color=color, **line)
    ax.fill_between(np.asarray(x), low, high, color=drawn.get_color(), alpha=0.25, linewidth=0)


def seeds(
    ax: "Axes",
    groups: Mapping[str, ArrayLike],
    baseline: tuple[str, float] | None = None,
    overlap: float = 0.0,
    colours: Sequence[str] = COLOURS,
) -> None:
    """Draw every run of each group as a point, beside the mean with its 95 % confidence interval.

    Args:
        ax: where to draw; the values run along the horizontal axis, so that names are read easily.
        groups: the values of the runs, (runs,), by the group's name, which stands at the left.
        baseline: what the simplest thing reaches, a name and a value: a dashed line.
        overlap: as in `mean_interval`.
        colours: of the groups, in their order; after the last comes the first again.
    """
    for row, (values, colour) in enumerate(zip(groups.values(), cycle(colours), strict=False)):
        runs = np.asarray(values, dtype=float)
        spread = np.linspace(-0.22, 0.22, len(runs)) if len(runs) > 1 else 0.0
        ax.plot(runs, row + spread, "o", color=colour, markersize=3.5, alpha=0.5, markeredgewidth=0)
        mean, low, high = mean_interval(runs, overlap=overlap)
        ax.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="butt")
        ax.plot(mean, row, "|", color=colour, markersize=18, markeredgewidth=3)
    if baseline is not None:
        name, value = baseline
        ax.axvline(value, color=INK, linestyle="--", linewidth=1.2)
        ax.annotate(
            name,
            (value, 1),
            (3, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=9,
        )
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set_ylim(len(groups) - 0.5, -0.9 if baseline else -0.5)
    ax.grid(axis="y", visible=False)


def draw_tree(ax: "Axes", tree: Any, fontsize: float = 9.0, color: str = BLUE) -> None:
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


def simplex_slider(
    clouds: Mapping[str, ArrayLike],
    group: ArrayLike,
    names: Sequence[str],
    start: str,
    prefix: str,
    caption: str,
    alt: str,
) -> "go.Figure":
    """An interactive triangle: points of the simplex that move with a slider.

    Args:
        clouds: by the slider's label, n points with three weights that sum to 1: (n, 3).
        group: 0, 1 or 2 for each point: its colour and shape.
        names: what the three groups are called.
        start: the label that is shown first.
        prefix: what stands before the label, for example "K = ".
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.
    """
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
    outline = corners[[0, 1, 2, 0]]
    member = np.asarray(group)
    edge: dict[str, Any] = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    edge |= {"x": outline[:, 0], "y": outline[:, 1], "line": {"color": INK}}
    frames = []
    for label, cloud in clouds.items():
        place = (np.asarray(cloud) @ corners).round(4)
        traces = [edge]
        for i, (name, symbol) in enumerate(zip(names, ("circle", "square", "diamond"), strict=True)):
            x, y = place[member == i].T
            trace = {"type": "scatter", "mode": "markers", "hoverinfo": "skip", "name": name, "x": x, "y": y}
            traces.append(trace | {"marker": {"size": 8, "color": COLOURS[i], "symbol": symbol}})
        frames.append((label, traces))
    return slider_figure(
        frames,
        start=list(clouds).index(start),
        prefix=prefix,
        caption=caption,
        alt=alt,
        xaxis={"visible": False},
        yaxis={"visible": False, "scaleanchor": "x"},
        legend={"orientation": "h", "y": 1.1},
    )


def slider_figure(
    frames: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    start: int,
    prefix: str,
    caption: str,
    alt: str,
    redraw: bool = False,
    **layout: Any,
) -> "go.Figure":
    """An interactive figure whose slider runs through the frames; it opens on frame `start`.

    Args:
        frames: a label for the slider and the traces, for each frame; all frames have the same traces.
        start: the frame that is shown first.
        prefix: what stands before the label, for example "K = ".
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.
        redraw: draw everything anew at each step, as Plotly needs for other traces than lines and points.
        layout: Plotly's layout; the axes, for example.
    """
    import plotly.graph_objects as go

    go_to = {"mode": "immediate", "frame": {"duration": 0, "redraw": redraw}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": name, "args": [[name], go_to]} for name, _ in frames]
    axes = [layout.get("xaxis", {}), *(axis for name, axis in layout.items() if re.match(r"xaxis\d", name))]
    # an axis has numbers and a title where the slider would be
    below = 50 if any(axis.get("visible", True) for axis in axes) else 10
    slider = {"active": start, "steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": below}}
    return go.Figure(
        data=_compact(frames[start][1]),
        frames=[
            go.Frame(data=_compact(traces), name=name)
            for (name, _), traces in zip(frames, _changes([traces for _, traces in frames]), strict=True)
        ],
        layout=_interactive(caption, alt) | {"sliders": [slider], **layout},
    )


def views_figure(
    traces: Sequence[Mapping[str, Any]],
    views: Mapping[str, tuple[Sequence[bool], Mapping[str, Any]]],
    prefix: str,
    caption: str,
    alt: str,
    **layout: Any,
) -> "go.Figure":
    """An interactive figure whose slider goes through views of the same data; it opens on the first.

    Args:
        traces: all that can be seen.
        views: by the slider's label, which traces are visible, and what changes in the layout.
        prefix: what stands before the label.
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.
        layout: Plotly's layout; the axes, for example.

    Raises ValueError for no views, or one that does not say of each trace whether it is seen.
    """
    import plotly.graph_objects as go

    if not views:
        raise ValueError("views must hold at least one, got none")
    steps = []
    for label, (visible, changes) in views.items():
        if len(visible) != len(traces):
            raise ValueError(f"views must say of {len(traces)} traces if they are seen, got {visible}")
        steps.append(
            {"method": "update", "label": label, "args": [{"visible": list(visible)}, dict(changes)]}
        )
    value = {"prefix": prefix, "font": {"color": INK, "size": 14}}
    slider = {"active": 0, "steps": steps, "currentvalue": value, "pad": {"t": 10}}
    # Too many labels to stand side by side: only the current one is shown.
    slider |= {"ticklen": 0, "minorticklen": 0, "font": {"color": "rgba(0,0,0,0)"}}
    layout = _interactive(caption, alt) | {"sliders": [slider], **layout}
    figure = go.Figure(data=_compact(traces), layout=layout)
    first, changes = next(iter(views.values()))
    for trace, seen in zip(figure.data, first, strict=True):
        trace.visible = seen
    return figure.update_layout({name.replace(".", "_"): value for name, value in changes.items()})


def stories_figure(
    stories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    prefix: str,
    caption: str,
    alt: str,
    **layout: Any,
) -> "go.Figure":
    """An interactive figure with a menu of stories, each of which a slider goes through step by step.

    Args:
        stories: by the menu's label, the traces of each step; opens on the first story's first step.
        prefix: what stands before the number of the step.
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.
        layout: Plotly's layout; the axes, for example.

    Raises ValueError for no stories, or one without steps.
    """
    import plotly.graph_objects as go

    if not stories or not all(stories.values()):
        raise ValueError(f"stories must hold at least one, each with a step, got {dict(stories)!r}")
    traces = [trace for steps in stories.values() for step in steps for trace in step]
    begin = 0
    buttons: list[dict[str, Any]] = []
    for label, steps in stories.items():
        views: list[dict[str, Any]] = []
        for number, step in enumerate(steps, start=1):
            visible = [begin <= i < begin + len(step) for i in range(len(traces))]
            views.append({"method": "restyle", "label": str(number), "args": [{"visible": visible}]})
            begin += len(step)
        slider = {"active": 0, "steps": views, "currentvalue": {"prefix": prefix}, "pad": {"t": 10}}
        shown = [{"visible": views[0]["args"][0]["visible"]}, {"sliders": [slider]}]
        buttons.append({"method": "update", "label": label, "args": shown})
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.15, "yanchor": "top"}
    first, change = buttons[0]["args"]
    whole = {**_interactive(caption, alt), "updatemenus": [menu], **change, **layout}
    figure = go.Figure(data=_compact(traces), layout=whole)
    for trace, seen in zip(figure.data, first["visible"], strict=True):
        trace.visible = seen
    return figure


def _compact(traces: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Traces whose numbers take half the space: a screen needs no double precision."""

    def single(value: Any) -> Any:
        return value.astype(np.float32) if getattr(value, "dtype", None) == np.float64 else value

    return [{name: single(value) for name, value in trace.items()} for trace in traces]


def _changes(frames: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Of the traces of each frame, what differs between frames, and the type, which Plotly needs."""

    def varies(trace: int, name: str) -> bool:
        first, *others = (np.asarray(frame[trace].get(name)) for frame in frames)
        return not all(np.array_equal(first, other) for other in others)

    return [
        [
            {name: value for name, value in trace.items() if name == "type" or varies(number, name)}
            for number, trace in enumerate(frame)
        ]
        for frame in frames
    ]


def _interactive(caption: str, alt: str) -> dict[str, Any]:
    return {
        "template": {"layout": {"colorway": COLOURS, "xaxis": _AXIS, "yaxis": _AXIS}},
        "font": {"size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "height": 460,
        "meta": {"alt": alt, "caption": caption},
    }
