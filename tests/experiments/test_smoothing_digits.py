"""The networks on digits: losses against autograd and libraries, wrong labels, measures against scikit-learn."""

from typing import get_args

import pandas as pd
import pytest
import torch
from seeded import F64, randn
from sklearn import metrics
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from kexue import data
from kexue.experiments import recorded, smoothing_digits
from kexue.experiments.smoothing_digits import MEASURES, Config, Loss, Networks, Training, loss_at, ridge
from kexue.runs import Step

LABEL = torch.arange(20) % 10


def gradient(name, scores, step=0):
    scores = scores.clone().requires_grad_()
    loss_at(name, step, 5, log_softmax(scores, -1), LABEL.expand(scores.shape[:-1])).sum().backward()
    return scores.grad


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("accuracy", lambda p: p),
        ("floored_accuracy", lambda p: p.clamp(min=0.1)),
        ("generalised_cross_entropy", lambda p: p.sqrt()),
    ],
)
def test_losses_weigh_the_gradient_of_cross_entropy(name, weight):
    scores = 2 * randn(3, 20, 10)
    own = torch.softmax(scores, -1).gather(-1, LABEL.expand(3, -1)[..., None])
    torch.testing.assert_close(gradient(name, scores), weight(own) * gradient("cross_entropy", scores))
    assert (own < 0.1).any()


def test_losses_equal_those_of_libraries():
    scores = randn(20, 10)
    log_p = log_softmax(scores, -1)
    assert loss_at("cross_entropy", 9, 5, log_p, LABEL) == pytest.approx(float(cross_entropy(scores, LABEL)))
    smoothed = float(cross_entropy(scores, LABEL, label_smoothing=0.1))
    assert loss_at("label_smoothing", 9, 5, log_p, LABEL) == pytest.approx(smoothed)
    called = scores.argmax(-1)
    hard = (one_hot(called, 10).to(F64) + 1e-30).log()
    f1 = metrics.f1_score(LABEL, called, average="macro", zero_division=0)
    assert loss_at("f1", 9, 5, hard, LABEL) == pytest.approx(-f1)


@pytest.mark.parametrize("kind", ["accuracy", "f1"])
def test_two_stages_begin_with_cross_entropy(kind):
    scores = randn(20, 10)
    for step, name in ((4, "cross_entropy"), (5, kind)):
        assert torch.equal(gradient(f"two_stage_{kind}", scores, step), gradient(name, scores))


def test_labels_are_wrong_in_the_given_share_and_right_in_the_test():
    task = Training(Config(noise=(0.0, 0.3)))
    assert torch.equal(task.label[0], task.truth.expand_as(task.label[0]))
    assert float((task.label[1] != task.truth).float().mean()) == pytest.approx(0.3, abs=0.01)
    rows = torch.cat([task.train, task.valid, task.test], 1).sort(-1).values
    assert torch.equal(rows, torch.arange(len(data.digits().label)).expand_as(rows))


def test_measures_agree_with_scikit_learn():
    config = Config(noise=(0.2,), splits=(0,), networks=1)
    task, model = Training(config), Networks(config)
    with torch.no_grad():
        model.b2 -= 100 * one_hot(torch.tensor(8), 10)  # an 8 is never called
        found = dict(zip(MEASURES, task.measured(model)[:, 0, 0].tolist(), strict=True))
        called = model(task.pixels[task.test])[0, 0].argmax(-1)
    truth = task.truth[task.test[0]]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, called))
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, called, average="macro", zero_division=0))
    recalls = metrics.recall_score(truth, called, average=None, zero_division=0)
    assert int(found["missed"]) == sum(2**c for c in range(10) if recalls[c] < 0.05) >= 2**8


def test_ridge_is_better_on_right_labels_than_on_wrong_ones():
    found = ridge(Config(noise=(0.0, 0.8), splits=(0,), networks=1))
    assert found[0.0] > 0.9 > found[0.8] > 0.1


@pytest.mark.slow
def test_all_recorded_networks_stay_behind_nearest_neighbours():
    """The chapter says so."""
    found = recorded("smoothing_digits")
    by_noise = smoothing_digits.accuracies(smoothing_digits.networks(found))
    neighbours = smoothing_digits.nearest(next(iter(found.values())).settings)
    assert len(by_noise) == len(neighbours) == 3
    for accuracy, share in zip(by_noise.values(), neighbours.values(), strict=True):
        assert max(values.mean() for values in accuracy.values()) < 100 * share


