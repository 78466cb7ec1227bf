"""Beam search, from one end and from both."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Integer
from torch import Tensor

from kexue.decoding.models import BidirectionalSeq2Seq, Encoded, Model, Seq2Seq
from kexue.decoding.sequences import PAD, Direction, check_ids, without_markers
from kexue.masking import lengths_of
from kexue.nn import checks
from kexue.nn.attention import KeyValues

TINY = 1e-6
"""What the article's search adds to a probability before the logarithm."""


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
    check_ids("src", src, model.src_vocab, 1)
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
