"""Networks to test, with parameters large enough for the gates to differ, and what they are by their cells."""

import torch
from seeded import F64, randn

from kexue.onlstm import LSTM, ONLSTM, LSTMCell, ONLSTMCell, cumax, recurrence

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
VARIANTS = ["cumsum", "complement"]
KINDS = ["lstm", *VARIANTS]


def shaken(module, scale=1.0, seed=0, dtype=F64):
    module = module.to(dtype)
    for i, parameter in enumerate(module.parameters()):
        parameter.data.copy_(scale * randn(*parameter.shape, seed=1000 * seed + i))
    return module


def cell_of(kind, input_size=3, hidden_size=6, levels=3, **options):
    if kind == "lstm":
        return shaken(LSTMCell(input_size, hidden_size), **options)
    return shaken(ONLSTMCell(input_size, hidden_size, levels, kind), **options)


def stack_of(kind, input_size=3, sizes=(6, 4), chunk=2, scale=1.0, dtype=F64, **options):
    if kind == "lstm":
        return shaken(LSTM(input_size, sizes, **options), scale, dtype=dtype)
    net = ONLSTM(input_size, hidden_sizes=sizes, chunk_size=chunk, master_input=kind, **options)
    return shaken(net, scale, dtype=dtype)


def step_by_step(stack, x, state=None):
    """h, c, f̃ and ĩ of each layer from the cells' own steps, with torch's gradient."""
    found = []
    for layer, cell in enumerate(stack.layers):
        n = cell.num_levels
        h, c = state[layer] if state else (x.new_zeros(len(x), cell.hidden_size) for _ in range(2))
        parts = []
        for value in x.unbind(1):
            z = cell.ih(value) + cell.hh(h)
            h, c = cell(value, (h, c))
            p_i, p_f = (z[:, a : a + n].softmax(-1) for a in (0, n))
            write = p_i.flip(-1).cumsum(-1).flip(-1)
            parts.append((h, c, p_f.cumsum(-1), write - p_i if cell.complement else write))
        found.append([torch.stack(part, 1) for part in zip(*parts, strict=True)])
        x = found[-1][0]
    return found


def starts(stack, batch, seed=0):
    return [
        tuple(randn(batch, cell.hidden_size, seed=seed + 2 * i + j).requires_grad_() for j in range(2))
        for i, cell in enumerate(stack.layers)
    ]


def saturate(cell, d_f, d_i):
    """Master gates 0 … 0 1 … 1 from d_f on, and 1 … 1 0 … 0 up to d_i, whatever the input."""
    n = cell.num_levels
    with torch.no_grad():
        for layer in (cell.ih, cell.hh):
            layer.weight[: 2 * n] = 0
            layer.bias[: 2 * n] = 0
        cell.ih.bias[d_i] = 1e4
        cell.ih.bias[n + d_f] = 1e4
    return cell


def reorder(rows, hidden):
    """Rows in our order (output, cell, input, forget), as torch has them: input, forget, cell, output."""
    o, g, i, f = rows.split(hidden)
    return torch.cat([i, f, g, o])


# --- Faults ------------------------------------------------------------------------------------


def one_minus(logits, dim=-1):
    return 1 - cumax(logits, dim)


class ForgetsTheVariant(recurrence._Recurrence):
    @classmethod
    def apply(cls, *arguments):
        return _as_it_is.apply(*arguments[:-1], False)


_as_it_is = recurrence._Recurrence
