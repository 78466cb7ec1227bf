"""Mathematics of kexue.vqvae.autoencoder: losses and whom they train, shapes, images, bad input."""

import math

import numpy as np
import pytest
import torch
from refusing import refuses
from seeded import gen, randn
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn.functional import mse_loss

from kexue.vqvae import (
    VQVAE,
    FiniteScalarQuantizer,
    TwoLevelVQVAE,
    VectorQuantizer,
    autoencoder,
    gradient_agreement,
    image_quality,
)

NAN, GRID = math.nan, torch.zeros(1, 2, 3, dtype=torch.long)


@pytest.mark.verifies("vqvae.eq2", "vqvae.eq5", "vqvae.eq6")
@pytest.mark.parametrize(
    ("channels", "downsample", "height", "width"),
    [(3, 4, 16, 24), (1, 2, 6, 4), (2, 8, 8, 8), (3, 16, 32, 16)],
)
def test_shapes_of_the_pipeline(channels, downsample, height, width):
    model = VQVAE(channels, 8, num_codes=5, dim=6, downsample=downsample)
    x = torch.rand(2, channels, height, width, generator=gen())
    y, out = model(x)
    assert y.shape == x.shape
    assert out.indices.shape == (2, height // downsample, width // downsample)
    assert model.encode(x).shape == (*out.indices.shape, 6)


def ready(dim: int, **options) -> VectorQuantizer:
    """A quantiser that has started from random vectors."""
    made = VectorQuantizer(16, dim, **options)
    made.start(randn(16, dim, dtype=torch.float32))
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "make",
    [
        lambda: FiniteScalarQuantizer((4, 4, 5)),
        lambda: ready(8),
        lambda: ready(8, ema_decay=0.9),
        lambda: ready(8, estimator="rotation"),
    ],
)
def test_the_decoder_sees_the_codes_bit_for_bit(make, dtype):
    torch.manual_seed(0)
    quantizer = make()
    sizes = (quantizer.num_codes, quantizer.dim)
    model = VQVAE(3, 12, *sizes, downsample=4, quantizer=quantizer).to(dtype).eval()
    y, out = model(torch.rand(2, 3, 16, 24, generator=gen()).to(dtype) * 2 - 1)
    assert torch.equal(y, model.decode_codes(out.indices))
    assert torch.equal(y, model.decode_codes(out.indices.to(torch.uint8)))
    assert torch.equal(y, model.decode(quantizer.codebook[out.indices].to(dtype)))


def test_the_first_call_takes_its_generator():
    x, found = torch.rand(4, 3, 16, 16, generator=gen()), []
    for seed in (0, 1):
        torch.manual_seed(3)
        one, two, three = (VectorQuantizer(8, 4, ema_decay=0.9) for _ in range(3))
        models = VQVAE(3, 8, 8, 4, quantizer=one), TwoLevelVQVAE(3, 8, 4, 2, (two, three))
        torch.manual_seed(seed)
        for model in models:
            model(x, gen())
        found.append(torch.cat([vq.codebook for vq in (one, two, three)]))
    assert torch.equal(*found)


def losses(model: VQVAE, x: torch.Tensor, which: str) -> torch.Tensor:
    """The article's losses of equations 7, 8, 9 and 13, with squared norms as means."""
    z = model.encode(x)
    out = model.quantizer(z)
    if which == "eq13":
        return mse_loss(model.decode(out.quantized), x) + out.loss
    from_z = mse_loss(model.decode(z), x)
    from_code = mse_loss(model.decode(model.quantizer.codebook[out.indices]), x)
    return {"eq7": from_z, "eq8": from_code, "eq9": from_z + from_code}[which]


