"""One look for all figures: readable in both themes and at phone width, safe for colour-blind readers."""

import io
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
    "mean_interval",
    "panels",
    "png",
    "seeds",
    "seeds_panels",
    "use_style",
]

if TYPE_CHECKING:
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

AXIS = {"gridcolor": "#80808040", "zerolinecolor": "#80808040", "linecolor": INK, "automargin": True}

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
    stars: Sequence[float] = (),
) -> None:
    """Draw every run of each group as a point, below it the mean with its 95 % confidence interval.

    Args:
        ax: where to draw; the values run along the horizontal axis, so that names are read easily.
        groups: the values of the runs, (runs,), by the group's name, which stands at the left.
        baseline: what the simplest thing reaches, a name and a value: a dashed line.
        overlap: as in `mean_interval`.
        colours: of the groups, in their order; after the last comes the first again.
        stars: one value for each group that its runs are to be compared with.
    """
    for row, (values, colour) in enumerate(zip(groups.values(), cycle(colours), strict=False)):
        runs = np.asarray(values, dtype=float)
        above = np.linspace(-0.36, -0.12, len(runs)) if len(runs) > 1 else 0.0  # none behind the interval
        ax.plot(runs, row + above, "o", color=colour, markersize=3.5, alpha=0.5, markeredgewidth=0)
        mean, low, high = mean_interval(runs, overlap=overlap)
        ax.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="butt")
        ax.plot(mean, row, "|", color=colour, markersize=18, markeredgewidth=3)
    ax.plot(stars, range(len(stars)), "*", color=INK, markersize=13, markeredgecolor="white")
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


def seeds_panels(
    groups: Mapping[str, Mapping[str, ArrayLike]],
    baselines: Sequence[tuple[str, float]],
    height: float,
    overlaps: Sequence[float] | None = None,
    **axes: Any,
) -> None:
    """Draw `seeds` in a panel for each problem, and show the figure.

    Args:
        groups: by the problem's name, which is the panel's title: what `seeds` draws.
        baselines: of each panel, a name and a value.
        height: of a panel, in inches.
        overlaps: of each panel, as in `mean_interval`; 0 if left out.
        axes: properties of all axes: xlabel, xlim.
    """
    _, drawn = panels(len(groups), height=height)
    overlaps = overlaps or [0.0] * len(groups)
    for ax, title, baseline, overlap in zip(np.atleast_1d(drawn), groups, baselines, overlaps, strict=True):
        seeds(ax, groups[title], baseline, overlap)
        ax.set(title=title, **axes)
    plt.show()
