"""Beam search, from one end and from both."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Integer
from torch import Tensor

from kexue.decoding.models import BidirectionalSeq2Seq, Encoded, Model, Seq2Seq
from kexue.decoding.sequences import Direction, check_ids, without_markers
from kexue.masking import lengths_of
from kexue.nn import checks
from kexue.nn.attention import KeyValues
from kexue.nn.beam import Beam
from kexue.nn.modes import evaluating
from kexue.nn.sequences import PAD

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


def _search(
    model: Model, src: Tensor, beam_size: int, max_length: int, average: str
) -> list[list[Hypothesis]]:
    """Both searches, sources of like lengths together."""
    check_ids("src", src, model.src_vocab_size, 1)
    checks.count("beam_size", beam_size, 1)
    checks.count("max_length", max_length, 1)
    lengths = lengths_of(src != PAD)
    found: list[list[Hypothesis]] = [[] for _ in src]
    with evaluating(model):
        for chosen in lengths.argsort(stable=True).split(AT_ONCE):
            part = src[chosen, : int(lengths[chosen].max())]
            several = _Search(model, part, beam_size).run(max_length, average)
            for index, hypotheses in zip(chosen.tolist(), several, strict=True):
                found[index] = hypotheses
    return found


class _Search:
    """The search for several sources: their beams, and what the model keeps for each path.

    Axes: sources that are still searched, directions, paths. Caches have one axis for all of them.
    """

    def __init__(self, model: Model, src: Tensor, beam_size: int) -> None:
        self.model, self.encoded = model, model.encode(src)
        self.beam = Beam((len(src), len(model.directions)), beam_size, src.device)
        markers = torch.tensor([model.start_end(one) for one in model.directions], device=src.device)
        self.end = markers[:, 1, None]
        self.reads = markers[:, :1].expand(self.beam.score.shape)
        """What each path reads next."""
        self.past: list[KeyValues] = []
        self.told: KeyValues | None = None
        """The states that the other side listens to."""
        self.has_read = torch.empty(self.reads.numel(), 0, dtype=torch.bool, device=src.device)
        self.source = torch.arange(len(src), device=src.device)
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
        """Of every id behind every path, after the other side's paths were averaged over."""
        model = self.model
        sources, directions, paths = self.reads.shape
        state, self.past = model.states(self.reads.reshape(sources, -1, 1), self.encoded, self.past)
        step = torch.tensor([self.has_read.shape[-1]], device=state.device)
        self.has_read = torch.cat((self.has_read, ~self.beam.finished.view(-1, 1)), -1)
        flat = state.flatten(0, 1)
        self.told = told = model.listen.key_values(flat, past=self.told)
        state, seen = (
            x.view(sources, directions, paths, -1) for x in (state, model.see(state, step, self.encoded))
        )
        if directions == 1:
            return model.log_probs(state, model.listen.look(flat, told).view(state.shape), seen)

        # Every path listens to each of the other side's.
        def of_others(x: Tensor) -> Tensor:  # (sources·directions, paths, …)
            return x.unflatten(0, (sources, 2, paths)).flip(1).flatten(0, 1)

        keys, values = (of_others(x).transpose(1, 2) for x in told)
        heard = model.listen.look_at_each(state.flatten(0, 1), keys, values, of_others(self.has_read))
        heard = heard.view(sources, 2, paths, paths, -1)
        each = model.log_probs(state[:, :, :, None], heard, seen[:, :, :, None])
        weight = self.beam.score.flip(1)[:, :, None]
        if average == "mean":
            weight = weight.masked_fill(weight > -torch.inf, 0.0)  # of those that are there
        mean = (each.exp() * weight.softmax(-1)[..., None]).sum(-2)
        return (mean + TINY).log().masked_fill(model.forbidden[:, None], -torch.inf)

    def choose(self, log_probs: Tensor) -> None:
        """The best continuations of each side."""
        self.select(self.beam.advance(log_probs, self.end))
        self.reads = self.beam.tokens[..., -1]

    def keep(self, still: Tensor) -> None:
        """Only those sources."""
        rows = still[:, None, None].expand(self.reads.shape).flatten()
        self.source, self.reads = self.source[still], self.reads[still]
        self.beam.keep(still)
        sides = still.repeat_interleave(len(self.model.directions))
        known = tuple(one.select(sides) for one in self.encoded.known)
        self.encoded = Encoded(known, self.encoded.mask[sides])
        self.select(rows)

    def select(self, rows: Tensor) -> None:
        """Of what is kept for each path, those rows."""
        assert self.told is not None
        self.past = [one.select(rows) for one in self.past]
        self.told = self.told.select(rows)
        self.has_read = self.has_read[rows]

    def done(self) -> Tensor:
        """Which sources need no further step."""
        score, finished = self.beam.score, self.beam.finished
        done = finished.flatten(1).all(-1)
        if len(self.model.directions) == 2:
            best = score.max(-1)
            ended = finished.gather(-1, best.indices[..., None]).squeeze(-1)
            done = done | (ended & (best.values >= best.values.flip(1))).any(-1)
        return done

    def collect(self, chosen: Tensor) -> None:
        """The hypotheses of those sources."""
        lists = [x[chosen].tolist() for x in (self.source, self.beam.written(), self.beam.score)]
        for source, written, scores in zip(*lists, strict=True):
            hypotheses = []
            for row, direction in enumerate(self.model.directions):
                for ids, score in zip(written[row], scores[row], strict=True):
                    if score > -torch.inf:
                        ids = [one for one in ids if one != PAD]
                        tokens, finished = without_markers(ids, direction, self.model.markers[direction])
                        hypotheses.append(Hypothesis(tokens, score, direction, finished))
            self.found[source] = sorted(hypotheses, key=lambda one: -one.score)
