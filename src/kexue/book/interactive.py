"""Interactive figures, in the look of `plotting`: each is drawn by Plotly, from what the notebook holds."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kexue.book.plotting import AXIS, COLOURS, INK

__all__ = ["cuts_slider", "simplex_slider", "slider_figure", "stories_figure", "views_figure"]

if TYPE_CHECKING:
    import plotly.graph_objects as go


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


def cuts_slider(
    words: Sequence[str], levels: Sequence[int], start: int, caption: str, alt: str
) -> "go.Figure":
    """An interactive bar for each word's level, with a falling threshold; below, the pieces that it cuts.

    A sentence is cut before every word whose level exceeds the threshold. Each threshold adds a row of
    pieces; the first row is the whole sentence.

    Args:
        words: stand at the bottom.
        levels: of the words, whole numbers.
        start: so many thresholds have been passed at first.
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.
    """
    count, heights = len(words), sorted(set(levels), reverse=True)
    cuts = [heights[0] + 1, *heights]
    bars = np.full((count, 3), np.nan)
    bars[:, 0], bars[:, 1] = 0, levels
    base: dict[str, Any] = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    bar = {"x": np.repeat(np.arange(count), 3), "y": bars.ravel(), "line": {"color": COLOURS[0], "width": 14}}
    frames = []
    for passed in range(len(cuts)):
        threshold = cuts[passed] - 0.5
        dashed = {
            "x": [-0.5, count - 0.5],
            "y": [threshold] * 2,
            "line": {"color": COLOURS[1], "dash": "dash"},
        }
        traces = [base | bar, base | dashed]
        for row, cut in enumerate(cuts):
            starts = [t for t in range(count) if t == 0 or levels[t] >= cut]
            x = np.full((count, 3), np.nan)
            if row <= passed:
                x[: len(starts), 0] = np.array(starts) - 0.35
                x[: len(starts), 1] = np.array([*starts[1:], count]) - 0.65
            pieces = {"x": x.ravel(), "y": np.where(np.isnan(x.ravel()), np.nan, -1.0 - row)}
            traces.append(base | pieces | {"line": {"color": COLOURS[2], "width": 8}})
        frames.append((f"{threshold:g}", traces))
    return slider_figure(
        frames,
        start=start,
        prefix="threshold ",
        caption=caption,
        alt=alt,
        xaxis={"tickvals": list(range(count)), "ticktext": list(words), "tickangle": -60},
        yaxis={"title": "level", "tickvals": heights[::-1], "range": [-len(cuts) - 0.7, heights[0] + 0.9]},
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
        "template": {"layout": {"colorway": COLOURS, "xaxis": AXIS, "yaxis": AXIS}},
        "font": {"size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "height": 460,
        "meta": {"alt": alt, "caption": caption},
    }
