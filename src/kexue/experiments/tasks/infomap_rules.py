"""What the recorded runs of `infomap_null` show, and what the ledger's rules make of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.stats import binomtest
from sklearn.metrics import adjusted_mutual_info_score

from kexue import runs
from kexue.experiments.infomap_null import FEW
from kexue.experiments.tasks.decisions import Decision
from kexue.infomap import infomap
from kexue.runs.statistics import mean_interval

REAL = ("karate", "miserables", "southern_women", "florentine", "places", "adjacent_words")
"""The six networks that infomap.null speaks of; other runs, such as the control, decide nothing."""

TITLES = {
    "karate": "karate club",
    "miserables": "Les Misérables",
    "southern_women": "Southern women",
    "florentine": "Florentine families",
    "places": "places in one paragraph",
    "adjacent_words": "adjacent words",
    "control": "random, 100 nodes",
    "grid": "grid, 20 × 20",
}
METHODS = {
    "InfoMap": "infomap",
    "Leiden": "leiden",
    "with a prior": "regularized",
    "spectral, told the number": "spectral",
}


def saved_by_copies() -> dict[str, np.ndarray]:
    """By the titles of networks, the bits that are saved: first by the network, then by each copy."""
    found = runs.recorded("infomap_null")
    return {title: found[name].columns("metrics.csv")["saved"] for name, title in TITLES.items()}


def curves(rows: pandas.DataFrame, x: str, y: str) -> dict[str, tuple[pandas.Series, pandas.Series]]:
    """x and what is measured as y, for each of `METHODS` that the rows have."""
    known = {name: f"{y}_{column}" for name, column in METHODS.items()}
    return {name: (rows[x], rows[column]) for name, column in known.items() if column in rows}


def agreement_by_tau(
    networks: Mapping[float, Sequence[tuple[sparse.csr_array, np.ndarray]]],
    taus: Sequence[float] = (0.05, 0.15, 0.3),
) -> dict[tuple[float, float], list[float]]:
    """AMI with the groups of planted networks, by mixing and τ, of the C++ package's best of five trials."""
    return {
        (mixing, tau): [
            float(
                adjusted_mutual_info_score(
                    truth, infomap(links, tau, seed, trials=5, engine="infomap").labels
                )
            )
            for seed, (links, truth) in enumerate(of)
        ]
        for mixing, of in networks.items()
        for tau in taus
    }


def rows_of(name: str, *settings: str) -> pandas.DataFrame:
    """All rows of all recorded runs of a name, with some of their settings as columns."""
    frames = [
        pandas.DataFrame(run.columns("metrics.csv")).assign(**{key: run.config[key] for key in settings})
        for run in runs.recorded(name).values()
    ]
    return pandas.concat(frames, ignore_index=True)


def number_comes_out(trials: pandas.DataFrame) -> Decision:
    """infomap.claim1, of rows with `mixing`, `method` ("InfoMap" or "Leiden"), `agreement` and `modules`."""
    found, by_leiden, agreement = {}, {}, {}
    for mixing, part in trials.groupby("mixing"):
        ours, leiden_s = (part[part.method == method] for method in ("InfoMap", "Leiden"))
        ami, many = mean_interval(ours.agreement), mean_interval(ours.modules)
        found[mixing] = bool(ami.low >= 0.95 and many.low >= 18 and many.high <= 22)
        by_leiden[mixing] = mean_interval(leiden_s.agreement).beyond(0.5) is True
        agreement[mixing] = f"{ami.mean:.2f} and {leiden_s.agreement.mean():.2f}"
    between = [mixing for mixing in found if by_leiden[mixing] and not found[mixing]]
    shown = {f"agreement at mixing {m}, InfoMap and Leiden": agreement[m] for m in between or [max(found)]}
    return Decision(
        not between,
        all(well for mixing, well in found.items() if mixing <= 0.4),
        shown
        | {"largest mixing with all groups found": max((m for m in found if found[m]), default=0.0)}
        | {"largest with Leiden above 0.5": max((m for m in by_leiden if by_leiden[m]), default=0.0)},
    )


def modules_in_noise(noise: pandas.DataFrame) -> Decision:
    """infomap.noise, of rows with `degree`, `modules_infomap` and `saved_infomap`."""
    by_degree = {degree: part for degree, part in noise.groupby("degree") if degree in (3, 4, 5, 6, 8)}
    found = [
        mean_interval(part.modules_infomap).beyond(10) is True
        and mean_interval(part.saved_infomap).beyond(0) is True
        for part in by_degree.values()
    ]
    four = by_degree[4]
    return Decision(
        len(found) == 5 and all(found),
        any(found),
        {
            "modules at mean degree 4, where one is true": mean_interval(four.modules_infomap),
            "bits saved": mean_interval(four.saved_infomap),
        },
    )


def told_apart(p_values: Mapping[str, float], alarms: ArrayLike) -> Decision:
    """infomap.null, of the p-value of each network, and of many random ones."""
    noise = np.asarray(alarms)
    share = binomtest(int((noise <= 0.05).sum()), len(noise), 0.05)
    low, high = share.proportion_ci(method="exact")
    real = [p_values[name] <= 0.05 for name in REAL]
    return Decision(
        all(real) and low <= 0.05,
        any(real) and low <= 0.05,
        {
            "p ≤ 0.05": f"{sum(real)} of {len(real)} real networks; {share.k} of {share.n} random ones, "
            f"{share.statistic:.1%} ({low:.1%} to {high:.1%})"
        }
        | {f"p, {name}": p for name, p in p_values.items()},
    )


def detectable(planted_rows: pandas.DataFrame) -> Decision:
    """infomap.limit, of rows with `groups`, `signal` and the agreement of each method."""
    few = planted_rows[planted_rows.groups.isin(FEW)]
    weak = {
        f"{groups} groups, signal {signal}, {method}": mean_interval(part[f"ami_{method}"])
        for (groups, signal), part in few.groupby(["groups", "signal"])
        for method in ("infomap", "package", "regularized", "leiden", "spectral")
        if signal <= 0.75
    }
    behind = {
        f"AMI at signal 1.5, {groups} groups, InfoMap minus spectral": mean_interval(
            part.ami_infomap - part.ami_spectral
        )
        for groups, part in few[few.signal == 1.5].groupby("groups")
    }
    most = max(weak, key=lambda name: float(weak[name].high))
    below = bool(weak[most].high < 0.1)
    needs_more = len(behind) == 3 and all(gap.beyond(0) is False for gap in behind.values())
    shown = {f"largest AMI below the limit: {most}": weak[most]}
    return Decision(below and needs_more, below or needs_more, behind | shown)


def with_a_prior(noise: pandas.DataFrame, planted_rows: pandas.DataFrame) -> Decision:
    """infomap.prior, of the rows of infomap.noise and of infomap.limit."""
    few = planted_rows[planted_rows.groups.isin(FEW)]
    one = noise.groupby("degree").modules_regularized.agg(lambda modules: (modules == 1).mean())
    price = {
        f"AMI, {groups} groups at signal {signal}, with the prior minus without": mean_interval(
            part.ami_regularized - part.ami_package
        )
        for (groups, signal), part in few[few.signal > 1].groupby(["groups", "signal"])
    }
    silent, worst = bool((one == 1).all()), min(price, key=lambda name: float(price[name].mean))
    undecided = not silent and not (one < 0.5).any()
    return Decision(
        None if undecided else silent and not any(gap.high < -0.1 for gap in price.values()),
        silent,
        {worst: price[worst], "random networks with one module": float(one.mean())},
    )
