"""The loop over time, with a backward pass written out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout as drop
from torch.nn.functional import linear

from kexue.nn import checks
from kexue.onlstm.cells import LSTMCell, State


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
        (steps, batch, hidden), start = tanh.shape, 2 * n
        factors = _factors(gates[..., start:], cs[:-1], shares, tanh, master)
        dgates = torch.empty_like(gates)
        lowered = weight if ctx.lower is None else weight.to(ctx.lower)
        product = _product_with(lowered.t())
        back_c = torch.zeros_like(hs[0])
        back_h = back_c.clone() if dh is None else dh[-1].clone()
        wide_c, c_by_level = back_c.unsqueeze(1), back_c.view(batch, 1, n, hidden // n) if n else back_c
        # The views of all times at once, as in `forward`.
        of_o = dgates[..., start : start + hidden].unbind()
        of_g_i_f = dgates[..., start + hidden :].unflatten(-1, (3, hidden)).unbind()
        of_masters = dgates[..., :start].unflatten(-1, (2, n)).unbind()
        dgate, keep, p = (v.unbind() for v in (dgates, shares[:, :, 1], prob))
        out, through, inner, outer = (v.unbind() for v in factors)
        for t in range(steps - 1, -1, -1):
            back_c.addcmul_(back_h, through[t])
            if dc is not None:
                back_c += dc[t]
            torch.mul(back_h, out[t], out=of_o[t])
            torch.mul(wide_c, inner[t], out=of_g_i_f[t])
            if n:
                towards = torch.mul(c_by_level, outer[t]).sum(-1)
                if dinput is not None:
                    towards[:, 0].add_(dinput[t])
                if dforget is not None:
                    towards[:, 1].sub_(dforget[t])
                _to_logits(towards, p[t], complement, of_masters[t])
            back_h = product(dgate[t].to(lowered.dtype)).to(dgates.dtype)
            if t and dh is not None:
                back_h += dh[t - 1]
            back_c *= keep[t]
        flat, earlier = (v.flatten(0, 1).to(lowered.dtype) for v in (dgates, hs[:-1]))
        dweight = _product_with(earlier.t())(flat.t()).to(weight.dtype)
        return dgates, dweight, back_h, back_c, None, None


def _factors(
    gates: Tensor, before: Tensor, shares: Tensor, tanh: Tensor, master: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the gradients of h and c are multiplied by on their way back, for all times.

    That of h towards o and towards c; that of c towards ĉ, i and f, (T, B, 3, H), and towards ĩ and −f̃ of
    each neuron, (T, B, 2, n, q).
    """
    steps, batch, hidden = tanh.shape
    o, g, i, f = gates.unflatten(-1, (4, hidden)).unbind(-2)
    out, through = tanh * o * (1 - o), o * (1 - tanh * tanh)
    inner = torch.empty_like(gates).unflatten(-1, (4, hidden))[..., 1:, :]
    torch.mul(shares[:, :, 0], 1 - g * g, out=inner[..., 0, :])
    n = master.shape[-1]
    if not n:
        torch.mul(g, i * (1 - i), out=inner[..., 1, :])
        torch.mul(before, f * (1 - f), out=inner[..., 2, :])
        return out, through, inner, master
    wide = master.repeat_interleave(hidden // n, -1)
    wide_i, wide_f = wide.unbind(-2)
    both = wide_i * wide_f
    torch.mul(both * g, i * (1 - i), out=inner[..., 1, :])
    torch.mul(both * before, f * (1 - f), out=inner[..., 2, :])
    # Of dĩ = dF ∂F/∂ĩ + dI ∂I/∂ĩ, and of −df̃: F = f̃(1 − ĩ(1 − f)), I = ĩ(1 − f̃(1 − i)).
    outer = torch.empty_like(wide)
    torch.sub(g * (1 - wide_f * (1 - i)), before * wide_f * (1 - f), out=outer[..., 0, :])
    torch.sub(g * wide_i * (1 - i), before * (1 - wide_i * (1 - f)), out=outer[..., 1, :])
    return out, through, inner, outer.view(steps, batch, 2, n, hidden // n)


def _to_logits(towards: Tensor, p: Tensor, complement: bool, out: Tensor) -> None:
    """From the gradients of ĩ and −f̃ to those of the logits, through the cumulated sums and the softmax p."""
    # The softmax takes any constant out: 1 − cumsum and the reverse cumsum need no flip.
    summed = towards.cumsum(-1)
    summed[:, 1].sub_(towards[:, 1])
    if complement:
        summed[:, 0].sub_(towards[:, 0])
    summed -= (p * summed).sum(-1, keepdim=True)
    torch.mul(p, summed, out=out)


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


def deterministic_recurrence() -> None:
    """Settings of PyTorch for trainings that ask for deterministic algorithms (`runs.set_seed`)."""
    if torch.cuda.is_available():
        # Some versions refuse every cumulated sum on CUDA, though only long vectors' differ.
        torch.use_deterministic_algorithms(True, warn_only=True)
    # The recurrence writes all that it allocates; filling that first would cost a fifth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


class Trace(NamedTuple):
    """What a layer computed, for all times."""

    h: Float[Tensor, "batch time hidden"]
    c: Float[Tensor, "batch time hidden"]
    master_forget: Float[Tensor, "batch time levels"]
    """f̃, one value a level; of no level for an LSTM."""
    master_input: Float[Tensor, "batch time levels"]
    """ĩ, one value a level."""


def run_cell(
    cell: LSTMCell, x: Tensor, state: State, recurrent_dropout: float = 0.0, recurrent_scale: float = 1.0
) -> Trace:
    """A cell over all times of x, (B, T, D). Both biases and the inputs are projected at once."""
    # The loop goes over contiguous steps. From a layer below time comes first in memory: nothing is copied.
    projected = linear(x.transpose(0, 1).contiguous(), cell.ih.weight, cell.ih.bias + cell.hh.bias)
    weight = drop(cell.hh.weight, recurrent_dropout, cell.training)  # DropConnect: the same at all times
    if recurrent_scale != 1:
        weight = recurrent_scale * weight
    h, *rest = _Recurrence.apply(projected, weight, *state, cell.num_levels, cell.complement)
    return Trace(*(part.transpose(0, 1) for part in (h.to(x.dtype), *rest)))
