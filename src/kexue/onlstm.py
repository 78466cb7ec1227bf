"""ON-LSTM: neurons in an order, from low levels that change fast to high ones that stay, and its trees.

Source: 苏剑林, 《ON-LSTM：用有序神经元表达层次结构》, https://kexue.fm/archives/6621; the paper is Y. Shen,
S. Tan, A. Sordoni and A. Courville, Ordered Neurons, ICLR 2019.
The ids in brackets (onlstm.eq9) are rows of the ledger.

Shapes: T time, B batch, H hidden, n levels of q neurons each, H = n·q. Level 1 of the formulas is index 0.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout as drop
from torch.nn.functional import linear, sigmoid, silu

from kexue import checks
from kexue.masking import sequence_mask

# --- The update, hard and soft -----------------------------------------------------------------


def cumax(logits: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Σ_{j≤k} softmax(logits)_j: rises to 1 along `dim` (onlstm.eq8). A soft version of 0 … 0 1 … 1.

    Raises:
        TypeError: logits are not a floating-point tensor, or dim is no int.
        ValueError: dim is not an axis of logits, or an empty one.
    """
    checks.floating("logits", logits)
    checks.axis("logits", logits, dim)
    exact = checks.working(logits)
    # Rounding may carry the sum beyond 1, by a unit in the last place.
    return exact.softmax(dim).cumsum(dim).clamp(max=1.0).to(logits.dtype)


