"""The network that one can recolour: its still, its script's data, and what it refuses."""

import json
import re
from xml.etree import ElementTree

import networkx as nx
import pytest

from kexue.book import plotting
from kexue.book.recolour import recolour
from kexue.infomap import map_equation, random_walk_flow

PATH = nx.path_graph(["b", "a", "c<"])
PLACES = {v: (i, i) for i, v in enumerate(PATH)}
PARTITIONS = {k: dict(zip(PATH, each, strict=True)) for k, each in ((1, "xxx"), (2, "yyx"), (3, "xyz"))}


def drawn(**changes):
    given = {"graph": PATH, "places": PLACES, "partitions": PARTITIONS, "start": 2}
    return recolour(**given | changes, caption="c < d", alt="a path")._repr_html_()


def test_the_still_shows_the_partition_it_begins_with_and_its_bits():
    page = drawn()
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", page)[0])
    nodes = [node for node in svg.iter("g") if node.get("class") == "node"]
    assert [node.get("aria-label") for node in nodes] == [
        f"node {v}, module {m}" for v, m in (("b", 1), ("a", 1), ("c<", 2))
    ]
    fills = [node.find("circle").get("fill") for node in nodes]
    assert fills == [plotting.COLOURS[0], plotting.COLOURS[0], plotting.COLOURS[1]]
    assert [node.get("tabindex") for node in nodes] == ["0", "-1", "-1"]  # one stop of the Tab key
    flow = random_walk_flow(PATH, 0)
    bits = map_equation(flow, PARTITIONS[2])
    assert (
        re.search(r"2 modules: 0\.500 bits in the index \+ [\d.]+ in the modules = (.*) per step", page)[1]
        == f"{bits:.3f}"
    )
    assert "1 module: 0.000 bits in the index + 1.500 in the modules = 1.500 per step" in drawn(start=1)
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
    flow = random_walk_flow(PATH, 0)
    bits = [map_equation(flow, PARTITIONS[k]) for k in (1, 2, 3)]
    assert [(floor - h) / (floor - heights[0]) * 1.5 for h in heights] == pytest.approx(bits, abs=0.01)
    assert index.startswith(total)
    assert alone.split()[1].startswith(f"{heights[0]:.1f}")


def test_the_script_gets_the_links_and_every_partition():
    page = drawn()
    assert page.count("</script>") == 1
    data = json.loads(re.search(r"getElementById\(\"[\w-]+\"\), (.*)\);</script>", page)[1])
    assert data["names"] == ["b", "a", "c<"]
    assert data["links"] == [[0, 1], [1, 2]]
    assert data["partitions"] == [[0, 0, 0], [0, 0, 1], [0, 1, 2]]


def test_two_figures_of_one_network_have_names_of_their_own():
    names = {re.search('id="(.*?)"', drawn(start=k))[1] for k in (1, 2, 3)}
    assert len(names) == 3


LOOP = nx.Graph([("b", "a"), ("a", "c<"), ("a", "a")])
WEIGHTED = nx.Graph([("b", "a", {"weight": 2}), ("a", "c<")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partitions": {2: PARTITIONS[2]}}, "partitions must be numbered from 1 to 3, got"),
        ({"partitions": PARTITIONS | {2: PARTITIONS[3]}}, r"partitions\[2\] must have 2 modules, got 3"),
        ({"partitions": PARTITIONS | {2: {"a": 1, "b": 2}}}, "must hold each node, but lack 'c<'"),
        ({"places": {"a": (0, 0)}}, "must hold each node, but lack 'b'"),
        ({"start": 4}, "start must be"),
        ({"start": 0}, "start must be"),
        ({"graph": nx.DiGraph(PATH)}, "graph must be undirected"),
        ({"graph": nx.MultiGraph(PATH)}, "graph must be undirected"),
        ({"graph": LOOP}, "graph must have links, without weights and to other nodes"),
        ({"graph": WEIGHTED}, "graph must have links, without weights and to other nodes"),
        ({"graph": nx.empty_graph(PATH)}, "graph must have links"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        drawn(**changes)


def test_a_start_that_is_no_int_is_refused():
    with pytest.raises(TypeError, match="start"):
        drawn(start=2.0)
