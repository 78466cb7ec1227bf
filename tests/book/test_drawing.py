"""Figures of networks, codes and shares draw what they are given."""

import matplotlib as mpl
import networkx as nx
import numpy as np
import pytest

from kexue.book import drawing, plotting
from kexue.runs.statistics import Interval


@pytest.fixture
def ax():
    figure, ax = plotting.panels()
    yield ax
    mpl.pyplot.close(figure)


def test_means_are_lines_through_the_means_of_points(ax):
    drawing.means(ax, {"one": ([1, 1, 2], [0.0, 1.0, 3.0]), "other": ([2, 1], [5.0, 4.0])}, baseline=0.5)
    points, line, other_points, other, base = ax.lines
    assert points.get_ydata().tolist() == [0, 1, 3]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([1, 2], [0.5, 3])
    assert (other.get_xdata().tolist(), other.get_ydata().tolist()) == ([1, 2], [4, 5])
    assert (line.get_label(), other.get_label()) == ("one", "other")
    assert points.get_color() == line.get_color() != other_points.get_color() == other.get_color()
    assert (line.get_linestyle(), line.get_marker()) != (other.get_linestyle(), other.get_marker())
    assert list(base.get_ydata()) == [0.5, 0.5]


def test_shares_show_zero_and_their_intervals(ax):
    rows = {"a": Interval(0.0, 0.0, 0.001), "b": Interval(0.1, 0.09, 0.11)}
    drawing.shares(ax, {"ten": rows, "one": rows})
    low, high = ax.get_xlim()
    assert low < 0 < 0.11 < high
    assert ax.get_xscale() == "symlog"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    first, second = ax.containers
    assert [round(float(x), 3) for x in first.lines[0].get_xdata()] == [0.0, 0.1]
    assert np.allclose(first.lines[0].get_ydata(), np.array(second.lines[0].get_ydata()) - 0.24)
    (bars,) = first.lines[2]
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[0.0, 0.001], [0.09, 0.11]]
    assert ax.yaxis_inverted()


def test_bars_stand_in_their_order_beside_the_baseline(ax):
    drawing.bars(ax, {"a": 1.0, "b": 2.0}, 1.5)
    assert [bar.get_width() for bar in ax.patches] == [1, 2]
    assert [text.get_text() for text in ax.texts] == ["1.00", "2.00"]
    assert list(ax.lines[0].get_xdata()) == [1.5, 1.5]


def drawn(ax):
    """By colour and shape, how many nodes; links are a collection of lines."""
    found = {}
    for nodes in ax.collections:
        if isinstance(nodes, mpl.collections.PathCollection):
            shape = nodes.get_paths()[0].vertices.shape
            look = tuple(nodes.get_facecolor()[0].round(3).tolist()), shape
            found[look] = found.get(look, 0) + len(nodes.get_offsets())
    return found


def test_a_module_has_a_colour_and_what_is_in_it_a_shape(ax):
    graph = nx.path_graph(6)
    places = {v: (v, 0) for v in graph}
    drawing.network(ax, graph, {v: v // 3 for v in graph}, places)
    looks = drawn(ax)
    assert sorted(looks.values()) == [3, 3]
    assert len({colour for colour, _ in looks}) == len({shape for _, shape in looks}) == 2
    ax.clear()
    drawing.network(ax, graph, {v: v // 3 for v in graph}, places, inner={v: v // 2 for v in graph})
    looks = drawn(ax)
    assert sorted(looks.values()) == [1, 1, 2, 2]  # nodes 0 and 1, 2 alone, 3 alone, 4 and 5
    assert len({colour for colour, _ in looks}) == 2
    assert len({shape for _, shape in looks}) == 2


def test_a_code_is_a_tree_whose_leaves_are_its_codewords(ax):
    drawing.code_tree(ax, {"a": "0", "b": "10", "c": "11"})
    assert len(ax.lines) == 4
    texts = {text.get_text(): text.get_position() for text in ax.texts}
    assert {text for text in texts if "\n" in text} == {"a\n1/2", "b\n1/4", "c\n1/4"}
    assert texts["a\n1/2"][0] < texts["b\n1/4"][0] < texts["c\n1/4"][0]
    assert texts["a\n1/2"][1] > texts["b\n1/4"][1] == texts["c\n1/4"][1]
    root = max(line.get_ydata()[0] for line in ax.lines)
    assert root == 0


def test_a_memory_has_a_bar_for_as_long_as_a_level_keeps_what_a_word_wrote(ax):
    drawing.memory(ax, [[1, 2, 3], [1, 1, 3], [0, 0, 0]], ["a", "b", "c"], stays=[3, 2, 3])
    filled = [patch for patch in ax.patches if patch.get_alpha() is not None]
    boxes = [(*patch.get_xy(), patch.get_width()) for patch in filled]
    texts = [(text.get_text(), *text.get_position()) for text in ax.texts]
    below = [("a", 0, 1), ("b", 1, 1), ("c", 2, 1)]
    assert texts == [*below, ("a", 0, 2), ("c", 2, 2), ("•", 0, 3)]
    np.testing.assert_allclose(boxes[3], (-0.47, 1.56, 1.94))  # of a, for two words
    colours = [patch.get_facecolor()[:3] for patch in filled]
    assert colours[0] == colours[3] != colours[1]
    assert [line.get_ydata()[0] for line in ax.lines] == [2.5, 1.5, 2.5]
    assert ax.get_ylim() == (0.5, 3.5)


def test_a_gate_stands_above_the_levels_and_the_trees(monkeypatch):
    monkeypatch.setattr(mpl.pyplot, "show", lambda: None)
    gate = np.array([[0.1, 0.2, 0.9, 1.0], [0.5, 0.5, 0.5, 1.0]])
    drawing.gate_and_trees(gate, [0.4, 0.3], {"found": ["a", "b"], "true": ["b", "a"]})
    figure = mpl.pyplot.gcf()
    picture, bars, found, true = figure.axes
    np.testing.assert_array_equal(picture.images[0].get_array(), gate.T)
    assert picture.get_xlim() == bars.get_xlim() == (-0.5, 1.5)
    assert [bar.get_height() for bar in bars.patches] == [0.4, 0.3]
    assert [ax.get_title() for ax in (found, true)] == ["found", "true"]
    assert [text.get_text() for text in true.texts] == ["b", "a"]
    mpl.pyplot.close(figure)