def reverse_cumax(logits: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """Σ_{j≥k} softmax(logits)_j: falls from 1 along `dim` (onlstm.eq8). A soft version of 1 … 1 0 … 0.

    Raises as `cumax` does.
    """
    checks.floating("logits", logits)
    checks.axis("logits", logits, dim)
    return cumax(logits.flip(dim), dim).flip(dim)


def segmented_update(
    c_prev: Float[Tensor, "*batch n"],
    c_hat: Float[Tensor, "*batch n"],
    forget: Float[Tensor, "*batch n"],
    input: Float[Tensor, "*batch n"],
    d_f: int | Integer[Tensor, "..."],
    d_i: int | Integer[Tensor, "..."],
) -> Float[Tensor, "*batch n"]:
    """The hard update of ordered neurons, as one formula (onlstm.eq6, onlstm.eq7).

    c = ω∘(f∘c_prev + i∘ĉ) + (f̃ − ω)∘c_prev + (ĩ − ω)∘ĉ, with f̃ = [k ≥ d_f], ĩ = [k ≤ d_i], ω = f̃∘ĩ.
    The history owns the levels k ≥ d_f, the input those k ≤ d_i; where both do, an LSTM decides; where
    none does, the result is 0.

    Args:
        c_prev: the history, one neuron a level.
        c_hat: the input's candidate, ĉ.
        forget: the LSTM's forget gate, f.
        input: the LSTM's input gate, i.
        d_f: lowest level that the history owns, 0 … n − 1, for each row or one for all.
        d_i: highest level that the input owns, 0 … n − 1, for each row or one for all.

    Raises:
        TypeError: c_prev, c_hat, forget or input not floating-point, d_f or d_i no integers.
        ValueError: shapes that differ, or d_f or d_i outside 0 … n − 1.
    """
    checks.floating("c_prev", c_prev)
    checks.axis("c_prev", c_prev, -1)
    for name, value in (("c_hat", c_hat), ("forget", forget), ("input", input)):
        checks.floating(name, value)
        if value.shape != c_prev.shape:
            raise ValueError(
                f"{name} must have c_prev's shape {tuple(c_prev.shape)}, got {tuple(value.shape)}"
            )
    n = c_prev.shape[-1]
    level = torch.arange(n, device=c_prev.device)
    kept = level >= _positions("d_f", d_f, c_prev)
    written = level <= _positions("d_i", d_i, c_prev)
    both = kept & written
    # `where`, not products: what is not owned may be anything, NaN too.
    out = torch.where(both, forget * c_prev + input * c_hat, 0.0)
    out = torch.where(kept & ~both, c_prev, out)
    return torch.where(written & ~both, c_hat, out)


def _positions(name: str, value: object, c_prev: Tensor) -> Tensor:
    """Levels, with an axis for the neurons."""
    batch, n = c_prev.shape[:-1], c_prev.shape[-1]
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{name} must be integers, got {value.dtype}")
        if value.shape not in (batch, ()):
            raise ValueError(f"{name} must have shape {tuple(batch)}, got {tuple(value.shape)}")
        outside = value[(value < 0) | (value >= n)]
        if outside.numel():
            raise ValueError(f"{name} must be between 0 and n − 1 = {n - 1}, got {int(outside[0])}")
        return value.to(c_prev.device, torch.int64)[..., None]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int or a tensor of integers, got {type(value).__name__}")
    checks.count(name, value, 0, n - 1, f"n − 1 = {n - 1}")
    return torch.tensor(value, device=c_prev.device)


# --- Cells -------------------------------------------------------------------------------------

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
        self, x: Float[Tensor, "batch width"], state: State | None = None
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
        return _checked_state("state", state, x, self.hidden_size)


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
        if master_input not in get_args(MasterInput):
            raise ValueError(f"master_input must be one of {get_args(MasterInput)}, got {master_input!r}")
        self.num_levels, self.complement = num_levels, master_input == "complement"
        super().__init__(input_size, hidden_size)

    def forward(
        self, x: Float[Tensor, "batch width"], state: State | None = None
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


def _checked_state(name: str, state: object, x: Tensor, hidden: int) -> State:
    """h and c, (B, H) each: zeros if None."""
    shape = (x.shape[-2], hidden)
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


# --- The loop over time ------------------------------------------------------------------------


class _Recurrence(torch.autograd.Function):
    """The cells' steps over all times, with the gradient by hand.

    An LSTM's cell is c = F∘c_prev + I∘ĉ. With F = ω∘f + f̃ − ω and I = ω∘i + ĩ − ω an ON-LSTM's is, too.
    The gradient is linear in those of h and c; its coefficients are computed for all times at once, and
    that of the weights in one product, so that the loops do the minimum. Tests compare with the cells.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, projected: Tensor, weight: Tensor, h: Tensor, c: Tensor, n: int, complement: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From W x + b for all times, (T, B, 2n + 4H), and U: h, c, f̃ and ĩ for all times."""
        device = projected.device.type
        lower = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            projected, c = checks.working(projected), c.to(checks.working(projected).dtype)
            steps, batch, _ = projected.shape
            hidden = c.shape[-1]
            q = hidden // max(n, 1)
            lowered = weight if lower is None else weight.to(lower)
            product = _product_with(lowered)
            gates = torch.empty_like(projected)
            hs, cs = (projected.new_empty(steps + 1, batch, hidden) for _ in range(2))
            tanh = torch.empty_like(hs[1:])
            shares = projected.new_empty(steps, batch, 2, hidden)  # how much is written, and how much kept
            prob = projected.new_empty(steps, batch, 2, n)  # of the two master gates: input, forget
            master, one = torch.empty_like(prob), projected.new_ones(())
            hs[0], cs[0] = h, c
            start = 2 * n
            # The views of all times at once: in the loop, each would take as long as a small product.
            old_h, old_c, new_h, new_c = (v.unbind() for v in (hs[:-1], cs[:-1], hs[1:], cs[1:]))
            given, gate, tanh_c = (v.unbind() for v in (projected, gates, tanh))
            ends = [hidden, 2 * hidden]
            o, g, i_and_f = (v.unbind() for v in gates[..., start:].tensor_split(ends, -1))
            write, keep = (v.unbind() for v in shares.unbind(2))
            if n:
                choice = gates[..., :start].unflatten(-1, (2, n)).unbind()
                p, m = prob.unbind(), master.unbind()
                # With an axis for the neurons of a level
                wide_p, wide_m = prob.unsqueeze(-1), master.unsqueeze(-1)
                p_i, m_i, m_f, m_each = (
                    v.unbind() for v in (wide_p[:, :, :1], wide_m[:, :, :1], wide_m[:, :, 1:], wide_m)
                )
                inner = [v.unflatten(-1, (2, n, q)) for v in i_and_f]
                by_level = shares.unflatten(-1, (n, q)).unbind()
            for t in range(steps):
                torch.add(given[t], product(old_h[t].to(lowered.dtype)), out=gate[t])
                o[t].sigmoid_()
                g[t].tanh_()
                i_and_f[t].sigmoid_()
                if n:
                    torch.softmax(choice[t], -1, out=p[t])
                    torch.cumsum(p[t], -1, out=m[t])
                    torch.sub(one, m_i[t], out=m_i[t])
                    if not complement:
                        m_i[t].add_(p_i[t])
                    both = m_i[t] * m_f[t]
                    torch.addcmul(m_each[t] - both, both, inner[t], out=by_level[t])
                else:
                    shares[t] = i_and_f[t].unflatten(-1, (2, hidden))
                torch.mul(keep[t], old_c[t], out=new_c[t])
                new_c[t].addcmul_(write[t], g[t])
                torch.tanh(new_c[t], out=tanh_c[t])
                torch.mul(o[t], tanh_c[t], out=new_h[t])
        ctx.save_for_backward(gates, hs, cs, shares, tanh, prob, master, weight)
        ctx.levels, ctx.complement, ctx.lower = n, complement, lower
        ctx.set_materialize_grads(False)
        # Copies: what is returned may be changed in place.
        return hs[1:].clone(), cs[1:].clone(), master[:, :, 1].clone(), master[:, :, 0].clone()

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, dh: Tensor | None, dc: Tensor | None, dforget: Tensor | None, dinput: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gates, hs, cs, shares, tanh, prob, master, weight = ctx.saved_tensors
        n, complement = ctx.levels, ctx.complement
        steps, batch, _ = gates.shape
        hidden = cs.shape[-1]
        q, start = hidden // max(n, 1), 2 * n
        o, g, i, f = gates[..., start:].unflatten(-1, (4, hidden)).unbind(-2)
        before = cs[:-1]
        write, keep = shares.unbind(2)

        # The coefficients of dh and dc.
        out = tanh * o * (1 - o)
        through = o * (1 - tanh * tanh)
        inner = torch.empty_like(gates[..., start:]).unflatten(-1, (4, hidden))[..., 1:, :]
        torch.mul(write, 1 - g * g, out=inner[..., 0, :])
        if n:
            wide = master.repeat_interleave(q, -1)
            wide_i, wide_f = wide.unbind(-2)
            both = wide_i * wide_f
            torch.mul(both * g, i * (1 - i), out=inner[..., 1, :])
            torch.mul(both * before, f * (1 - f), out=inner[..., 2, :])
            # Of dĩ = dF ∂F/∂ĩ + dI ∂I/∂ĩ, and of −df̃: F = f̃(1 − ĩ(1 − f)), I = ĩ(1 − f̃(1 − i)).
            outer = torch.empty_like(wide)
            torch.sub(g * (1 - wide_f * (1 - i)), before * wide_f * (1 - f), out=outer[..., 0, :])
            torch.sub(g * wide_i * (1 - i), before * (1 - wide_i * (1 - f)), out=outer[..., 1, :])
            outer = outer.view(steps, batch, 2, n, q)
        else:
            torch.mul(g, i * (1 - i), out=inner[..., 1, :])
            torch.mul(before, f * (1 - f), out=inner[..., 2, :])

        dgates = torch.empty_like(gates)
        lowered = weight if ctx.lower is None else weight.to(ctx.lower)
        product = _product_with(lowered.t())
        back_h = torch.zeros_like(hs[0]) if dh is None else dh[-1].clone()
        back_c = torch.zeros_like(back_h)
        wide_c, c_by_level = back_c.unsqueeze(1), back_c.view(batch, 1, n, -1) if n else back_c
        # The views of all times at once, as in `forward`.
        of_o = dgates[..., start : start + hidden].unbind()
        of_g_i_f = dgates[..., start + hidden :].unflatten(-1, (3, hidden)).unbind()
        dgate, out_t, through_t, inner_t, keep_t = (v.unbind() for v in (dgates, out, through, inner, keep))
        if n:
            of_masters = dgates[..., :start].unflatten(-1, (2, n)).unbind()
            prob_t, outer_t = prob.unbind(), outer.unbind()
        for t in range(steps - 1, -1, -1):
            back_c.addcmul_(back_h, through_t[t])
            if dc is not None:
                back_c += dc[t]
            torch.mul(back_h, out_t[t], out=of_o[t])
            torch.mul(wide_c, inner_t[t], out=of_g_i_f[t])
            if n:
                towards = torch.mul(c_by_level, outer_t[t]).sum(-1)
                if dinput is not None:
                    towards[:, 0].add_(dinput[t])
                if dforget is not None:
                    towards[:, 1].sub_(dforget[t])
                # The softmax takes any constant out: 1 − cumsum and the reverse cumsum need no flip.
                summed = towards.cumsum(-1)
                summed[:, 1].sub_(towards[:, 1])
                if complement:
                    summed[:, 0].sub_(towards[:, 0])
                p = prob_t[t]
                summed -= (p * summed).sum(-1, keepdim=True)
                torch.mul(p, summed, out=of_masters[t])
            back_h = product(dgate[t].to(lowered.dtype)).to(dgates.dtype)
            if t and dh is not None:
                back_h += dh[t - 1]
            back_c *= keep_t[t]
        flat, earlier = (v.flatten(0, 1).to(lowered.dtype) for v in (dgates, hs[:-1]))
        dweight = _product_with(earlier.t())(flat.t()).to(weight.dtype)
        return dgates, dweight, back_h, back_c, None, None


def _product_with(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """x ↦ x·weightᵀ.

    Where weight is large, in float32 and on the CPU, oneDNN multiplies: on some processors it is more than
    twice as fast as the library that `@` calls.
    """
    large = weight.numel() >= 2**20 and weight.device.type == "cpu" and weight.dtype == torch.float32
    if large and torch.backends.mkldnn.is_available():
        packed = weight.contiguous().to_mkldnn()
        return lambda x: linear(x.contiguous().to_mkldnn(), packed).to_dense()
    turned = weight.t()
    return lambda x: x @ turned


class Trace(NamedTuple):
    """What a layer computed, for all times."""

    h: Float[Tensor, "time batch hidden"]
    c: Float[Tensor, "time batch hidden"]
    master_forget: Float[Tensor, "time batch levels"]
    """f̃, one value a level; of no level for an LSTM."""
    master_input: Float[Tensor, "time batch levels"]
    """ĩ, one value a level."""


def _run(cell: LSTMCell, x: Tensor, state: State, recurrent_dropout: float = 0.0) -> Trace:
    """A cell over all times. Both biases and the inputs are projected at once."""
    projected = linear(x, cell.ih.weight, cell.ih.bias + cell.hh.bias)
    weight = drop(cell.hh.weight, recurrent_dropout, cell.training)  # DropConnect: the same at all times
    h, *rest = _Recurrence.apply(projected, weight, *state, cell.num_levels, cell.complement)
    return Trace(h.to(x.dtype), *rest)


# --- Stacks of layers --------------------------------------------------------------------------


class _Stack(nn.Module):
    """Recurrent layers on top of each other."""

    cells: nn.ModuleList

    def __init__(self, cells: Sequence[LSTMCell], dropout: float, recurrent_dropout: float) -> None:
        super().__init__()
        for name, value in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value}")
        self.cells = nn.ModuleList(cells)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout

    @property
    def layers(self) -> list[LSTMCell]:
        """The cells, from the input on."""
        return list(self.cells)  # type: ignore[arg-type]

    def trace(
        self, x: Float[Tensor, "time batch width"], state: Sequence[State] | None = None
    ) -> list[Trace]:
        """h, c and master gates of every layer at every time; arguments as those of `forward`."""
        checks.floating("x", x)
        width = self.layers[0].input_size
        if x.ndim != 3 or x.shape[-1] != width:
            raise ValueError(f"x must have shape (T, B, {width}), got {tuple(x.shape)}")
        checks.axis("x", x, 0)
        if state is not None and len(state) != len(self.cells):
            raise ValueError(
                f"state must have one (h, c) for each of {len(self.cells)} layers, got {len(state)}"
            )
        found: list[Trace] = []
        for layer, cell in enumerate(self.layers):
            if layer:
                x = locked_dropout(found[-1].h, self.dropout, self.training)
            start = _checked_state(
                f"state[{layer}]", None if state is None else state[layer], x, cell.hidden_size
            )
            found.append(_run(cell, x, start, self.recurrent_dropout))
        return found

    def _last(self, traces: Sequence[Trace], lengths: Tensor | None) -> tuple[Tensor, list[State]]:
        """The output, with zeros in the padding, and the states after the last real position."""
        output = traces[-1].h
        if lengths is None:
            return output, [(trace.h[-1], trace.c[-1]) for trace in traces]
        checks.tensor("lengths", lengths)
        steps, batch = output.shape[:2]
        if lengths.shape != (batch,):
            raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
        real = sequence_mask(lengths, steps).to(output.device)
        if not real[:, 0].all():
            raise ValueError("lengths must be at least 1, got 0")
        place = lengths.to(output.device, torch.int64) - 1
        rows = torch.arange(batch, device=output.device)
        states = [(trace.h[place, rows], trace.c[place, rows]) for trace in traces]
        return output.masked_fill(~real.t().unsqueeze(-1), 0.0), states


def locked_dropout(x: Float[Tensor, "time batch width"], p: float, training: bool) -> Float[Tensor, "..."]:
    """Dropout with one mask for all times (Gal and Ghahramani 2016)."""
    if not training or p == 0:
        return x
    return x * drop(torch.ones_like(x[:1]), p, True)


class LSTM(_Stack):
    """Layers of `LSTMCell`: the plain network in the book's comparisons, with the same loop.

    Args:
        input_size: D.
        hidden_sizes: H of each layer.
        dropout: between the layers, one mask for all times.
        recurrent_dropout: DropConnect on the recurrent weights, one mask for all times.

    Raises TypeError and ValueError as `ONLSTM` does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        sizes = _sizes(hidden_sizes)
        cells = [LSTMCell(d, h) for d, h in zip((input_size, *sizes), sizes, strict=False)]
        super().__init__(cells, dropout, recurrent_dropout)

    def forward(
        self,
        x: Float[Tensor, "time batch width"],
        state: Sequence[State] | None = None,
        lengths: Integer[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "time batch hidden"], list[State]]:
        """Outputs of the last layer, and h and c of each layer; see `ONLSTM.forward`."""
        return self._last(self.trace(x, state), lengths)


class ONLSTM(_Stack):
    """Layers of `ONLSTMCell` (onlstm.eq10, onlstm.group).

    Args:
        input_size: D.
        hidden_size: H of every layer.
        num_levels: n of every layer, a divisor of H.
        num_layers: how many.
        dropout: between the layers, one mask for all times.
        hidden_sizes: H of each layer, instead of hidden_size and num_layers.
        levels_per_layer: n of each layer, instead of num_levels.
        chunk_size: neurons a level, q, of every layer, instead of num_levels.
        master_input: the article's ("cumsum") or the paper's ("complement"); see `ONLSTMCell`.
        recurrent_dropout: DropConnect on the recurrent weights, one mask for all times.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1, or one that its number of levels does not divide; sizes or levels
            given twice or not at all; a dropout outside [0, 1); an unknown master_input.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | None = None,
        num_levels: int | None = None,
        num_layers: int = 1,
        dropout: float = 0.0,
        *,
        hidden_sizes: Sequence[int] | None = None,
        levels_per_layer: Sequence[int] | None = None,
        chunk_size: int | None = None,
        master_input: MasterInput = "cumsum",
        recurrent_dropout: float = 0.0,
    ) -> None:
        checks.count("num_layers", num_layers, 1)
        if (hidden_size is None) == (hidden_sizes is None):
            raise ValueError(
                f"one of hidden_size and hidden_sizes must be given, got {hidden_size}, {hidden_sizes}"
            )
        if hidden_sizes is not None and num_layers not in (1, len(hidden_sizes)):
            raise ValueError(
                f"num_layers must be the length of hidden_sizes, {len(hidden_sizes)}, got {num_layers}"
            )
        sizes = _sizes(hidden_sizes if hidden_sizes is not None else [hidden_size] * num_layers)  # type: ignore[list-item]
        given = {"num_levels": num_levels, "levels_per_layer": levels_per_layer, "chunk_size": chunk_size}
        if sum(value is not None for value in given.values()) != 1:
            raise ValueError(f"one of num_levels, levels_per_layer and chunk_size must be given, got {given}")
        if chunk_size is not None:
            checks.count("chunk_size", chunk_size, 1)
            if any(size % chunk_size for size in sizes):
                raise ValueError(f"hidden sizes must be divisible by chunk_size = {chunk_size}, got {sizes}")
            levels = [size // chunk_size for size in sizes]
        else:
            levels = [num_levels] * len(sizes) if num_levels is not None else list(levels_per_layer or ())  # type: ignore[list-item]
        if len(levels) != len(sizes):
            raise ValueError(f"levels_per_layer must have {len(sizes)} entries, got {levels}")
        widths = (input_size, *sizes)
        cells = [ONLSTMCell(d, h, n, master_input) for d, h, n in zip(widths, sizes, levels, strict=False)]
        super().__init__(cells, dropout, recurrent_dropout)

    def forward(
        self,
        x: Float[Tensor, "time batch width"],
        state: Sequence[State] | None = None,
        lengths: Integer[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "time batch hidden"], list[State], Float[Tensor, "layers time batch"]]:
        """Read sequences.

        Args:
            x: (T, B, D).
            state: h and c of each layer, (B, H) each; zeros if None.
            lengths: of the sequences, at least 1; what follows is padding, whose output and level are 0.

        Returns:
            The last layer's h, (T, B, H); h and c of each layer after the last real position; and the
            level of each position in each layer, 1 − mean f̃, (layers, T, B), within [0, 1): high where
            much of the history ends (onlstm.eq14).

        Raises:
            TypeError: x is not floating-point, lengths are no integers.
            ValueError: wrong shapes, T = 0, or lengths outside 1 … T.
        """
        traces = self.trace(x, state)
        output, states = self._last(traces, lengths)
        levels = torch.stack([1 - trace.master_forget.mean(-1) for trace in traces])
        if lengths is not None:
            levels = levels.masked_fill(~sequence_mask(lengths, len(x)).t().to(x.device), 0.0)
        return output, states, levels

    def load_paper_weights(self, state_dict: Mapping[str, Tensor], dropconnect: float = 0.0) -> None:
        """Take weights in the layout of the paper's published implementation.

        `cells.{l}.ih.0.weight`, `cells.{l}.ih.0.bias`, `cells.{l}.hh.weight`, `cells.{l}.hh.bias`, with any
        prefix (`rnn.`) before; rows: master input, master forget, output, cell, input, forget. Other
        entries, those of the embedding and the decoder, are left alone.

        Their DropConnect drops entries of U (`hh.weight`) in training, without making the others larger, and
        multiplies U by 1 − dropconnect in evaluation. Ours makes the others larger in training and leaves
        evaluation alone. So U·(1 − dropconnect) is what is stored here: it gives their outputs in evaluation,
        and in training with recurrent_dropout = dropconnect, given the same mask.

        Args:
            state_dict: the published weights.
            dropconnect: the rate of DropConnect that they were trained with, p_wdrop; it is not among them.

        Raises ValueError for missing entries, other shapes, more layers than there are here, a network with
        another master_input than theirs, "complement", or dropconnect outside [0, 1).
        """
        if not 0 <= dropconnect < 1:
            raise ValueError(f"dropconnect must lie in [0, 1), got {dropconnect}")
        if not all(cell.complement for cell in self.layers):
            raise ValueError('master_input must be "complement" for published weights, got "cumsum"')
        prefixes = {key[: key.index("cells.")] for key in state_dict if "cells." in key}
        if len(prefixes) != 1:
            raise ValueError(
                f"state_dict must have entries cells.0.ih.0.weight, …, got {list(state_dict)[:4]}"
            )
        prefix = prefixes.pop()
        own, wanted = {}, {f"{prefix}cells.{i}." for i in range(len(self.cells))}
        for key in state_dict:
            if key.startswith(f"{prefix}cells.") and not any(key.startswith(start) for start in wanted):
                raise ValueError(f"state_dict must have {len(self.cells)} layers, got {key}")
        for name, value in self.state_dict().items():
            key = prefix + name.replace(".ih.", ".ih.0.")
            if key not in state_dict:
                raise ValueError(f"state_dict must have {key}, but it is missing")
            if state_dict[key].shape != value.shape:
                shape = tuple(state_dict[key].shape)
                raise ValueError(f"{key} must have shape {tuple(value.shape)}, got {shape}")
            scale = 1 - dropconnect if name.endswith(".hh.weight") else 1.0
            own[name] = scale * state_dict[key]
        self.load_state_dict(own)


def _sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if not sizes:
        raise ValueError(f"hidden_sizes must hold at least one size, got {sizes}")
    for size in sizes:
        checks.count("hidden_size", size, 1)
    return tuple(sizes)


# --- A relative: a linear recurrence with ordered layers ---------------------------------------


class HGRN(nn.Module):
    """Gated linear recurrences whose forget gates have lower bounds that rise with the layer.

    In each layer λ = γ + (1 − γ)∘σ(F x), h = λ∘h_prev + (1 − λ)∘silu(V x), then x + O(norm(h)∘σ(G x)), and a
    gated linear unit. γ of layer l is Σ_{1<j≤l} softmax over the layers: a cumax from layer to layer, 0 in
    the first. The real-valued form of Z. Qin, S. Yang and Y. Zhong, Hierarchically gated recurrent neural
    network, NeurIPS 2023.

    Args:
        width: of input, state and output, D.
        num_layers: L.
        dropout: after each layer, one mask for all times.

    Raises TypeError for a size that is no int, ValueError for one below 1 or a dropout outside [0, 1).
    """

    def __init__(self, width: int, num_layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        checks.count("width", width, 1)
        checks.count("num_layers", num_layers, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.width, self.dropout = width, dropout
        self.bounds = nn.Parameter(torch.zeros(num_layers, width))
        self.gates = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(num_layers))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.glus = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(num_layers))
        self.backs = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3 * num_layers + 1))

    def forward(
        self,
        x: Float[Tensor, "time batch width"],
        state: Sequence[tuple[Tensor]] | None = None,
    ) -> tuple[Float[Tensor, "time batch width"], list[tuple[Tensor]]]:
        """Outputs (T, B, D), and h of each layer, (B, D), after the last position.

        Raises:
            TypeError: x is not floating-point.
            ValueError: x is not (T, B, D), or the state has other shapes.
        """
        checks.floating("x", x)
        if x.ndim != 3 or x.shape[-1] != self.width or not len(x):
            raise ValueError(f"x must have shape (T, B, {self.width}) with T ≥ 1, got {tuple(x.shape)}")
        layers = len(self.gates)
        if state is None:
            state = [(x.new_zeros(x.shape[1:]),)] * layers
        shape = x.shape[1:]
        if len(state) != layers or any(
            len(part) != 1 or not isinstance(part[0], Tensor) or part[0].shape != shape for part in state
        ):
            raise ValueError(f"state must have one (h,) of shape {tuple(shape)} for each of {layers} layers")
        for (h,) in state:
            checks.floating("state's h", h)
        lowest = cumax(self.bounds, 0) - self.bounds.softmax(0)[:1]
        last = []
        for layer, (gates, out, glu, back) in enumerate(
            zip(self.gates, self.outs, self.glus, self.backs, strict=True)
        ):
            before, between, inside = self.norms[3 * layer : 3 * layer + 3]
            forget, value, gate = checks.working(gates(before(x))).chunk(3, -1)
            keep = lowest[layer] + (1 - lowest[layer]) * sigmoid(forget)
            new = (1 - keep) * silu(value)
            h, hs = state[layer][0].to(new.dtype), []
            for k, v in zip(keep, new, strict=True):
                h = torch.addcmul(v, k, h)
                hs.append(h)
            last.append((h,))
            mixed = out(inside(torch.stack(hs)) * sigmoid(gate))
            x = x + locked_dropout(mixed, self.dropout, self.training)
            a, b = glu(between(x)).chunk(2, -1)
            x = x + locked_dropout(back(silu(a) * b), self.dropout, self.training)
        return self.norms[-1](x), last


