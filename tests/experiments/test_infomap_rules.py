"""What the rules of the ledger make of made-up numbers, branch by branch; numbers that the ledger quotes."""

import pandas as pd
import pytest

from kexue.book import ledger
from kexue.experiments import infomap_null as null
from kexue.experiments import infomap_optima as optima
from kexue.experiments import infomap_words as words
from kexue.experiments.tasks import infomap_rules as rules
from kexue.runs import table
from kexue.runs.statistics import mean_interval

JITTER = (-0.004, -0.002, 0.0, 0.002, 0.004)


def five(value):
    return [value + small for small in JITTER]


def outcome(decision):
    return ledger.outcome_of(decision.holds, decision.restricted)


# --- infomap.claim1 ----------------------------------------------------------------------------


def planted_trials(found_up_to, leiden_up_to, modules=20.0):
    rows = []
    for mixing in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65):
        for small in JITTER:
            ours = {"agreement": 0.99 if mixing <= found_up_to else 0.0, "modules": modules + small}
            theirs = {"agreement": 0.8 if mixing <= leiden_up_to else 0.4, "modules": 20.0}
            for method, measured in (("InfoMap", ours), ("Leiden", theirs)):
                row = measured | {"agreement": measured["agreement"] + small}
                rows.append({"mixing": mixing, "method": method} | row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("found", "leiden", "modules", "expected"),
    [
        (0.6, 0.6, 20, "holds"),
        (0.6, 0.5, 20, "holds"),
        (0.6, 0.65, 20, "restricted"),
        (0.4, 0.65, 20, "restricted"),
        (0.3, 0.65, 20, "refuted"),
        (0.6, 0.6, 23, "refuted"),
        (0.6, 0.6, 17, "refuted"),
    ],
)
def test_the_number_of_groups_comes_out(found, leiden, modules, expected):
    decision = rules.number_comes_out(planted_trials(found, leiden, modules))
    assert outcome(decision) == expected
    assert decision.measured["largest with Leiden above 0.5"] == leiden
    first = next(iter(decision.measured.items()))
    if (found, leiden) == (0.6, 0.65):
        assert first == ("agreement at mixing 0.65, InfoMap and Leiden", "0.00 and 0.80")


# --- infomap.noise, infomap.prior --------------------------------------------------------------


def noise(modules=50.0, saved=1.0, one_module=1.0, degrees=(3, 4, 5, 6, 8, 10)):
    """Of each degree five networks; the prior finds one module in some share of those of degree 3."""
    rows = []
    for degree in degrees:
        for i, small in enumerate(JITTER):
            prior = 2 if degree == 3 and i >= 5 * one_module else 1
            at = 1.0 if degree == 10 else modules + small
            row = {"modules_infomap": at, "saved_infomap": saved + small, "modules_regularized": prior}
            rows.append({"degree": degree} | row)
    return pd.DataFrame(rows)


def test_modules_in_noise_are_many_somewhere_or_nowhere():
    assert outcome(rules.modules_in_noise(noise())) == "holds"
    assert outcome(rules.modules_in_noise(noise(modules=9.0))) == "refuted"
    assert outcome(rules.modules_in_noise(noise(saved=0.0))) == "refuted"
    some = pd.concat([noise(degrees=(3, 4, 5, 6)), noise(modules=9.0, degrees=(8,))])
    assert outcome(rules.modules_in_noise(some)) == "restricted"
    assert outcome(rules.modules_in_noise(noise(degrees=(3, 4, 5, 6)))) == "restricted"  # 8 is missing


def planted_rows(weak=0.05, behind=-0.2, price=-0.05):
    rows = []
    for groups in (2, 4, 10):
        for signal in (0.5, 0.75, 1.5, 2.0):
            for small in JITTER:
                low = signal <= 0.75
                base = {f"ami_{m}": (weak if low else 0.5) + small for m in ("package", "leiden", "spectral")}
                base["ami_infomap"] = base["ami_spectral"] + (0 if low else behind + small)
                base["ami_regularized"] = base["ami_package"] + (0 if low else price + 2 * small)
                rows.append({"groups": groups, "signal": signal} | base)
    return pd.DataFrame(rows)


def test_a_prior_is_silent_in_noise_and_may_have_its_price():
    assert outcome(rules.with_a_prior(noise(), planted_rows())) == "holds"
    assert outcome(rules.with_a_prior(noise(), planted_rows(price=-0.3))) == "restricted"
    # One random network of five with two modules is not "most": that refutes nothing.
    assert outcome(rules.with_a_prior(noise(one_module=0.8), planted_rows())) == "open"
    assert outcome(rules.with_a_prior(noise(one_module=0.8), planted_rows(price=-0.3))) == "open"
    assert outcome(rules.with_a_prior(noise(one_module=0.4), planted_rows())) == "refuted"
    worst = rules.with_a_prior(noise(), planted_rows(price=-0.3)).measured
    assert next(iter(worst.values())).mean == pytest.approx(-0.3)


