"""VQ-VAE: an autoencoder whose code is a grid of integers, and the autoregressive models of such grids.

Source: 苏剑林, 《VQ-VAE的简明介绍：量子化自编码器》, https://kexue.fm/archives/6760.
The ids in brackets (vqvae.eq10) are rows of the ledger.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

import math
import numbers
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.distributed
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import embedding, log_softmax, mse_loss, normalize, pad

from kexue import checks
from kexue.autograd import straight_through as straight_through
from kexue.transformer import Block, KeyValues, causal_mask

# --- Quantisers --------------------------------------------------------------------------------


class Quantized(NamedTuple):
    """What a quantiser gives."""

    quantized: Float[Tensor, "*batch dim"]
    """The codes' vectors, with a gradient for the input."""
    indices: Integer[Tensor, "*batch"]
    """The codes' numbers, from 0."""
    loss: Float[Tensor, ""]
    """What is to be added to the reconstruction's loss."""
    perplexity: Float[Tensor, ""]
    """How many codes this call uses, if evenly, e to the power of their entropy; from 1 to num_codes."""


_BLOCK = 2**22  # entries of the table of distances that exist at the same time


@torch.no_grad()
def nearest(
    z: Float[Tensor, "*batch dim"], codebook: Float[Tensor, "codes dim"]
) -> Integer[Tensor, "*batch"]:
    """The number of the nearest code, argminⱼ ‖z − eⱼ‖ (vqvae.eq4); the first of those that tie.

    ‖z − e‖² = ‖z‖² − 2z·e + ‖e‖², whose first term does not matter, so that a matrix product does it; in
    blocks of rows, in float32 at least, and around the codes' median, where less is lost to rounding.
    Distances that differ by less than that rounding may still be told wrongly.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: last dimensions that differ, no codes, or entries that are not finite.
    """
    checks.floating("z", z)
    checks.floating("codebook", codebook)
    if codebook.ndim != 2 or len(codebook) == 0 or z.ndim == 0 or z.shape[-1] != codebook.shape[1]:
        raise ValueError(
            f"z must have the codes' dimension last, got {tuple(z.shape)} for {tuple(codebook.shape)}"
        )
    flat = checks.working(z).reshape(-1, z.shape[-1])
    codes = checks.working(codebook).to(flat.dtype)
    # The median (sorted: deterministic on CUDA): of whole numbers it is one, so that ties remain ties.
    centre = codes.sort(0).values[(len(codes) - 1) // 2]
    codes = codes - centre
    half_square = codes.square().sum(1) / 2
    # Cheap, and finite in all but the cases that have to be looked at.
    if len(flat) and not torch.isfinite(half_square.sum() + flat.square().sum()):
        _check_finite("codebook", codebook)
        _check_finite("z", z)
        if flat.dtype == torch.float64:
            raise ValueError(f"z and codebook must have finite squares, got entries up to {z.abs().max():g}")
        return nearest(flat.double(), codebook.double()).view(z.shape[:-1])
    indices = flat.new_empty(len(flat), dtype=torch.long)
    rows = max(1, _BLOCK // len(codes))
    with torch.autocast(z.device.type, enabled=False):
        for start in range(0, len(flat), rows):
            score = torch.addmm(half_square, flat[start : start + rows] - centre, codes.T, alpha=-1)
            indices[start : start + rows] = score.argmin(1)
    return indices.view(z.shape[:-1])


def rotate_onto(
    q: Float[Tensor, "*batch dim"], z: Float[Tensor, "*batch dim"]
) -> Float[Tensor, "*batch dim"]:
    """The value of q, with the gradient of z rotated and stretched onto q (Fifty et al. 2024).

    q = λRz with λ = ‖q‖/‖z‖ and R the rotation from z's direction to q's in their plane, R = I − 2ssᵀ +
    2q̂ẑᵀ with s the normalised ẑ + q̂; backward, λ and R are constants. Where z or q is zero, or they point
    in opposite directions, no rotation is defined, and the gradient is the straight-through one; likewise
    where λ would be beyond 10¹².
    """
    x, target = checks.working(z), checks.working(q).detach()
    with torch.no_grad():
        size, length = (v.norm(dim=-1, keepdim=True) for v in (x, target))
        far = (size > 1e-12) & (length > 0) & (length < 1e12 * size)
        unit_z = torch.where(far, x, 1.0) / torch.where(far, size, 1.0)
        unit_q = torch.where(far, target, 1.0) / torch.where(far, length, 1.0)
        defined = far & ((unit_z + unit_q).norm(dim=-1, keepdim=True) > 1e-3)
        middle = normalize(unit_z + unit_q, dim=-1)
        scale = torch.where(defined, length, 1.0) / torch.where(defined, size, 1.0)
    along = x - 2 * middle * (middle * x).sum(-1, keepdim=True)
    turned = scale * (along + 2 * unit_q * (unit_z * x).sum(-1, keepdim=True))
    return straight_through(q, torch.where(defined, turned, x).to(q.dtype))


Estimator = Literal["straight_through", "rotation"]


class VectorQuantizer(nn.Module):
    """Replaces each vector by the nearest of `num_codes` learned ones (vqvae.eq3, vqvae.eq4).

    The loss is β‖sg[z] − e‖² + γ‖z − sg[e]‖², each a mean over all entries (vqvae.eq13): the first term
    moves the codes to the vectors, the second the vectors to the codes. With `ema_decay` the codes are not
    trained, but are moving averages of the vectors that choose them (vqvae.ema), and the first term is left
    out. In training mode, with size nⱼ and mean mⱼ of code j's vectors in the call, and d the decay,

        Nⱼ ← d·Nⱼ + (1 − d)·nⱼ,    eⱼ ← eⱼ + (1 − d)·nⱼ/Nⱼ · (mⱼ − eⱼ),

    which is a ratio of two moving averages, Σ of vectors over Σ of counts, without a division by zero:
    codes that nothing chooses stay where they are. The first call in training mode starts the codebook from
    its own vectors (`start`). On several processes the averages are over the vectors of all.

    Args:
        num_codes: K.
        dim: of a vector, the last axis of the input.
        beta: β, of the codes' loss; not negative.
        gamma: γ, of the vectors' (the paper's β, "commitment"); not negative.
        ema_decay: d in [0, 1), or None to train the codes by the loss.
        estimator: of the gradient; "straight_through", or "rotation" (see `rotate_onto`).
        restart_after: codes that nothing chose in that many calls in training mode are replaced by random
            vectors of the call; never, if None.

    Attributes:
        codebook: (num_codes, dim), a parameter, or a buffer with `ema_decay`.
        size: Nⱼ, (num_codes,), with `ema_decay`.
        idle: for how many calls in training mode nothing has chosen each code, (num_codes,).

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument outside its range.
    """

    size: Tensor
    idle: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        beta: float = 1.0,
        gamma: float = 0.25,
        ema_decay: float | None = None,
        estimator: Estimator = "straight_through",
        restart_after: int | None = None,
    ) -> None:
        super().__init__()
        checks.count("num_codes", num_codes, 1)
        checks.count("dim", dim, 1)
        for name, value in (("beta", beta), ("gamma", gamma)):
            if not isinstance(value, numbers.Real) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, got {type(value).__name__}")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number that is not negative, got {value!r}")
        if ema_decay is not None and not (isinstance(ema_decay, numbers.Real) and 0 <= ema_decay < 1):
            raise ValueError(f"ema_decay must be None or lie in [0, 1), got {ema_decay!r}")
        if estimator not in get_args(Estimator):
            raise ValueError(f"estimator must be one of {get_args(Estimator)}, got {estimator!r}")
        if restart_after is not None:
            checks.count("restart_after", restart_after, 1)
        self.num_codes, self.dim = num_codes, dim
        self.beta, self.gamma, self.ema_decay = beta, gamma, ema_decay
        self.estimator, self.restart_after = estimator, restart_after
        codes = torch.empty(num_codes, dim).uniform_(-1 / num_codes, 1 / num_codes)
        if ema_decay is None:
            self.codebook = nn.Parameter(codes)
        else:
            self.register_buffer("codebook", codes)
            self.register_buffer("size", torch.zeros(num_codes))
        self.register_buffer("idle", torch.zeros(num_codes, dtype=torch.long))

    def extra_repr(self) -> str:
        return (
            f"{self.num_codes}, {self.dim}, beta={self.beta}, gamma={self.gamma}, ema_decay={self.ema_decay}"
        )

    def forward(self, z: Float[Tensor, "*batch dim"], generator: torch.Generator | None = None) -> Quantized:
        """Quantise, and in training mode move the averages and restart idle codes.

        Args:
            z: any shape with the code dimension last, and at least one vector.
            generator: on the CPU, for what `start` and restarts choose; torch's global one if None.

        Raises:
            TypeError: z is not a floating-point tensor.
            ValueError: z empty, not finite, or with another last dimension than the codes.
        """
        checks.floating("z", z)
        checks.generator(generator)
        if z.ndim == 0 or z.shape[-1] != self.dim or z.numel() == 0:
            raise ValueError(f"z must have shape (..., {self.dim}) and hold vectors, got {tuple(z.shape)}")
        averaging = self.training and self.ema_decay is not None
        if averaging and self.codebook.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"codebook must be float32 or float64 to be averaged, got {self.codebook.dtype}: "
                "train under autocast instead"
            )
        if averaging and not self.size.any():
            _check_finite("z", z)
            self.start(z, generator)
        indices = nearest(z, self.codebook)
        chosen = embedding(indices, self.codebook).to(z.dtype)
        loss = self.gamma * mse_loss(z, chosen.detach())
        if self.ema_decay is None:
            loss = loss + self.beta * mse_loss(chosen, z.detach())
        estimate = straight_through if self.estimator == "straight_through" else rotate_onto
        quantized = estimate(chosen, z)
        counts = torch.bincount(indices.flatten(), minlength=self.num_codes)
        if self.training:
            if _distributed():
                torch.distributed.all_reduce(counts)
            self._update(z.detach().reshape(-1, self.dim), indices.flatten(), counts, generator)
        return Quantized(quantized, indices, loss, _perplexity(counts))

    @torch.no_grad()
    def start(self, z: Float[Tensor, "*batch dim"], generator: torch.Generator | None = None) -> None:
        """Set the codes to random vectors of z, none taken twice as long as there are enough."""
        self.codebook.copy_(_draw(z.detach().reshape(-1, self.dim), self.num_codes, generator))
        if self.ema_decay is not None:
            self.size.fill_(torch.finfo(self.size.dtype).tiny)  # started; the first mean counts in full

    @torch.no_grad()
    def _update(
        self, flat: Tensor, indices: Tensor, counts: Tensor, generator: torch.Generator | None
    ) -> None:
        if self.ema_decay is not None:
            sums = torch.zeros_like(self.codebook).index_add_(0, indices, flat.to(self.codebook.dtype))
            if _distributed():
                torch.distributed.all_reduce(sums)
            number = counts.to(self.size.dtype)
            self.size.lerp_(number, 1 - self.ema_decay)
            used = counts > 0
            step = (1 - self.ema_decay) * number[used] / self.size[used]
            means = sums[used] / number[used, None]
            self.codebook[used] = torch.lerp(self.codebook[used], means, step[:, None])
        self.idle += 1
        self.idle[counts > 0] = 0
        if self.restart_after is not None and (self.idle >= self.restart_after).any():
            stale = self.idle >= self.restart_after
            self.codebook[stale] = _draw(flat, int(stale.sum()), generator).to(self.codebook.dtype)
            self.idle[stale] = 0
            if self.ema_decay is not None:
                self.size[stale] = 0.0  # so that the next mean counts in full


