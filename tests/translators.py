"""Small models of kexue.decoding, far from uniform, and the same once more, one vector at a time."""

import itertools
import math

import torch
from literal import literal_attention
from seeded import F64, gen
from torch.nn.functional import gelu

from kexue import decoding
from kexue.decoding import token_log_probs
from kexue.nn.attention import causal_mask

SIDES = ONE_WAY = ("l2r", "r2l")
BOTH_WAYS = ("shared", "separate")
KINDS = [*ONE_WAY, *BOTH_WAYS]
SIZES = {"hidden_size": 8, "num_heads": 2, "num_encoder_layers": 1}
SRC, TGT = torch.tensor([[3, 4], [5, 0]]), torch.tensor([[3, 4, 5], [4, 0, 0]])


def single(**options):
    return decoding.Seq2Seq(8, 6, **SIZES | {"num_decoder_layers": 1} | options)


def both(**options):
    return decoding.BidirectionalSeq2Seq(8, 6, **SIZES | {"num_decoder_layers": 1} | options)


def model_of(kind, seed=0, words=3, layers=2, end=0.0, scale=1.7, dropout=0.0):
    """Of one direction ("l2r", "r2l") or of both ("shared", "separate" markers).

    `end` is added to the logit of whatever ends a sequence.
    """
    torch.manual_seed(seed)
    sizes = SIZES | {"num_decoder_layers": layers, "dropout": dropout}
    if kind in ONE_WAY:
        model = decoding.Seq2Seq(8, 3 + words, direction=kind, **sizes)
    else:
        model = decoding.BidirectionalSeq2Seq(8, 3 + words, markers=kind, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
        model.out.bias.zero_()
        for side in model.directions:
            model.out.bias[model.start_end(side)[1]] = end
    return model.to(F64).eval()


def search(model, src, *options):
    """That of the model's kind."""
    one_way = isinstance(model, decoding.Seq2Seq)
    return (decoding.beam_search if one_way else decoding.bidirectional_beam_search)(model, src, *options)


def randint(low, high, *shape, seed=0):
    return torch.randint(low, high, shape, generator=gen(seed))


def sources(*lengths, seed=0):
    return [randint(3, 8, length, seed=100 * seed + i).tolist() for i, length in enumerate(lengths)]


def targets(*lengths, words=3, seed=1):
    return [randint(3, 3 + words, n, seed=100 * seed + i).tolist() for i, n in enumerate(lengths)]


def sequences(words, length):
    return list(itertools.product(range(3, 3 + words), repeat=length))


def ordered(side, target):
    return list(target) if side == "l2r" else list(target)[::-1]


def literal_context(model, source, side):
    """The source's states, and their places as a side counts them, from its own end."""
    ids = torch.tensor([1, *source, 2])
    h = model.src_embedding.weight[ids] * model.hidden_size**0.5
    for block in model.encoder:
        h = block(h[None], None, torch.arange(len(ids)))[0][0]
    places = list(range(len(ids)))
    return model.encoder_norm(h), places if side == "l2r" else places[::-1]


def literal_states(model, source, side, ids):
    context, places = literal_context(model, source, side)
    h = model.tgt_embedding.weight[torch.tensor(ids)] * model.hidden_size**0.5
    for i, block in enumerate(model.decoder):
        if i:
            rows = enumerate(model.source_norm[i - 1](h))
            seen = [literal_attention(model.source[i - 1], row, context, (n, places)) for n, row in rows]
            h = h + torch.stack(seen)
        h = block(h[None], causal_mask(len(ids)), torch.arange(len(ids)))[0][0]
    return model.state_norm(h)


def other_side(model, side):
    return side if len(model.directions) == 1 else SIDES[1 - SIDES.index(side)]


def literal_log_probs(model, source, side, own, other, n):
    """Of what `side` writes at step n (from 0), a dictionary; own and other are ids that were read."""
    context, places = literal_context(model, source, side)
    h = literal_states(model, source, side, own)[n]
    told = literal_states(model, source, other_side(model, side), other)
    heard = literal_attention(model.listen, h, told[: n + 1])
    seen = literal_attention(model.source[-1], h, context, (n, places))
    mixed = model.mix_state(h) + model.mix_heard.weight @ heard + model.mix_source.weight @ seen
    logits = model.out(gelu(mixed)).tolist()
    allowed = [*range(3, model.tgt_vocab_size), model.start_end(side)[1]]
    total = math.log(math.fsum(math.exp(logits[i]) for i in allowed))
    return {i: logits[i] - total for i in allowed}


@torch.no_grad()
def all_log_probs(model, source, words, length):
    """log p of all sequences of fewer tokens, and of all prefixes of so many, by sequence."""
    found = {}
    for n in range(length + 1):
        several = sequences(words, n)
        tgt = torch.tensor(several, dtype=torch.int64).view(len(several), n)
        chosen, _ = token_log_probs(model, torch.tensor([source] * len(several)), tgt)
        steps = chosen[:, 0, :n].sum(-1) if n == length else chosen[:, 0].sum(-1)
        found.update(zip(several, steps.tolist(), strict=True))
    return found


class HearsTheFuture(decoding.BidirectionalSeq2Seq):
    """A fault."""

    def forward(self, src, reads, heard=None):
        told = reads if heard is None else heard
        return super().forward(src, reads, torch.cat((told[..., 1:], told[..., -1:]), -1))
