"""A relative: a linear recurrence with ordered layers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import sigmoid, silu

from kexue.nn import checks
from kexue.onlstm.gates import cumax
from kexue.onlstm.layers import locked_dropout


class HGRN(nn.Module):
    """Gated linear recurrences whose forget gates have lower bounds that rise with the layer.

    In each layer λ = γ + (1 − γ)∘σ(F x), h = λ∘h_prev + (1 − λ)∘silu(V x), then x + O(norm(h)∘σ(G x)), and a
    gated linear unit. γ of layer l is Σ_{1<j≤l} softmax over the layers: a cumax from layer to layer, 0 in
    the first. The real-valued form of Z. Qin, S. Yang and Y. Zhong, Hierarchically gated recurrent neural
    network, NeurIPS 2023.

    Args:
        hidden_size: D, of input, state and output.
        num_layers: L.
        dropout: after each layer, one mask for all times.

    Raises TypeError for a size that is no int, ValueError for one below 1 or a dropout outside [0, 1).
    """

    def __init__(self, hidden_size: int, num_layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        checks.count("hidden_size", hidden_size, 1)
        checks.count("num_layers", num_layers, 1)
        checks.rate("dropout", dropout)
        self.hidden_size, self.dropout = hidden_size, dropout
        self.bounds = nn.Parameter(torch.zeros(num_layers, hidden_size))
        self.gates, self.outs, self.glus, self.backs = (
            nn.ModuleList(nn.Linear(hidden_size, parts * hidden_size) for _ in range(num_layers))
            for parts in (3, 1, 2, 1)
        )
        self.norms = nn.ModuleList(nn.RMSNorm(hidden_size) for _ in range(3 * num_layers + 1))

    def forward(
        self,
        x: Float[Tensor, "batch time hidden"],
        state: Sequence[tuple[Tensor]] | None = None,
    ) -> tuple[Float[Tensor, "batch time hidden"], list[tuple[Tensor]]]:
        """Outputs (B, T, D), and h of each layer, (B, D), after the last position.

        Raises:
            TypeError: x is not floating-point.
            ValueError: x is not (B, T, D), or the state has other shapes.
        """
        checks.floating("x", x)
        if x.ndim != 3 or x.shape[-1] != self.hidden_size or not x.shape[1]:
            raise ValueError(f"x must have shape (B, T, {self.hidden_size}) with T ≥ 1, got {tuple(x.shape)}")
        checks.like_weights("x", x, self.bounds)
        x = x.transpose(0, 1).contiguous()  # the loop takes one time after the other
        layers, shape = len(self.gates), x.shape[1:]
        if state is None:
            state = [(x.new_zeros(shape),)] * layers
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
            x = x + locked_dropout(mixed, self.dropout, self.training, 0)
            a, b = glu(between(x)).chunk(2, -1)
            x = x + locked_dropout(back(silu(a) * b), self.dropout, self.training, 0)
        return self.norms[-1](x).transpose(0, 1), last