# --- Language model ----------------------------------------------------------------------------

Cell = Literal["onlstm", "lstm", "hgrn"]


class Prediction(NamedTuple):
    """What a language model says of a text."""

    logits: Float[Tensor, "time batch symbols"]
    """Of the next symbol."""
    state: list[Any]
    """To go on from."""
    hidden: Float[Tensor, "time batch width"]
    """The last layer's outputs."""
    dropped: Float[Tensor, "time batch width"]
    """The same after dropout."""


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and a softmax that shares the embedding's weights (onlstm.claim1).

    Args:
        symbols: V.
        hidden_sizes: H of each layer; the last is the width of the embedding, too. For "hgrn" all are equal.
        cell: "onlstm", "lstm" or "hgrn".
        chunk_size: neurons a level; for "onlstm" only.
        master_input: of the ON-LSTM; see `ONLSTMCell`.
        embedding_dropout: whole words, the same in all of the batch.
        input_dropout: on the embeddings, one mask for all times; so are the next two.
        dropout: between the layers.
        output_dropout: on the last layer's output.
        recurrent_dropout: DropConnect on the recurrent weights; not for "hgrn", which has none.
        embedding_scale: factor of the embeddings where they are the input; √width if None, as in
            Transformers, since vectors that are shared with the softmax are short.

    Raises:
        TypeError: a size that is no int, an embedding_scale that is no number.
        ValueError: a size or scale that is not positive, or a size that chunk_size does not divide; a
            dropout outside [0, 1); an
            unknown cell or master_input; different sizes or a recurrent_dropout for "hgrn".
    """

    def __init__(
        self,
        symbols: int,
        hidden_sizes: Sequence[int] = (400, 400),
        cell: Cell = "onlstm",
        chunk_size: int = 10,
        master_input: MasterInput = "cumsum",
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        output_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        embedding_scale: float | None = None,
    ) -> None:
        super().__init__()
        checks.count("symbols", symbols, 1)
        sizes = _sizes(hidden_sizes)
        width = sizes[-1]
        rates = {"embedding_dropout": embedding_dropout, "input_dropout": input_dropout}
        for name, value in (rates | {"output_dropout": output_dropout}).items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value}")
        self.embedding_dropout, self.input_dropout = embedding_dropout, input_dropout
        self.output_dropout = output_dropout
        self.embedding_scale = width**0.5 if embedding_scale is None else embedding_scale
        checks.positive("embedding_scale", self.embedding_scale, torch.empty(0))
        self.embedding = nn.Embedding(symbols, width)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.bias = nn.Parameter(torch.zeros(symbols))
        self.stack: ONLSTM | LSTM | HGRN
        if cell == "onlstm":
            self.stack = ONLSTM(
                width,
                hidden_sizes=sizes,
                chunk_size=chunk_size,
                dropout=dropout,
                master_input=master_input,
                recurrent_dropout=recurrent_dropout,
            )
        elif cell == "lstm":
            self.stack = LSTM(width, sizes, dropout, recurrent_dropout)
        elif cell == "hgrn":
            if len(set(sizes)) > 1:
                raise ValueError(f"hidden_sizes must be equal for hgrn, got {sizes}")
            if recurrent_dropout:
                raise ValueError(f"recurrent_dropout must be 0 for hgrn, got {recurrent_dropout}")
            self.stack = HGRN(width, len(sizes), dropout)
        else:
            raise ValueError(f"cell must be one of {get_args(Cell)}, got {cell!r}")

    def forward(self, ids: Integer[Tensor, "time batch"], state: Sequence[Any] | None = None) -> Prediction:
        """Logits of the symbol that follows each position.

        Args:
            ids: (T, B), in 0 … V − 1.
            state: an earlier call's, or None for the start of a text.

        Raises:
            TypeError: ids are no integers.
            ValueError: ids are not (T, B), T = 0, or not in 0 … V − 1; a wrong state.
        """
        output = self.stack(self.embed(ids), state)
        hidden = output[0]
        dropped = locked_dropout(hidden, self.output_dropout, self.training)
        return Prediction(linear(dropped, self.embedding.weight, self.bias), output[1], hidden, dropped)

    def embed(self, ids: Integer[Tensor, "time batch"]) -> Float[Tensor, "time batch width"]:
        """The embeddings, with dropout in training."""
        checks.tensor("ids", ids)
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"ids must be integers, got {ids.dtype}")
        if ids.ndim != 2 or not len(ids):
            raise ValueError(f"ids must have shape (T, B) with T ≥ 1, got {tuple(ids.shape)}")
        symbols = self.embedding.num_embeddings
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < symbols:
            raise ValueError(
                f"ids must be between 0 and {symbols - 1}, got {int(ids.min())} to {int(ids.max())}"
            )
        x = self.embedding(ids) * self.embedding_scale
        if self.training and self.embedding_dropout:
            known = drop(x.new_ones(symbols), self.embedding_dropout, True)
            x = x * known[ids].unsqueeze(-1)
        return locked_dropout(x, self.input_dropout, self.training)

    def trace(self, ids: Integer[Tensor, "time batch"], state: Sequence[State] | None = None) -> list[Trace]:
        """h, c and master gates of each layer at each position; not for "hgrn".

        Raises ValueError for an "hgrn", and as `forward` does.
        """
        if isinstance(self.stack, HGRN):
            raise ValueError('cell must be "onlstm" or "lstm" for a trace, got "hgrn"')
        return self.stack.trace(self.embed(ids), state)


# --- Trees -------------------------------------------------------------------------------------

Tree: TypeAlias = str | list[Any]
"""A word, or a list of trees."""
Span: TypeAlias = tuple[int, int]
Rule = Literal["article", "split"]


def tree_from_levels(tokens: Sequence[str], levels: Sequence[float] | Tensor | np.ndarray) -> Tree:
    """The article's greedy tree (onlstm.alg1): at the first highest level k, [left, [tokenₖ, right]].

    left is the tree of the tokens before k, right that of those after it; where there are none, there is
    nothing to bracket. A tree of n tokens has n − 1 brackets; that of one token is the token.

    Args:
        tokens: n ≥ 1 of them.
        levels: of each.

    Raises ValueError for no tokens, another number of levels, or levels that are not finite.
    """
    height = _heights(tokens, levels)
    return divided(tokens, lambda i, j: i + int(height[i:j].argmax()), "article", 0, len(tokens))


def divided(
    tokens: Sequence[str], place: Callable[[int, int], int], rule: Rule, start: int, stop: int
) -> Tree:
    """The tree of the tokens in [start, stop): divided at k = place(start, stop), and so are its parts.

    By the article's rule it is [left, [tokenₖ, right]], where right may be empty, and left, too; by "split"
    it is [left, right], where right begins with tokenₖ.

    Args:
        tokens: all of them.
        place: where to divide the tokens in [i, j), i ≤ k < j, or i < k < j by "split"; not asked for a
            single token.
        rule: "article" or "split".
        start: of the part.
        stop: of the part, at least start + 1.
    """
    if stop - start == 1:
        return tokens[start]
    k = place(start, stop)
    if rule == "split":
        return [divided(tokens, place, rule, start, k), divided(tokens, place, rule, k, stop)]
    tree: Tree = tokens[k]
    if k + 1 < stop:
        tree = [tree, divided(tokens, place, rule, k + 1, stop)]
    return [divided(tokens, place, rule, start, k), tree] if start < k else tree


def _heights(tokens: Sequence[str], levels: Sequence[float] | Tensor | np.ndarray) -> np.ndarray:
    """The levels, if there is a finite one for each token."""
    if not len(tokens):
        raise ValueError("tokens must hold at least one, got none")
    numbers = levels.detach().cpu().double() if isinstance(levels, Tensor) else levels
    height = np.asarray(numbers, dtype=float)
    if height.shape != (len(tokens),):
        raise ValueError(f"levels must be one for each of {len(tokens)} tokens, got shape {height.shape}")
    if not np.isfinite(height).all():
        raise ValueError(f"levels must be finite, got {height[~np.isfinite(height)][0]}")
    return height


def split_tree(tokens: Sequence[str], levels: Sequence[float] | Tensor | np.ndarray) -> Tree:
    """A tree by splits alone: in two, before the first highest level, the first token's not counted.

    Unlike `tree_from_levels` this produces every binary tree (onlstm.trees).

    Raises as `tree_from_levels` does.
    """
    height = _heights(tokens, levels)
    return divided(tokens, lambda i, j: i + 1 + int(height[i + 1 : j].argmax()), "split", 0, len(tokens))


def best_tree(gold: Tree, rule: Rule = "article") -> Tree:
    """Of the trees that a rule can give for any levels, one with the most of gold's brackets (onlstm.alg1).

    Its F1 is the ceiling of the rule for this sentence, as all its trees have n − 1 brackets.

    Args:
        gold: any tree.
        rule: `tree_from_levels` ("article") or `split_tree` ("split").

    Raises ValueError for an unknown rule, and as `brackets` does.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {get_args(Rule)}, got {rule!r}")
    tokens, wanted = leaves(gold), brackets(gold)
    n = len(tokens)
    # The most brackets within [i, j), and the place to split at. After the article's split at k the word k
    # stands alone: [left, [k, right]].
    most, place = np.zeros((n + 1, n + 1), int), np.zeros((n + 1, n + 1), int)
    inside = np.zeros((n + 1, n + 1), bool)
    for start, stop in wanted:
        inside[start, stop] = True
    for size in range(2, n + 1):
        for i in range(n - size + 1):
            j = i + size
            if rule == "article":
                k = np.arange(i, j)
                after = np.where(k > i, inside[k, j] & (j - k > 1), False)
                value = most[i, k] + after + most[np.minimum(k + 1, j), j]
            else:
                k = np.arange(i + 1, j)
                value = most[i, k] + most[k, j]
            best = int(value.argmax())
            place[i, j], most[i, j] = k[best], value[best] + inside[i, j]
    return divided(tokens, lambda i, j: int(place[i, j]), rule, 0, n)


