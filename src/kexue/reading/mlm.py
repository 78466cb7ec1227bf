"""The reader that fills in all of the answer at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kexue.nn import checks
from kexue.reading.reader import Question, Reader, Spans, Written, texts_of


class MLMReader(Reader):
    """Fills in all tokens of the answer at once, independently: p(A|Q) = Π p(aₖ|Q) (reading.eq2).

    It reads [CLS], max_answer_length + 1 masks, [SEP], question, [SEP], passage, [SEP]. The masks are to
    become the answer and then [SEP]; what the masks behind it become does not count (reading.input).

    Args:
        encoder: a masked language model that carries its vocabulary, such as `MaskedLM`.
        max_answer_length: tokens of the longest answer, without the end mark.

    Raises:
        TypeError: max_answer_length is no int.
        ValueError: max_answer_length below 1, or an encoder without a vocabulary.
    """

    def inputs(
        self,
        passages: Sequence[Sequence[int]],
        questions: Sequence[Sequence[int]],
        answers: Int[Tensor, "batch steps"] | None = None,
    ) -> Int[Tensor, "batch length"]:
        """What the encoder reads; with `answers`, in the place of masks (see `predict`)."""
        start, end, mask = self.vocabulary.start, self.vocabulary.end, self.vocabulary.mask
        steps = self.max_answer_length + 1
        ids = self._padded(
            [
                [start, *[mask] * steps, end, *question, end, *passage, end]
                for passage, question in zip(passages, questions, strict=True)
            ]
        )
        if answers is not None:
            ids[:, 1 : 1 + steps] = answers
        return ids

    def predict(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch steps vocabulary"]:
        """Log-probabilities of every token in each of the masks' places, given `inputs`."""
        keep = slice(1, self.max_answer_length + 2)
        mask = (ids != self.vocabulary.pad)[:, None]
        return checks.working(self.encoder(ids, mask, keep)).log_softmax(-1)

    def refinement_loss(
        self, batch: Sequence[Question], revealed: Bool[Tensor, "batch steps"]
    ) -> Float[Tensor, ""]:
        """`loss` where some of the answer is shown: what Mask-Predict's later passes need to have learned.

        Args:
            batch: questions.
            revealed: (B, max_answer_length + 1), True where a token of the answer, or its end mark, is shown.
                The others count.

        Raises TypeError for a `revealed` that is not boolean, ValueError for one of another shape, or what
        `loss` raises.
        """
        checks.tensor("revealed", revealed)
        if revealed.dtype != torch.bool:
            raise TypeError(f"revealed must be boolean, got {revealed.dtype}")
        passages, questions, answers = texts_of(batch)
        if revealed.shape != (wanted := (len(batch), self.max_answer_length + 1)):
            raise ValueError(f"revealed must have shape {wanted}, got {tuple(revealed.shape)}")
        target = self.targets(answers)
        shown = revealed.to(self.device) & (target != self.vocabulary.pad)
        answer = torch.where(shown, target, self.vocabulary.mask)
        ids = self.inputs(*self.encode(passages, questions), answer)
        chosen = self.predict(ids).gather(-1, target[..., None]).squeeze(-1)
        counts = (target != self.vocabulary.pad) & ~shown
        return -chosen.masked_fill(~counts, 0.0).sum(1).mean()

    def _target_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], target: Tensor
    ) -> Tensor:
        return self.predict(self.inputs(passages, questions))

    def _candidate_log_probs(
        self, passages: list[list[int]], questions: list[list[int]], rows: Tensor, target: Tensor
    ) -> Tensor:
        return self.predict(self.inputs(passages, questions))[rows]

    def _write(
        self,
        passages: list[list[int]],
        questions: list[list[int]],
        constrain: bool,
        passes: int = 1,
    ) -> Written:
        """Greedy, place by place; with `passes` > 1, Mask-Predict."""
        checks.count("passes", passes, 1)
        if passes > 1 and constrain:
            raise ValueError(f"passes must be 1 where constrain is True, got {passes}")
        end, pad, mask = self.vocabulary.end, self.vocabulary.pad, self.vocabulary.mask
        log_probs = self.predict(self.inputs(passages, questions))
        spans = Spans(self._padded(passages), pad) if constrain else None
        goes_on = torch.ones(len(passages), dtype=torch.bool, device=self.device)
        tokens, chosen = [], []
        for step in range(log_probs.shape[1]):
            value, token = self.allowed(log_probs[:, step], step, spans).max(-1)
            tokens.append(token.masked_fill(~goes_on, pad))
            chosen.append(value.masked_fill(~goes_on, 0.0))
            goes_on = goes_on & (token != end)
            if spans is not None:
                spans.choose(token, goes_on)
        written, confidence = torch.stack(tokens, 1), torch.stack(chosen, 1)
        real = written != pad
        # Mask-Predict: the length stands, the least certain tokens are masked and predicted again.
        lengths = (real & (written != end)).sum(1)
        for done in range(1, passes):
            count = (lengths * (passes - done) + passes - 1) // passes
            certain = confidence.masked_fill(~real | (written == end), torch.inf)
            again = certain.argsort(1).argsort(1) < count[:, None]
            answers = torch.where(real & ~again, written, mask)
            log_probs = self.possible(self.predict(self.inputs(passages, questions, answers)))
            log_probs[..., end] = -torch.inf
            value, token = log_probs.max(-1)
            written = torch.where(again, token, written)
            confidence = torch.where(again, value, confidence)
        score = confidence.exp().masked_fill(~real, 0.0).sum(1) / real.sum(1)
        return Written(written, score, spans)