def test_all_losses_differ():
    scores = randn(20, 10)
    gradients = [gradient(name, scores, 5) for name in get_args(Loss) if not name.startswith("two_stage")]
    for i, one in enumerate(gradients):
        assert not any(torch.allclose(one, other) for other in gradients[:i])


def test_a_run_trains_on_the_loss_that_its_settings_name():
    values = {}
    for name in get_args(Loss):
        config = Config(name, noise=(0.0,), splits=(0,), networks=1)
        values[name] = float(Training(config).loss(Networks(config), Step(0, 0))[0].detach())
    staged = {name for name in values if name.startswith("two_stage")}
    assert {values[name] for name in staged} == {values["cross_entropy"]}
    assert len(set(values.values())) == len(values) - len(staged)


# --- What the chapter reads ---------------------------------------------------------------------


def table_of(loss, rate, accuracy, valid, missed=(0, 0)):
    """Two networks at two examinations; their accuracy at the first one is 0."""
    return pd.DataFrame(
        {
            "step": [200, 200, 400, 400], "noise": 0.0, "split": 0, "network": [1, 0, 1, 0], "loss": loss, "rate": rate,
            "accuracy": [0, 0, *accuracy], "f1": [0, 0, *accuracy],
            "valid_accuracy": [0, 0, valid, valid], "valid_f1": [0, 0, 1 - valid, 1 - valid], "missed": [7, 7, *missed],
        }
    )  # fmt: skip


def test_the_chosen_networks_are_those_that_are_best_on_validation():
    networks = pd.concat(
        [
            table_of("accuracy", 0.1, (0.5, 0.6), valid=0.9, missed=(4, 0)),
            table_of("accuracy", 0.2, (0.7, 0.8), valid=0.8, missed=(4, 4)),
            table_of("cross_entropy", 0.1, (0.2, 0.4), valid=0.8),
        ]
    )
    by_accuracy = smoothing_digits.chosen(networks, "accuracy", 0.0)
    assert by_accuracy.accuracy.to_dict() == {0: 0.6, 1: 0.5}  # sorted by network
    assert smoothing_digits.chosen(networks, "accuracy", 0.0, "valid_f1").f1.to_dict() == {0: 0.8, 1: 0.7}
    gain = smoothing_digits.gain(networks, "accuracy", 0.0)
    assert gain.to_dict() == pytest.approx({0: 20, 1: 30})
    of_f1 = smoothing_digits.gain(networks, "cross_entropy", 0.0, over="accuracy", score="f1")
    assert of_f1.to_dict() == pytest.approx({0: -40, 1: -50})
    missing = smoothing_digits.missing(networks)
    assert missing.accuracy.to_dict() == {0: 0.5, 1: 1.0}  # of the two rates, after the last step
    assert missing.cross_entropy.to_dict() == {0: 0.0, 1: 0.0}


@pytest.mark.slow
def test_the_recorded_networks_are_read_whole():
    runs = recorded("smoothing_digits")
    networks = smoothing_digits.networks(runs)
    assert set(networks.loss) == set(smoothing_digits.NAMES)
    assert set(networks.rate) == set(smoothing_digits.RATES)
    groups = networks.groupby(["loss", "rate", "noise", "step"]).network.nunique()
    assert len(groups) == len(runs) * 3 * 6
    assert (groups == 50).all()
    shown = smoothing_digits.accuracies(networks)
    assert list(shown) == [f"{noise}% of the labels wrong" for noise in (0, 20, 40)]
    assert not any("F1" in name for of_noise in shown.values() for name in of_noise)
    best = smoothing_digits.chosen(networks, "accuracy", 0.2)
    assert shown["20% of the labels wrong"]["accuracy"].tolist() == pytest.approx(
        (100 * best.accuracy).tolist()
    )
    rows = {row["trained on"]: row for row in smoothing_digits.overview(networks)}
    assert list(rows) == list(smoothing_digits.NAMES.values())
    by_f1 = smoothing_digits.chosen(networks, "f1", 0.4, "valid_f1")
    assert rows["F1"]["40% wrong"] == f"{100 * by_f1.f1.mean():.1f}"
    assert rows["accuracy"]["over all rates"] == f"{smoothing_digits.missing(networks).accuracy.mean():.0%}"
