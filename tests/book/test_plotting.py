"""Figures: intervals, sliders, views, stories, pictures that stay small."""

import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from kexue.book import drawing, interactive, plotting

ROOT = Path(__file__).parents[2]


def test_simplex_slider_places_groups_in_the_triangle():
    cloud = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]])
    figure = interactive.simplex_slider(
        {"0": cloud, "1": cloud[::-1]},
        group=[0, 1, 2, 2],
        names=["a", "b", "c"],
        start="1",
        prefix="K = ",
        caption="c",
        alt="a",
    )
    assert figure.layout.sliders[0].active == 1
    edge, first, second, third = figure.frames[0].data
    assert len(figure.data[0].x) == 4
    assert edge.x is None  # the triangle stays where it is
    assert [trace.name for trace in figure.data[1:]] == ["a", "b", "c"]
    assert (list(first.x), list(first.y)) == ([0], [0])
    assert (list(second.x), list(second.y)) == ([1], [0])
    assert list(third.x) == [0.5, 0.5]
    assert list(third.y) == pytest.approx([3**0.5 / 2, 3**0.5 / 6], abs=1e-4)


def test_band_draws_mean_and_interval():
    figure, ax = plotting.panels()
    samples = np.random.default_rng(0).normal(size=(4, 10))
    plotting.band(ax, [1, 2, 3, 4], samples, "label", color=plotting.RED)
    (line,) = ax.lines
    assert np.allclose(line.get_ydata(), samples.mean(-1))
    assert line.get_label() == "label"
    _, low, high = plotting.mean_interval(samples)
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(low.min())
    assert corners.max() == pytest.approx(high.max())
    mpl.pyplot.close(figure)


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of luminances."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def test_figures_have_no_ground_and_lines_for_both_themes():
    with mpl.rc_context():
        plotting.use_style()
        assert mpl.rcParams["savefig.facecolor"] == "none"
        assert min(contrast(plotting.INK, ground) for ground in ("#ffffff", "#121212")) > 4
        assert mpl.rcParams["image.cmap"] == "cividis"
        figure, axes = plotting.panels(3, height=2)
        assert len(axes) == 3
        assert tuple(figure.get_size_inches()) == pytest.approx((5.2, 6))
        mpl.pyplot.close(figure)


def test_runs_are_points_beside_their_mean_and_the_baseline():
    figure, ax = plotting.panels()
    plotting.seeds(ax, {"one": [1.0, 2, 3], "other": [5.0, 5, 8]}, baseline=("nothing", 4.0))
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [sorted(line.get_xdata()) for line in points] == [[1, 2, 3], [5, 5, 8]]
    _, low, high = plotting.mean_interval([5.0, 5, 8])
    assert any(
        list(line.get_xdata()) == pytest.approx([low, high])
        for line in ax.lines
        if len(line.get_xdata()) == 2
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "other"]
    assert "nothing" in [text.get_text() for text in ax.texts]
    assert any(list(line.get_xdata()) == [4.0, 4.0] and line.get_linestyle() == "--" for line in ax.lines)
    mpl.pyplot.close(figure)


def test_panels_of_runs_have_their_titles_baselines_and_overlaps(monkeypatch):
    drawn = []
    monkeypatch.setattr(mpl.pyplot, "show", lambda: drawn.append(mpl.pyplot.gcf()))
    groups = {"a": {"one": [1.0, 2, 3]}, "b": {"one": [4.0, 5, 9], "other": [4.0, 6, 7]}}
    for overlaps in (None, [0.0, 0.6]):
        plotting.seeds_panels(groups, [("none", 0.0), ("all", 4.5)], 2.0, overlaps, xlabel="F1", xlim=(0, 10))
        axes = drawn[-1].axes
        assert drawn[-1].get_size_inches()[1] == 4
        assert [ax.get_title() for ax in axes] == ["a", "b"]
        assert [len(ax.get_yticklabels()) for ax in axes] == [1, 2]
        assert all((ax.get_xlabel(), ax.get_xlim()) == ("F1", (0, 10)) for ax in axes)
        assert [text.get_text() for ax in axes for text in ax.texts] == ["none", "all"]
        for ax, values, overlap in zip(axes, ([1.0, 2, 3], [4.0, 5, 9]), overlaps or [0, 0], strict=True):
            _, low, high = plotting.mean_interval(values, overlap=overlap)
            assert any(
                list(line.get_xdata()) == pytest.approx([low, high])
                for line in ax.lines
                if len(line.get_xdata()) == 2
            )
        mpl.pyplot.close(drawn[-1])
    plotting.seeds_panels({"a": {"one": [1.0, 2]}}, [("none", 0.0)], 2.0)
    assert len(drawn[-1].axes) == 1
    mpl.pyplot.close(drawn[-1])
    with pytest.raises(ValueError, match="zip"):
        plotting.seeds_panels(groups, [("none", 0.0)], 2.0)
    mpl.pyplot.close()