def _draw(vectors: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Random vectors of all processes, without repetition as long as there are enough."""
    if _distributed():
        parts = [torch.empty_like(vectors) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, vectors.contiguous())
        vectors = torch.cat(parts)
    rounds = range(-(-count // len(vectors)))
    order = torch.cat([torch.randperm(len(vectors), generator=generator) for _ in rounds])
    chosen = vectors[order[:count].to(vectors.device)]
    if _distributed():
        torch.distributed.broadcast(chosen, 0)  # in case the processes' generators differ
    return chosen


class FiniteScalarQuantizer(nn.Module):
    """Rounds each of a few bounded numbers to a fixed grid, without a codebook (FSQ, Mentzer et al. 2023).

    With L levels, an entry z becomes round(h·tanh(z + s) − o)/⌊L/2⌋ with h = (L − 1)/2 (a little more than
    that, so that the outer levels are reached), o = ½ for even L and 0 for odd, and s such that 0 is mapped
    to 0; straight through. The number of codes is the product of the levels.

    Args:
        levels: of each entry, at least 2.

    Raises ValueError for no levels, or fewer than 2 of an entry.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(levels, list | tuple) or not levels:
            raise ValueError(f"levels must be a list of at least one number, got {levels!r}")
        for i, level in enumerate(levels):
            checks.count(f"levels[{i}]", level, 2)
        if math.prod(levels) > 2**24:
            raise ValueError(f"levels must have a product of at most 2²⁴, got {math.prod(levels)}")
        self.dim, self.num_codes = len(levels), math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def forward(self, z: Float[Tensor, "*batch dim"], generator: torch.Generator | None = None) -> Quantized:
        """Quantise; the loss is 0. `generator` is not used: nothing here is random.

        Raises:
            TypeError: z is not a floating-point tensor.
            ValueError: z empty, not finite, or with another last dimension than there are levels.
        """
        checks.floating("z", z)
        if z.ndim == 0 or z.shape[-1] != self.dim or z.numel() == 0:
            raise ValueError(f"z must have shape (..., {self.dim}) and hold vectors, got {tuple(z.shape)}")
        checks.generator(generator)
        _check_finite("z", z)
        x = checks.working(z)
        span = self.levels.to(x.dtype) - 1
        half = (span + (span * 1e-3).clamp(max=0.5)) / 2
        offset = (self.levels % 2 == 0) * 0.5
        bounded = (x + (offset / half).atanh()).tanh() * half - offset
        places = bounded.round()
        width = self.levels // 2
        indices = ((places.long() + width) * self.basis).sum(-1)
        quantized = straight_through(places / width, bounded / width).to(z.dtype)
        counts = torch.bincount(indices.flatten(), minlength=self.num_codes)
        return Quantized(quantized, indices, z.new_zeros(()), _perplexity(counts))

    @property
    def codebook(self) -> Float[Tensor, "codes dim"]:
        """The vectors of all codes."""
        number = torch.arange(self.num_codes, device=self.levels.device)
        places = number[:, None] // self.basis % self.levels - self.levels // 2
        return places / (self.levels // 2)


def _perplexity(counts: Integer[Tensor, " codes"]) -> Float[Tensor, ""]:
    share = counts / counts.sum()
    return torch.special.entr(share).sum().exp()


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _check_finite(name: str, value: Tensor) -> None:
    finite = torch.isfinite(value)
    if not finite.all():
        raise ValueError(f"{name} must be finite, got {value.detach()[~finite][0].item()}")


# --- The autoencoder ---------------------------------------------------------------------------


class _Residual(nn.Module):
    """x + conv₁ₓ₁(relu(conv₃ₓ₃(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _encoder(channels: int, hidden: int, dim: int, downsample: int, blocks: int) -> nn.Sequential:
    """Convolutions with stride 2, `downsample` times smaller in the end, residual blocks, width `dim`."""
    layers: list[nn.Module] = []
    for i in range(downsample.bit_length() - 1):
        layers += [nn.Conv2d(hidden if i else channels, hidden, 4, stride=2, padding=1), nn.ReLU()]
    layers = layers[:-1]  # each residual block begins with a ReLU
    return nn.Sequential(
        *layers, *(_Residual(hidden) for _ in range(blocks)), nn.ReLU(), nn.Conv2d(hidden, dim, 1)
    )


def _decoder(channels: int, hidden: int, dim: int, downsample: int, blocks: int) -> nn.Sequential:
    """The encoder's mirror."""
    layers: list[nn.Module] = [
        nn.Conv2d(dim, hidden, 3, padding=1),
        *(_Residual(hidden) for _ in range(blocks)),
    ]
    steps = downsample.bit_length() - 1
    for i in range(steps):
        out = hidden if i < steps - 1 else channels
        layers += [nn.ReLU(), nn.ConvTranspose2d(hidden, out, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _check_downsample(downsample: int) -> None:
    checks.count("downsample", downsample, 2)
    if downsample & (downsample - 1):
        raise ValueError(f"downsample must be a power of 2, got {downsample}")


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


class VQVAE(nn.Module):
    """An autoencoder with a grid of discrete codes (vqvae.eq5, vqvae.eq6).

    The encoder halves the image by 4×4 convolutions of stride 2 and goes through residual blocks; the
    decoder is its mirror. Two things of the article's script are left out: batch norm, so that a result does
    not depend on what else is in a batch, and the decoder's tanh, behind which a network that once says
    "all black" cannot be trained any more. Images in [−1, 1] suit the initial weights.

    Args:
        channels: of the images.
        hidden: width of the convolutions.
        num_codes: K.
        dim: of a code's vector.
        downsample: how many times smaller, in height and in width, the grid is than the image; a power of 2.
        blocks: residual blocks of the encoder, and of the decoder.
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
        hidden: int = 128,
        num_codes: int = 64,
        dim: int = 128,
        downsample: int = 4,
        blocks: int = 3,
        quantizer: VectorQuantizer | FiniteScalarQuantizer | None = None,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "hidden": hidden, "num_codes": num_codes, "dim": dim}
        for name, value in sizes.items():
            checks.count(name, value, 1)
        checks.count("blocks", blocks, 0)
        _check_downsample(downsample)
        self.channels, self.downsample = channels, downsample
        self.quantizer = VectorQuantizer(num_codes, dim) if quantizer is None else quantizer
        if not isinstance(self.quantizer, VectorQuantizer | FiniteScalarQuantizer):
            raise TypeError(
                "quantizer must be a VectorQuantizer or a FiniteScalarQuantizer, "
                f"got {type(quantizer).__name__}"
            )
        if (self.quantizer.num_codes, self.quantizer.dim) != (num_codes, dim):
            raise ValueError(
                f"quantizer must have num_codes = {num_codes} and dim = {dim}, "
                f"got {self.quantizer.num_codes} and {self.quantizer.dim}"
            )
        self.encoder = _encoder(channels, hidden, dim, downsample, blocks)
        self.decoder = _decoder(channels, hidden, dim, downsample, blocks)

    def encode(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """The vectors z, not yet quantised. Raises ValueError for images of a size that does not fit."""
        _check_images(x, self.channels, self.downsample)
        return _last(self.encoder(x))

    def decode(
        self, z: Float[Tensor, "batch rows columns dim"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Images from vectors, quantised or not."""
        return self.decoder(_first(z.contiguous()))  # convolutions round as the memory's order has it

    def decode_codes(
        self, indices: Integer[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Images from codes. Raises ValueError for codes outside 0 … num_codes − 1."""
        _check_codes("indices", indices, self.quantizer.num_codes)
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
    """Two grids of codes, a coarse one and a fine one that knows the coarse (after VQ-VAE-2, Razavi et al.
    2019).

    The coarse grid is half as high and wide as the fine one.

    Args:
        channels, hidden, dim, blocks: as for `VQVAE`.
        downsample: of the fine grid.
        quantizers: of the coarse and the fine grid, both of dimension dim.

    Raises TypeError or ValueError as `VQVAE` does.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        dim: int,
        downsample: int,
        quantizers: tuple[VectorQuantizer, VectorQuantizer],
        blocks: int = 3,
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "hidden": hidden, "dim": dim}.items():
            checks.count(name, value, 1)
        checks.count("blocks", blocks, 0)
        _check_downsample(downsample)
        if len(quantizers) != 2 or quantizers[0] is quantizers[1]:
            raise ValueError(f"quantizers must be two different ones, got {quantizers!r}")
        for quantizer in quantizers:
            if not isinstance(quantizer, VectorQuantizer):
                raise TypeError(f"quantizers must be VectorQuantizers, got {type(quantizer).__name__}")
            if quantizer.dim != dim:
                raise ValueError(f"quantizers must have dim = {dim}, got {quantizer.dim}")
        self.channels, self.downsample = channels, downsample
        self.coarse, self.fine = quantizers
        self.encoder = _encoder(channels, hidden, hidden, downsample, blocks)
        self.coarse_encoder = _encoder(hidden, hidden, dim, 2, blocks)
        self.coarse_decoder = _decoder(hidden, hidden, dim, 2, 1)
        self.join = nn.Conv2d(2 * hidden, dim, 1)
        self.expand = nn.ConvTranspose2d(dim, dim, 4, stride=2, padding=1)
        self.decoder = _decoder(channels, hidden, 2 * dim, downsample, blocks)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "batch channels height width"], tuple[Quantized, Quantized]]:
        """Reconstructions, and what the two quantisers gave, the coarse one first.

        Raises ValueError for images whose channels or size do not fit.
        """
        _check_images(x, self.channels, 2 * self.downsample)
        features = self.encoder(x)
        coarse = self.coarse(_last(self.coarse_encoder(features)), generator)
        top = _first(coarse.quantized)
        joined = torch.cat((features, self.coarse_decoder(top)), 1)
        fine = self.fine(_last(self.join(joined)), generator)
        both = torch.cat((self.expand(top), _first(fine.quantized)), 1)
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

    for name, value in (("x", x), ("y", y)):
        checks.floating(name, value)
        _check_finite(name, value)
    if x.ndim != 4 or x.shape != y.shape or not len(x) or min(x.shape[2:]) < 11:
        raise ValueError(
            f"x must be images of at least 11 × 11 pixels, in the shape of y, {tuple(y.shape)}, "
            f"got {tuple(x.shape)}"
        )
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
    for name, value in (("x", x), ("y", y)):
        checks.floating(name, value)
        _check_finite(name, value)
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError(f"x must be images in the shape of y, {tuple(y.shape)}, got {tuple(x.shape)}")
    both, in_x, in_y = (
        float(sum((u.diff(dim=d) * v.diff(dim=d)).double().sum() for d in (2, 3)))
        for u, v in ((x, y), (x, x), (y, y))
    )
    if in_x == 0:
        raise ValueError("x must have a gradient, got images of one colour")
    return both / in_x, both / math.sqrt(in_x * in_y) if in_y else 0.0


def _check_images(x: Tensor, channels: int, downsample: int) -> None:
    checks.floating("x", x)
    if x.ndim != 4 or x.shape[1] != channels or len(x) == 0:
        raise ValueError(f"x must have shape (batch, {channels}, height, width), got {tuple(x.shape)}")
    height, width = x.shape[2:]
    if height % downsample or width % downsample or not height * width:
        raise ValueError(
            f"x must have a height and width that divide by the total downsample, {downsample}, "
            f"got {height} × {width}"
        )
    _check_finite("x", x)


def _check_codes(name: str, codes: Tensor, num_codes: int) -> None:
    checks.tensor(name, codes)
    if codes.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"{name} must be integers, got {codes.dtype}")
    if codes.ndim != 3 or codes.numel() == 0:
        raise ValueError(f"{name} must have shape (batch, rows, columns), got {tuple(codes.shape)}")
    low, high = (int(value) for value in codes.aminmax())
    if low < 0 or high >= num_codes:
        raise ValueError(f"{name} must lie in 0 … {num_codes - 1}, got {low if low < 0 else high}")


# --- Autoregressive models of a grid of codes --------------------------------------------------

Order = Literal["raster", "reversed", "centre_out"]
ORDERS: tuple[Order, ...] = get_args(Order)


def generation_order(order: Order, rows: int, columns: int) -> Integer[Tensor, " length"]:
    """The places of a grid, numbered row by row, in the order in which they are generated.

    "raster": row by row; "reversed": the same from the end; "centre_out": by the distance from the centre,
    those at the same distance row by row.

    Raises ValueError for another order.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    checks.count("rows", rows, 1)
    checks.count("columns", columns, 1)
    places = torch.arange(rows * columns)
    if order == "raster":
        return places
    if order == "reversed":
        return places.flip(0)
    across = 2 * (places // columns) - (rows - 1)
    along = 2 * (places % columns) - (columns - 1)
    return (across**2 + along**2).argsort(stable=True)


class PixelAttention(nn.Module):
    """Causal attention over a grid of codes, one code after the other (vqvae.eq1, vqvae.claim5).

    The article's PixelAtt: embeddings of code, row and column are summed and go through Transformer blocks.
    Here the code is the one before in the order of generation, row and column are those of the code to
    predict.

    Args:
        num_codes: K.
        grid: rows and columns.
        width: of the vectors.
        heads: of the attention, a divisor of width.
        blocks: how many.
        order: of generation; see `generation_order`.
        dropout: in training.

    Raises ValueError for an argument outside its range.
    """

    order: Tensor
    mask: Tensor

    def __init__(
        self,
        num_codes: int,
        grid: tuple[int, int],
        width: int = 256,
        heads: int = 8,
        blocks: int = 4,
        order: Order = "raster",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(grid, Sequence) or len(grid) != 2:
            raise ValueError(f"grid must be two numbers, rows and columns, got {grid!r}")
        rows, columns = grid
        named = {"num_codes": num_codes, "grid[0]": rows, "grid[1]": columns, "blocks": blocks}
        for name, value in named.items():
            checks.count(name, value, 1)
        self.num_codes, self.grid = num_codes, (rows, columns)
        self.register_buffer("order", generation_order(order, rows, columns), persistent=False)
        self.register_buffer("mask", causal_mask(rows * columns), persistent=False)
        self.code = nn.Embedding(num_codes + 1, width)  # and one for the start
        self.row, self.column = nn.Embedding(rows, width), nn.Embedding(columns, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, num_codes)
        for table in (self.code, self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, codes: Integer[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch rows columns codes"]:
        """Logits of each code, given those before it in the order of generation.

        Raises ValueError for codes of another grid, or outside 0 … num_codes − 1.
        """
        _check_codes("codes", codes, self.num_codes)
        if codes.shape[1:] != self.grid:
            raise ValueError(
                f"codes must have shape (batch, {self.grid[0]}, {self.grid[1]}), got {tuple(codes.shape)}"
            )
        before = codes.long().flatten(1)[:, self.order].roll(1, 1)
        before[:, 0] = self.num_codes
        logits, _ = self._logits(before, self.order, self.mask)
        return logits[:, self.order.argsort()].unflatten(1, self.grid)

    def log_prob(self, codes: Integer[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
        """log p(codes) of each image, in nats. Raises as `forward` does."""
        return _log_prob(self(codes), codes)

    @torch.no_grad()
    def sample(
        self, shape: tuple[int, int, int], generator: torch.Generator | None = None
    ) -> Integer[Tensor, "batch rows columns"]:
        """Codes drawn from the model, (batch, rows, columns); each step reuses the keys and values before
        it.

        Args:
            shape: how many, and the rows and columns of this model.
            generator: of random numbers, on the model's device; torch's global one if None.

        Raises ValueError for another grid than the model's, or a negative batch.
        """
        _check_shape(shape, generator)
        if tuple(shape[1:]) != self.grid:
            raise ValueError(f"shape must be (batch, {self.grid[0]}, {self.grid[1]}), got {tuple(shape)}")
        codes = self.order.new_zeros(shape).flatten(1)
        last = codes.new_full((shape[0], 1), self.num_codes)
        past: list[KeyValues] | None = None
        for place in self.order.tolist():
            logits, past = self._logits(last, self.order.new_tensor([place]), None, past)
            last = _choose(logits[:, 0], generator)
            codes[:, place] = last[:, 0]
        return codes.unflatten(1, self.grid)

    def _logits(
        self, before: Tensor, places: Tensor, mask: Tensor | None, past: list[KeyValues] | None = None
    ) -> tuple[Tensor, list[KeyValues]]:
        columns = self.grid[1]
        x = self.code(before) + self.row(places // columns) + self.column(places % columns)
        kept = []
        for i, block in enumerate(self.blocks):
            x, here = block(x, mask, past=past[i] if past else None)
            kept.append(here)
        return self.out(self.norm(x)), kept


class _GatedLayer(nn.Module):
    """A layer of the gated PixelCNN: the vertical stack sees whole rows, the horizontal one its row."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.reach, self.side = kernel // 2 + 1, kernel // 2
        self.vertical = nn.Conv2d(width, 2 * width, (self.reach, kernel))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, self.reach))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.vertical(pad(above, (self.side, self.side, self.reach - 1, 0)))
        here = self.horizontal(pad(left, (self.reach - 1, 0, 0, 0))) + self.across(seen)
        return above + self.dropout(_gate(seen)), left + self.dropout(self.out(_gate(here)))


