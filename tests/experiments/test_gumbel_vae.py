"""The recorded autoencoders with categorical codes."""

from pathlib import Path

import pytest

from kexue import data
from kexue.experiments import gumbel_vae, recorded
from kexue.nn import randomness

ROOT = Path(__file__).parents[2]


@pytest.mark.system
@pytest.mark.parametrize("name", ["gumbel", "straight_through", "rloo", "score_baseline", "score"])
def test_the_recorded_weights_have_the_recorded_bounds(name):
    """On the digits that the summary says, with as many samples."""
    run = recorded(f"gumbel_vae_{name}")["0"]
    model = run.model()
    _, valid, test = data.mnist_parts()
    for split, part in (("valid_elbo", valid), ("test_elbo", test)):
        images = part.pixels.gt(0.5).float()
        bound = gumbel_vae.evaluate_elbo(model, images, randomness.generator(0), 10).mean()
        assert float(bound) == pytest.approx(run.summary[split], abs=0.05)