def left_branching(tokens: Sequence[str]) -> Tree:
    """[[[a, b], c], d]. Raises ValueError for no tokens."""
    return split_tree(tokens, np.arange(len(tokens)))


def right_branching(tokens: Sequence[str]) -> Tree:
    """[a, [b, [c, d]]]. Raises ValueError for no tokens."""
    return split_tree(tokens, -np.arange(len(tokens)))


def balanced(tokens: Sequence[str]) -> Tree:
    """Halves, the left one smaller where the number is odd. Raises ValueError for no tokens."""
    if not tokens:
        raise ValueError("tokens must hold at least one, got none")
    if len(tokens) == 1:
        return tokens[0]
    half = len(tokens) // 2
    return [balanced(tokens[:half]), balanced(tokens[half:])]


def leaves(tree: Tree) -> list[str]:
    """The words of a tree, in their order. Raises TypeError for what is neither a string nor a list."""
    if isinstance(tree, str):
        return [tree]
    if not isinstance(tree, list):
        raise TypeError(f"tree must be made of strings and lists, got {type(tree).__name__}")
    return [word for child in tree for word in leaves(child)]


def brackets(tree: Tree) -> set[Span]:
    """The half-open spans of a tree's brackets, the root's included; words alone are none.

    Raises:
        TypeError: something in the tree is neither a string nor a list.
        ValueError: an empty bracket.
    """
    found: set[Span] = set()
    _collect(tree, [], found)
    return found


