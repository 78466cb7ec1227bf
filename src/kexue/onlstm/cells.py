"""One step of an LSTM and of an ON-LSTM."""

from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import sigmoid

from kexue.nn import checks
from kexue.onlstm.gates import cumax, reverse_cumax

MasterInput = Literal["cumsum", "complement"]
State: TypeAlias = tuple[Tensor, Tensor]


class LSTMCell(nn.Module):
    """A step of an LSTM without peepholes (onlstm.eq1), with weights in the order of the ON-LSTM's.

    o, f, i = σ(…), ĉ = tanh(…), c = f∘c_prev + i∘ĉ, h = o∘tanh(c), where … is W x + U h_prev + b.

    Args:
        input_size: D.
        hidden_size: H.

    Attributes:
        ih: W, with a bias; hh: U, with another. Rows: output, cell, input, forget.

    Raises TypeError for a size that is no int, and ValueError for one below 1.
    """

    num_levels = 0
    complement = False

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        checks.count("input_size", input_size, 1)
        checks.count("hidden_size", hidden_size, 1)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = 2 * self.num_levels + 4 * hidden_size
        self.ih = nn.Linear(input_size, rows)
        self.hh = nn.Linear(hidden_size, rows)

    def forward(
        self, x: Float[Tensor, "batch input"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
        """One step.

        Args:
            x: (B, D).
            state: h and c, (B, H) each; zeros if None.

        Returns:
            The new h and c, (B, H) each.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x is not (B, D), or the state not two tensors of (B, H).
        """
        h, c = self._start(x, state)
        o, g, i, f = (self.ih(x) + self.hh(h)).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        return sigmoid(o) * torch.tanh(c), c

    def _start(self, x: Tensor, state: State | None) -> State:
        checks.floating("x", x)
        if x.ndim != 2 or x.shape[-1] != self.input_size:
            raise ValueError(f"x must have shape (B, {self.input_size}), got {tuple(x.shape)}")
        return checked_state("state", state, x, self.hidden_size)


class ONLSTMCell(LSTMCell):
    """A step of an ON-LSTM (onlstm.eq9, onlstm.eq10): the LSTM's gates, and a master gate for each level.

    f̃ = cumax(…) and ĩ = reverse_cumax(…) have one entry a level and are repeated for its q = H/n
    neurons; ω = f̃∘ĩ, and c = ω∘(f∘c_prev + i∘ĉ) + (f̃ − ω)∘c_prev + (ĩ − ω)∘ĉ, h = o∘tanh(c).

    Args:
        input_size: D.
        hidden_size: H.
        num_levels: n, a divisor of H.
        master_input: ĩ as in the article, "cumsum", or as in the paper, "complement": 1 − cumax(…), the
            same shifted by one level, so that the last level never receives anything (onlstm.claim7).

    Attributes:
        ih: W, with a bias; hh: U, with another. Rows: master input, master forget, output, cell, input,
            forget, as in the published implementation.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1, a hidden_size that num_levels does not divide, an unknown master_input.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_levels: int, master_input: MasterInput = "cumsum"
    ) -> None:
        checks.count("num_levels", num_levels, 1)
        checks.count("hidden_size", hidden_size, 1)
        if hidden_size % num_levels:
            raise ValueError(f"hidden_size must be divisible by num_levels = {num_levels}, got {hidden_size}")
        checks.choice("master_input", master_input, get_args(MasterInput))
        self.num_levels, self.complement = num_levels, master_input == "complement"
        super().__init__(input_size, hidden_size)

    def forward(
        self, x: Float[Tensor, "batch input"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
        """One step; see `LSTMCell.forward`."""
        h, c = self._start(x, state)
        n = self.num_levels
        sizes = [n, n] + 4 * [self.hidden_size]
        master_i, master_f, o, g, i, f = (self.ih(x) + self.hh(h)).split(sizes, -1)
        c, g, i, f = (v.unflatten(-1, (n, -1)) for v in (c, torch.tanh(g), sigmoid(i), sigmoid(f)))
        # onlstm.eq9: f̃ = cumax(…), ĩ = reverse cumax(…); the same for all neurons of a level
        keep = cumax(master_f).unsqueeze(-1)
        write = (1 - cumax(master_i) if self.complement else reverse_cumax(master_i)).unsqueeze(-1)
        both = keep * write
        # onlstm.eq9: c = ω∘(f∘c + i∘ĉ) + (f̃ − ω)∘c + (ĩ − ω)∘ĉ
        c = both * (f * c + i * g) + (keep - both) * c + (write - both) * g
        c = c.flatten(-2)
        return sigmoid(o) * torch.tanh(c), c


def checked_state(name: str, state: object, x: Tensor, hidden: int) -> State:
    """h and c, (B, H) each: zeros if None."""
    shape = (len(x), hidden)
    if state is None:
        zeros = torch.zeros(shape, dtype=checks.working(x).dtype, device=x.device)
        return zeros, zeros
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise ValueError(f"{name} must be h and c, got {type(state).__name__}")
    for part, value in zip("hc", state, strict=True):
        checks.floating(f"{name}'s {part}", value)
        if value.shape != shape:
            raise ValueError(f"{name}'s {part} must have shape {shape}, got {tuple(value.shape)}")
    return state[0], state[1]
