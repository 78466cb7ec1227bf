"""Attention with rotary positions once more, one vector at a time."""

import math

import torch


def turned(vector, position):
    """Rotary: each pair of coordinates by its angle."""
    out = []
    for i in range(0, len(vector), 2):
        angle = position * 10_000 ** (-i / len(vector))
        a, b = vector[i], vector[i + 1]
        out += [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
    return torch.stack(out)


def literal_attention(attention, vector, context, places=None):
    """What one vector sees of some others, head by head; places are its own, and those of the others."""
    q = attention.query(vector)
    keys, values = attention.key_value(context).chunk(2, -1)
    size = len(q) // attention.num_heads
    here, there = (0, [0] * len(keys)) if places is None else places
    seen = []
    for head in range(attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        own = turned(q[part], here)
        scores = [float(turned(k[part], m) @ own) / math.sqrt(size) for k, m in zip(keys, there, strict=True)]
        total = math.fsum(map(math.exp, scores))
        seen.append(sum(math.exp(s) / total * value[part] for s, value in zip(scores, values, strict=True)))
    return attention.out(torch.cat(seen))
