"""The reader that writes the answer token by token."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kexue.nn import checks
from kexue.nn.attention import KeyValues, causal_mask
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

    def __init__(self, encoder: nn.Module, max_answer_length: int) -> None:
        super().__init__(encoder, max_answer_length)

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
        states, past = self.encoder.states(prefix, self.mask(prefix, 0))
        past = [KeyValues(one.keys[rows], one.values[rows]) for one in past]
        mask = self.mask(prefix[rows], written.shape[1])[:, prefix.shape[1] :]
        later, _ = self.encoder.states(written, mask, past)
        states = torch.cat((states[rows, -1:], later), 1)
        return checks.working(self.encoder.logits(states)).log_softmax(-1)

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
        return _Beams(self, prefix, spans, beam_size, can if cache is None else cache).run()


class _Beams:
    """Beam search for several questions at once. Rows are questions × paths."""

    def __init__(
        self, reader: Seq2SeqReader, prefix: Tensor, spans: Spans | None, k: int, cache: bool
    ) -> None:
        self.reader, self.k, self.spans, device = reader, k, spans, prefix.device
        self.questions = len(prefix)
        self.rows = torch.arange(self.questions, device=device).repeat_interleave(k)
        self.prefix = prefix[self.rows]
        if spans is not None:
            spans.select(self.rows)
        self.written = torch.empty(len(self.rows), 0, dtype=torch.int64, device=device)
        self.ended = torch.zeros(len(self.rows), dtype=torch.bool, device=device)
        self.score = torch.full((self.questions, k), -torch.inf, device=device)
        self.score[:, 0] = 0.0  # the other paths are not there yet
        self.probability = torch.zeros(len(self.rows), device=device)
        """Sum over the steps."""
        self.past: list[KeyValues] | None = None
        self.cache, self.first = cache, prefix

    def run(self) -> Written:
        end = self.reader.vocabulary.end
        for step in range(self.reader.max_answer_length + 1):
            log_probs = self.reader._possible(self.step_log_probs())
            allowed = torch.ones_like(log_probs, dtype=torch.bool)
            if self.spans is not None:
                allowed = self.spans.allowed(log_probs.shape[1])
                allowed[:, end] = step > 0
            if step == self.reader.max_answer_length:  # no room for more
                allowed = torch.zeros_like(allowed)
                allowed[:, end] = True
            self.choose(log_probs.masked_fill(~allowed, -torch.inf))
            if self.ended.all():
                break
        best = self.score.argmax(1) + torch.arange(self.questions, device=self.written.device) * self.k
        written = self.written[best]
        real = (written != self.reader.vocabulary.pad).sum(1)
        if self.spans is not None:
            self.spans.select(best)
        return Written(written, self.probability[best] / real, self.spans)

    def step_log_probs(self) -> Tensor:
        """Of the next token of each path."""
        if not self.cache:
            return self.reader.next_log_probs(self.prefix, self.written)[:, -1]
        encoder = cast(MaskedLM, self.reader.encoder)
        if self.past is None:  # each question is read once, whatever the beam
            mask = self.reader.mask(self.first, 0)
            states, past = encoder.states(self.first, mask)
            self.past = [KeyValues(one.keys[self.rows], one.values[self.rows]) for one in past]
            states = states[self.rows]
        else:
            seen = self.prefix != self.reader.vocabulary.pad
            mask = torch.nn.functional.pad(seen, (0, self.written.shape[1]), value=True)[:, None]
            states, self.past = encoder.states(self.written[:, -1:], mask, self.past)
        return checks.working(encoder.logits(states[:, -1])).log_softmax(-1)

    def choose(self, log_probs: Tensor) -> None:
        """The best k continuations for each question; a path that has ended stays as it is."""
        end, pad = self.reader.vocabulary.end, self.reader.vocabulary.pad
        vocab_size = log_probs.shape[1]
        step = log_probs.masked_fill(self.ended[:, None], -torch.inf)
        step[:, pad] = torch.where(self.ended, 0.0, -torch.inf)
        total = self.score.reshape(-1, 1) + step
        self.score, chosen = total.view(self.questions, -1).topk(self.k)
        base = torch.arange(self.questions, device=chosen.device)[:, None] * self.k
        parent, token = (base + chosen // vocab_size).flatten(), (chosen % vocab_size).flatten()
        ended = self.ended[parent]
        probability = step[parent, token].exp().masked_fill(ended, 0.0)
        self.probability = self.probability[parent] + probability
        self.written = torch.cat((self.written[parent], token[:, None]), 1)
        if self.k > 1 and self.past is not None:
            self.past = [KeyValues(one.keys[parent], one.values[parent]) for one in self.past]
        if self.spans is not None:
            self.spans.select(parent)
            self.spans.choose(token, ~ended & (token != end))
        self.ended = ended | (token == end) | self.score.flatten().isneginf()