def gradients(which: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = VQVAE(1, 6, 4, 3, downsample=2)
    model.quantizer.start(randn(4, 3, dtype=torch.float32))
    losses(model, torch.rand(2, 1, 8, 8, generator=gen()), which).backward()
    return {
        name: sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
        for name, part in model.named_children()
    }


@pytest.mark.verifies("vqvae.eq7", "vqvae.eq8", "vqvae.eq9", "vqvae.eq13")
def test_which_loss_trains_what():
    """With both reconstruction losses the encoder still learns from the first alone."""
    found = {which: gradients(which) for which in ("eq7", "eq8", "eq9", "eq13")}
    assert {which: {k for k, v in of.items() if v > 0} for which, of in found.items()} == {
        "eq7": {"encoder", "decoder"},
        "eq8": {"decoder", "quantizer"},
        "eq9": {"encoder", "decoder", "quantizer"},
        "eq13": {"encoder", "decoder", "quantizer"},
    }
    assert found["eq9"]["encoder"] == pytest.approx(found["eq7"]["encoder"], rel=1e-5)
    assert found["eq9"]["quantizer"] == pytest.approx(found["eq8"]["quantizer"], rel=1e-5)
    assert found["eq9"]["decoder"] != pytest.approx(found["eq7"]["decoder"], rel=1e-2)


def test_an_image_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    model = VQVAE(3, 8, 5, 6).eval()
    x = torch.rand(3, 3, 16, 16, generator=gen())
    torch.testing.assert_close(model(x)[0][1:2], model(x[1:2])[0])


def test_residual_blocks_add_to_what_goes_in():
    torch.manual_seed(0)
    x, residual = randn(2, 6, 5, 5, dtype=torch.float32), autoencoder._Residual(6)
    before = residual(x)
    for parameter in residual.branch[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(residual(x), x)
    assert not torch.equal(before, x)
    sizes = [sum(p.numel() for p in VQVAE(3, 8, 5, 6, num_residual_blocks=b).parameters()) for b in (0, 1, 2)]
    one = 8 * 8 * 9 + 8 + 8 * 8 + 8  # a residual block of width 8
    assert np.diff(sizes).tolist() == [2 * one, 2 * one]


def test_both_levels_reach_the_picture():
    torch.manual_seed(0)
    model = TwoLevelVQVAE(3, 8, 6, 2, (VectorQuantizer(1, 6), ready(6))).eval()
    x, seen = torch.rand(2, 3, 16, 16, generator=gen()), []
    model.join.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    before = model(x)[0]
    # What the fine encoder sees of the coarse level is a single code, so the same for both images.
    torch.testing.assert_close(*seen[0][:, 8:])
    for level in (model.fine, model.coarse):
        with torch.no_grad():
            level.codebook += 1
            assert not torch.allclose(model(x)[0], before)
            level.codebook -= 1


def test_two_levels_train_all_that_they_have():
    torch.manual_seed(0)
    model = TwoLevelVQVAE(3, 8, 6, 4, (ready(6), ready(6)))
    x = torch.rand(2, 3, 16, 24, generator=gen())
    y, (coarse, fine) = model(x)
    assert y.shape == x.shape
    assert coarse.indices.shape == (2, 2, 3)
    assert fine.indices.shape == (2, 4, 6)
    (mse_loss(y, x) + coarse.loss + fine.loss).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_gradient_of_half_the_contrast_is_half_of_it_in_the_same_direction():
    x = torch.rand(2, 3, 12, 12, generator=gen()) * 2 - 1
    assert gradient_agreement(x, x) == pytest.approx((1, 1))
    assert gradient_agreement(x, x / 2 + 0.1) == pytest.approx((0.5, 1))
    assert gradient_agreement(x, -x) == pytest.approx((-1, -1))
    assert gradient_agreement(x, torch.full_like(x, 0.3)) == (0, 0)
    edge = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 3.0]])[
        None, None
    ]  # by hand: its gradient is 3 in two places
    other = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 3.0]])[None, None]  # 1, 2 and 3 across, −1 down
    assert gradient_agreement(edge, other) == pytest.approx((15 / 18, 15 / (18 * 15) ** 0.5))


def test_image_quality_is_scikit_image_s():
    x = torch.rand(3, 3, 20, 24, generator=gen()) * 2 - 1
    y = x + 0.2 * randn(3, 3, 20, 24, dtype=torch.float32)
    psnr, ssim = image_quality(x, y)
    paper = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i in range(3):
        a, b = ((v[i].clamp(-1, 1).double().numpy() + 1) / 2 for v in (x, y))
        assert psnr[i] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0))
        assert ssim[i] == pytest.approx(structural_similarity(a, b, channel_axis=0, **paper))
    assert np.isinf(image_quality(x, x)[0]).all()
    assert image_quality(x, x)[1] == pytest.approx(1)
    flat = torch.zeros(1, 1, 16, 16)
    assert image_quality(flat, flat + 0.2)[0] == pytest.approx(20)  # an error of 0.1 in [0, 1]


test_bad_input_is_named = refuses([
    (lambda: VQVAE(3, 8, 4, 4, downsample=3), ValueError, "downsample must be a power of 2, got 3"),
    (lambda: VQVAE(3, 8, 4, 4, downsample=1), ValueError, "downsample must be at least 2, got 1"),
    (lambda: VQVAE(3, 8, 4, 4, num_residual_blocks=-1), ValueError, "num_residual_blocks must be at least 0, got -1"),
    (lambda: VQVAE(3, 8, 4, 4, quantizer=VectorQuantizer(5, 4)), ValueError, "quantizer must have num_codes = 4 and dim = 4, got 5 and 4"),
    (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(1, 1, 8, 8)), ValueError, r"x must have shape \(batch, 3, height, width\), got \(1, 1, 8, 8\)"),
    (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(1, 3, 8, 10)), ValueError, "x must have a height and width that divide by the total downsample, 4, got 8 × 10"),
    (lambda: VQVAE(3, 8, 4, 4)(torch.full((1, 3, 8, 8), NAN)), ValueError, "x must be finite, got nan"),
    (lambda: VQVAE(3, 8, 4, 4).decode_codes(GRID + 4), ValueError, "indices must lie in 0 … 3, got 4"),
    (lambda: VQVAE(3, 8, 4, 4, quantizer=torch.nn.Identity()), TypeError, "quantizer must be a VectorQuantizer or .*, got Identity"),
    (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4), VectorQuantizer(5, 3))), ValueError, r"quantizers must have dim = 4, got \[4, 3\]"),
    (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4), VectorQuantizer(5, 4)))(torch.zeros(1, 3, 12, 16)), ValueError, "x must have a height and width that divide by the total downsample, 8, got 12 × 16"),
    (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4),) * 2), ValueError, "quantizers must be two different ones"),
    (lambda: gradient_agreement(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), ValueError, "x must have a gradient, got images of one colour"),
    (lambda: gradient_agreement(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9)), ValueError, r"x must be images of at least 1 × 1 pixels, in the shape of y, \(1, 3, 8, 9\)"),
    (lambda: image_quality(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), ValueError, "x must be images of at least 11 × 11 pixels"),
    (lambda: image_quality(torch.zeros(1, 3, 16, 16) + 255, torch.zeros(1, 3, 16, 16)), ValueError, r"x must lie in \[−1, 1\], got 255"),
    (lambda: image_quality(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)), ValueError, r"x .*got \(3, 16, 16\)"),
])  # fmt: skip