# --- infomap.limit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weak", "behind", "expected"),
    [
        (0.05, -0.2, "holds"),
        (0.15, -0.2, "restricted"),
        (0.05, 0.0, "restricted"),
        (0.05, 0.2, "restricted"),
        (0.15, 0.0, "refuted"),
    ],
)
def test_what_is_found_below_the_limit_and_above(weak, behind, expected):
    decision = rules.detectable(planted_rows(weak, behind))
    assert outcome(decision) == expected
    assert list(decision.measured)[:3] == [
        f"AMI at signal 1.5, {groups} groups, InfoMap minus spectral" for groups in (2, 4, 10)
    ]


# --- infomap.null ------------------------------------------------------------------------------


def p_values(told_apart, **others):
    return dict.fromkeys(rules.REAL[:told_apart], 0.01) | dict.fromkeys(rules.REAL[told_apart:], 0.5) | others


@pytest.mark.parametrize(
    ("apart", "alarms", "expected"),
    [(6, 8, "holds"), (5, 8, "restricted"), (0, 8, "refuted"), (6, 40, "refuted"), (5, 40, "refuted")],
)
def test_six_real_networks_decide_and_no_other(apart, alarms, expected):
    noise = [0.01] * alarms + [0.5] * (200 - alarms)
    for others in ({}, {"control": 0.3}, {"control": 0.01, "another": 0.9}):
        decision = rules.told_apart(p_values(apart, **others), noise)
        assert outcome(decision) == expected
        assert decision.measured["p ≤ 0.05"].startswith(f"{apart} of 6 real networks; {alarms} of 200")


# --- infomap.claim5 ----------------------------------------------------------------------------


def halves(gain=(0.04, 0.04, 0.04), subjects=3):
    rows = {"bits_infomap": five(0.05), "bits_leiden": five(0.05)}
    for name, lead in zip(("random", "components", "frequency"), gain, strict=True):
        rows[f"bits_{name}"] = [0.05 - lead + 2 * small for small in JITTER]
    for number, subject in enumerate(words.SUBJECTS):
        rows[f"together_{subject}"] = [3, 3, 3, 0, 0] if number < subjects else [3, 3, 2, 0, 0]
        rows[f"size_{subject}"] = [200] * 5
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gain", "subjects", "expected"),
    [
        ((0.04, 0.04, 0.04), 3, "holds"),
        ((0.04, 0.04, 0.04), 2, "restricted"),
        ((0.04, 0.04, 0.0), 5, "open"),
        ((0.04, -0.04, 0.04), 5, "refuted"),
        ((0.0, -0.04, 0.04), 5, "refuted"),  # an undecided interval does not hide one below 0
    ],
)
def test_clusters_hold_in_other_text(gain, subjects, expected):
    assert outcome(words.clusters_hold(halves(gain, subjects))) == expected


def test_a_subject_in_a_large_cluster_does_not_come_out():
    found = halves()
    assert words.subject_comes_out("kin", found) == 3
    assert words.subject_comes_out("kin", found.assign(size_kin=201)) == 0


@pytest.mark.slow
def test_the_rule_errs_as_often_as_intervals_do():
    errors = words.errors_of_rule(halves())
    assert errors.holds + errors.refuted == pytest.approx(0.05, abs=0.02)


# --- infomap.claim7 ----------------------------------------------------------------------------


def tuned(ratio):
    grid = [(width, threshold) for width in (25, 50) for threshold in (0.4, 0.5, 0.7)]
    rows = [
        {"width": w, "threshold": t, "clusters_infomap": 10 * (ratio if t == 0.7 else 1)} for w, t in grid
    ]
    rows += [{"width": 12, "threshold": 0.7, "clusters_infomap": 1}]  # beyond the grid of the rule
    rows += [{"width": 25, "threshold": 0.8, "clusters_infomap": 1000}]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("ratio", "clear", "at_the_limit", "expected"),
    [
        (3, 0.99, 0.99, "holds"),
        (2, 0.99, 0.99, "restricted"),
        (3, 0.99, 0.1, "restricted"),
        (3, 0.9, 0.99, "refuted"),
        (1, 0.9, 0.1, "refuted"),
    ],
)
def test_few_settings_matter(ratio, clear, at_the_limit, expected):
    of = {(0.3, tau): five(clear) for tau in (0.05, 0.15)} | {(0.6, 0.15): five(at_the_limit)}
    decision = words.few_settings(tuned(ratio), of)
    assert outcome(decision) == expected
    assert decision.measured["agreement, mixing 0.6, τ = 0.15"].mean == pytest.approx(at_the_limit)


