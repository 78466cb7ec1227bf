"""Encoder and decoders of one direction, and of both that listen to each other."""

from collections.abc import Sequence
from typing import NamedTuple, cast, get_args

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from kexue.decoding.sequences import (
    FIRST,
    LAST,
    TOKENS,
    Direction,
    Markers,
    check_ids,
    check_integers,
    with_markers,
)
from kexue.masking import lengths_of, reverse_sequence, sequence_mask
from kexue.nn import checks
from kexue.nn.attention import Attention, Block, KeyValues, causal_mask
from kexue.nn.sequences import PAD


class Encoded(NamedTuple):
    """A source as the decoders look at it."""

    known: tuple[KeyValues, ...]
    """Of each attention to the source."""
    mask: Bool[Tensor, "batch 1 1 length"]
    """True where the source is real. The batch of both is sources × directions."""


class _Decoders(nn.Module):
    """What both models share: the encoder, the decoder, and the layer that mixes three views.

    A state h is what a stack of causal blocks, which look at the source between them, makes of the ids that
    a side has read. The prediction is made from h, from what h sees of the states that it listens to, and
    from what it sees of the source.
    """

    directions: tuple[Direction, ...]

    def __init__(
        self,
        src_vocab_size: int,
        tgt_vocab_size: int,
        hidden_size: int = 128,
        num_heads: int = 4,
        num_encoder_layers: int = 2,
        num_decoder_layers: int = 2,
        dropout: float = 0.1,
        markers: Markers = "shared",
    ) -> None:
        super().__init__()
        checks.count("src_vocab_size", src_vocab_size, TOKENS + 1)
        checks.count("tgt_vocab_size", tgt_vocab_size, TOKENS + 1)
        checks.heads(hidden_size, num_heads, rotary=True)
        checks.count("num_encoder_layers", num_encoder_layers, 1)
        checks.count("num_decoder_layers", num_decoder_layers, 1)
        checks.choice("markers", markers, get_args(Markers))
        self.src_vocab_size, self.tgt_vocab_size = src_vocab_size, tgt_vocab_size
        self.hidden_size = hidden_size
        self.markers: dict[Direction, tuple[int, int]] = dict.fromkeys(get_args(Direction), (FIRST, LAST))
        ids = tgt_vocab_size
        if markers == "separate":
            self.markers["r2l"] = (tgt_vocab_size, tgt_vocab_size + 1)
            ids += 2

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(Block(hidden_size, num_heads, None, dropout) for _ in range(count))

        self.src_embedding = nn.Embedding(src_vocab_size, hidden_size)
        self.tgt_embedding = nn.Embedding(ids, hidden_size)
        for embedding in (self.src_embedding, self.tgt_embedding):
            nn.init.normal_(embedding.weight, std=hidden_size**-0.5)
        self.encoder = blocks(num_encoder_layers)
        self.encoder_norm = nn.LayerNorm(hidden_size)
        self.decoder = blocks(num_decoder_layers)
        # One in front of each block but the first, and the last one for the mix.
        self.source = nn.ModuleList(Attention(hidden_size, num_heads) for _ in range(num_decoder_layers))
        self.source_norm = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(num_decoder_layers - 1))
        self.state_norm = nn.LayerNorm(hidden_size)
        self.listen = Attention(hidden_size, num_heads)
        self.mix_state = nn.Linear(hidden_size, hidden_size)
        self.mix_heard = nn.Linear(hidden_size, hidden_size, bias=False)
        self.mix_source = nn.Linear(hidden_size, hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, ids)
        self.dropout = nn.Dropout(dropout)

        forbidden = torch.ones(len(self.directions), ids, dtype=torch.bool)
        forbidden[:, TOKENS:tgt_vocab_size] = False
        for row, direction in enumerate(self.directions):
            forbidden[row, self.start_end(direction)[1]] = False
        self.forbidden: Tensor
        self.register_buffer("forbidden", forbidden, persistent=False)

    def start_end(self, direction: Direction) -> tuple[int, int]:
        """The ids with which a direction begins and ends."""
        left, right = self.markers[direction]
        return (left, right) if direction == "l2r" else (right, left)

    def reads_and_writes(
        self, tgt: Integer[Tensor, "batch tokens"]
    ) -> tuple[Integer[Tensor, "batch directions steps"], Integer[Tensor, "batch directions steps"]]:
        """`with_markers` of each direction: teacher forcing."""
        pairs = [with_markers(tgt, one, self.markers[one]) for one in self.directions]
        reads, writes = (torch.stack(side, 1) for side in zip(*pairs, strict=True))
        return reads, writes

    def encode(self, src: Integer[Tensor, "batch length"]) -> Encoded:
        """A source, which is put between the two markers, as the decoders look at it."""
        check_ids("src", src, self.src_vocab_size, 1)
        lengths = lengths_of(src != PAD)
        x = pad(src, (1, 1)).scatter(1, lengths[:, None] + 1, LAST)
        x[:, 0] = FIRST
        mask = sequence_mask(lengths + 2, x.shape[1])[:, None, None]
        positions = torch.arange(x.shape[1], device=x.device)
        h = self._embed(self.src_embedding, x)
        for block in self.encoder:
            h, _ = block(h, mask, positions)
        h = self.encoder_norm(h)
        # Each side counts the source's positions from its own end, too.
        ends = [h if one == "l2r" else reverse_sequence(h, lengths + 2) for one in self.directions]
        h = torch.stack(ends, 1).flatten(0, 1)
        known = tuple(cast(Attention, one).key_values(h, positions) for one in self.source)
        return Encoded(known, mask.repeat_interleave(len(self.directions), 0))

    def states(
        self,
        reads: Integer[Tensor, "batch rows steps"],
        encoded: Encoded,
        past: Sequence[KeyValues] | None = None,
    ) -> tuple[Float[Tensor, "batch rows steps hidden"], list[KeyValues]]:
        """The states H of decoders that have read these ids, which nobody has yet listened with.

        Args:
            reads: several rows for each source; with a past of the same rows, the next id of each.
            encoded: the source.
            past: the second result of the call before.
        """
        before = past[0].length if past else 0
        positions = torch.arange(before, before + reads.shape[-1], device=reads.device)
        mask = None if past else causal_mask(reads.shape[-1], reads.device)
        h, kept = self._embed(self.tgt_embedding, reads), []
        for i, block in enumerate(self.decoder):
            if i:
                h = h + self.dropout(self.see(self.source_norm[i - 1](h), positions, encoded, i - 1))
            flat, known = block(h.flatten(0, 1), mask, positions, past[i] if past else None)
            h = flat.view(h.shape)
            kept.append(known)
        return self.state_norm(h), kept

    def see(
        self,
        h: Float[Tensor, "batch rows steps hidden"],
        positions: Int[Tensor, " steps"],
        encoded: Encoded,
        layer: int = -1,
    ) -> Float[Tensor, "batch rows steps hidden"]:
        """What states at these steps see of their source."""
        by_side = h.reshape(len(encoded.mask), -1, h.shape[-1])
        positions = positions.repeat(by_side.shape[1] // len(positions))
        attention = cast(Attention, self.source[layer])
        return attention.look(by_side, encoded.known[layer], encoded.mask, positions).view(h.shape)

    def log_probs(
        self,
        state: Float[Tensor, "batch directions *some hidden"],
        heard: Float[Tensor, "batch directions *more hidden"],
        seen: Float[Tensor, "batch directions *some hidden"],
    ) -> Float[Tensor, "batch directions *more ids"]:
        """log softmax of the three views mixed; −∞ for padding, and for what would be the wrong marker."""
        mixed = self.mix_state(state) + self.mix_heard(heard) + self.mix_source(seen)
        logits = self.out(self.dropout(gelu(mixed)))
        shape = (1, len(self.directions), *[1] * (logits.ndim - 3), -1)
        return checks.working(logits).masked_fill(self.forbidden.view(shape), -torch.inf).log_softmax(-1)

    def _check_reads(self, name: str, ids: object, src: Tensor) -> None:
        check_integers(name, ids)
        assert isinstance(ids, Tensor)
        rows = (len(src), len(self.directions))
        if ids.ndim != 3 or ids.shape[:2] != rows or not ids.shape[2]:
            raise ValueError(
                f"{name} must have shape ({rows[0]}, {rows[1]}, steps), at least one step, "
                f"got {tuple(ids.shape)}"
            )
        last = self.tgt_embedding.num_embeddings - 1
        if ids.min() < 0 or ids.max() > last:
            bad = ids[(ids < 0) | (ids > last)][0]
            raise ValueError(f"{name} must hold ids from 0 to {last}, got {int(bad)}")

    def _embed(self, embedding: nn.Module, ids: Tensor) -> Tensor:
        return self.dropout(embedding(ids) * self.hidden_size**0.5)


class Seq2Seq(_Decoders):
    """A Transformer that writes in one direction, log p(Y|X) = Σ log p(yₙ | y before n, X) (decoding.eq1).

    Where the bidirectional model listens to the other side, this one looks at its own states once more: both
    have exactly the same parameters.

    Args:
        src_vocab_size: how many ids the source has, those below 3 included.
        tgt_vocab_size: how many ids the target has, likewise.
        hidden_size: of all vectors.
        num_heads: of all attentions.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        dropout: in training.
        direction: "l2r", or "r2l": the last token first.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1 (vocabularies: 4), heads that do not divide `hidden_size` into even sizes,
            dropout outside [0, 1), or an unknown direction.
    """

    def __init__(
        self,
        src_vocab_size: int,
        tgt_vocab_size: int,
        hidden_size: int = 128,
        num_heads: int = 4,
        num_encoder_layers: int = 2,
        num_decoder_layers: int = 2,
        dropout: float = 0.1,
        direction: Direction = "l2r",
    ) -> None:
        checks.choice("direction", direction, get_args(Direction))
        self.directions = (direction,)
        layers = num_encoder_layers, num_decoder_layers
        super().__init__(src_vocab_size, tgt_vocab_size, hidden_size, num_heads, *layers, dropout)

    def forward(
        self, src: Integer[Tensor, "batch length"], reads: Integer[Tensor, "batch directions steps"]
    ) -> Float[Tensor, "batch directions steps ids"]:
        """Log-probabilities of what comes next, after each id that was read.

        Args:
            src: padded with 0.
            reads: (B, 1, T), the first result of `with_markers`.

        Raises the errors of `token_log_probs`.
        """
        encoded = self.encode(src)
        self._check_reads("reads", reads, src)
        h, _ = self.states(reads, encoded)
        flat = h.flatten(0, 1)
        heard = self.listen.look(flat, self.listen.key_values(flat), causal_mask(h.shape[2], h.device))
        positions = torch.arange(h.shape[2], device=h.device)
        return self.log_probs(h, heard.view(h.shape), self.see(h, positions, encoded))


class BidirectionalSeq2Seq(_Decoders):
    """Two decoders, one from each end, that listen to each other (decoding.eq2, decoding.eq3).

    At step n each side's query is its own state hₙ, keys and values are the other side's first n states,
    and the prediction is made from [hₙ; what it heard; what it sees of the source]. The states that are
    listened to have not listened themselves, so that both sides are alike. They share all parameters and
    are told apart by the marker that they begin with.

    Args:
        src_vocab_size: this and what follows up to the dropout are as in `Seq2Seq`.
        markers: one pair for both directions ("shared"), or the backward side has its own ("separate";
            ids tgt_vocab_size and tgt_vocab_size + 1).

    Raises the errors of `Seq2Seq`, and ValueError for unknown markers.
    """

    directions = ("l2r", "r2l")

    def forward(
        self,
        src: Integer[Tensor, "batch length"],
        reads: Integer[Tensor, "batch directions steps"],
        heard: Integer[Tensor, "batch directions others"] | None = None,
    ) -> Float[Tensor, "batch directions steps ids"]:
        """Log-probabilities of what comes next, of both sides, after each id that was read.

        Args:
            src: padded with 0.
            reads: (B, 2, T), the first results of `with_markers` for l2r and r2l, stacked.
            heard: (B, 2, T'), what the two sides let each other hear in place of what they read: the second
                training stage (decoding.claim5).

        Raises the errors of `token_log_probs`.
        """
        encoded = self.encode(src)
        for name, ids in (("reads", reads), ("heard", heard)):
            if ids is not None:
                self._check_reads(name, ids, src)
        h, _ = self.states(reads, encoded)
        told, told_ids = (h, reads) if heard is None else (self.states(heard, encoded)[0], heard)
        other = self.listen.key_values(told.flip(1).flatten(0, 1))
        # Query n hears the first n states, as far as there are so many.
        n, m = torch.arange(h.shape[2], device=h.device), torch.arange(told.shape[2], device=h.device)
        mask = (m <= n[:, None]) & (told_ids.flip(1) != PAD)[:, :, None]
        seen = self.listen.look(h.flatten(0, 1), other, mask.flatten(0, 1)[:, None])
        return self.log_probs(h, seen.view(h.shape), self.see(h, n, encoded))


Model = Seq2Seq | BidirectionalSeq2Seq


def token_log_probs(
    model: Model,
    src: Integer[Tensor, "batch length"],
    tgt: Integer[Tensor, "batch tokens"],
    heard: Integer[Tensor, "batch others"] | None = None,
) -> tuple[Float[Tensor, "batch directions steps"], Bool[Tensor, "batch steps"]]:
    """Teacher forcing: log-probabilities of a target's tokens and end marker, in the order of writing.

    Args:
        model: of one or two directions.
        src: (B, S) padded with 0 on the right.
        tgt: (B, N) in reading order, without markers, likewise.
        heard: another target, of which the sides of a bidirectional model hear each other say the words.

    Returns:
        (B, D, N + 1), 0 in the padding, and the mask (B, N + 1) of the real steps.

    Raises:
        TypeError: a model of another kind, or ids that are no int64 or int32.
        ValueError: an empty source, ids outside the vocabulary, markers among the ids, padding before a
            token, batches that differ, or `heard` for a model of one direction.
    """
    if not isinstance(model, Seq2Seq | BidirectionalSeq2Seq):
        raise TypeError(f"model must be a Seq2Seq or a BidirectionalSeq2Seq, got {type(model).__name__}")
    check_ids("src", src, model.src_vocab_size, 1)
    for name, ids in (("tgt", tgt), ("heard", heard)):
        if ids is not None:
            check_ids(name, ids, model.tgt_vocab_size, 0)
            if len(ids) != len(src):
                raise ValueError(f"{name} must have as many rows as src, {len(src)}, got {len(ids)}")
    reads, writes = model.reads_and_writes(tgt)
    if heard is None:
        log_probs = model(src, reads)
    elif isinstance(model, BidirectionalSeq2Seq):
        log_probs = model(src, reads, model.reads_and_writes(heard)[0])
    else:
        raise ValueError("heard must be None for a model of one direction")
    mask = writes[:, 0] != PAD
    # Padding may be −∞, which must not meet a factor of 0.
    chosen = log_probs.gather(-1, writes.masked_fill(writes == PAD, TOKENS)[..., None]).squeeze(-1)
    return chosen.masked_fill(~mask[:, None], 0.0), mask


def cross_entropy(
    model: Model,
    src: Integer[Tensor, "batch length"],
    tgt: Integer[Tensor, "batch tokens"],
    heard: Integer[Tensor, "batch others"] | None = None,
) -> Float[Tensor, " directions"]:
    """Mean cross-entropy per token, end marker included, of each direction; their mean is the loss.

    (decoding.loss). Arguments and errors are those of `token_log_probs`.
    """
    chosen, mask = token_log_probs(model, src, tgt, heard)
    return -chosen.sum((0, 2)) / mask.sum()
