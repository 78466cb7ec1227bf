"""The reader that writes the answer token by token."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kexue.nn import checks
from kexue.nn.attention import KeyValues, causal_mask
from kexue.nn.beam import Beam
from kexue.reading.encoder import MaskedLM
from kexue.reading.reader import Reader, Spans, Written


class Seq2SeqReader(Reader):
    """Writes the answer token by token on the same encoder: p(A|Q) = Π p(aₖ|a before k, Q) (reading.eq1).

    It reads [CLS], passage, [SEP], question, [SEP], which see each other, and then the answer, each token of
    which sees all of that and what stands before it: UniLM's mask.

    Args:
        encoder: a masked language model that carries its vocabulary, such as `MaskedLM`.
        max_answer_length: tokens of the longest answer, without the end mark.

    Raises the errors of `MLMReader`.
    """

    def prefix(
        self, passages: Sequence[Sequence[int]], questions: Sequence[Sequence[int]]
    ) -> Int[Tensor, "batch length"]:
        """What the encoder reads before the answer, padded on the left: the answer follows at once."""
        start, end = self.vocabulary.start, self.vocabulary.end
        rows = [
            [start, *passage, end, *question, end]
            for passage, question in zip(passages, questions, strict=True)
        ]
        return self._padded(rows, left=True)

    def mask(self, prefix: Int[Tensor, "batch length"], steps: int) -> Bool[Tensor, "batch whole whole"]:
        """Who may look at whom, in a prefix with so many tokens of an answer behind it."""
        length = prefix.shape[1]
        seen = torch.zeros(length + steps, length + steps, dtype=torch.bool, device=prefix.device)
        seen[:, :length] = True
        if steps:
            seen[length:, length:] = causal_mask(steps, prefix.device)
        real = torch.nn.functional.pad(prefix != self.vocabulary.pad, (0, steps), value=True)
        return seen & real[:, None]

    def next_log_probs(
        self, prefix: Int[Tensor, "batch length"], written: Int[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch next vocabulary"]:
        """Log-probabilities of the first token, and of those after each one written: (B, steps + 1, V)."""
        ids = torch.cat((prefix, written), 1)
        keep = slice(prefix.shape[1] - 1, None)
        return checks.working(self.encoder(ids, self.mask(prefix, written.shape[1]), keep)).log_softmax(-1)

    def _target_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], target: Tensor
    ) -> Tensor:
        # What stands behind the end mark is not seen by what counts.
        return self.next_log_probs(self.prefix(passages, questions), target[:, :-1])

    def _candidate_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], rows: Tensor, target: Tensor
    ) -> Tensor:
        if not isinstance(self.encoder, MaskedLM):
            return super()._candidate_log_probs(passages, questions, rows, target)
        prefix, written = self.prefix(passages, questions), target[:, :-1]
        states, past = self.read(prefix, rows)
        mask = self.mask(prefix[rows], written.shape[1])[:, prefix.shape[1] :]
        later, _ = self.encoder.states(written, mask, past)
        states = torch.cat((states, later), 1)
        return checks.working(self.encoder.logits(states)).log_softmax(-1)

    def read(
        self, prefix: Int[Tensor, "batch length"], rows: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, "rows 1 hidden"], list[KeyValues]]:
        """Read each question once, for several answers: the last states, and keys and values, of these rows.

        The encoder must be a `MaskedLM`.
        """
        states, past = cast(MaskedLM, self.encoder).states(prefix, self.mask(prefix, 0))
        return states[rows, -1:], [one.select(rows) for one in past]

    def _write(
        self,
        passages: list[list[int]],
        questions: list[list[int]],
        constrain: bool,
        beam_size: int = 1,
        cache: bool | None = None,
    ) -> Written:
        """The best path of a beam; `cache` keeps keys and values, if None where the encoder can."""
        checks.count("beam_size", beam_size, 1)
        can = isinstance(self.encoder, MaskedLM)
        if cache and not can:
            raise ValueError(f"cache must be False for a {type(self.encoder).__name__}, got {cache!r}")
        prefix = self.prefix(passages, questions)
        spans = Spans(self._padded(passages), self.vocabulary.pad) if constrain else None
        return _Search(self, prefix, spans, beam_size, can if cache is None else cache).run()


class _Search:
    """Beam search for several questions at once. Rows are questions × paths."""

    def __init__(
        self, reader: Seq2SeqReader, prefix: Tensor, spans: Spans | None, beam_size: int, cache: bool
    ) -> None:
        self.reader, self.spans, self.cache, self.first = reader, spans, cache, prefix
        self.beam = Beam((len(prefix),), beam_size, prefix.device, reader.vocabulary.pad)
        self.rows = torch.arange(len(prefix), device=prefix.device).repeat_interleave(beam_size)
        self.prefix = prefix[self.rows]
        if spans is not None:
            spans.select(self.rows)
        self.probability = torch.zeros(len(self.rows), device=prefix.device)
        """Sum over the steps."""
        self.past: list[KeyValues] = []

    def run(self) -> Written:
        for step in range(self.reader.max_answer_length + 1):
            self.choose(self.reader.allowed(self.step_log_probs(), step, self.spans))
            if self.beam.finished.all():
                break
        beam_size = self.beam.score.shape[1]
        best = self.beam.score.argmax(1) + torch.arange(0, len(self.rows), beam_size, device=self.rows.device)
        written = self.beam.written().flatten(0, 1)[best]
        if self.spans is not None:
            self.spans.select(best)
        real = (written != self.reader.vocabulary.pad).sum(1)
        return Written(written, self.probability[best] / real, self.spans)

    def step_log_probs(self) -> Tensor:
        """Of the next token of each path."""
        if not self.cache:
            return self.reader.next_log_probs(self.prefix, self.beam.written().flatten(0, 1))[:, -1]
        encoder = cast(MaskedLM, self.reader.encoder)
        if not self.past:
            states, self.past = self.reader.read(self.first, self.rows)
        else:
            last = self.beam.tokens[..., -1].view(-1, 1)
            seen = self.prefix != self.reader.vocabulary.pad
            mask = torch.nn.functional.pad(seen, (0, self.beam.tokens.shape[-1]), value=True)[:, None]
            states, self.past = encoder.states(last, mask, self.past)
        return checks.working(encoder.logits(states[:, -1])).log_softmax(-1)

    def choose(self, log_probs: Tensor) -> None:
        """The best continuations for each question."""
        ended = self.beam.finished.flatten()
        parent = self.beam.advance(log_probs.view(*self.beam.score.shape, -1), self.reader.vocabulary.end)
        token, ended = self.beam.tokens[..., -1].flatten(), ended[parent]
        probability = log_probs[parent, token].exp().masked_fill(ended, 0.0)
        self.probability = self.probability[parent] + probability
        if self.beam.score.shape[1] > 1:
            self.past = [one.select(parent) for one in self.past]
        if self.spans is not None:
            self.spans.select(parent)
            self.spans.choose(token, ~ended & (token != self.reader.vocabulary.end))