def test_agreement_by_tau_is_that_of_the_package_with_each():
    networks = {0.3: [null.planted(200, 4, 16, 3.0, 0), null.planted(200, 4, 16, 3.0, 1)]}
    found = rules.agreement_by_tau(networks, (0.15, 0.9))
    assert list(found) == [(0.3, 0.15), (0.3, 0.9)]
    assert min(found[0.3, 0.15]) > 0.9
    assert found[0.3, 0.9] != found[0.3, 0.15]


# --- What was recorded -------------------------------------------------------------------------


def test_the_numbers_of_the_ledger_are_the_recorded_ones():
    rows = rules.rows_of("infomap_null_random", "compare")
    alarms = rows[~rows["compare"]].p
    nulls, weights = table("infomap_null"), table("infomap_null_weights")
    few = int((alarms <= 0.05).sum())
    why = ledger.row("infomap.null").why
    assert f"{few} of {len(alarms)} p ({few / len(alarms):.1%})".replace("%", " %") in why
    assert [name for name in rules.REAL if nulls.p[name] > 0.05] == ["florentine"]
    graph = null.NETWORKS["florentine"]()
    assert f"{len(graph)} nodes and {graph.size()} links" in why
    shuffled, strengths = weights.loc["places-shuffled"], weights.loc["places-strengths"]
    assert f"save {shuffled.saved:.2f} bits" in why
    assert f"{shuffled.null_mean:.2f} on average" in why
    assert strengths.null_most == 0

    planted = rules.rows_of("infomap_null_planted", "groups").set_index(["groups", "signal"])
    weak = mean_interval(planted.loc[10, 0.75].ami_infomap)
    why = ledger.row("infomap.limit").why
    assert f"the agreement of InfoMap is {weak:.3f}" in why
    assert round(1000 / planted.loc[10, 0.75].modules_infomap.mean()) == 13
    assert "about thirteen nodes" in why

    why = ledger.row("infomap.prior").why
    four, ten = (planted.loc[groups, 1.75].ami_package.mean() for groups in (4, 10))
    assert f"the agreement is {four:.2f} and {ten:.2f}" in why
    assert (planted.loc[2].modules_regularized == 1).all()
    few = planted.loc[list(null.FEW)]
    below = few[few.index.get_level_values("signal") <= 1.75]
    assert (below.modules_regularized == 1).all()

    clusters = table("infomap_words")
    assert round((clusters.clusters_infomap / clusters.clusters_leiden).mean()) == 8
    assert "an eighth of the clusters" in ledger.row("infomap.claim5").why


def test_missed_optima_are_those_of_the_summaries():
    found = table("infomap_optima")
    of = optima.missed("eight")
    assert list(of) == ["ten trials", "the first trial"]
    assert list(of["ten trials"]) == list(optima.NAMES.values())
    assert of["ten trials"]["C++ package"] == tuple(
        found.loc["eight-package", ["rate_all", "low_all", "high_all"]]
    )
    assert of["the first trial"]["ours, with all four"].mean == found.rate_one["eight-all"]
    connected = found[found.networks != "eight"]
    assert connected.rate_all.max() <= 0.002  # "about one in a thousand, or none"


def test_rows_and_curves_are_what_was_recorded():
    rows = rules.rows_of("infomap_null_random", "degree", "compare")
    assert len(rows) == 5 * len(null.DEGREES) + 200
    noise = rows[rows["compare"]]
    curves = rules.curves(noise, "degree", "modules")
    assert list(curves) == ["InfoMap", "Leiden", "with a prior"]  # no spectral method there
    x, y = curves["Leiden"]
    assert y[x == 4].tolist() == noise[noise.degree == 4].modules_leiden.tolist()
    copies = rules.saved_by_copies()
    assert list(copies) == list(rules.TITLES.values())
    assert {len(bits) for bits in copies.values()} == {100}
    assert copies["karate club"][0] == pytest.approx(table("infomap_null").saved["karate"])


def test_examples_are_words_of_one_cluster():
    cluster = {"银行": 1, "贷款": 1, "业务": 2, "学校": 3}
    rows = words.examples(cluster)
    assert len(rows) == len(words.EXAMPLES)
    assert rows[0] == {"members (selection)": "银行 bank, 贷款 loan", "size": "2"}
    assert rows[1] == {"members (selection)": "学校 school", "size": "1"}