def _collect(tree: Tree, words: list[str], found: set[Span]) -> None:
    """Add a tree's words to those before it, and the spans of its brackets to what was found."""
    if isinstance(tree, str):
        words.append(tree)
        return
    if not isinstance(tree, list):
        raise TypeError(f"tree must be made of strings and lists, got {type(tree).__name__}")
    if not tree:
        raise ValueError("tree must not have empty brackets")
    start = len(words)
    for child in tree:
        _collect(child, words, found)
    found.add((start, len(words)))


def bracket_f1(predicted: Tree, gold: Tree) -> float:
    """Unlabelled F1 of a tree's brackets, without the root and single words (onlstm.claim2).

    2·precision·recall/(precision + recall); unary chains count once. A gold tree without brackets has
    recall 1, a predicted one without has precision 1.

    Raises as `brackets` does, and ValueError for trees over different words.
    """
    found, wanted = _compared(predicted, gold)
    right = len(found & wanted)
    precision = right / len(found) if found else 1.0
    recall = right / len(wanted) if wanted else 1.0
    return 2 * precision * recall / (precision + recall) if right or precision + recall else 0.0


def corpus_f1(predicted: Sequence[Tree], gold: Sequence[Tree]) -> float:
    """The same over all brackets of a corpus; 1 where neither side has any.

    Raises as `bracket_f1` does, and ValueError for different numbers of trees.
    """
    if len(predicted) != len(gold):
        raise ValueError(f"predicted must have as many trees as gold, {len(gold)}, got {len(predicted)}")
    right = found = wanted = 0
    for a, b in zip(predicted, gold, strict=True):
        mine, true = _compared(a, b)
        right, found, wanted = right + len(mine & true), found + len(mine), wanted + len(true)
    return 2 * right / (found + wanted) if found + wanted else 1.0


def _compared(predicted: Tree, gold: Tree) -> tuple[set[Span], set[Span]]:
    """Brackets of both, without the root's and those of single words."""
    mine: list[str] = []
    true: list[str] = []
    found: set[Span] = set()
    wanted: set[Span] = set()
    _collect(predicted, mine, found)
    _collect(gold, true, wanted)
    if mine != true:
        raise ValueError(f"predicted and gold must have the same words, got {mine} and {true}")
    inner, inner_wanted = ({(a, b) for a, b in spans if 1 < b - a < len(true)} for spans in (found, wanted))
    return inner, inner_wanted
