"""The three experiments of VQ-VAE: photographs, digits, priors."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from seeded import gen

from kexue import data
from kexue.experiments import recorded, vqvae_photos, vqvae_prior
from kexue.nn import randomness
from kexue.runs import Run
from kexue.vqvae import FiniteScalarQuantizer, TwoLevelVQVAE, image_quality

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("quantiser", get_args(vqvae_photos.Quantiser))
def test_every_quantiser_is_built_as_itself(quantiser):
    model = vqvae_photos.build(vqvae_photos.Config(quantiser, hidden=8, dim=4, num_codes=16, levels=(4, 4)))
    two_levels, scalars = (
        isinstance(model, TwoLevelVQVAE),
        isinstance(getattr(model, "quantizer", None), FiniteScalarQuantizer),
    )
    assert (two_levels, scalars) == (quantiser == "two_levels", quantiser == "fsq")
    if not two_levels and not scalars:
        assert (model.quantizer.ema_decay is None) == (quantiser == "loss")
        assert (model.quantizer.estimator == "rotation") == (quantiser == "rotation")


@pytest.mark.unchecked
def test_another_quantiser_is_refused():
    with pytest.raises(ValueError, match=r"quantiser must be one of \('loss', .*\), got 'nonsense'"):
        vqvae_photos.build(vqvae_photos.Config("nonsense"))


@pytest.mark.slow
def test_the_recorded_weights_have_the_recorded_quality():
    run = recorded("vqvae_photos")["0"]
    model = run.model()
    x = data.views(data.photographs()["chelsea"].pixels, run.settings.size) * 2 - 1
    with torch.no_grad():
        y = torch.cat([model(part)[0] for part in x.split(16)])
    psnr, ssim = image_quality(x, y)
    assert psnr.mean() == pytest.approx(run.summary["psnr_chelsea"], abs=0.05)
    assert ssim.mean() == pytest.approx(run.summary["ssim_chelsea"], abs=0.005)


@pytest.mark.slow
def test_recorded_pictures_are_as_sharp_as_their_summaries_say():
    """In the same order, that is: the summary is of all held-out views, the picture one of them, and a hard one."""
    script = vqvae_photos
    with_picture = {name: config for name, config in script.SWEEP.items() if config.keep_picture}
    assert len(with_picture) == 6
    sharp = {}
    for name, config in with_picture.items():
        run = Run(ROOT / "runs" / name)
        face = data.centre_square(data.photographs()["chelsea"].pixels, config.size)[None] * 2 - 1
        shown = np.asarray(script.Image.open(run.folder / "chelsea.png"), dtype=np.float32) / 255
        again = torch.from_numpy(shown).permute(2, 0, 1)[None] * 2 - 1
        assert script.image_quality(face, again)[0][0] == pytest.approx(run.summary["psnr_chelsea"], abs=5)
        sharp[name] = script.gradient_agreement(face, again)[0]
    by_recorded = sorted(sharp, key=lambda name: Run(ROOT / "runs" / name).summary["test_sharpness"])
    assert sorted(sharp, key=sharp.__getitem__) == by_recorded


@pytest.mark.slow
def test_a_run_keeps_a_picture_and_samples_where_its_configuration_says_so(tmp_path):
    photos, prior = vqvae_photos, vqvae_prior
    small = {"steps": 1, "every": 1, "hidden": 8, "dim": 8, "blocks": 1, "batch_size": 2, "num_codes": 4}
    summary = photos.run(photos.Config(downsample=16, keep_picture=True, **small), tmp_path / "photo")
    assert -1 < summary["test_cosine"] < 1
    assert photos.Image.open(tmp_path / "photo" / "chelsea.png").size == (64, 64)
    assert "chelsea.png" in Run(tmp_path / "photo").sha256
    with pytest.raises(ValueError, match="keep_picture must be False for photographs of one's own"):
        photos.run(photos.Config(keep_picture=True, images="folder"), tmp_path / "none")
    config = prior.Config("cnn", width=8, layers=1, steps=1, every=1, batch_size=2, keep_samples=True)
    prior.run(config, tmp_path / "prior")
    drawn = np.stack(list(Run(tmp_path / "prior").columns("samples.csv").values()), 1)
    assert drawn.shape == (200, 49)
    assert drawn.min() >= 0
    assert drawn.max() < 64


@pytest.mark.slow
def test_the_recorded_samples_are_codes_that_attention_finds_likely():
    """PixelCNN drew them; PixelAtt gives them fewer bits than codes drawn by their frequencies alone."""
    columns = Run(ROOT / "runs/vqvae_prior_cnn/seed0").columns("samples.csv")
    drawn = torch.from_numpy(np.stack(list(columns.values()), 1)).long()
    model = recorded("vqvae_prior_attention")["raster-seed0"].model()
    order = torch.rand(drawn.shape, generator=gen()).argsort(0)
    with torch.no_grad():
        own, mixed = (
            float(-model.log_prob(codes.unflatten(1, (7, 7))).mean())
            for codes in (drawn, drawn.gather(0, order))
        )
    assert own < 0.8 * mixed


@pytest.mark.slow
def test_the_recorded_digits_have_the_recorded_error():
    run, model = vqvae_prior.autoencoder("vqvae_digits/0")
    x = data.mnist_parts()[2].pixels[:, None] * 2 - 1
    with torch.no_grad():
        error = (model(x)[0] - x).square().mean()
    assert error == pytest.approx(run.summary["test_mse"], rel=0.01)


@pytest.mark.slow
def test_the_recorded_prior_has_the_recorded_bits():
    run = recorded("vqvae_prior_attention")["raster-seed0"]
    _, (_, _, test) = vqvae_prior.codes(run.settings.codes, False)
    with torch.no_grad():
        bits = -run.model().log_prob(test).mean() / (49 * math.log(2))
    assert bits == pytest.approx(run.summary["test_bits"], abs=0.01)


def test_crops_are_squares_of_the_training_photographs():
    draw = vqvae_photos.crops(None, 64)
    one, two = (draw(40, randomness.generator(seed)) for seed in (0, 1))
    assert one.shape == (40, 3, 64, 64)
    assert torch.equal(one, draw(40, randomness.generator(0)))
    assert not torch.equal(one, two)
    assert -1 <= one.min() < -0.9
    assert 0.9 < one.max() <= 1
    assert len(one.mean((2, 3)).round(decimals=2).unique(dim=0)) > 30
    parts = vqvae_photos.photographs(None)
    assert {part: len(found) for part, found in parts.items()} == {"train": 7, "valid": 1, "test": 3}


def test_photographs_of_a_folder_are_split_by_their_names(tmp_path):
    script = vqvae_photos
    generator = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (80, 90, 3), np.uint8)).save(tmp_path / f"{i}.png")
    parts = script.photographs(str(tmp_path))
    names = [set(part) for part in parts.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == 40
    assert all(names)
    assert script.crops(str(tmp_path), 64)(3, randomness.generator(0)).shape == (3, 3, 64, 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="images must hold photographs for train, valid, test too, got"):
        script.photographs(str(tmp_path / "empty"))
