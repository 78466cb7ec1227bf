"""Quantisers: vectors replaced by the nearest of a codebook, or rounded number by number.

What the autoencoders read of one: `dim` and `num_codes`; `codebook`, (num_codes, dim), with the vector of
each index in its row; and a call with vectors, (..., dim), and a generator, which gives `Quantized`.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.distributed
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import embedding, mse_loss, normalize

from kexue.nn import checks
from kexue.nn.autograd import straight_through


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
    if codebook.ndim != 2 or not codebook.numel() or z.ndim == 0 or z.shape[-1] != codebook.shape[1]:
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
        check_finite("codebook", codebook)
        check_finite("z", z)
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

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes that differ, or entries whose squares are not finite.
    """
    checks.floating("q", q)
    checks.floating("z", z)
    if q.ndim == 0 or q.shape != z.shape:
        raise ValueError(f"q must have z's shape, {tuple(z.shape)}, got {tuple(q.shape)}")
    check_size("q", q)
    check_size("z", z)
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
            checks.number(name, value)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number that is not negative, got {value!r}")
        if ema_decay is not None:
            checks.rate("ema_decay", ema_decay)
        checks.choice("estimator", estimator, get_args(Estimator))
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
            ValueError: z empty, with another last dimension than the codes, or with entries that are not
                finite or so large that their squares are not.
        """
        _check_vectors(z, self.dim, generator)
        check_size("z", z)
        averaging = self.training and self.ema_decay is not None
        if averaging and self.codebook.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"codebook must be float32 or float64 to be averaged, got {self.codebook.dtype}: "
                "train under autocast instead"
            )
        if averaging and not self.size.any():
            self.start(z, generator)
        indices = nearest(z, self.codebook)
        chosen = embedding(indices, self.codebook).to(z.dtype)
        exact, code = checks.working(z), checks.working(chosen)  # half precision cannot hold their squares
        loss = self.gamma * mse_loss(exact, code.detach())
        if self.ema_decay is None:
            loss = loss + self.beta * mse_loss(code, exact.detach())
        estimate = straight_through if self.estimator == "straight_through" else rotate_onto
        quantized = estimate(chosen, z)
        counts = _counts(indices, self.num_codes, self.training)
        if self.training:
            self._update(z.detach().reshape(-1, self.dim), indices.flatten(), counts, generator)
        return Quantized(quantized, indices, loss, _perplexity(counts))

    @torch.no_grad()
    def start(self, z: Float[Tensor, "*batch dim"], generator: torch.Generator | None = None) -> None:
        """Set the codes to random vectors of z, none taken twice as long as there are enough.

        Raises as `forward` does.
        """
        _check_vectors(z, self.dim, generator)
        check_size("z", z)
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
        _check_vectors(z, self.dim, generator)
        check_finite("z", z)
        x = checks.working(z)
        span = self.levels.to(x.dtype) - 1
        half = (span + (span * 1e-3).clamp(max=0.5)) / 2
        offset = (self.levels % 2 == 0) * 0.5
        bounded = (x + (offset / half).atanh()).tanh() * half - offset
        width = self.levels // 2
        # Beyond 2²² levels, rounding of tanh may reach the next one.
        places = bounded.round().clamp(-width, self.levels - 1 - width)
        indices = ((places.long() + width) * self.basis).sum(-1)
        quantized = straight_through(places / width, bounded / width).to(z.dtype)
        counts = _counts(indices, self.num_codes, self.training)
        return Quantized(quantized, indices, z.new_zeros(()), _perplexity(counts))

    @property
    def codebook(self) -> Float[Tensor, "codes dim"]:
        """The vectors of all codes."""
        number = torch.arange(self.num_codes, device=self.levels.device)
        places = number[:, None] // self.basis % self.levels - self.levels // 2
        return places / (self.levels // 2)


def _counts(indices: Tensor, num_codes: int, training: bool) -> Integer[Tensor, " codes"]:
    """How many vectors chose each code; in training those of all processes."""
    counts = torch.bincount(indices.flatten(), minlength=num_codes)
    if training and _distributed():
        torch.distributed.all_reduce(counts)
    return counts


def _perplexity(counts: Integer[Tensor, " codes"]) -> Float[Tensor, ""]:
    share = counts / counts.sum()
    return torch.special.entr(share).sum().exp()


def _check_vectors(z: Tensor, dim: int, generator: object) -> None:
    checks.floating("z", z)
    if z.ndim == 0 or z.shape[-1] != dim or z.numel() == 0:
        raise ValueError(f"z must have shape (..., {dim}) and hold vectors, got {tuple(z.shape)}")
    checks.generator(generator)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def check_size(name: str, value: Tensor) -> None:
    """Raises ValueError for entries that are not finite, or so large that the sum of their squares is not."""
    if not torch.isfinite(checks.working(value.detach()).square().sum()):
        check_finite(name, value)
        raise ValueError(
            f"{name} must have a sum of squares that is finite in {checks.working(value).dtype}, "
            f"got entries up to {float(value.detach().abs().max()):.3g}"
        )


def check_finite(name: str, value: Tensor) -> None:
    finite = torch.isfinite(value)
    if not finite.all():
        raise ValueError(f"{name} must be finite, got {value.detach()[~finite][0].item()}")
