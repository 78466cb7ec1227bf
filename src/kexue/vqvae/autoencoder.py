"""The autoencoder whose code is a grid of integers, with one grid or two, and how good its images are."""

import math

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import embedding

from kexue.nn import checks
from kexue.vqvae.quantizers import FiniteScalarQuantizer, Quantized, VectorQuantizer, check_finite, check_size


class _Residual(nn.Module):
    """x + conv₁ₓ₁(relu(conv₃ₓ₃(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _encoder(channels: int, width: int, dim: int, downsample: int, blocks: int) -> nn.Sequential:
    """Convolutions with stride 2, `downsample` times smaller in the end, residual blocks, `dim` channels."""
    layers: list[nn.Module] = []
    for i in range(downsample.bit_length() - 1):
        layers += [nn.Conv2d(width if i else channels, width, 4, stride=2, padding=1), nn.ReLU()]
    layers = layers[:-1]  # each residual block begins with a ReLU
    return nn.Sequential(
        *layers, *(_Residual(width) for _ in range(blocks)), nn.ReLU(), nn.Conv2d(width, dim, 1)
    )


def _decoder(channels: int, width: int, dim: int, downsample: int, blocks: int) -> nn.Sequential:
    """The encoder's mirror."""
    layers: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1)]
    layers += [_Residual(width) for _ in range(blocks)]
    for left in reversed(range(downsample.bit_length() - 1)):
        out = width if left else channels
        layers += [nn.ReLU(), nn.ConvTranspose2d(width, out, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _check_sizes(downsample: int, num_residual_blocks: int, **sizes: int) -> None:
    for name, value in sizes.items():
        checks.count(name, value, 1)
    checks.count("num_residual_blocks", num_residual_blocks, 0)
    checks.count("downsample", downsample, 2)
    if downsample & (downsample - 1):
        raise ValueError(f"downsample must be a power of 2, got {downsample}")


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


class VQVAE(nn.Module):
    """An autoencoder with a grid of discrete codes (vqvae.eq5, vqvae.eq6).

    The encoder halves the image by 4×4 convolutions of stride 2 and goes through residual blocks; the
    decoder is its mirror. Two things of the article's script are left out: batch norm, so that a result does
    not depend on what else is in a batch, and the decoder's tanh, behind which a network that once says
    "all black" cannot be trained any more. Images in [−1, 1] suit the initial weights.

    Args:
        channels: of the images.
        hidden_size: channels of the convolutions between.
        num_codes: K.
        dim: of a code's vector.
        downsample: how many times smaller, in height and in width, the grid is than the image; a power of 2.
        num_residual_blocks: of the encoder, and of the decoder.
        quantizer: what stands between them, with `dim` and `num_codes` of its own; a
            `VectorQuantizer(num_codes, dim)` with its default settings if None.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument that is not positive, a downsample that is no power of 2, or a quantizer
            with other num_codes or dim than given.
    """

    def __init__(
        self,
        channels: int = 3,
        hidden_size: int = 128,
        num_codes: int = 64,
        dim: int = 128,
        downsample: int = 4,
        num_residual_blocks: int = 3,
        quantizer: VectorQuantizer | FiniteScalarQuantizer | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(
            downsample,
            num_residual_blocks,
            channels=channels,
            hidden_size=hidden_size,
            num_codes=num_codes,
            dim=dim,
        )
        self.channels, self.downsample = channels, downsample
        self.quantizer = VectorQuantizer(num_codes, dim) if quantizer is None else quantizer
        kinds, what = VectorQuantizer | FiniteScalarQuantizer, "a VectorQuantizer or a FiniteScalarQuantizer"
        checks.instance("quantizer", self.quantizer, kinds, what)
        if (self.quantizer.num_codes, self.quantizer.dim) != (num_codes, dim):
            raise ValueError(
                f"quantizer must have num_codes = {num_codes} and dim = {dim}, "
                f"got {self.quantizer.num_codes} and {self.quantizer.dim}"
            )
        shape = (channels, hidden_size, dim, downsample, num_residual_blocks)
        self.encoder, self.decoder = _encoder(*shape), _decoder(*shape)

    def encode(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """The vectors z, not yet quantised. Raises ValueError for images of a size that does not fit."""
        _check_images(x, self.channels, self.downsample, self.encoder)
        return channels_last(self.encoder(x))

    def decode(
        self, z: Float[Tensor, "batch rows columns dim"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Images from vectors, quantised or not.

        Raises TypeError for another dtype than the weights', ValueError for another shape.
        """
        checks.floating("z", z)
        checks.like_weights("z", z, next(self.decoder.parameters()))
        if z.ndim != 4 or z.shape[-1] != self.quantizer.dim or not z.numel():
            shape = tuple(z.shape)
            raise ValueError(f"z must have shape (batch, rows, columns, {self.quantizer.dim}), got {shape}")
        return self.decoder(channels_first(z.contiguous()))  # convolutions round as the memory's order has it

    def decode_codes(
        self, indices: Integer[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Images from codes. Raises ValueError for codes outside 0 … num_codes − 1."""
        check_codes("indices", indices, self.quantizer.num_codes)
        codebook = self.quantizer.codebook.to(next(self.decoder.parameters()).dtype)
        return self.decode(embedding(indices.long(), codebook))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], Quantized]:
        """Reconstructions, and what the quantiser gave: train on mse(reconstruction, x) + quantized.loss.

        Raises ValueError for images whose channels or size do not fit.
        """
        quantized = self.quantizer(self.encode(x), generator)
        return self.decode(quantized.quantized), quantized


class TwoLevelVQVAE(nn.Module):
    """Two grids of codes, a coarse one and a fine one that knows the coarse.

    The coarse grid is half as high and wide as the fine one (after VQ-VAE-2, Razavi et al. 2019).

    Args:
        channels, hidden_size, dim, num_residual_blocks: as for `VQVAE`.
        downsample: of the fine grid.
        quantizers: of the coarse and the fine grid, both of dimension dim.

    Raises TypeError or ValueError as `VQVAE` does.
    """

    def __init__(
        self,
        channels: int,
        hidden_size: int,
        dim: int,
        downsample: int,
        quantizers: tuple[VectorQuantizer, VectorQuantizer],
        num_residual_blocks: int = 3,
    ) -> None:
        super().__init__()
        _check_sizes(downsample, num_residual_blocks, channels=channels, hidden_size=hidden_size, dim=dim)
        if not isinstance(quantizers, tuple | list) or not all(
            isinstance(q, VectorQuantizer) for q in quantizers
        ):
            raise TypeError(f"quantizers must be VectorQuantizers, got {quantizers!r}")
        if len(quantizers) != 2 or quantizers[0] is quantizers[1]:
            raise ValueError(f"quantizers must be two different ones, got {quantizers!r}")
        if any(quantizer.dim != dim for quantizer in quantizers):
            raise ValueError(f"quantizers must have dim = {dim}, got {[q.dim for q in quantizers]}")
        self.channels, self.downsample = channels, downsample
        self.coarse, self.fine = quantizers
        width, blocks = hidden_size, num_residual_blocks
        self.encoder = _encoder(channels, width, width, downsample, blocks)
        self.coarse_encoder = _encoder(width, width, dim, 2, blocks)
        self.coarse_decoder = _decoder(width, width, dim, 2, 1)
        self.join = nn.Conv2d(2 * width, dim, 1)
        self.expand = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)
        self.decoder = _decoder(channels, width, 2 * dim, downsample, blocks)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], tuple[Quantized, Quantized]]:
        """Reconstructions, and what the two quantisers gave, the coarse one first.

        Raises ValueError for images whose channels or size do not fit.
        """
        _check_images(x, self.channels, 2 * self.downsample, self.encoder)
        features = self.encoder(x)
        coarse = self.coarse(channels_last(self.coarse_encoder(features)), generator)
        top = channels_first(coarse.quantized)
        joined = torch.cat((features, self.coarse_decoder(top)), 1)
        fine = self.fine(channels_last(self.join(joined)), generator)
        both = torch.cat((self.expand(top), channels_first(fine.quantized)), 1)
        return self.decoder(both), (coarse, fine)


def image_quality(
    x: Float[Tensor, "batch channels height width"], y: Float[Tensor, "batch channels height width"]
) -> tuple[Float[np.ndarray, " batch"], Float[np.ndarray, " batch"]]:
    """PSNR in decibels and SSIM of reconstructions y of images x in [−1, 1], for each image.

    PSNR = −10·log₁₀ of the mean squared error, for a range of pixels of 1. SSIM as in its paper (Wang et al.
    2004), with a Gaussian window, by scikit-image. y is clamped to [−1, 1] first, as a display would.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: images x smaller than 11 × 11, outside [−1, 1] or none at all; y of another shape, or not
            finite.
    """
    from skimage.metrics import structural_similarity  # scikit-image belongs to the extra "book"

    _check_pair(x, y, least=11)
    if x.abs().max() > 1:
        raise ValueError(f"x must lie in [−1, 1], got {float(x.flatten()[x.abs().argmax()]):g}")
    x, y = ((image.detach().double().cpu().clamp(-1, 1) + 1) / 2 for image in (x, y))
    psnr = -10 * (x - y).square().mean((1, 2, 3)).log10()
    options = {"channel_axis": 0, "gaussian_weights": True, "use_sample_covariance": False}
    ssim = [
        structural_similarity(a, b, data_range=1.0, **options)
        for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    return psnr.numpy(), np.array(ssim)


def gradient_agreement(
    x: Float[Tensor, "batch channels height width"], y: Float[Tensor, "batch channels height width"]
) -> tuple[float, float]:
    """How much of the gradient of images x is in their reconstructions y, and the cosine between the two.

    With ∇ the differences of neighbouring pixels, over all images together: ⟨∇x, ∇y⟩/‖∇x‖², which is 1 for
    y = x and 0 for an even grey, and ⟨∇x, ∇y⟩/(‖∇x‖·‖∇y‖), which more contrast does not raise (0 where y has
    no gradient).

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes that differ, values that are not finite, or images x without any gradient.
    """
    _check_pair(x, y)
    x, y = x.detach(), y.detach()
    both, in_x, in_y = (
        float(sum((u.diff(dim=d) * v.diff(dim=d)).double().sum() for d in (2, 3)))
        for u, v in ((x, y), (x, x), (y, y))
    )
    if not math.isfinite(in_x * in_y):
        raise ValueError(f"x and y must have gradients whose squares are finite, got sums {in_x} and {in_y}")
    if in_x == 0:
        raise ValueError("x must have a gradient, got images of one colour")
    return both / in_x, both / math.sqrt(in_x * in_y) if in_y else 0.0


def _check_pair(x: Tensor, y: Tensor, least: int = 1) -> None:
    """Raises unless x and y are finite images of one shape, at least so high and wide."""
    for name, value in (("x", x), ("y", y)):
        checks.floating(name, value)
        check_finite(name, value)
    if x.ndim != 4 or x.shape != y.shape or not x.numel() or min(x.shape[2:]) < least:
        raise ValueError(
            f"x must be images of at least {least} × {least} pixels, in the shape of y, {tuple(y.shape)}, "
            f"got {tuple(x.shape)}"
        )


def _check_images(x: Tensor, channels: int, downsample: int, encoder: nn.Module) -> None:
    checks.floating("x", x)
    checks.like_weights("x", x, next(encoder.parameters()))
    if x.ndim != 4 or x.shape[1] != channels or len(x) == 0:
        raise ValueError(f"x must have shape (batch, {channels}, height, width), got {tuple(x.shape)}")
    height, width = x.shape[2:]
    if height % downsample or width % downsample or not height * width:
        raise ValueError(
            f"x must have a height and width that divide by the total downsample, {downsample}, "
            f"got {height} × {width}"
        )
    check_size("x", x)


def check_codes(name: str, codes: Tensor, num_codes: int) -> None:
    checks.integers(name, codes)
    if codes.ndim != 3 or codes.numel() == 0:
        raise ValueError(f"{name} must have shape (batch, rows, columns), got {tuple(codes.shape)}")
    low, high = (int(value) for value in codes.aminmax())
    if low < 0 or high >= num_codes:
        raise ValueError(f"{name} must lie in 0 … {num_codes - 1}, got {low if low < 0 else high}")
