"""Sequence to sequence from both ends: two decoders that listen to each other, and the search for both.

Source: 苏剑林, 《seq2seq之双向解码》, https://kexue.fm/archives/6877; L. Zhou, J. Zhang and C. Zong,
Synchronous Bidirectional Neural Machine Translation, TACL 2019. The ids in brackets (decoding.eq2) are rows
of the ledger.

Sequences are ids, padded on the right: 0 pads, 1 and 2 are the markers, tokens begin with 3. Who writes from
left to right begins after marker 1 and ends with marker 2; from right to left it is the other way round.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the message
names the argument and the value.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Bool, Float, Int, Integer
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from kexue import checks
from kexue.masking import lengths_of, reverse_sequence, sequence_mask
from kexue.transformer import Attention, Block, KeyValues, causal_mask

Direction = Literal["l2r", "r2l"]
Markers = Literal["shared", "separate"]

PAD, FIRST, LAST = 0, 1, 2
TOKENS = 3
"""The first id that is a token."""
TINY = 1e-6
"""What the article's search adds to a probability before the logarithm."""


# --- Sequences and markers ---------------------------------------------------------------------


def pad_ids(sequences: Sequence[Sequence[int]]) -> Int[Tensor, "batch length"]:
    """Ids of sequences as one tensor, padded with 0 on the right; at least one column.

    Raises ValueError for no sequences, or an id that is no positive int.
    """
    if not len(sequences):
        raise ValueError("sequences must hold at least one, got none")
    for ids in sequences:
        for one in ids:
            if not isinstance(one, int) or isinstance(one, bool) or one < 1:
                raise ValueError(f"sequences must hold positive ints, got {one!r}")
    longest = max([1, *map(len, sequences)])
    return torch.tensor([[*ids, *[PAD] * (longest - len(ids))] for ids in sequences])


def with_markers(
    tgt: Integer[Tensor, "batch length"], direction: Direction, markers: tuple[int, int] = (FIRST, LAST)
) -> tuple[Integer[Tensor, "batch steps"], Integer[Tensor, "batch steps"]]:
    """What a decoder reads, and what it is to write at each step (decoding.tokens).

    From left to right: reads ⟨1⟩ y₁ … y_N, writes y₁ … y_N ⟨2⟩. From right to left, with the same two
    markers: reads ⟨2⟩ y_N … y₁, writes y_N … y₁ ⟨1⟩.

    Args:
        tgt: (B, N) in reading order, without markers, padded with 0 on the right.
        direction: "l2r" or "r2l".
        markers: the ids of beginning and end, from left to right.

    Returns:
        Both (B, N + 1), padded with 0.

    Raises:
        TypeError: ids that are no int64 or int32.
        ValueError: an unknown direction, a tgt that is not (B, N), markers or negative ids in it, or padding
            before a token.
    """
    _check_direction(direction)
    _check_ids("tgt", tgt, None, 0)
    lengths = lengths_of(tgt != PAD)
    start, end = markers if direction == "l2r" else markers[::-1]
    ordered = tgt if direction == "l2r" else reverse_sequence(tgt, lengths) if tgt.shape[1] else tgt
    reads = pad(ordered, (1, 0), value=start)
    writes = pad(ordered, (0, 1)).scatter(1, lengths[:, None], end)
    return reads, writes


def without_markers(
    written: Sequence[int], direction: Direction, markers: tuple[int, int] = (FIRST, LAST)
) -> tuple[tuple[int, ...], bool]:
    """Tokens in reading order from what a decoder wrote, and whether it came to its end marker.

    Raises ValueError for an unknown direction.
    """
    _check_direction(direction)
    end = markers[1] if direction == "l2r" else markers[0]
    finished = end in written
    tokens = tuple(written[: written.index(end)] if finished else written)
    return (tokens if direction == "l2r" else tokens[::-1]), finished


