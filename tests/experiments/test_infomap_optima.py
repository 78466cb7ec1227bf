"""The experiment on missed optima: its networks, its enumeration, and what was recorded."""

import graphs
import numpy as np
import pytest

from kexue.experiments import infomap_optima as optima
from kexue.infomap import infomap, random_walk_flow
from kexue.runs import Run, runs_folder, table


def test_the_optimum_is_that_of_pairs_of_nodes():
    assert [len(optima.divisions(n)) for n in range(1, 8)] == [1, 2, 5, 15, 52, 203, 877]
    for seed in range(12):
        links, teleport = optima.connected(seed)
        flow = random_walk_flow(links, teleport)
        if len(links) < 8:
            assert optima.optimum(flow) == pytest.approx(graphs.optimum(flow), abs=1e-12)


def test_all_sorts_of_networks_are_among_them():
    made = [optima.connected(seed) for seed in range(60)]
    undirected = [np.array_equal(links, links.T) for links, _ in made]
    assert {len(links) for links, _ in made} == set(range(3, 9))
    assert {(tau, both) for (_, tau), both in zip(made, undirected, strict=True)} >= {
        (0.0, True),
        (0.15, False),
    }
    assert {links.max() > 1 for links, _ in made} == {True, False}
    assert len(optima.connected(0, 10)[0]) == 10


@pytest.mark.parametrize("search", ["all", "article"])
def test_trials_are_those_of_the_public_search(search):
    for seed in range(3):
        links = optima.random_eight(seed)
        losses = optima.losses(optima.Config("eight", search, trials=1), seed)
        found = infomap(links, 0.15, 0, steps=optima.SEARCHES[search]).codelength
        assert losses == [pytest.approx(found - optima.optimum(random_walk_flow(links)), abs=1e-12)]


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["eight-all", "eight-no_shakes", "eight-paper"])
def test_recorded_misses_are_missed_and_counted(trial):
    run = Run(runs_folder() / "infomap_optima" / trial)
    assert run.summary["count"] == 5000
    assert run.metrics["missed"].sum() == run.summary["missed_all"]
    assert run.summary["low_all"] <= run.summary["missed_all"] / 5000 <= run.summary["high_all"]
    if run.summary["missed_all"]:
        misses = run.columns("misses.csv")
        for seed, bits in list(zip(misses["seed"], misses["bits"], strict=True))[:3]:
            found = optima.losses(optima.Config(**run.config), int(seed))
            assert len(found) == 10
            assert min(found) == pytest.approx(bits, abs=1e-6)


@pytest.mark.unchecked
def test_without_steps_more_is_missed_on_eight_nodes():
    found = table("infomap_optima")
    of = found[found.networks == "eight"].set_index("search")
    assert of.loc["all", "high_all"] < of.loc["paper", "low_all"]