def _gate(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, 1)
    return value.tanh() * gate.sigmoid()


class PixelCNN(nn.Module):
    """A convolutional model of a grid of codes, row by row (the gated PixelCNN of van den Oord et al.
    2016).

    Two stacks, so that there is no blind spot: one sees the rows above, the other the row to the left and the
    first. With layers·(kernel//2) ≥ the grid's size every code before in raster order is within reach.

    Args:
        num_codes: K.
        width: channels.
        layers: how many.
        kernel: odd; a layer looks back kernel//2 places.
        dropout: in training.

    Raises ValueError for an argument outside its range.
    """

    def __init__(
        self, num_codes: int, width: int = 128, layers: int = 8, kernel: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        for name, value in {
            "num_codes": num_codes,
            "width": width,
            "layers": layers,
            "kernel": kernel,
        }.items():
            checks.count(name, value, 1)
        if kernel % 2 == 0 or kernel < 3:
            raise ValueError(f"kernel must be odd and at least 3, got {kernel}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.num_codes = num_codes
        self.code = nn.Embedding(num_codes, width)
        self.layers = nn.ModuleList(_GatedLayer(width, kernel, dropout) for _ in range(layers))
        self.out = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, num_codes, 1)
        )

    def forward(
        self, codes: Integer[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch rows columns codes"]:
        """Logits of each code, given those before. Raises ValueError for codes outside 0 … num_codes − 1."""
        _check_codes("codes", codes, self.num_codes)
        x = _first(self.code(codes.long()))
        # Shifted once, by a row and by a column; after that each layer may look at its own place.
        above, left = pad(x, (0, 0, 1, -1)), pad(x, (1, -1, 0, 0))
        for layer in self.layers:
            above, left = layer(above, left)
        return _last(self.out(left))

    def log_prob(self, codes: Integer[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
        """log p(codes) of each image, in nats. Raises as `forward` does."""
        return _log_prob(self(codes), codes)

    @torch.no_grad()
    def sample(
        self, shape: tuple[int, int, int], generator: torch.Generator | None = None
    ) -> Integer[Tensor, "batch rows columns"]:
        """Codes drawn from the model, (batch, rows, columns); each step runs the network on the rows so
        far.

        Args:
            shape: how many, and the rows and columns.
            generator: of random numbers, on the model's device; torch's global one if None.

        Raises ValueError for a shape that is not three numbers, or not positive.
        """
        _check_shape(shape, generator)
        codes = self.code.weight.new_zeros(shape, dtype=torch.long)
        for row in range(shape[1]):
            for column in range(shape[2]):
                logits = self(codes[:, : row + 1])[:, row, column]
                codes[:, row, column] = _choose(logits, generator)[:, 0]
        return codes


def _log_prob(logits: Tensor, codes: Tensor) -> Tensor:
    # In float32 at least, also under autocast.
    chosen = log_softmax(checks.working(logits), -1).gather(-1, codes.long().unsqueeze(-1))
    return chosen.flatten(1).sum(1)


def _choose(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.multinomial(checks.working(logits).softmax(-1), 1, generator=generator)


def _check_shape(shape: tuple[int, int, int], generator: object) -> None:
    checks.generator(generator)
    if not isinstance(shape, Sequence) or len(shape) != 3:
        raise ValueError(f"shape must be three numbers, got {shape!r}")
    for name, value in zip(("batch", "rows", "columns"), shape, strict=True):
        checks.count(f"shape's {name}", value, 1)
