"""The network that one can recolour: its still, its script's data, and what it refuses."""

import json
import re
from xml.etree import ElementTree

import networkx as nx
import pytest

from kexue.book import plotting
from kexue.book.recolour import recolour

PATH = nx.path_graph(3)
PLACES = {v: (v, v) for v in PATH}
PARTITIONS = {1: {0: 0, 1: 0, 2: 0}, 2: {0: 5, 1: 5, 2: 7}, 3: {0: 0, 1: 1, 2: 2}}
TERMS = {1: (0.0, 1.5), 2: (1.0, 1.0), 3: (2.0, 0.5)}


def drawn(**changes):
    given = {"graph": PATH, "places": PLACES, "partitions": PARTITIONS, "terms": TERMS, "start": 2}
    return recolour(**given | changes, caption="c < d", alt="a path")._repr_html_()


def test_the_still_shows_the_partition_it_begins_with_and_its_bits():
    page = drawn()
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", page)[0])
    nodes = [node for node in svg.iter("g") if node.get("class") == "node"]
    assert [node.get("aria-label") for node in nodes] == [
        f"node {v}, module {m}" for v, m in enumerate((1, 1, 2))
    ]
    fills = [node.find("circle").get("fill") for node in nodes]
    assert fills == [plotting.COLOURS[0], plotting.COLOURS[0], plotting.COLOURS[1]]
    assert [node.get("tabindex") for node in nodes] == ["0", "-1", "-1"]  # one stop of the Tab key
    assert "2 modules: 1.000 bits in the index + 1.000 in the modules = 2.000 per step" in page
    assert "<figcaption>c &lt; d</figcaption>" in page
    assert 'aria-label="a path"' in page


def test_the_chart_stacks_the_index_on_the_modules_and_marks_the_partition():
    page = drawn()
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", page)[0])
    _, modules, index, total, alone = (path.get("d") for path in svg.iter("path"))
    (here,) = (circle for circle in svg.iter("circle") if circle.get("class") == "here")
    x, y = float(here.get("cx")), float(here.get("cy"))
    assert f"{x:.1f} {y:.1f}" in total
    heights = [float(point.split()[1]) for point in total[1:].split("L")]
    floor = float(modules.removesuffix("Z").split("L")[-1].split()[1])
    assert [round((floor - h) / (floor - heights[0]) * 1.5, 2) for h in heights] == [1.5, 2.0, 2.5]
    assert index.startswith(total)
    assert alone.split()[1].startswith(f"{heights[0]:.1f}")


def test_the_script_gets_the_links_and_every_partition():
    data = json.loads(re.search(r"getElementById\(\"[\w-]+\"\), (.*)\);</script>", drawn())[1])
    assert data["links"] == [[0, 1], [1, 2]]
    assert data["partitions"] == [[0, 0, 0], [0, 0, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partitions": {2: PARTITIONS[2]}}, "partitions must be numbered"),
        ({"partitions": {}}, "partitions must be numbered"),
        ({"terms": {1: (0, 1)}}, "terms and start must be among 1 to 3"),
        ({"start": 4}, "terms and start must be among 1 to 3"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        drawn(**changes)