# --- Models ------------------------------------------------------------------------------------


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
        src_vocab: int,
        tgt_vocab: int,
        width: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float,
        markers: Markers,
    ) -> None:
        super().__init__()
        checks.count("src_vocab", src_vocab, TOKENS + 1)
        checks.count("tgt_vocab", tgt_vocab, TOKENS + 1)
        checks.count("width", width, 1)
        checks.count("heads", heads, 1)
        if width % (2 * heads):
            raise ValueError(f"heads must divide width = {width} into even sizes, got {heads}")
        checks.count("encoder_layers", encoder_layers, 1)
        checks.count("decoder_layers", decoder_layers, 1)
        if markers not in get_args(Markers):
            raise ValueError(f"markers must be one of {get_args(Markers)}, got {markers!r}")
        self.src_vocab, self.tgt_vocab, self.width = src_vocab, tgt_vocab, width
        self.markers: dict[Direction, tuple[int, int]] = dict.fromkeys(get_args(Direction), (FIRST, LAST))
        ids = tgt_vocab
        if markers == "separate":
            self.markers["r2l"] = (tgt_vocab, tgt_vocab + 1)
            ids += 2

        self.src_embedding, self.tgt_embedding = nn.Embedding(src_vocab, width), nn.Embedding(ids, width)
        for embedding in (self.src_embedding, self.tgt_embedding):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        self.encoder = nn.ModuleList(Block(width, heads, None, dropout) for _ in range(encoder_layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(Block(width, heads, None, dropout) for _ in range(decoder_layers))
        # One in front of each block but the first, and the last one for the mix.
        self.source = nn.ModuleList(Attention(width, heads) for _ in range(decoder_layers))
        self.source_norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(decoder_layers - 1))
        self.state_norm = nn.LayerNorm(width)
        self.listen = Attention(width, heads)
        self.mix_state = nn.Linear(width, width)
        self.mix_heard = nn.Linear(width, width, bias=False)
        self.mix_source = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, ids)
        self.dropout = nn.Dropout(dropout)

        forbidden = torch.ones(len(self.directions), ids, dtype=torch.bool)
        forbidden[:, TOKENS:tgt_vocab] = False
        for row, direction in enumerate(self.directions):
            forbidden[row, self.start_end(direction)[1]] = False
        self.forbidden: Tensor
        self.register_buffer("forbidden", forbidden, persistent=False)

    def start_end(self, direction: Direction) -> tuple[int, int]:
        """The ids with which a direction begins and ends."""
        left, right = self.markers[direction]
        return (left, right) if direction == "l2r" else (right, left)

    def encode(self, src: Integer[Tensor, "batch length"]) -> Encoded:
        """A source, which is put between the two markers, as the decoders look at it."""
        _check_ids("src", src, self.src_vocab, 1)
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
    ) -> tuple[Float[Tensor, "batch rows steps width"], list[KeyValues]]:
        """The states H of decoders that have read these ids, which nobody has yet listened with.

        Args:
            reads: several rows for each source; with a past of the same rows, the next id of each.
            encoded: the source.
            past: the second result of the call before.
        """
        before = 0 if past is None else past[0].keys.shape[-2]
        positions = torch.arange(before, before + reads.shape[-1], device=reads.device)
        mask = causal_mask(reads.shape[-1], reads.device) if past is None else None
        h, kept = self._embed(self.tgt_embedding, reads), []
        for i, block in enumerate(self.decoder):
            if i:
                h = h + self.dropout(self.see(self.source_norm[i - 1](h), positions, encoded, i - 1))
            flat, known = block(h.flatten(0, 1), mask, positions, None if past is None else past[i])
            h = flat.view(h.shape)
            kept.append(known)
        return self.state_norm(h), kept

    def see(
        self,
        h: Float[Tensor, "batch rows steps width"],
        positions: Int[Tensor, " steps"],
        encoded: Encoded,
        layer: int = -1,
    ) -> Float[Tensor, "batch rows steps width"]:
        """What states at these steps see of their source."""
        by_side = h.reshape(len(encoded.mask), -1, h.shape[-1])
        positions = positions.repeat(by_side.shape[1] // len(positions))
        attention = cast(Attention, self.source[layer])
        return attention.look(by_side, encoded.known[layer], encoded.mask, positions).view(h.shape)

    def log_probs(
        self,
        state: Float[Tensor, "batch directions *some width"],
        heard: Float[Tensor, "batch directions *more width"],
        seen: Float[Tensor, "batch directions *some width"],
    ) -> Float[Tensor, "batch directions *more ids"]:
        """log softmax of the three views mixed; −∞ for padding, and for what would be the wrong marker."""
        mixed = self.mix_state(state) + self.mix_heard(heard) + self.mix_source(seen)
        logits = self.out(self.dropout(gelu(mixed)))
        shape = (1, len(self.directions), *[1] * (logits.ndim - 3), -1)
        return checks.working(logits).masked_fill(self.forbidden.view(shape), -torch.inf).log_softmax(-1)

    def _check_reads(self, name: str, ids: object, src: Tensor) -> None:
        _check_integers(name, ids)
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
        return self.dropout(embedding(ids) * self.width**0.5)


class Seq2Seq(_Decoders):
    """A Transformer that writes in one direction, log p(Y|X) = Σ log p(yₙ | y before n, X) (decoding.eq1).

    Where the bidirectional model listens to the other side, this one looks at its own states once more: both
    have exactly the same parameters.

    Args:
        src_vocab: how many ids the source has, those below 3 included.
        tgt_vocab: how many ids the target has, likewise.
        width: of all vectors.
        heads: of all attentions.
        encoder_layers: blocks of the encoder.
        decoder_layers: blocks of the decoder.
        dropout: in training.
        direction: "l2r", or "r2l": the last token first.

    Raises:
        TypeError: a size that is no int.
        ValueError: a size below 1 (vocabularies: 4), heads that do not divide width, dropout outside [0, 1),
            or an unknown direction.
    """

    def __init__(
        self,
        src_vocab: int,
        tgt_vocab: int,
        width: int = 128,
        heads: int = 4,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        dropout: float = 0.1,
        direction: Direction = "l2r",
    ) -> None:
        _check_direction(direction)
        self.directions = (direction,)
        super().__init__(
            src_vocab, tgt_vocab, width, heads, encoder_layers, decoder_layers, dropout, "shared"
        )

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
        src_vocab, tgt_vocab, width, heads, encoder_layers, decoder_layers, dropout: as in `Seq2Seq`.
        markers: one pair for both directions ("shared"), or the backward side has its own ("separate";
            ids tgt_vocab and tgt_vocab + 1).

    Raises the errors of `Seq2Seq`, and ValueError for unknown markers.
    """

    directions = ("l2r", "r2l")

    def __init__(
        self,
        src_vocab: int,
        tgt_vocab: int,
        width: int = 128,
        heads: int = 4,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        dropout: float = 0.1,
        markers: Markers = "shared",
    ) -> None:
        super().__init__(src_vocab, tgt_vocab, width, heads, encoder_layers, decoder_layers, dropout, markers)

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
    _check_ids("src", src, model.src_vocab, 1)
    for name, ids in (("tgt", tgt), ("heard", heard)):
        if ids is not None:
            _check_ids(name, ids, model.tgt_vocab, 0)
            if len(ids) != len(src):
                raise ValueError(f"{name} must have as many rows as src, {len(src)}, got {len(ids)}")
    pairs = [with_markers(tgt, one, model.markers[one]) for one in model.directions]
    reads, writes = (torch.stack(side, 1) for side in zip(*pairs, strict=True))
    if heard is None:
        logits = model(src, reads)
    elif isinstance(model, BidirectionalSeq2Seq):
        told = [with_markers(heard, one, model.markers[one])[0] for one in model.directions]
        logits = model(src, reads, torch.stack(told, 1))
    else:
        raise ValueError("heard must be None for a model of one direction")
    mask = writes[:, 0] != PAD
    # Padding may be −∞, which must not meet a factor of 0.
    chosen = logits.gather(-1, writes.masked_fill(writes == PAD, TOKENS)[..., None]).squeeze(-1)
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


# --- Search ------------------------------------------------------------------------------------


class Hypothesis(NamedTuple):
    """What a search found."""

    tokens: tuple[int, ...]
    """In reading order, without markers."""
    score: float
    direction: Direction
    finished: bool
    """Whether the end marker was written in time."""


AT_ONCE = 1024
"""Sources that are searched together."""


def beam_search(
    model: Seq2Seq, src: Integer[Tensor, "batch length"], beam_size: int, max_length: int
) -> list[list[Hypothesis]]:
    """The best sequences of a model of one direction, by log-probability (decoding.search).

    The search goes on until all paths in the beam have ended, or `max_length` steps are done. No length
    normalisation.

    Args:
        model: used without dropout, and without gradients.
        src: (B, S), padded with 0 on the right.
        beam_size: k, paths that are kept for each source.
        max_length: steps at most, that of the end marker included.

    Returns:
        Of each source the hypotheses by score, the best first; at most k.

    Raises:
        TypeError: a model of another kind, ids that are no integers, sizes that are no ints.
        ValueError: no sources or an empty one, ids outside the vocabulary, markers among the ids, padding
            before a token, beam_size or max_length below 1.
    """
    if not isinstance(model, Seq2Seq):
        raise TypeError(f"model must be a Seq2Seq, got {type(model).__name__}")
    return _search(model, src, beam_size, max_length, "mean")


def bidirectional_beam_search(
    model: BidirectionalSeq2Seq,
    src: Integer[Tensor, "batch length"],
    beam_size: int,
    max_length: int,
    average: Literal["mean", "weighted"] = "mean",
) -> list[list[Hypothesis]]:
    """The article's search: two beams, step by step together (decoding.search).

    Every path l of a side is continued with every word w, the other side's k paths r are averaged over,
    s(l + w) = s(l) + log(meanᵣ p(w | l, r) + 10⁻⁶), and the best k are kept. A path that has ended stays as
    it is, and the other side goes on hearing what it said. The search ends when the best path of one side
    has ended and its score is at least that of the other side's best.

    Args:
        model: used without dropout, and without gradients.
        src: (B, S), padded with 0 on the right.
        beam_size: k, paths that are kept on each side.
        max_length: steps at most, that of the end marker included.
        average: "mean", the article's; "weighted", by e^score of the other side's paths (ours).

    Returns:
        Of each source the hypotheses of both sides by score, the best first, at most 2k. Lower ranks may be
        unfinished.

    Raises the errors of `beam_search`, and ValueError for an unknown average.
    """
    if not isinstance(model, BidirectionalSeq2Seq):
        raise TypeError(f"model must be a BidirectionalSeq2Seq, got {type(model).__name__}")
    if average not in ("mean", "weighted"):
        raise ValueError(f"average must be 'mean' or 'weighted', got {average!r}")
    return _search(model, src, beam_size, max_length, average)


def _search(model: Model, src: Tensor, k: int, max_length: int, average: str) -> list[list[Hypothesis]]:
    """Both searches, sources of like lengths together."""
    _check_ids("src", src, model.src_vocab, 1)
    checks.count("beam_size", k, 1)
    checks.count("max_length", max_length, 1)
    lengths = lengths_of(src != PAD)
    found: list[list[Hypothesis]] = [[] for _ in src]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            for chosen in lengths.argsort(stable=True).split(AT_ONCE):
                part = src[chosen, : int(lengths[chosen].max())]
                for index, best in zip(
                    chosen.tolist(), _Beams(model, part, k).run(max_length, average), strict=True
                ):
                    found[index] = best
    finally:
        for module, training in modes.items():
            module.training = training
    return found


class _Beams:
    """The beams of several sources: what has been written, scores, and what the model keeps.

    Axes: sources that are still searched, directions, k paths.
    """

    def __init__(self, model: Model, src: Tensor, k: int) -> None:
        self.model, self.k = model, k
        device, directions = src.device, len(model.directions)
        shape = (len(src), directions, k)
        self.encoded = model.encode(src)
        markers = torch.tensor([model.start_end(one) for one in model.directions], device=device)
        self.end = markers[:, 1, None]
        self.next = markers[:, :1].expand(shape)
        """What each path reads next."""
        self.written = torch.empty(*shape, 0, dtype=torch.int64, device=device)
        self.score = torch.full(shape, -torch.inf, dtype=self.encoded.known[0].keys.dtype, device=device)
        self.score[:, :, 0] = 0.0  # the other k − 1 are not there yet
        self.finished = torch.zeros(shape, dtype=torch.bool, device=device)
        self.has_read = torch.empty(*shape, 0, dtype=torch.bool, device=device)
        self.past: list[KeyValues] | None = None
        self.told: KeyValues | None = None
        self.source = torch.arange(len(src), device=device)
        self.found: list[list[Hypothesis]] = [[] for _ in src]

    def run(self, max_length: int, average: str) -> list[list[Hypothesis]]:
        for _ in range(max_length):
            self.choose(self.step_log_probs(average))
            done = self.done()
            if done.any():
                self.collect(done)
                if done.all():
                    return self.found
                self.keep(~done)
        self.collect(torch.ones_like(self.source, dtype=torch.bool))
        return self.found

    def step_log_probs(self, average: str) -> Tensor:
        """Of every id as continuation of every path, after the other side's paths were averaged over."""
        model = self.model
        sources, directions, k = self.next.shape
        state, self.past = model.states(self.next.reshape(sources, -1, 1), self.encoded, self.past)
        told = model.listen.key_values(state.flatten(0, 1))
        if self.told is not None:
            told = KeyValues(*(torch.cat(pair, -2) for pair in zip(self.told, told, strict=True)))
        self.told = told
        self.has_read = torch.cat((self.has_read, ~self.finished[..., None]), -1)
        step = torch.tensor([self.has_read.shape[-1] - 1], device=state.device)
        seen = model.see(state, step, self.encoded)
        if directions == 1:
            heard = model.listen.look(state.flatten(0, 1), told)
            rows = (part.view(sources, 1, k, -1) for part in (state, heard, seen))
            return model.log_probs(*rows)

        # Every path listens to each of the other side's k: (sources, directions, k, k, width).
        pairs = state.view(sources * 2, k, -1)
        heads, size = told.keys.shape[1], told.keys.shape[3]
        steps = told.keys.shape[2]

        def of_others(x: Tensor) -> Tensor:  # (sources·directions, heads, k·steps, size)
            x = x.view(sources, 2, k, heads, steps, size).flip(1)
            return x.transpose(2, 3).reshape(sources * 2, heads, k, steps, size)

        keys, values = of_others(told.keys), of_others(told.values)
        query = model.listen.query(pairs).view(sources * 2, k, heads, size).transpose(1, 2)
        weight = query @ keys.flatten(2, 3).transpose(-1, -2) / size**0.5  # (…, heads, k, k·steps)
        weight = weight.view(sources * 2, heads, k, k, steps)
        mask = self.has_read.flip(1).view(sources * 2, 1, 1, k, steps)
        weight = weight.masked_fill(~mask, -torch.inf).softmax(-1)
        heard = weight.transpose(2, 3) @ values  # (…, heads, other path, own path, size)
        heard = model.listen.out(heard.permute(0, 3, 2, 1, 4).flatten(3)).view(sources, 2, k, k, -1)
        each = model.log_probs(state.view(sources, 2, k, 1, -1), heard, seen.view(sources, 2, k, 1, -1))
        there = self.score.flip(1)[:, :, None]
        if average == "mean":
            there = there.masked_fill(there > -torch.inf, 0.0)
        mean = (each.exp() * there.softmax(-1)[..., None]).sum(-2)
        return (mean + TINY).log().masked_fill(model.forbidden[:, None], -torch.inf)

    def choose(self, log_probs: Tensor) -> None:
        """The best k continuations of each side."""
        score = self.score[..., None] + log_probs.masked_fill(self.finished[..., None], -torch.inf)
        # What has ended has one continuation, itself.
        score[..., PAD] = torch.where(self.finished, self.score, -torch.inf)
        self.score, chosen = score.flatten(2).topk(self.k)
        parent, self.next = chosen // score.shape[-1], chosen % score.shape[-1]
        self.reorder(parent)
        self.written = torch.cat((self.written, self.next[..., None]), -1)
        self.finished = self.finished | (self.next == self.end)

    def reorder(self, parent: Tensor) -> None:
        rows = torch.arange(parent[..., 0].numel(), device=parent.device).view(*parent.shape[:2], 1)
        self._select((rows * self.k + parent).flatten(), parent.shape)

    def keep(self, still: Tensor) -> None:
        """Only those sources."""
        self.source, self.score, self.next = self.source[still], self.score[still], self.next[still]
        sides = still.repeat_interleave(len(self.model.directions))
        known = tuple(KeyValues(one.keys[sides], one.values[sides]) for one in self.encoded.known)
        self.encoded = Encoded(known, self.encoded.mask[sides])
        rows = torch.arange(still.numel() * self.finished[0].numel(), device=still.device)
        self._select(rows.view(self.finished.shape)[still].flatten(), self.score.shape)

    def _select(self, rows: Tensor, shape: torch.Size) -> None:
        assert self.past is not None
        assert self.told is not None
        self.past = [KeyValues(one.keys[rows], one.values[rows]) for one in self.past]
        self.told = KeyValues(self.told.keys[rows], self.told.values[rows])
        self.written = self.written.flatten(0, 2)[rows].view(*shape, -1)
        self.has_read = self.has_read.flatten(0, 2)[rows].view(*shape, -1)
        self.finished = self.finished.flatten()[rows].view(shape)

    def done(self) -> Tensor:
        """Which sources need no further step."""
        done = self.finished.all(-1).all(-1)
        if len(self.model.directions) == 2:
            best = self.score.max(-1)
            ended = self.finished.gather(-1, best.indices[..., None]).squeeze(-1)
            done = done | (ended & (best.values >= best.values.flip(1))).any(-1)
        return done

    def collect(self, chosen: Tensor) -> None:
        """The hypotheses of those sources."""
        lists = [x[chosen].tolist() for x in (self.source, self.written, self.score)]
        for source, written, scores in zip(*lists, strict=True):
            hypotheses = []
            for row, direction in enumerate(self.model.directions):
                for ids, score in zip(written[row], scores[row], strict=True):
                    if score > -torch.inf:
                        ids = [one for one in ids if one != PAD]
                        tokens, finished = without_markers(ids, direction, self.model.markers[direction])
                        hypotheses.append(Hypothesis(tokens, score, direction, finished))
            self.found[source] = sorted(hypotheses, key=lambda one: -one.score)


# --- Errors ------------------------------------------------------------------------------------


def error_rate(
    hypotheses: Sequence[Sequence[int | str]], references: Sequence[Sequence[Sequence[int | str]]]
) -> tuple[float, float]:
    """Phoneme and word error rate: edits per token of the reference, and share of words with any.

    Where there are several references for a word, the one with the fewest edits per token counts, of equal
    ones the shortest.

    Args:
        hypotheses: of each word one sequence of tokens, ids or strings.
        references: of each word one or more.

    Raises:
        TypeError: a word's references are a string, or no sequence of sequences.
        ValueError: no words, unequal numbers of them, or a word without a reference, or with an empty one.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"hypotheses must be as many as references, at least one, got {len(hypotheses)} "
            f"and {len(references)}"
        )
    edits = tokens = wrong = 0
    for index, (hypothesis, several) in enumerate(zip(hypotheses, references, strict=True)):
        if isinstance(several, str) or not all(isinstance(one, Sequence) for one in (hypothesis, *several)):
            raise TypeError(
                "hypotheses and references must be sequences of tokens, and lists of such, "
                f"got {hypothesis!r} and {several!r} at {index}"
            )
        if not several or not all(several):
            raise ValueError(f"references must have a token for every word, got {several!r} at {index}")
        found = [(Levenshtein.distance(tuple(hypothesis), tuple(one)), len(one)) for one in several]
        distance, length = min(found, key=lambda pair: (pair[0] / pair[1], pair[1]))
        edits, tokens, wrong = edits + distance, tokens + length, wrong + (distance > 0)
    return edits / tokens, wrong / len(hypotheses)


def _check_direction(direction: object) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {get_args(Direction)}, got {direction!r}")


def _check_integers(name: str, ids: object) -> None:
    checks.tensor(name, ids)
    assert isinstance(ids, Tensor)
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must have dtype int64 or int32, got {ids.dtype}")


def _check_ids(name: str, ids: object, vocabulary: int | None, shortest: int) -> None:
    """Raises unless rows of token ids, padded on the right, at least so many in each."""
    _check_integers(name, ids)
    assert isinstance(ids, Tensor)
    if ids.ndim != 2 or len(ids) == 0:
        raise ValueError(f"{name} must have shape (B, length) with B ≥ 1, got {tuple(ids.shape)}")
    real = ids != PAD
    bad = real & (ids < TOKENS)
    if vocabulary is not None:
        bad |= ids >= vocabulary
    if bad.any():
        last = "" if vocabulary is None else f" to {vocabulary - 1}"
        raise ValueError(
            f"{name} must hold ids from {TOKENS}{last}, and {PAD} as padding, got {int(ids[bad][0])}"
        )
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError(f"{name} must be padded on the right, got {PAD} before a token")
    if (real.sum(1) < shortest).any():
        row = int((real.sum(1) < shortest).nonzero()[0])
        raise ValueError(f"{name} must not have empty rows, got one at {row}")
