"""One look for all figures: readable in both themes and at phone width, safe for colour-blind readers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from numpy.typing import ArrayLike
from scipy import stats

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, without its yellow, which is too pale for lines on white.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#222222",
)

_STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    # An opaque card: readable on a dark page without a second set of pictures.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "image.cmap": "cividis",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
}


def use_style() -> None:
    """Make the book's style the default of matplotlib and Plotly."""
    mpl.rcParams.update(_STYLE)
    import plotly.io as pio

    pio.renderers.default = "plotly_mimetype"  # the chapters' outputs hold data, not scripts


def panels(count: int = 1, height: float = 3.2, width: float = 6.0) -> "tuple[Figure, Any]":
    """A figure with `count` panels below each other, `height` inches each: a phone is narrow.

    Returns the figure and its axes: one `Axes`, or an array of them.
    """
    return plt.subplots(count, 1, figsize=(width, height * count))


def mean_interval(
    samples: ArrayLike, axis: int = -1, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of independent samples and its Student-t confidence interval: (mean, low, high).

    Raises ValueError for fewer than two samples.
    """
    values = np.asarray(samples, dtype=float)
    n = values.shape[axis]
    if n < 2:
        raise ValueError(f"samples must hold at least 2 values along axis={axis}, got {n}")
    mean = values.mean(axis)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(axis, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def band(
    ax: "Axes", x: ArrayLike, samples: ArrayLike, label: str, color: str | None = None, **line: Any
) -> None:
    """Draw the mean over the last axis of `samples` against x, with its 95 % confidence band."""
    mean, low, high = mean_interval(samples)
    (drawn,) = ax.plot(x, mean, label=label, color=color, **line)
    ax.fill_between(np.asarray(x), low, high, color=drawn.get_color(), alpha=0.25, linewidth=0)


def slider_figure(
    frames: "Sequence[tuple[str, Sequence[go.Scatter]]]",
    start: int,
    prefix: str,
    caption: str,
    alt: str,
    **layout: Any,
) -> "go.Figure":
    """An interactive figure whose slider runs through the frames; it opens on frame `start`.

    Args:
        frames: a label for the slider and the traces, for each frame; all frames have the same traces.
        start: the frame that is shown first.
        prefix: what stands before the label, for example "K = ".
        caption: stands below the figure in the book.
        alt: a description for those who do not see the figure.
        layout: Plotly's layout; the axes, for example.
    """
    import plotly.graph_objects as go

    go_to = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": name, "args": [[name], go_to]} for name, _ in frames]
    return go.Figure(
        data=frames[start][1],
        frames=[go.Frame(data=traces, name=name) for name, traces in frames],
        layout={
            "template": "plotly_white",
            "font": {"size": 13, "color": BLACK},
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "height": 460,
            "meta": {"alt": alt, "caption": caption},
            "sliders": [
                {"active": start, "steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": 10}}
            ],
            **layout,
        },
    )