def test_a_star_stands_in_the_row_of_its_group():
    figure, ax = plotting.panels()
    plotting.seeds(ax, {"one": [1.0, 2], "other": [5.0, 8]}, stars=[3.0, 6.0])
    (stars,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert (list(stars.get_xdata()), list(stars.get_ydata())) == ([3, 6], [0, 1])
    mpl.pyplot.close(figure)


def slider():
    frames = [(f"{k}", [{"type": "scatter", "x": [0, 1], "y": [0, k]}]) for k in (1, 2, 3)]
    return interactive.slider_figure(
        frames, start=1, prefix="K = ", caption="a < b", alt='a "line"', xaxis={"visible": False}
    )


def test_a_tree_stands_above_its_words_and_its_brackets_cover_what_they_hold():
    _, ax = plotting.panels()
    drawing.draw_tree(ax, [["a", "b"], ["c", ["d", "e"]]])
    assert [(text.get_text(), text.get_position()[0]) for text in ax.texts] == [
        (word, place) for place, word in enumerate("abcde")
    ]
    lines = [line.get_xydata().tolist() for line in ax.lines]
    over = sorted((x, y) for (x, y), (other, height) in lines if y == height and x != other)
    assert over == [(0, 1), (0.5, 3), (2, 2), (3, 1)]  # [a b], all, [c …], [d e]: where each begins, how high
    hangs = [line for line in lines if line[0][0] == line[1][0]]
    assert len(hangs) == 8  # a part of a bracket each
    assert ax.get_xlim() == (-0.5, 4.5)
    plt.close()


def test_slider_figure_has_a_sensible_first_frame():
    figure = slider()
    assert list(figure.data[0].y) == [0, 2]
    assert [frame.name for frame in figure.frames] == ["1", "2", "3"]
    (control,) = figure.layout.sliders
    assert control.active == 1
    assert [step.args[0] for step in control.steps] == [("1",), ("2",), ("3",)] or [
        list(step.args[0]) for step in control.steps
    ] == [["1"], ["2"], ["3"]]
    assert figure.layout.xaxis.visible is False


def test_the_axes_of_interactive_figures_have_room_for_their_numbers():
    assert slider().layout.template.layout.yaxis.automargin
    frames = [("1", [{"type": "scatter", "x": [0, 1], "y": [0, 1]}])]
    axis = interactive.slider_figure(frames, start=0, prefix="", caption="c", alt="a", xaxis={"title": "x"})
    assert axis.layout.sliders[0].pad.t - slider().layout.sliders[0].pad.t >= 40


def test_the_frames_of_a_slider_hold_what_changes_in_half_the_space():
    fixed = {"type": "heatmap", "colorscale": "Greys", "text": ["a", "b"]}
    frames = [(str(k), [fixed | {"z": np.full((2, 2), k / 3)}]) for k in range(3)]
    figure = interactive.slider_figure(frames, start=0, prefix="", caption="c", alt="a", redraw=True)
    assert figure.data[0].colorscale is not None
    for k, frame in enumerate(figure.frames):
        (trace,) = frame.data
        assert trace.type == "heatmap"
        assert (trace.colorscale, trace.text) == (None, None)
        assert trace.z.dtype == np.float32
        assert np.allclose(trace.z, k / 3)


@pytest.mark.slow
def test_figures_are_small_pictures_and_photographs_keep_their_colours():
    from PIL import Image

    def drawn(content):
        figure, ax = plotting.panels()
        content(ax)
        picture = Image.open(io.BytesIO(plotting.png(figure)))
        whole = io.BytesIO()
        figure.savefig(whole, format="png", dpi=figure.dpi)
        mpl.pyplot.close(figure)
        reference = Image.open(whole).convert("RGBA")
        error = np.abs(np.asarray(picture.convert("RGBA"), dtype=float) - np.asarray(reference))
        return picture.mode, error.mean()

    with mpl.rc_context():
        plotting.use_style()
        mode, error = drawn(lambda ax: [ax.plot([1, 3, 2], label="a"), ax.legend()])
        assert mode == "P"
        assert error < 0.1
        noise = np.random.default_rng(0).random((64, 64, 3))
        mode, error = drawn(lambda ax: ax.imshow(noise))
        assert mode == "RGBA"
        assert error < 0.01  # the second drawing may shift by a rounding


def test_views_of_the_same_data_change_what_is_seen():
    traces = [{"type": "scatter", "x": [0], "y": [i]} for i in range(2)]
    views = {"both": ([True, True], {"xaxis.range": [0, 1]}), "one": ([False, True], {"xaxis.range": [2, 3]})}
    figure = interactive.views_figure(traces, views, prefix="see: ", caption="c", alt="a", showlegend=False)
    assert [trace.visible for trace in figure.data] == [True, True]
    (control,) = figure.layout.sliders
    assert [step.label for step in control.steps] == ["both", "one"]
    assert list(control.steps[1].args) == [{"visible": [False, True]}, {"xaxis.range": [2, 3]}]
    assert {step.method for step in control.steps} == {"update"}
    assert figure.layout.meta == {"alt": "a", "caption": "c"}
    assert control.currentvalue.prefix == "see: "
    assert figure.layout.showlegend is False
    reverse = interactive.views_figure(traces, dict(reversed(views.items())), prefix="", caption="c", alt="a")
    assert [trace.visible for trace in reverse.data] == [False, True]
    assert list(reverse.layout.xaxis.range) == [2, 3]
    with pytest.raises(ValueError, match="views must hold at least one, got none"):
        interactive.views_figure(traces, {}, prefix="", caption="c", alt="a")
    with pytest.raises(ValueError, match=r"views must say of 2 traces if they are seen, got \[True\]"):
        interactive.views_figure(traces, {"one": ([True], {})}, prefix="", caption="c", alt="a")


def test_stories_have_a_menu_and_a_slider_each():
    def step(y, traces):
        return [{"type": "scatter", "x": [0], "y": [y]}] * traces

    stories = {"one": [step(0, 1), step(1, 2)], "two": [step(2, 2)]}
    figure = interactive.stories_figure(stories, prefix="step ", caption="c", alt="a", showlegend=False)
    assert [trace.y[0] for trace in figure.data] == [0, 1, 1, 2, 2]
    assert [trace.visible for trace in figure.data] == [True, False, False, False, False]
    assert figure.layout.meta == {"alt": "a", "caption": "c"}
    assert figure.layout.showlegend is False
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["one", "two"]
    seen = [step.args[0]["visible"] for step in figure.layout.sliders[0].steps]
    assert seen == [[True, False, False, False, False], [False, True, True, False, False]]
    shown, change = menu.buttons[1].args
    assert shown == {"visible": [False, False, False, True, True]}
    assert len(change["sliders"]) == 1
    assert [step["args"][0] for step in change["sliders"][0]["steps"]] == [shown]
    for bad in ({}, {"one": []}):
        with pytest.raises(ValueError, match="stories must hold at least one, each with a step, got"):
            interactive.stories_figure(bad, prefix="", caption="c", alt="a")


def test_a_falling_threshold_cuts_a_sentence_into_smaller_pieces():
    figure = interactive.cuts_slider(["a", "b", "c"], [2, 1, 3], start=1, caption="c", alt="a")
    assert [frame.name for frame in figure.frames] == ["3.5", "2.5", "1.5", "0.5"]
    assert figure.layout.sliders[0].active == 1
    bars, threshold, *rows = figure.data
    assert [y for y in bars.y if y > 0] == [2, 1, 3]
    assert list(threshold.y) == [2.5, 2.5]

    def pieces(trace):
        ends = np.asarray(trace.x, dtype=float)
        return ends[~np.isnan(ends)].round(2).tolist()

    whole, once = [-0.35, 2.35], [-0.35, 1.35, 1.65, 2.35]
    assert [pieces(row) for row in rows] == [whole, once, [], []]
    last = [trace for trace in figure.frames[-1].data if trace.x is not None]
    assert pieces(last[-1]) == [-0.35, 0.35, 0.65, 1.35, 1.65, 2.35]  # every word by itself
    assert {y for y in rows[1].y if y == y} == {-2}
    assert list(figure.layout.xaxis.ticktext) == ["a", "b", "c"]
