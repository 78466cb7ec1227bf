"""Autoregressive models of a grid of codes: attention and gated convolutions."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import log_softmax, pad

from kexue.nn import checks
from kexue.nn.attention import Block, KeyValues, causal_mask
from kexue.vqvae.autoencoder import channels_first, channels_last, check_codes

Order = Literal["raster", "reversed", "centre_out"]
ORDERS: tuple[Order, ...] = get_args(Order)


def generation_order(order: Order, rows: int, columns: int) -> Integer[Tensor, " length"]:
    """The places of a grid, numbered row by row, in the order in which they are generated.

    "raster": row by row; "reversed": the same from the end; "centre_out": by the distance from the centre,
    those at the same distance row by row.

    Raises ValueError for another order.
    """
    checks.choice("order", order, ORDERS)
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


class _Autoregressive(nn.Module):
    """What gives logits of each code of a grid, given those before it."""

    def log_prob(self, codes: Integer[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
        """log p(codes) of each image, in nats, in float32 at least. Raises as `forward` does."""
        logits = checks.working(self(codes))
        return log_softmax(logits, -1).gather(-1, codes.long().unsqueeze(-1)).flatten(1).sum(1)


class PixelAttention(_Autoregressive):
    """Causal attention over a grid of codes, one code after the other (vqvae.eq1, vqvae.claim5).

    The article's PixelAtt: embeddings of code, row and column are summed and go through Transformer blocks.
    Here the code is the one before in the order of generation, row and column are those of the code to
    predict.

    Args:
        num_codes: K.
        grid: rows and columns.
        hidden_size: of the vectors.
        num_heads: of the attention, a divisor of hidden_size.
        num_layers: Transformer blocks.
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
        hidden_size: int = 256,
        num_heads: int = 8,
        num_layers: int = 4,
        order: Order = "raster",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(grid, Sequence) or len(grid) != 2:
            raise ValueError(f"grid must be two numbers, rows and columns, got {grid!r}")
        rows, columns = grid
        named = {"num_codes": num_codes, "grid[0]": rows, "grid[1]": columns}
        named |= {"hidden_size": hidden_size, "num_heads": num_heads, "num_layers": num_layers}
        for name, value in named.items():
            checks.count(name, value, 1)
        self.num_codes, self.grid = num_codes, (rows, columns)
        self.register_buffer("order", generation_order(order, rows, columns), persistent=False)
        self.register_buffer("mask", causal_mask(rows * columns), persistent=False)
        self.code = nn.Embedding(num_codes + 1, hidden_size)  # and one for the start
        self.row, self.column = nn.Embedding(rows, hidden_size), nn.Embedding(columns, hidden_size)
        self.blocks = nn.ModuleList(Block(hidden_size, num_heads, dropout=dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.out = nn.Linear(hidden_size, num_codes)
        for table in (self.code, self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, codes: Integer[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch rows columns codes"]:
        """Logits of each code, given those before it in the order of generation.

        Raises ValueError for codes of another grid, or outside 0 … num_codes − 1.
        """
        check_codes("codes", codes, self.num_codes)
        if codes.shape[1:] != self.grid:
            raise ValueError(
                f"codes must have shape (batch, {self.grid[0]}, {self.grid[1]}), got {tuple(codes.shape)}"
            )
        before = codes.long().flatten(1)[:, self.order].roll(1, 1)
        before[:, 0] = self.num_codes
        logits, _ = self._logits(before, self.order, self.mask)
        return logits[:, self.order.argsort()].unflatten(1, self.grid)

    @torch.no_grad()
    def sample(
        self, shape: tuple[int, int, int], generator: torch.Generator | None = None
    ) -> Integer[Tensor, "batch rows columns"]:
        """Codes drawn from the model, (batch, rows, columns), with the keys and values of earlier steps.

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


class PixelCNN(_Autoregressive):
    """A convolutional model of a grid of codes, row by row (gated PixelCNN, van den Oord et al. 2016).

    Two stacks, so that there is no blind spot: one sees the rows above, the other the row to the left and the
    first. With num_layers·(kernel_size//2) ≥ the grid's size every code before in raster order is seen.

    Args:
        num_codes: K.
        hidden_size: channels.
        num_layers: how many.
        kernel_size: odd; a layer looks back kernel_size//2 places.
        dropout: in training.

    Raises ValueError for an argument outside its range.
    """

    def __init__(
        self,
        num_codes: int,
        hidden_size: int = 128,
        num_layers: int = 8,
        kernel_size: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_codes", num_codes),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            checks.count(name, value, 1)
        checks.count("kernel_size", kernel_size, 3)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        checks.rate("dropout", dropout)
        self.num_codes = num_codes
        self.code = nn.Embedding(num_codes, hidden_size)
        self.layers = nn.ModuleList(_GatedLayer(hidden_size, kernel_size, dropout) for _ in range(num_layers))
        self.out = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(hidden_size, hidden_size, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_size, num_codes, 1),
        )

    def forward(
        self, codes: Integer[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch rows columns codes"]:
        """Logits of each code, given those before. Raises ValueError for codes outside 0 … num_codes − 1."""
        check_codes("codes", codes, self.num_codes)
        x = channels_first(self.code(codes.long()))
        # Shifted once, by a row and by a column; after that each layer may look at its own place.
        above, left = pad(x, (0, 0, 1, -1)), pad(x, (1, -1, 0, 0))
        for layer in self.layers:
            above, left = layer(above, left)
        return channels_last(self.out(left))

    @torch.no_grad()
    def sample(
        self, shape: tuple[int, int, int], generator: torch.Generator | None = None
    ) -> Integer[Tensor, "batch rows columns"]:
        """Codes drawn from the model, (batch, rows, columns); each step runs it on the rows so far.

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


def _choose(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.multinomial(checks.working(logits).softmax(-1), 1, generator=generator)


def _check_shape(shape: tuple[int, int, int], generator: object) -> None:
    checks.generator(generator)
    if not isinstance(shape, Sequence) or len(shape) != 3:
        raise ValueError(f"shape must be three numbers, got {shape!r}")
    for name, value in zip(("batch", "rows", "columns"), shape, strict=True):
        checks.count(f"shape's {name}", value, 1)
